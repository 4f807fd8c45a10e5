"""The soak runs, and a short one is sound."""

import subprocess
import sys
from pathlib import Path

import pytest

SOAK = Path(__file__).parents[2] / "benchmarks" / "soak.py"


@pytest.mark.skipif(sys.platform != "linux", reason="memory and files are counted as Linux tells them")
def test_every_stream_of_a_short_soak_is_accounted_for_and_nothing_is_left() -> None:
    command = [sys.executable, SOAK, "--seconds", "8", "--streams", "50"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stdout.endswith("every stream is accounted for, and nothing is left\n")
