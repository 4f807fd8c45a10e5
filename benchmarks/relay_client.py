"""The one client of all gateways: writes a prepared request, and reads no more of the answer than it must."""

from __future__ import annotations

import asyncio
import time
from typing import Literal, TypeAlias, cast

import msgspec

from relay_upstream import Manner

__all__ = ["Api", "Stream"]

Api: TypeAlias = Literal["responses", "chat"]

_PATHS: dict[Api, str] = {"responses": "/v1/responses", "chat": "/v1/chat/completions"}
_TEXT_KEYS: dict[Api, bytes] = {"responses": b'"delta":"', "chat": b'"content":"'}
_ENDS: dict[Api, bytes] = {"responses": b"response.completed", "chat": b"[DONE]"}
_FIRST_TEXT = b'" The"'
_NEARLY = 0.98
_END_OF_BODY = b"\r\n0\r\n\r\n"


class Stream(asyncio.Protocol):
    """A kept connection for one request after the other, all alike: in one API, for one manner of answer."""

    def __init__(self, port: int, api: Api, manner: Manner) -> None:
        self._api = api
        self._request = _request(port, api, manner)
        self._kept: list[bytes] | None = None  # the answer, where somebody looks at it
        self._tail = b""  # so that what is looked for is found where two reads meet
        self._first: asyncio.Future[None] | None = None
        self._over: asyncio.Future[None] | None = None
        self.texts = 0
        """How many texts have come."""

    @classmethod
    async def open(cls, port: int, api: Api, manner: Manner) -> Stream:
        """A connection to what listens at a port of this machine."""
        loop = asyncio.get_running_loop()
        _, stream = await loop.create_connection(lambda: cls(port, api, manner), "127.0.0.1", port)
        return stream

    async def begin(self) -> float:
        """Asks, and waits for the first text; how many seconds that took."""
        started = time.perf_counter()
        self._ask()
        assert self._first is not None
        await self._first
        return time.perf_counter() - started

    async def end(self) -> None:
        """Waits for the answer's end."""
        assert self._over is not None
        await self._over

    async def read(self) -> None:
        """Asks, and reads the answer to its end."""
        self._ask()
        await self.end()

    async def check(self, texts: int) -> None:
        """Asks, and sees that the answer is whole: the quickest of all gateways is the one that refuses."""
        self._kept, before = [], self.texts
        await self.read()
        answer, self._kept = b"".join(self._kept), None
        if _ENDS[self._api] not in answer or self.texts - before < texts * _NEARLY:
            raise SystemExit(f"an answer of {texts} texts was expected, and this came: {answer[:2000].decode()}")

    def close(self) -> None:
        """Ends the connection at once."""
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        for waited in (self._first, self._over):
            if waited is not None and not waited.done():
                waited.set_exception(ConnectionError("the gateway closed the connection in mid-answer"))
                waited.exception()  # seen, whoever waits

    def data_received(self, data: bytes) -> None:
        self.texts += data.count(_TEXT_KEYS[self._api])  # one in thousands is cut by a read's end, and missed
        if self._kept is not None:
            self._kept.append(data)
        data = self._tail + data
        self._tail = data[-16:]
        if self._first is not None and not self._first.done() and _FIRST_TEXT in data:
            self._first.set_result(None)
        if self._over is not None and not self._over.done() and data.endswith(_END_OF_BODY):
            self._over.set_result(None)

    def _ask(self) -> None:
        loop = asyncio.get_running_loop()
        self._tail = b""
        self._first, self._over = loop.create_future(), loop.create_future()
        self._transport.write(self._request)


def _request(port: int, api: Api, manner: Manner) -> bytes:
    asked: dict[str, object] = {"model": manner, "stream": True}
    if api == "responses":
        asked |= {"input": "hello", "store": False}
    else:
        asked |= {"messages": [{"role": "user", "content": "hello"}], "stream_options": {"include_usage": True}}
    body = msgspec.json.encode(asked)
    head = (
        f"POST {_PATHS[api]} HTTP/1.1",
        f"Host: 127.0.0.1:{port}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
    )
    return "\r\n".join((*head, "", "")).encode() + body
