"""The upstreams of the soak: servers of Chat Completions that do with each stream what its request asks for.

A request's last message is its `Plan`, as JSON. What becomes of each is noted, to be compared with what its client
saw.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Literal, Self, TypeAlias

from msgspec import Struct

__all__ = ["Fate", "Plan", "SoakUpstreams", "UpstreamEnd"]

Fate: TypeAlias = Literal["whole", "cut", "stalled", "refused", "client leaves"]
UpstreamEnd: TypeAlias = Literal["whole", "cut", "refused", "left"]
"""How a request ended, as its upstream saw it; ``left``: the gateway closed the connection."""

_STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
_REFUSED = b"HTTP/1.1 500 Internal Server Error\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"
_NO_MODELS = b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 11\r\n\r\n{"data":[]}'


class Plan(Struct, frozen=True):
    """What shall become of one stream."""

    number: int
    fate: Fate
    chunks: int
    """How many it has, where it is whole."""
    turning_point: int
    """The chunk at which its fate comes, where that is not to be whole."""
    interval: float
    """Seconds between two chunks."""


class SoakUpstreams:
    """Servers on loopback, all alike; an async context manager."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._servers: list[asyncio.Server] = []
        self._connections: set[asyncio.StreamWriter] = set()
        self.ends: dict[int, list[UpstreamEnd]] = {}
        """How each attempt at a stream ended, by the stream's number."""
        self.open = 0
        """Streams under way."""

    @property
    def base_urls(self) -> Sequence[str]:
        """Where they are."""
        return [f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1" for server in self._servers]

    def close_connections(self) -> None:
        """Closes all connections, those that are kept for later too."""
        for writer in self._connections:
            writer.transport.abort()

    async def __aenter__(self) -> Self:
        for _ in range(self._count):
            self._servers.append(await asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=1024))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for server in self._servers:
            server.close()
        self.close_connections()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(writer)
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                while True:
                    head = await reader.readuntil(b"\r\n\r\n")
                    if head.startswith(b"GET"):
                        writer.write(_NO_MODELS)
                        continue
                    body = json.loads(await reader.readexactly(_content_length(head)))
                    plan = Plan(**json.loads(body["messages"][-1]["content"]))
                    self.open += 1
                    end: UpstreamEnd = "left"
                    try:
                        end = await _answer(plan, reader, writer)
                    finally:
                        self.open -= 1
                        self.ends.setdefault(plan.number, []).append(end)
                    if end in ("cut", "left"):
                        break
        finally:
            self._connections.discard(writer)
            writer.transport.abort()


async def _answer(plan: Plan, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> UpstreamEnd:
    """Does with a stream as planned."""
    if plan.fate == "refused":
        writer.write(_REFUSED)
        return "refused"
    writer.write(_STREAM_HEAD)
    for place in range(plan.chunks):
        if place == plan.turning_point and plan.fate in ("cut", "stalled"):
            if plan.fate == "stalled":
                await reader.read()
                return "left"
            return "cut"
        _write(writer, {"index": 0, "delta": {"content": f"word {place} "}, "finish_reason": None})
        await writer.drain()
        await asyncio.sleep(plan.interval)
        if reader.at_eof() or writer.transport.is_closing():
            return "left"
    _write(writer, {"index": 0, "delta": {}, "finish_reason": "stop"})
    writer.write(b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n")
    return "whole"


def _write(writer: asyncio.StreamWriter, choice: dict[str, Any]) -> None:
    chunk = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 0, "model": "m", "choices": [choice]}
    event = b"data: %b\n\n" % json.dumps(chunk).encode()
    writer.write(b"%x\r\n%b\r\n" % (len(event), event))


def _content_length(head: bytes) -> int:
    lines = head.lower().split(b"\r\n")
    return int(next(line for line in lines if line.startswith(b"content-length:")).partition(b":")[2])
