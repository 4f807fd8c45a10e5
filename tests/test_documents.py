"""What the documents and examples show is run as it stands there."""

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.gateway.serving import serving, upstream_at
from turnwire.gateway.configuration import GatewayConfiguration, UpstreamConfiguration, load_gateway_configuration
from turnwire.testing import LlamaServer

ROOT = Path(__file__).parent.parent
GATEWAY = ROOT / "docs" / "gateway.md"
_BLOCK = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
_TOML = re.compile(r"^```toml\n(.*?)^```", re.DOTALL | re.MULTILINE)
_FIELD = re.compile(r"^\| `(\w+)` \|", re.MULTILINE)
_SHOWN_ADDRESS = "http://127.0.0.1:8080/v1"
_SHOWN_GATEWAY = "http://127.0.0.1:8088/v1"


def _blocks(pattern: re.Pattern[str], *documents: Path) -> list[object]:
    return [
        pytest.param(block, id=f"{document.name}-{number}")
        for document in documents
        for number, block in enumerate(pattern.findall(document.read_text(encoding="utf-8")), 1)
    ]


@pytest.fixture
async def server() -> AsyncIterator[LlamaServer]:
    async with LlamaServer() as server:
        yield server


@asynccontextmanager
async def _real(block: str, server: LlamaServer) -> AsyncIterator[str]:
    """The block with addresses at which somebody is; the gateway is started for a block that speaks to it."""
    block = block.replace(_SHOWN_ADDRESS, server.base_url)
    if _SHOWN_GATEWAY not in block:
        yield block
        return
    async with serving(upstream_at(server.base_url, models={server.model_name: server.model_name})) as gateway:
        yield block.replace(_SHOWN_GATEWAY, gateway.base_url)


async def _run(*command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONUTF8": "1", "XDG_STATE_HOME": str(cwd)}
    # In a thread, for the gateway answers in this one.
    return await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-W", "error", *command],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment,
        check=False,
        cwd=cwd,
        encoding="utf-8",
    )


async def _run_block(block: str, server: LlamaServer, folder: Path) -> subprocess.CompletedProcess[str]:
    script = folder / "block.py"
    async with _real(block, server) as text:
        script.write_text(text, encoding="utf-8")
        return await _run(str(script), cwd=folder)


@pytest.mark.parametrize("block", _blocks(_BLOCK, ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))))
async def test_a_python_block_of_a_document_runs(block: str, server: LlamaServer, tmp_path: Path) -> None:
    done = await _run_block(block, server, tmp_path)
    assert done.returncode == 0, done.stderr


async def test_the_readme_s_examples_print_their_answers(server: LlamaServer, tmp_path: Path) -> None:
    weather = "It is 21 °C in Zürich with a little rain 🌦, so take an umbrella.\n"
    hello = "Hello! Zürich sends you 21 °C and a 🌦 of its own."
    blocks = _BLOCK.findall((ROOT / "README.md").read_text(encoding="utf-8"))
    printed = [(await _run_block(block, server, tmp_path)).stdout for block in blocks]
    assert printed == [weather + hello, hello]


@pytest.mark.parametrize("block", _blocks(_TOML, GATEWAY))
def test_a_configuration_of_the_gateways_document_can_be_used(block: str, tmp_path: Path) -> None:
    path = tmp_path / "turnwire.toml"
    path.write_text(block, encoding="utf-8")
    upstreams = [] if "[[upstreams]]" in block else [upstream_at(_SHOWN_ADDRESS)]
    load_gateway_configuration([path], upstreams=upstreams)


def test_the_gateways_document_names_each_field_of_its_configuration() -> None:
    _, _, reference = GATEWAY.read_text(encoding="utf-8").partition("\n## Configuration\n")
    upstream, _, gateway = reference.partition("\n## ")[0].partition("\n### `[gateway]`\n")
    assert set(_FIELD.findall(upstream)) == {*UpstreamConfiguration.__struct_fields__, "preset"}
    assert set(_FIELD.findall(gateway)) == {*GatewayConfiguration.__struct_fields__} - {"upstreams"}


def test_the_houses_plan_names_each_file_of_its_larger_rooms() -> None:
    rooms = (ROOT / "docs" / "design.md").read_text(encoding="utf-8").partition("\n## Rooms\n")[2].split("```")[1]
    package = ROOT / "src" / "turnwire"
    named = set(re.findall(r"\w+\.py", rooms))
    assert named <= {file.name for file in package.rglob("*.py")}
    for room in ("wire", "wire/chat", "transport", "client", "gateway", "gateway/exchange"):
        assert {file.name for file in (package / room).glob("*.py")} - {"__init__.py"} - named == set()


@pytest.mark.parametrize("example", sorted((ROOT / "examples").glob("*.py")), ids=lambda path: path.name)
async def test_an_example_runs(example: Path, server: LlamaServer, tmp_path: Path) -> None:
    done = await _run(
        str(example), server.base_url, server.model_name, "What is the weather, and the time?", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


async def test_the_streaming_example_fails_with_one_sentence(tmp_path: Path) -> None:
    example = str(ROOT / "examples" / "stream_events.py")
    done = await _run(example, "http://127.0.0.1:1/v1", "none", "Hello", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("ConnectError: can't connect to http://127.0.0.1:1/v1/chat/completions")


def test_every_link_between_documents_leads_somewhere() -> None:
    for document in [ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", document.read_text(encoding="utf-8")):
            if "://" not in target:
                assert (document.parent / target).exists(), f"{document.name} links to {target}"
