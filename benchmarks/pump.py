"""The server of the loopback benchmarks: pushes bytes that were built beforehand, and does as little else as it can.

It runs in a process of its own for as long as standard input is open; its one line of output is its port. The path
says what it does: ``/flooded/<answer>/…`` sends the whole answer as fast as it is read, ``/in-step/…`` a chunk every
10 ms without an end, at the same moments on all streams, ``/out-of-step/…`` the same with moments of each stream's own,
``/first/…`` the head with a text, and the rest 2 ms later, ``/idle/…`` the same without a rest. Every event is an HTTP
chunk of its own, as servers send them.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
from collections.abc import Iterator, Mapping
from typing import Final, cast

import uvloop

from answer import ANSWERS

__all__ = ["PACE", "content_length"]

PACE: Final = 0.01
"""Seconds from one chunk of a paced stream to the next."""
_REST_DELAY = 0.002
_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
_END = b"0\r\n\r\n"
_ROLE_AND_TEXT = 2
_PHASES = 10


class _Framed:
    """An answer as HTTP chunks."""

    def __init__(self, events: list[bytes]) -> None:
        chunks = [b"%x\r\n%b\r\n" % (len(event), event) for event in events]
        self.beginning = _HEAD + b"".join(chunks[:_ROLE_AND_TEXT])
        self.texts = chunks[_ROLE_AND_TEXT : len(chunks) // 2]
        self.short_rest = b"".join(chunks[-3:]) + _END
        self.whole = _HEAD + b"".join(chunks) + _END


class _Pump(asyncio.Protocol):
    """One connection, with one request at a time."""

    def __init__(self, answers: Mapping[str, _Framed], phase: float) -> None:
        self._answers = answers
        self._phase = phase
        self._received = b""
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        if end and len(body) >= content_length(head):
            self._received = b""
            self._answer(*head.split(b" ", 2)[1].decode().split("/")[1:3])

    def _answer(self, manner: str, name: str) -> None:
        answer = self._answers[name]
        if manner == "flooded":
            self._transport.write(answer.whole)
            return
        self._transport.write(answer.beginning)
        loop = asyncio.get_running_loop()
        if manner == "first":
            self._timer = loop.call_later(_REST_DELAY, self._transport.write, answer.short_rest)
        elif manner == "in-step":
            self._pace(loop, _next_tick(loop), itertools.cycle(answer.texts))
        elif manner == "out-of-step":
            self._pace(loop, _next_tick(loop) + self._phase, itertools.cycle(answer.texts))

    def _pace(self, loop: asyncio.AbstractEventLoop, due: float, texts: Iterator[bytes]) -> None:
        self._timer = loop.call_at(due, self._pace, loop, due + PACE, texts)
        self._transport.write(next(texts))


def _next_tick(loop: asyncio.AbstractEventLoop) -> float:
    """The next of the moments that all streams share."""
    return (loop.time() // PACE + 1) * PACE


def content_length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.partition(b":")[2])
    return 0


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    answers = {name: _Framed(answer.events) for name, answer in ANSWERS.items()}
    phases = itertools.cycle([PACE * number / _PHASES for number in range(_PHASES)])
    server = await loop.create_server(lambda: _Pump(answers, next(phases)), "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.buffer.read)


if __name__ == "__main__":
    uvloop.run(_serve())
