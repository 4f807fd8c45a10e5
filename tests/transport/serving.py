"""A server that writes what a test gives it, byte for byte: for what no decent server says."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from typing import Self, TypeAlias

__all__ = ["CHUNKED_HEAD", "HEAD", "WHOLE", "RawServer", "Reply", "chunked", "saying", "silence"]

Reply: TypeAlias = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
"""Answers one request, whose head was read; when it returns, the connection is closed."""

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
CHUNKED_HEAD = HEAD + b"transfer-encoding: chunked\r\n\r\n"


class RawServer:
    """Reads the head of one request per connection and leaves the rest to ``reply``.

    ``greets`` is for servers that speak before they are spoken to, or whose request is no HTTP.
    """

    def __init__(self, reply: Reply, *, tls: ssl.SSLContext | None = None, greets: bool = False) -> None:
        self._reply = reply
        self._tls = tls
        self._greets = greets
        self._tasks: set[asyncio.Task[None]] = set()
        self.requests: list[bytes] = []
        """The head of each request as it came."""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self._server.wait_closed()

    @property
    def port(self) -> int:
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    @property
    def url(self) -> str:
        return f"http{'s' if self._tls else ''}://127.0.0.1:{self.port}"

    def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._answer(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if not self._greets:
                head = await reader.readuntil(b"\r\n\r\n")
                self.requests.append(head)
            await self._reply(reader, writer)
            await writer.drain()
            writer.close()
            await writer.wait_closed()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client has left
        finally:
            writer.transport.abort()


def saying(*pieces: bytes) -> Reply:
    """Writes the pieces, each in a packet of its own."""

    async def reply(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)

    return reply


async def silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Says nothing until the client leaves."""
    while await reader.read(65536):
        pass


def chunked(*pieces: bytes, last: bytes = b"0\r\n\r\n") -> bytes:
    """The pieces as chunks of a body, and the end of it."""
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + last


WHOLE = saying(HEAD + b"content-length: 2\r\n\r\nhi")
"""The answer to a test that wants any."""
