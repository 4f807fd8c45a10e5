"""What the documents and examples show is run as it stands there."""

import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from turnwire.testing import LlamaServer

ROOT = Path(__file__).parent.parent
_BLOCK = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
_SHOWN_ADDRESS = "http://127.0.0.1:8080/v1"


def _blocks() -> list[object]:
    documents = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    return [
        pytest.param(block, id=f"{document.name}-{number}")
        for document in documents
        for number, block in enumerate(_BLOCK.findall(document.read_text(encoding="utf-8")), 1)
    ]


@pytest.fixture
async def server() -> AsyncIterator[LlamaServer]:
    async with LlamaServer() as server:
        yield server


def _run(*command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONUTF8": "1"}
    return subprocess.run(
        [sys.executable, "-W", "error", *command],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment,
        check=False,
        cwd=cwd,
        encoding="utf-8",
    )


@pytest.mark.parametrize("block", _blocks())
def test_a_python_block_of_a_document_runs(block: str, server: LlamaServer, tmp_path: Path) -> None:
    script = tmp_path / "block.py"
    script.write_text(block.replace(_SHOWN_ADDRESS, server.base_url), encoding="utf-8")
    done = _run(str(script), cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_the_readme_s_example_prints_both_answers(server: LlamaServer, tmp_path: Path) -> None:
    (block,) = _BLOCK.findall((ROOT / "README.md").read_text(encoding="utf-8"))
    script = tmp_path / "readme.py"
    script.write_text(block.replace(_SHOWN_ADDRESS, server.base_url), encoding="utf-8")
    assert _run(str(script), cwd=tmp_path).stdout == (
        "It is 21 °C in Zürich with a little rain 🌦, so take an umbrella.\n"
        "Hello! Zürich sends you 21 °C and a 🌦 of its own."
    )


@pytest.mark.parametrize("example", sorted((ROOT / "examples").glob("*.py")), ids=lambda path: path.name)
def test_an_example_runs(example: Path, server: LlamaServer, tmp_path: Path) -> None:
    done = _run(str(example), server.base_url, server.model_name, "What is the weather, and the time?", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_the_streaming_example_fails_with_one_sentence(tmp_path: Path) -> None:
    done = _run(str(ROOT / "examples" / "stream_events.py"), "http://127.0.0.1:1/v1", "none", "Hello", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("ConnectError: can't connect to http://127.0.0.1:1/v1/chat/completions")


def test_every_link_between_documents_leads_somewhere() -> None:
    for document in [ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", document.read_text(encoding="utf-8")):
            if "://" not in target:
                assert (document.parent / target).exists(), f"{document.name} links to {target}"
