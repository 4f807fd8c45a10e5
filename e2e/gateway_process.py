"""A real ``turnwire serve``, which can be killed and come back."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from pathlib import Path
from types import TracebackType
from typing import Self

__all__ = ["GatewayProcess"]

_ADDRESS = re.compile(r"http://(127\.0\.0\.1):(\d+)")
_PATIENCE = 20.0
"""Seconds that it gets to start, or to end."""


class GatewayProcess:
    """Serves what is behind ``upstream``; ``configuration`` is a ``turnwire.toml`` in the home that it has to itself.

    An async context manager. Its tokens outlive it: what it keeps is in ``folder``.
    """

    def __init__(self, folder: Path, configuration: str) -> None:
        self._folder = folder
        self._process: Process | None = None
        self._reading: asyncio.Task[None] | None = None
        self.address = ("127.0.0.1", 0)
        """Where it listens; another port after each `restart`."""
        self.log = ""
        """What it wrote."""
        self._folder.mkdir()
        (self._folder / "turnwire.toml").write_text(configuration)

    async def __aenter__(self) -> Self:
        await self._start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._process is not None
        if self._process.returncode is None:
            self._process.terminate()
        await self._end()

    async def restart(self) -> None:
        """Kills it, so that it can say goodbye to nobody, and starts it again."""
        assert self._process is not None
        self._process.kill()
        await self._end()
        await self._start()

    async def _start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "turnwire",
            "serve",
            "--port",
            "0",
            cwd=self._folder,
            env=self._environment(),
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=STDOUT,
        )
        assert self._process.stdout is not None
        async with asyncio.timeout(_PATIENCE):
            while line := (await self._process.stdout.readline()).decode():
                self.log += line
                if found := _ADDRESS.search(line):
                    self.address = (found[1], int(found[2]))
                    break
            else:
                raise AssertionError(f"the gateway did not start: {self.log}")
        self._reading = asyncio.create_task(self._read(self._process.stdout))

    def _environment(self) -> dict[str, str]:
        home = str(self._folder)
        folders = dict.fromkeys(("HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_DATA_HOME"), home)
        kept = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
        return kept | folders | {"TURN_TOKEN_SECRET": "the same secret for every process of a scenario"}

    async def _read(self, output: asyncio.StreamReader) -> None:
        while line := await output.readline():
            self.log += line.decode()

    async def _end(self) -> None:
        assert self._process is not None
        assert self._reading is not None
        async with asyncio.timeout(_PATIENCE):
            await self._process.wait()
            await self._reading
