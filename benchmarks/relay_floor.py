"""The least that a gateway in Python could do which translates: two connections, the translation, and nothing else.

There is no ASGI, routing, token, bound, timer, count or log, and no care for what goes wrong. What comes in on either
side is handled within the event loop's own call. So it is no gateway, but what a machine leaves one to be measured by.

It answers ``POST /v1/responses`` at the port that is its first argument, by the model server at the ``base_url`` that
is its second.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import time
from typing import cast
from urllib.parse import urlsplit

import httptools
import msgspec
import uvloop

from turnwire.gateway.exchange.responses_over_chat import ResponsesOverChat
from turnwire.wire.chat import ChatDialect
from turnwire.wire.responses.received import decode_response_request

_READY = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
_ASK = (
    b"POST %b/chat/completions HTTP/1.1\r\nhost: %b\r\naccept: text/event-stream\r\n"
    b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
)
_END = b"0\r\n\r\n"
_DIALECT = ChatDialect()


class _ModelServer:
    """Where it is, and the connections to it that nobody uses."""

    def __init__(self, base_url: str) -> None:
        parts = urlsplit(base_url)
        self._host, self._port = parts.hostname or "", parts.port or 80
        self._path, self._where = parts.path.encode(), parts.netloc.encode()
        self.free: list[_Upstream] = []

    def ask(self, body: bytes, client: _Client) -> None:
        request = _ASK % (self._path, self._where, len(body), body)
        if self.free:
            self.free.pop().ask(request, client)
        else:
            client.opening = asyncio.create_task(self._open(request, client))

    async def _open(self, request: bytes, client: _Client) -> None:
        loop = asyncio.get_running_loop()
        _, upstream = await loop.create_connection(lambda: _Upstream(self), self._host, self._port)
        upstream.ask(request, client)


class _Connection(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)


class _Upstream(_Connection):
    """A connection to the model server."""

    def __init__(self, server: _ModelServer) -> None:
        self._server = server
        self._parser = httptools.HttpResponseParser(self)
        self._pieces: list[bytes] = []
        self._over = False
        self._client: _Client

    def ask(self, request: bytes, client: _Client) -> None:
        self._client = client
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)
        if self._pieces:
            body = b"".join(self._pieces)
            self._pieces.clear()
            self._client.take(body)
        if self._over:
            self._over = False
            self._server.free.append(self)

    def on_body(self, data: bytes) -> None:
        self._pieces.append(data)

    def on_message_complete(self) -> None:
        self._over = True


class _Client(_Connection):
    """A connection of a client."""

    def __init__(self, server: _ModelServer) -> None:
        self._server = server
        self._parser = httptools.HttpRequestParser(self)
        self._body = b""
        self._exchange: ResponsesOverChat
        self._beginning: bytes | None = None
        self.opening: asyncio.Task[None] | None = None

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, data: bytes) -> None:
        self._body += data

    def on_message_complete(self) -> None:
        if self._parser.get_method() == b"GET":
            self.transport.write(_READY)
            self.transport.close()
            return
        received = decode_response_request(msgspec.json.decode(self._body))
        self._body = b""
        self._exchange = ResponsesOverChat(
            received,
            model=received.model,
            dialect=_DIALECT,
            reasoning_name=None,
            response_id="resp_floor",
            clock=time.time,
        )
        self._server.ask(self._exchange.body, self)
        self._beginning = b"".join(self._exchange.start({}))

    def take(self, data: bytes) -> None:
        """More of the model server's answer."""
        exchange = self._exchange
        events = b"".join(exchange.feed(data))
        if not events:
            return
        head = b""
        if self._beginning is not None:
            head, events, self._beginning = _HEAD, self._beginning + events, None
        self.transport.write(b"%b%x\r\n%b\r\n%b" % (head, len(events), events, _END if exchange.over else b""))


async def _serve(port: int, base_url: str) -> None:
    model_server = _ModelServer(base_url)
    gc.freeze()  # as turnwire has it
    server = await asyncio.get_running_loop().create_server(lambda: _Client(model_server), "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1]), sys.argv[2]))
