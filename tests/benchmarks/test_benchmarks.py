"""The benchmarks run, and say what they compare; what they measure is no test's business."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

DECODED = [
    f"{answer}, {cut}"
    for answer in ("vllm", "llamacpp", "openai", "agent-turn")
    for cut in ("one chunk per read", "64 KiB blocks")
]
SECTIONS = {
    "Decoder over the floor, per chunk": DECODED,
    "Decoder over the narrowest floor, per chunk": DECODED,
    "Decoder against the openai SDK's, per chunk": DECODED,
    "Responses decoder against the openai SDK's, per event": [
        *("SSE, one event per read", "SSE, 64 KiB blocks", "WebSocket, one event per message"),
    ],
    "Client flooded over loopback, CPU time per chunk": ["vllm, asyncio", "openai, asyncio", "vllm, uvloop"],
    "Client at 2 streams x 100 chunks/s over loopback, CPU time per chunk": [
        *("vllm, in-step, asyncio", "vllm, out-of-step, asyncio", "vllm, in-step, uvloop"),
    ],
    "Client, time to the first text over loopback": ["vllm, asyncio"],
    "Client, memory per idle open stream, of 5": ["vllm, asyncio"],
}

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is counted as Linux tells it")


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """docs/performance.md with the figures of a run that is too small to mean anything."""
    return Path(shutil.copy(ROOT / "docs" / "performance.md", tmp_path_factory.mktemp("docs")))


@pytest.fixture(scope="module")
def output(document: Path) -> str:
    """What that run prints."""
    command = [sys.executable, ROOT / "benchmarks" / "run.py", "--smoke", "--markdown", document]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=300).stdout


def test_every_benchmark_prints_its_ratio(output: str) -> None:
    conditions, *sections = output.strip().split("\n\n")

    assert [line.partition(":")[0] for line in conditions.splitlines()] == [
        *("date", "run", "CPU", "OS", "load when it began", "Python", "packages"),
    ]
    assert {section.splitlines()[0]: _names_with_ratio(section) for section in sections} == SECTIONS


def test_the_document_gets_the_figures_and_keeps_its_words(output: str, document: Path) -> None:
    written = document.read_text(encoding="utf-8")

    assert _without_figures(written) == _without_figures((ROOT / "docs" / "performance.md").read_text(encoding="utf-8"))
    assert [line.removeprefix("### ") for line in written.splitlines() if line.startswith("### ")] == list(SECTIONS)
    assert all(figure in written for figure in re.findall(r"\d\S* x", output))


def _names_with_ratio(section: str) -> list[str]:
    _, _, *rows = section.splitlines()
    return [re.split(r"  +", row)[0] for row in rows if re.search(r"\d x( |$)", row)]


def _without_figures(text: str) -> str:
    return re.sub(r"(?s)(<!-- figures of make bench -->).*(<!-- end of the figures -->)", r"\1\2", text)
