"""The command, called as its users do, and what it wrote."""

import asyncio
import contextlib
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from pathlib import Path
from typing import Any

from msgspec import Struct
from typer.testing import CliRunner

from turnwire.cli.application import application


def _heed_interrupts() -> None:
    """Undoes what a shell does to what it starts in the background: such a process never hears of Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Run(Struct, frozen=True):
    code: int
    stdout: str
    stderr: str


class Command:
    """``turnwire`` in ``folder``, which is the home and has the user's configuration in it too.

    To call it starts a process. `here` calls it in this one, at once, for whatever needs no server.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    async def __call__(self, *arguments: str, stdin: bytes = b"", **environment: str) -> Run:
        process = await self.start(*arguments, stdin=PIPE, **environment)
        stdout, stderr = await process.communicate(stdin)
        assert process.returncode is not None
        return Run(process.returncode, stdout.decode(), stderr.decode())

    def here(self, *arguments: str, stdin: bytes = b"", **environment: str) -> Run:
        kept = self.environment(**environment)
        removed = dict.fromkeys(os.environ.keys() - kept.keys())
        with contextlib.chdir(self.folder):
            result = CliRunner().invoke(application, arguments, input=stdin, env={**removed, **kept})
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Run(result.exit_code, result.stdout, result.stderr)

    async def start(
        self, *arguments: str, stdin: int = DEVNULL, stdout: int = PIPE, stderr: int = PIPE, **environment: str
    ) -> Process:
        options: Any = {"stdin": stdin, "stdout": stdout, "stderr": stderr, "cwd": self.folder}
        options["preexec_fn"] = _heed_interrupts
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "turnwire", *arguments, env=self.environment(**environment), **options
        )

    def environment(self, **additional: str) -> dict[str, str]:
        foreign = ("_API_KEY", "_PROXY", "_proxy", "_COLOR", "COLUMNS")
        kept = {name: value for name, value in os.environ.items() if not name.endswith(foreign)}
        return kept | {"HOME": str(self.folder), "XDG_CONFIG_HOME": str(self.folder / "config")} | additional

    def configure(self, text: str) -> None:
        (self.folder / "turnwire.toml").write_text(text)
