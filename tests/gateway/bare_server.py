"""A server for one test, and applications that are only as much as a test of the server needs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

from turnwire.gateway.configuration import GatewayConfiguration, UpstreamConfiguration
from turnwire.gateway.drain import draining
from turnwire.gateway.server import GatewayServer

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ["Application", "Client", "serving"]

UPSTREAM = UpstreamConfiguration("none", "http://127.0.0.1:1/v1")


class Application:
    """``/hello`` answers at once, ``/early`` without reading the request, and ``/flood`` more than anybody reads.

    ``/stream`` and a WebSocket's ``go`` begin an answer, and end it at `finish`. `last_words` is what a cancelled one
    still says.
    """

    def __init__(self, last_words: bytes = b"cut") -> None:
        self.last_words = last_words
        self.finish = asyncio.Event()
        self.begun = asyncio.Event()
        self.draining: asyncio.Event | None = None
        self.ended = False
        """Whether the application was told of the server's end."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            self.ended = True
            await send({"type": "lifespan.shutdown.complete"})
            return
        self.draining = draining(scope)
        if scope["type"] == "websocket":
            await self._socket(receive, send)
        else:
            await self._request(scope["path"], receive, send)

    async def _request(self, path: str, receive: Receive, send: Send) -> None:
        while path != "/early" and (await receive()).get("more_body", False):
            pass
        if path in ("/hello", "/early"):
            await _head(send, 5)
            await _body(send, b"hello", more=False)
            return
        await _head(send)
        self.begun.set()
        if path == "/flood":
            await _body(send, bytes(64 * 1024 * 1024), more=False)
            return
        await _body(send, b"begin ")
        try:
            await self.finish.wait()
        except asyncio.CancelledError:
            await _body(send, self.last_words, more=False)
            raise
        await _body(send, b"end", more=False)

    async def _socket(self, receive: Receive, send: Send) -> None:
        assert self.draining is not None
        await receive()
        await send({"type": "websocket.accept"})
        while not self.draining.is_set():
            message = await receive()
            if message["type"] == "websocket.disconnect":
                return
            await _text(send, f"begin {len(message['text'])}")
            self.begun.set()
            try:
                await self.finish.wait()
            except asyncio.CancelledError:
                await _text(send, self.last_words.decode())
                raise
            await _text(send, "end")
        await send({"type": "websocket.close", "code": 1012})


class Client:
    """A connection that writes what it is told to, and reads."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def get(self, path: str) -> None:
        self.writer.write(f"GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode())

    async def until(self, end: bytes) -> bytes:
        return await self.reader.readuntil(end)

    async def rest(self) -> bytes:
        """All there is until the server closes the connection."""
        return await self.reader.read()

    async def close(self) -> None:
        self.writer.transport.abort()
        with suppress(ConnectionError):
            await self.writer.wait_closed()


class Serving:
    """The server and its clients, as a test sees them."""

    def __init__(self, server: GatewayServer) -> None:
        self.server = server
        self.task = asyncio.create_task(server.serve())
        self.port = int(server.url.rpartition(":")[2])
        self._clients: list[Client] = []

    async def connect(self) -> Client:
        client = Client(*await asyncio.open_connection("127.0.0.1", self.port))
        self._clients.append(client)
        return client

    def stop(self) -> None:
        """What a signal does."""
        self.server.handle_exit(15, None)

    async def close(self) -> None:
        for client in self._clients:
            await client.close()
        if not self.task.done():
            self.stop()
            self.stop()
        await self.task


@asynccontextmanager
async def serving(application: ASGIApp, **fields: Any) -> AsyncIterator[Serving]:
    """A server on a free port of loopback, with that configuration; stopped at the end where it still runs."""
    ready = asyncio.Event()
    configuration = GatewayConfiguration((UPSTREAM,), **{"port": 0, **fields})
    served = Serving(GatewayServer(configuration, application, on_ready=ready.set))
    await ready.wait()
    try:
        yield served
    finally:
        await served.close()


async def _head(send: Send, length: int | None = None) -> None:
    headers = [] if length is None else [(b"content-length", b"%d" % length)]
    await send({"type": "http.response.start", "status": 200, "headers": headers})


async def _body(send: Send, body: bytes, *, more: bool = True) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": more})


async def _text(send: Send, text: str) -> None:
    await send({"type": "websocket.send", "text": text})
