"""Server-sent events, bytes to events and back, by the WHATWG rules.

https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation

Lines end at LF, CR or CRLF and nowhere else (never `str.splitlines`: U+2028 may stand inside JSON). One BOM at the
start is dropped. A blank line dispatches the event; an event that the end of the stream leaves open never happened.

Model servers write nearly all events in one plain form, ``data: <json>`` and a blank line. Whoever only wants the
payloads asks `SseDecoder.take` for whole events and splits them with `SseDecoder.plain_payloads`, at C speed; what is
not plain goes through `SseDecoder.feed`, line by line.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from msgspec import Struct

from turnwire.errors import ApiError, ProtocolError

__all__ = ["MAX_EVENT_SIZE", "ServerSentEvent", "SseDecoder", "encode_comment", "encode_event", "then_raise"]

MAX_EVENT_SIZE = 16 * 1024 * 1024
"""Bytes that one event may take by default: with a bound, an endless event is an error instead of a full memory."""

_BOM = b"\xef\xbb\xbf"
_CR = b"\r"
_LF = b"\n"
_BLANK = b"\n\n"
_DATA = b"data: "
_BETWEEN = _BLANK + _DATA

T = TypeVar("T")


class ServerSentEvent(Struct, frozen=True, gc=False):
    """One event: ``data`` has its lines joined by LF, ``id`` is the last one seen on the stream."""

    data: str
    event: str = "message"
    id: str = ""
    retry: int | None = None
    """Milliseconds, where this event brought a new reconnection time."""


class SseDecoder:
    """Incremental decoder: feed it the bytes of a stream in any pieces.

    An event that takes more than ``max_event_size`` bytes is a `ProtocolError`, behind the events before it.
    """

    __slots__ = (
        "_at_start",
        "_clear",
        "_data",
        "_event",
        "_held",
        "_id",
        "_max",
        "_retry",
        "_skip_lf",
        "_tail",
        "fresh",
    )

    def __init__(self, max_event_size: int = MAX_EVENT_SIZE) -> None:
        self._max = max_event_size
        self._tail = bytearray()  # bytes that came and were not taken: an open line, or what `keep` was given
        self._at_start = True  # a BOM may still come
        self._skip_lf = False  # the last line ended at a CR: an LF right behind it belongs to it
        self._clear = True  # no line of an event has been taken, so that the tail begins one
        self._data: list[bytes] = []
        self._held = 0  # bytes in _data
        self._event = b""
        self._id = b""
        self._retry: int | None = None
        self.fresh = True
        """Nothing is held, so that the next byte begins an event."""

    def __repr__(self) -> str:
        return f"<SseDecoder holding {self._held + len(self._tail)} of at most {self._max} bytes>"

    def take(self, data: bytes) -> bytes | None:
        """For a fast path: all bytes from an event's beginning on, once an event may be whole; b"" until then.

        What the caller can't use of them goes back by `keep`. None where `feed` has begun to take an event apart,
        and only `feed` can go on.
        """
        if not self._clear:
            return None
        tail = self._tail
        whole = _BLANK in data or (data.startswith(_LF) and tail.endswith(_LF))
        if not whole and _CR not in data and len(tail) + len(data) <= self._max:
            # Joining only where an event can end keeps many small pieces of a large one linear.
            tail += data
            self.fresh = not tail
            return b""
        if tail:
            data = bytes(tail) + data
            tail.clear()
            self.fresh = True
        return data

    def keep(self, rest: bytes) -> None:
        """Gives back the end of what `take` gave: the beginning of an event that is not whole."""
        self._at_start = False
        self._tail += rest
        self.fresh = not rest

    def plain_payloads(self, block: bytes) -> list[bytes] | None:
        """The payloads of a block's whole events, where each is one ``data: `` line; the rest is kept.

        None where the block holds anything else: nothing was taken then.
        """
        if 13 in block or not block.startswith(_DATA) or len(block) > self._max:
            return None
        if block.endswith(_BLANK):
            body = block[6:-2]
        else:
            end = block.rfind(_BLANK)
            if end < 0:
                self.keep(block)
                return []
            body = block[6:end]
            rest = block[end + 2 :]
            if 10 in body and body.count(_LF) != 2 * body.count(_BETWEEN):
                return None
            self.keep(rest)
            return body.split(_BETWEEN)
        self._at_start = False
        if 10 not in body:
            return [body]
        payloads = body.split(_BETWEEN)
        return payloads if body.count(_LF) == 2 * (len(payloads) - 1) else None

    def feed(self, data: bytes) -> Iterable[ServerSentEvent]:
        """The events that are whole now, in order; raises `ProtocolError` behind them where one is too large."""
        events: list[ServerSentEvent] = []
        if self._skip_lf and data:
            self._skip_lf = False
            data = data.removeprefix(_LF)
        if _LF not in data and _CR not in data:
            self._tail += data
            return self._bounded(events)
        buffer = bytes(self._tail) + data
        if self._at_start:
            self._at_start = False
            buffer = buffer.removeprefix(_BOM)
        if _CR in buffer:
            self._skip_lf = buffer.endswith(_CR)
            buffer = buffer.replace(b"\r\n", _LF).replace(_CR, _LF)
        *lines, rest = buffer.split(_LF)
        self._tail[:] = rest
        for line in lines:
            if line:
                if self._held + len(line) > self._max:
                    return then_raise(events, self._too_large())
                self._take(line)
            elif (event := self._dispatch()) is not None:
                events.append(event)
        return self._bounded(events)

    def _bounded(self, events: list[ServerSentEvent]) -> Iterable[ServerSentEvent]:
        self._clear = not (self._data or self._event or self._retry is not None or self._skip_lf)
        self.fresh = self._clear and not self._tail
        held = self._held + len(self._tail)
        if self._at_start and self._tail.startswith(_BOM):
            held -= len(_BOM)  # a cut has left it there: it is no part of the event
        if held > self._max:
            return then_raise(events, self._too_large())
        return events

    def _too_large(self) -> ProtocolError:
        return ProtocolError(f"an event takes more than max_event_size, {self._max} bytes")

    def _take(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data.append(value)
            self._held += len(value) + 1  # the LF that joins it to the next: empty lines count too
        elif name == b"event":
            self._event = value
        elif name == b"id":
            if b"\0" not in value:
                self._id = value
        elif name == b"retry" and value.isdigit():
            self._retry = int(value[:18])
        # Anything else is a comment (an empty name) or a field that the rules say to ignore.

    def _dispatch(self) -> ServerSentEvent | None:
        data, event, retry = self._data, self._event, self._retry
        self._data, self._event, self._retry, self._held = [], b"", None, 0
        if not data:
            return None
        return ServerSentEvent(
            data=_text(_LF.join(data)), event=_text(event) or "message", id=_text(self._id), retry=retry
        )


def _text(value: bytes) -> str:
    """UTF-8 as the rules decode it: what is not becomes U+FFFD."""
    return value.decode("utf-8", "replace")


def then_raise(events: Sequence[T], error: ApiError) -> Iterator[T]:
    """The events, and behind them the error: nothing that came whole is lost to what came after it."""
    yield from events
    raise error


def encode_event(data: str | bytes, event: str | None = None, id: str | None = None) -> bytes:  # noqa: A002
    r"""One event as bytes; ``data`` may have several lines, ``event`` and ``id`` must not.

    >>> encode_event("hello")
    b'data: hello\n\n'
    """
    payload = data.encode() if isinstance(data, str) else data
    head = b""
    for name, value in ((b"event", event), (b"id", id)):
        if value is not None:
            if "\n" in value or "\r" in value or "\0" in value:
                raise ValueError(f"{name.decode()} must be a single line, not {value!r}")
            head += name + b": " + value.encode() + _LF
    if _LF in payload or _CR in payload:
        lines = payload.replace(b"\r\n", _LF).replace(_CR, _LF).split(_LF)
        return head + b"".join(_DATA + line + _LF for line in lines) + _LF
    return head + _DATA + payload + _BLANK


def encode_comment(text: str = "") -> bytes:
    """A comment: keeps a connection busy, means nothing."""
    return b"".join(b": " + line + _LF for line in text.encode().replace(_CR, _LF).split(_LF)) + _LF
