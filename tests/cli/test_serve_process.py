"""The process that serves: how ``turnwire serve`` becomes it, what it is told, and what it does without."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.command import Command
from tests.cli.serve_process import serving
from turnwire.cli import serve_process
from turnwire.cli.serve_log import LogLevel
from turnwire.cli.serve_options import ServeOptions
from turnwire.errors import ApiError, ConfigurationError
from turnwire.gateway.server import listen
from turnwire.testing import ScriptedServer

UPSTREAM = "http://127.0.0.1:1/v1"


@pytest.fixture
def hangups() -> Iterator[None]:
    """Puts back what SIGHUP does."""
    before = signal.getsignal(signal.SIGHUP)
    yield
    signal.signal(signal.SIGHUP, before)


class Replaced(Exception):
    """Stands for the end of a program that another one has replaced."""


@pytest.mark.parametrize(
    "options",
    [
        ServeOptions(),
        ServeOptions((UPSTREAM, "http://127.0.0.1:2/v1?a=b"), dialect="vllm", api_key_env="KEY"),
        ServeOptions(config="5", host="null", port=0, workers=2, log_level=LogLevel.ERROR, access_log="-"),
        ServeOptions(config="a=b \udcff", host=""),
    ],
)
def test_the_options_are_read_from_the_words_that_they_become(options: ServeOptions) -> None:
    assert ServeOptions.of(options.words()) == options


@pytest.mark.usefixtures("hangups")
def test_the_command_replaces_itself_and_ignores_hangups_until_something_is_served(
    turnwire: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    (turnwire.folder / "own.toml").touch()
    replaced = []

    def execv(*program: object) -> None:
        replaced.append((*program, signal.getsignal(signal.SIGHUP)))
        raise Replaced

    monkeypatch.setattr(os, "execv", execv)
    with pytest.raises(Replaced):
        turnwire.here("serve", "-u", UPSTREAM, "--port", "0", "--config", "own.toml", "--access-log", "log")
    words = [f"upstream={UPSTREAM}", "config=own.toml", "port=0", "log_level=info", "access_log=log"]
    command = [sys.executable, "-Pm", "turnwire.cli.serve_process", *words]
    assert replaced == [(sys.executable, command, signal.SIG_IGN)]


async def test_what_serves_is_the_process_that_was_started_without_the_command_line(turnwire: Command) -> None:
    async with (
        ScriptedServer([], models=["qwen3"]) as upstream,
        serving(turnwire, "--upstream", upstream.base_url) as gateway,
    ):
        process = Path(f"/proc/{gateway.process.pid}")
        assert b"turnwire.cli.serve_process" in (process / "cmdline").read_bytes().split(b"\0")
        assert "pydantic_core" not in (process / "maps").read_text()


def test_nothing_that_serves_imports_what_reads_a_command_line() -> None:
    program = (
        "import sys, turnwire.cli.serve_process, turnwire.cli.serve_worker, turnwire.cli.serve_gateway\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert {"typer", "rich", "pydantic"}.isdisjoint(run.stdout.split())


@pytest.mark.parametrize(
    ("failure", "code", "told"),
    [
        (ConfigurationError("no"), 2, "error: no\n"),
        (ApiError("can't\x1b"), 1, "error: can't\N{REPLACEMENT CHARACTER}\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
    ],
)
def test_what_keeps_it_from_serving_is_told_as_by_any_command(
    failure: BaseException,
    code: int,
    told: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(*_: object) -> None:
        raise failure

    monkeypatch.setattr(sys, "argv", ["", f"upstream={UPSTREAM}", "log_level=warning"])
    monkeypatch.setattr(serve_process, "_serve_here", fail)
    monkeypatch.setattr(serve_process, "begin_log", lambda _: None)
    with pytest.raises(SystemExit) as ended:
        serve_process.main()
    assert (ended.value.code, capsys.readouterr()) == (code, ("", told))


def test_modules_of_the_working_directory_are_not_taken_for_its_own(turnwire: Command) -> None:
    (turnwire.folder / "uvicorn.py").write_text("raise SystemExit('not this one')")
    (taken,) = listen("127.0.0.1", 0)
    with taken:
        script = Path(sys.executable).with_name("turnwire")
        command = [script, "serve", "--upstream", UPSTREAM, "--port", str(taken.getsockname()[1])]
        environment = turnwire.environment(XDG_STATE_HOME=str(turnwire.folder))
        run = subprocess.run(command, cwd=turnwire.folder, env=environment, capture_output=True, text=True)
    assert (run.returncode, run.stdout) == (1, "")
    assert run.stderr.startswith("error: can't listen on 127.0.0.1 port ")
