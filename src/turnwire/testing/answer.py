"""One response as it will go over the wire, as a value: it is decided whole, and played afterwards."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Literal, TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from turnwire.wire.chat.response import encode_error

__all__ = ["JSON_TYPE", "STREAM_TYPE", "Answer", "Ending", "Part", "PartKind", "error_answer", "split"]

STREAM_TYPE = "text/event-stream; charset=utf-8"
JSON_TYPE = "application/json"

_LAST_CHUNK = b"0\r\n\r\n"

PartKind: TypeAlias = Literal["start", "delta", "finish", "done", "other"]
"""What a piece is in a stream: ``finish`` says that the answer is whole, ``done`` is Chat Completions' sentinel."""


class Part(Struct, frozen=True, gc=False):
    """A piece of the body that is written in one go, and as one chunk, after ``pause`` seconds of silence."""

    data: bytes
    kind: PartKind = "other"
    """What it is in the stream, for the faults that look at events rather than bytes."""
    pause: float = 0.0


Ending: TypeAlias = Literal["whole", "close", "reset", "silence"]
"""What follows the last part.

``whole``: the chunked body is terminated and the connection kept. ``close``: the connection is closed (FIN) right
there. ``reset``: it is reset (RST). ``silence``: nothing more comes until the client leaves.
"""


class Answer(Struct, frozen=True, kw_only=True):
    """A response: its head, its body in parts, and how it ends."""

    status: int = 200
    headers: Mapping[str, str] = {}
    parts: Sequence[Part] = ()
    ending: Ending = "whole"
    heartbeat: Part | None = None
    """What comes again and again during ``silence``."""
    bare: bool = False
    """Whether the parts stand for themselves, without any HTTP around them."""

    def writes(self) -> Iterator[tuple[float, bytes]]:
        """What to write, each time after so many seconds; the body is always chunked.

        The terminator goes out together with the last part: a client that has read the last event has then been
        given all, and may leave without having left early.
        """
        tail = b"" if self.bare or self.ending != "whole" else _LAST_CHUNK
        head = b"" if self.bare else self._head()
        if not self.parts:
            yield 0.0, head + tail
            return
        if head:
            yield 0.0, head
        for part in self.parts[:-1]:
            yield part.pause, self.framed(part)
        yield self.parts[-1].pause, self.framed(self.parts[-1]) + tail

    def framed(self, part: Part) -> bytes:
        """A part as one chunk (RFC 9112, section 7.1), or as it is where the answer is bare."""
        return part.data if self.bare else b"%x\r\n%b\r\n" % (len(part.data), part.data)

    def _head(self) -> bytes:
        lines = [f"HTTP/1.1 {self.status} {_reason(self.status)}"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        return "\r\n".join([*lines, "transfer-encoding: chunked", "\r\n"]).encode("latin-1")


def split(parts: Iterable[Part], offset: int) -> tuple[tuple[Part, ...], tuple[Part, ...]]:
    """The parts before and behind a byte offset of the body; the part that it falls into is cut in two."""
    before: list[Part] = []
    after: list[Part] = []
    for part in parts:
        head, tail = part.data[:offset], part.data[offset:]
        if head:
            before.append(replace(part, data=head))
        if tail:
            after.append(replace(part, data=tail, pause=0.0 if head else part.pause))
        offset -= len(head)
    return tuple(before), tuple(after)


def error_answer(
    status: int,
    message: str,
    *,
    kind: str = "invalid_request_error",
    code: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """A refusal, with the body that OpenAI's API gives one."""
    body = encode_error(message, kind=kind, code=code)
    return Answer(status=status, headers={"content-type": JSON_TYPE, **(headers or {})}, parts=(Part(body),))


def _reason(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"
