"""``turnwire codex`` and ``turnwire codex-config``, with a Codex that only tells what it was started with."""

import asyncio
import json
import signal
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.cli.command import Command, Run
from turnwire.cli.codex_config import CodexConfiguration, overrides
from turnwire.testing import ScriptedServer

STAND_IN = f"""\
#!{sys.executable}
import json, os, sys, urllib.request
print(json.dumps([os.environ["TURNWIRE_API_KEY"], *sys.argv[1:]]), flush=True)
if "list" in sys.argv:
    (setting,) = [part for part in sys.argv if "model_catalog_url" in part]
    with urllib.request.urlopen(json.loads(setting.partition("=")[2])) as response:
        print([model["id"] for model in json.load(response)["data"]])
if "wait" in sys.argv:
    sys.stdin.read()
sys.exit(7)
"""


@pytest.fixture
def path(tmp_path: Path) -> str:
    """A PATH with a ``codex`` on it."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "codex").write_text(STAND_IN)
    (folder / "codex").chmod(0o755)
    return str(folder)


def started(gateway: str, *arguments: str, key: str = "none", websocket: bool = True) -> list[str]:
    """What the stand-in tells."""
    return [key, *overrides(CodexConfiguration(gateway, "scripted", websocket).settings()), *arguments]


@pytest.mark.parametrize(
    ("options", "arguments", "websocket"),
    [
        ([], ["exec", "--json", "Say hello"], True),
        (["--model", "scripted"], [], True),
        (["--no-websocket"], ["exec", "-m", "other", "-"], False),
    ],
)
async def test_codex_is_started_on_the_gateway_and_its_exit_code_is_the_commands(
    turnwire: Command, path: str, options: list[str], arguments: list[str], websocket: bool
) -> None:
    async with ScriptedServer(api_key="secret") as server:
        gateway = ["--gateway", server.base_url]
        run = await turnwire("codex", *gateway, *options, "--", *arguments, PATH=path, TURNWIRE_API_KEY="secret")
        told = started(server.base_url, *arguments, key="secret", websocket=websocket)
    assert run == Run(7, f"{json.dumps(told)}\n", "")
    assert [(request.method, request.path) for request in server.requests] == [("GET", "/v1/models")]
    assert server.errors == []


async def test_without_a_key_codex_gets_a_word_in_its_place(turnwire: Command, path: str) -> None:
    async with ScriptedServer() as server:
        run = await turnwire("codex", "--gateway", server.base_url, "exec", PATH=path)
        assert run == Run(7, f"{json.dumps(started(server.base_url, 'exec'))}\n", "")


async def test_a_signal_reaches_codex_itself(turnwire: Command, path: str) -> None:
    async with ScriptedServer() as server:
        process = await turnwire.start("codex", "--gateway", server.base_url, "wait", stdin=subprocess.PIPE, PATH=path)
        assert process.stdout is not None
        await process.stdout.readline()
        process.terminate()
        await process.communicate()
    assert process.returncode == -signal.SIGTERM


async def test_where_a_process_cannot_become_another_it_waits_for_it(
    turnwire: Command, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Any] = []

    def run(command: list[str], *, env: dict[str, str], check: bool) -> subprocess.CompletedProcess[bytes]:
        calls.append((command, env["TURNWIRE_API_KEY"], check))
        return subprocess.CompletedProcess(command, 7)

    async with ScriptedServer() as server:
        monkeypatch.setattr("turnwire.cli.codex.subprocess.run", run)
        monkeypatch.setattr("turnwire.cli.codex._REPLACES_ITSELF", False)
        ended = await asyncio.to_thread(turnwire.here, "codex", "--gateway", server.base_url, "exec", PATH=path)
        assert ended == Run(7, "", "")
        assert calls == [([f"{path}/codex", *started(server.base_url, "exec")[1:]], "none", False)]


async def test_with_an_upstream_codex_runs_beside_a_gateway_of_its_own(turnwire: Command, path: str) -> None:
    async with ScriptedServer(models=["tiny"]) as server:
        run = await turnwire("codex", "-u", server.base_url, "--", "list", PATH=path)
    told, listed = run.stdout.splitlines()
    key, *arguments = json.loads(told)
    assert (run.code, key, arguments[:2], arguments[-1]) == (7, "none", ["-c", 'model="tiny"'], "list")
    assert listed == "['tiny']"


async def test_a_signal_to_the_gateway_beside_codex_ends_both(turnwire: Command, path: str) -> None:
    async with ScriptedServer() as server:
        process = await turnwire.start("codex", "-u", server.base_url, "wait", stdin=subprocess.PIPE, PATH=path)
        assert process.stdout is not None
        await process.stdout.readline()
        process.terminate()
        await process.wait()
    assert process.returncode == 128 + signal.SIGTERM


async def test_an_upstream_that_serves_nothing_is_told_before_codex_starts(turnwire: Command, path: str) -> None:
    async with ScriptedServer() as server:
        gone = server.base_url
    run = await turnwire("codex", "-u", gone, PATH=path)
    assert (run.code, run.stdout) == (2, "")
    assert run.stderr.startswith("error: ")
    assert gone.removeprefix("http://").removesuffix("/v1") in run.stderr


def test_a_gateway_that_runs_and_one_that_is_started_are_not_named_together(turnwire: Command, path: str) -> None:
    options = ["--gateway", "http://127.0.0.1:1/v1", "-u", "http://127.0.0.1:2/v1"]
    sentence = "error: --gateway names one that runs and --upstream starts another: give one of them\n"
    assert turnwire.here("codex", *options, PATH=path) == Run(2, "", sentence)


def test_a_gateway_that_is_not_installed_is_one_sentence(
    turnwire: Command, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("turnwire.cli.codex.find_spec", lambda _: None)
    run = turnwire.here("codex", "-u", "http://127.0.0.1:2/v1", PATH=path)
    assert run == Run(2, "", 'error: the gateway is an extra of turnwire: pip install "turnwire[gateway]"\n')


def test_a_codex_that_is_not_installed_is_one_sentence(turnwire: Command, tmp_path: Path) -> None:
    sentence = "error: codex is not on the PATH: install it with npm install -g @openai/codex\n"
    assert turnwire.here("codex", "--", "exec", PATH=str(tmp_path)) == Run(2, "", sentence)


@pytest.mark.parametrize("model", [[], ["--model", "scripted"]])
async def test_a_gateway_that_is_not_there_is_told_before_codex_starts(
    turnwire: Command, path: str, model: list[str]
) -> None:
    async with ScriptedServer() as server:
        gone = server.base_url
    run = await turnwire("codex", "--gateway", gone, *model, "exec", PATH=path)
    assert (run.code, run.stdout) == (2, "")
    assert run.stderr.startswith("error: ")
    assert run.stderr.endswith("; start a gateway with turnwire serve, or say where it is with --gateway\n")


async def test_of_several_models_one_must_be_named(turnwire: Command, path: str) -> None:
    async with ScriptedServer(models=["large", "small"]) as server:
        run = await turnwire("codex", "--gateway", server.base_url, "exec", PATH=path)
    sentence = "error: the gateway serves 2 models, name one with --model: large, small\n"
    assert run == Run(2, "", sentence)


async def test_a_model_that_the_gateway_does_not_serve_is_told_before_codex_starts(
    turnwire: Command, path: str
) -> None:
    async with ScriptedServer(models=["large", "small"]) as server:
        run = await turnwire("codex", "--gateway", server.base_url, "--model", "huge", "exec", PATH=path)
    assert run == Run(2, "", "error: the gateway serves no model 'huge'; it serves large, small\n")


def test_the_printed_configuration_says_what_the_overrides_say(turnwire: Command) -> None:
    address = "https://gateway.example/v1/"
    run = turnwire.here("codex-config", "--gateway", address, "--model", 'a "model"', "--no-websocket")
    assert (run.code, run.stderr) == (0, "")
    assert tomllib.loads(run.stdout) == {
        "model": 'a "model"',
        "model_provider": "turnwire",
        "web_search": "disabled",
        "model_reasoning_summary": "none",
        "model_providers": {
            "turnwire": {
                "name": "turnwire",
                "base_url": "https://gateway.example/v1",
                "wire_api": "responses",
                "env_key": "TURNWIRE_API_KEY",
                "supports_websockets": False,
                "model_catalog_url": "https://gateway.example/v1/models",
            }
        },
    }
    given = overrides(CodexConfiguration(address, 'a "model"', websocket=False).settings())
    merged: dict[str, Any] = {}
    for line in given[1::2]:
        name, _, value = line.partition("=")
        *tables, last = name.split(".")
        table = merged
        for part in tables:
            table = table.setdefault(part, {})
        table[last] = tomllib.loads(f"value = {value}")["value"]
    assert merged == tomllib.loads(run.stdout)


def test_without_a_model_its_place_is_shown(turnwire: Command) -> None:
    run = turnwire.here("codex-config")
    assert '\n# model = "NAME"  # one that the gateway serves\nmodel_provider = "turnwire"\n' in run.stdout
    provider = tomllib.loads(run.stdout)["model_providers"]["turnwire"]
    assert (provider["base_url"], provider["supports_websockets"]) == ("http://127.0.0.1:8088/v1", True)


def test_a_value_is_written_as_toml_reads_it() -> None:
    value = 'a "b"\\\x7f\n\u2028ü'
    (_, override) = overrides({"model": value})
    assert tomllib.loads(override) == {"model": value}
