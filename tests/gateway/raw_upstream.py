"""An upstream whose every byte, and every silence, is the test's: for what no script can say."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from types import TracebackType
from typing import Self, TypeAlias

from tests.decoding import DONE, chunk, sse

__all__ = ["HEAD", "RawUpstream"]

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
"""Of a body that ends with its connection."""
ANSWER = HEAD + sse(chunk(content="one "), chunk(content="two"), chunk("stop")) + DONE

_NO_MODELS = b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 11\r\n\r\n{"data":[]}'

Play: TypeAlias = Callable[[asyncio.StreamWriter], Awaitable[None]]


class RawUpstream:
    """Reads each request for an answer whole and has ``play`` write what follows; then it waits for the client to go.

    An async context manager on a free port of loopback.
    """

    def __init__(self, play: Play) -> None:
        self._play = play
        self.asked = asyncio.Event()
        """A request has come."""
        self.left = asyncio.Event()
        """Its client has closed the connection."""
        self.tasks: set[asyncio.Task[None]] = set()

    @property
    def base_url(self) -> str:
        host, port = self._server.sockets[0].getsockname()
        return f"http://{host}:{port}/v1"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.close()
        for task in self.tasks:
            task.cancel()
        if self.tasks:
            await asyncio.wait(self.tasks)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while (head := await reader.readuntil(b"\r\n\r\n")).startswith(b"GET"):
                writer.write(_NO_MODELS)
            length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))
            await reader.readexactly(int(length.partition(b":")[2]))
            self.asked.set()
            playing = asyncio.create_task(self._played(writer))
            try:
                await reader.read()  # which ends when the client leaves
            finally:
                self.left.set()
                playing.cancel()
                await asyncio.wait((playing,))
        if not writer.is_closing():
            writer.transport.abort()

    async def _played(self, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            await self._play(writer)
