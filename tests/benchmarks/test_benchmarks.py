"""The benchmarks run, and say what they compare; what they measure is no test's business."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.benchmarks.environment import uncovered

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
RELAYED = ["Responses over Chat Completions", "Chat Completions as they are"]
GATEWAY_SECTIONS = {
    "Gateway saturated, CPU time per chunk": RELAYED,
    "Gateway at 2 streams x 20 chunks/s, CPU time per chunk": RELAYED,
    "Gateway, CPU time per request of one token": RELAYED,
    "Gateway, added time to the first text": RELAYED,
    "Gateway, resident memory": ["idle", "with 5 open streams"],
}
WHERE_NGINX_IS = shutil.which("nginx", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")
for title, rows in GATEWAY_SECTIONS.items():
    SECTIONS[f"{title}, against LiteLLM"] = []
    SECTIONS[f"{title}, against nginx"] = rows if WHERE_NGINX_IS else []
    if rows == RELAYED and "saturated" not in title:
        SECTIONS[f"{title}, against the floor"] = RELAYED[:1]
SECTIONS |= {
    "Cached share of prompts, 12 conversations on 2 llama.cpp servers": ["all follow-ups in a turn", "request 2"],
}

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is counted as Linux tells it")


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """docs/performance.md with the figures of a run that is too small to mean anything."""
    return Path(shutil.copy(ROOT / "docs" / "performance.md", tmp_path_factory.mktemp("docs")))


@pytest.fixture(scope="module")
def output(document: Path) -> str:
    """What that run prints, without LiteLLM's proxy, which takes too long to start."""
    run = [ROOT / "benchmarks" / "run.py", "--smoke", "--markdown", document, "--peers", document.parent / "none"]
    command = [sys.executable, *run]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=300, env=uncovered()).stdout


def test_every_benchmark_prints_its_ratio(output: str) -> None:
    conditions, *sections = output.strip().split("\n\n")

    assert [line.partition(":")[0] for line in conditions.splitlines()] == [
        *("date", "run", "CPU", "OS", "load when it began", "Python", "packages", "other gateways"),
    ]
    assert {section.splitlines()[0]: _names_with_ratio(section) for section in sections} == SECTIONS


def test_the_document_gets_the_figures_and_keeps_its_words(output: str, document: Path) -> None:
    written = document.read_text(encoding="utf-8")

    assert _without_figures(written) == _without_figures((ROOT / "docs" / "performance.md").read_text(encoding="utf-8"))
    assert [line.removeprefix("### ") for line in written.splitlines() if line.startswith("### ")] == list(SECTIONS)
    assert all(figure in written for figure in re.findall(r"\d\S* x", output))


def test_a_gateway_that_is_missing_is_named_with_the_reason(output: str) -> None:
    rows = [line for line in output.splitlines() if "not installed; make bench does it" in line]

    assert len(rows) == sum(map(len, GATEWAY_SECTIONS.values()))


@pytest.mark.skipif(WHERE_NGINX_IS is None, reason="there is nothing to be compared with")
@pytest.mark.usefixtures("output")
def test_the_gateways_are_drawn(document: Path) -> None:
    drawing = (document.parent / "images" / "gateways.svg").read_text(encoding="utf-8")

    assert {name: drawing.count(f">{name}</text>") for name in ("turnwire", "nginx", "LiteLLM")} == {
        "turnwire": 2,
        "nginx": 2,
        "LiteLLM": 0,
    }


@pytest.mark.usefixtures("output")
def test_the_cached_share_is_drawn(document: Path) -> None:
    drawing = (document.parent / "images" / "cached_share.svg").read_text(encoding="utf-8")

    assert [drawing.count(f">{name}</text>") for name in ("turn kept", "random routing")] == [1, 1]


def _names_with_ratio(section: str) -> list[str]:
    _, _, *rows = section.splitlines()
    return [re.split(r"  +", row)[0] for row in rows if re.search(r"\d x( |$)", row)]


def _without_figures(text: str) -> str:
    return re.sub(r"(?s)(<!-- figures of make bench -->).*(<!-- end of the figures -->)", r"\1\2", text)
