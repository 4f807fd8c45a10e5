"""How the demo's processes end."""

import asyncio
import signal
import sys
from asyncio.subprocess import PIPE

import pytest

from turnwire.cli import demo_process
from turnwire.cli.demo_process import end

STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(60)"


@pytest.mark.parametrize(
    ("code", "ended_by"),
    [("print(flush=True); import time; time.sleep(60)", signal.SIGTERM), (STUBBORN, signal.SIGKILL)],
)
async def test_a_process_is_asked_to_end_and_then_ended(
    monkeypatch: pytest.MonkeyPatch, code: str, ended_by: signal.Signals
) -> None:
    if ended_by is signal.SIGKILL:
        monkeypatch.setattr(demo_process, "_PATIENCE", 0.05)
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=PIPE)
    assert process.stdout is not None
    await process.stdout.readline()  # it is under way
    await end(process)
    assert process.returncode == -ended_by
    await end(process)
