"""The model server behind the gateways: sends prepared chunks, and does as little else as it can.

It runs in a process of its own for as long as standard input is open; its one line of output is its port. The model
that a request asks for says how it is answered:

============= ================================================================================
``saturated`` the whole answer, as fast as it is read: chunk by chunk, each in a write of its own
``paced``     a chunk every 50 ms for some seconds, at moments of the stream's own
``one-token`` an answer of one token, at once
``first``     an answer of one token, the end of which comes 2 ms behind it
``silent``    an answer of one token that does not end
============= ================================================================================

Every event is an HTTP chunk of its own, as servers send them.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
from collections.abc import Iterator
from typing import Final, Literal, TypeAlias, cast

import msgspec
import uvloop
from msgspec import Struct

from answer import ANSWERS
from pump import content_length

__all__ = ["PACE", "TEXTS", "Manner"]

Manner: TypeAlias = Literal["saturated", "paced", "one-token", "first", "silent"]

PACE: Final = 0.05
"""Seconds from one chunk of a paced stream to the next."""
TEXTS: Final = ANSWERS["vllm"].chunks - 3  # without role, finish and usage
"""How many the whole answer has."""
_MANNERS: Final = ("saturated", "paced", "one-token", "first", "silent")
_REST_DELAY = 0.002
_PHASES = 20
_JSON_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
_STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
_END = b"0\r\n\r\n"
_LISTED = {"object": "list", "data": [{"id": name, "object": "model", "owned_by": "vllm"} for name in _MANNERS]}
_CHUNKS = [b"%x\r\n%b\r\n" % (len(event), event) for event in ANSWERS["vllm"].events]
_BEGINNING = _STREAM_HEAD + b"".join(_CHUNKS[:2])  # the role, a text
_REST = b"".join(_CHUNKS[-3:]) + _END  # finish, usage, [DONE]
_WHOLE = [*_CHUNKS, _END]
_PACED = [*_CHUNKS[2:82], _REST]


class _Asked(Struct):
    model: Manner


_decode = msgspec.json.Decoder(_Asked).decode


class _ModelServer(asyncio.Protocol):
    """One connection, with one request at a time."""

    def __init__(self, phase: float) -> None:
        self._phase = phase
        self._received = b""
        self._timer: asyncio.Handle | None = None
        self._unsent: Iterator[bytes] = iter(())
        self._paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._push(asyncio.get_running_loop())

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        if not end or len(body) < content_length(head):
            return
        self._received = b""
        if head.startswith(b"POST"):
            self._answer(_decode(body).model)
        else:
            listed = msgspec.json.encode(_LISTED)
            self._transport.write(_JSON_HEAD % (len(listed), listed))

    def _answer(self, manner: Manner) -> None:
        loop, write = asyncio.get_running_loop(), self._transport.write
        match manner:
            case "saturated":
                write(_STREAM_HEAD)
                self._unsent = iter(_WHOLE)
                self._push(loop)
            case "one-token":
                write(_BEGINNING + _REST)
            case "first":
                write(_BEGINNING)
                self._timer = loop.call_later(_REST_DELAY, write, _REST)
            case "silent":
                write(_BEGINNING)
            case "paced":
                write(_BEGINNING)
                self._pace(loop, loop.time() + self._phase, iter(_PACED))

    def _push(self, loop: asyncio.AbstractEventLoop) -> None:
        """Writes the next chunk; what is written within one turn of the loop would go out as one."""
        if not self._paused and (chunk := next(self._unsent, None)) is not None:
            self._transport.write(chunk)
            self._timer = loop.call_soon(self._push, loop)

    def _pace(self, loop: asyncio.AbstractEventLoop, due: float, chunks: Iterator[bytes]) -> None:
        if (chunk := next(chunks, None)) is not None:
            self._transport.write(chunk)
            self._timer = loop.call_at(due + PACE, self._pace, loop, due + PACE, chunks)


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    phases = itertools.cycle([PACE * number / _PHASES for number in range(_PHASES)])
    server = await loop.create_server(lambda: _ModelServer(next(phases)), "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.buffer.read)


if __name__ == "__main__":
    uvloop.run(_serve())
