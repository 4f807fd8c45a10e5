"""Events as a server writes them: numbered, and framed for server-sent events or for a WebSocket.

Of a stream, only the delta and the number differ from one delta event to the next: the bytes around them are made
once per part, and a delta is three of them joined.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

import msgspec

from turnwire.wire.sse import encode_event

__all__ = ["DeltaWriter", "EventWriter", "Framing"]

Framing: TypeAlias = Literal["sse", "websocket"]
"""``sse``: each event is one ``event:`` and one ``data:`` line; ``websocket``: each is one message, bare JSON."""

_encode = msgspec.json.Encoder().encode

_HOLE = b"\0"
"""Marks a place in a document. JSON escapes NUL, so the byte can't come from anything else."""


class EventWriter:
    """Writes the events of one stream, in order; `take` gives what was written."""

    __slots__ = ("_framing", "next_number", "written")

    def __init__(self, framing: Framing, first_number: int = 0) -> None:
        self._framing = framing
        self.next_number = first_number
        """The ``sequence_number`` of the next event."""
        self.written: list[bytes] = []

    def write(self, kind: str, fields: Mapping[str, Any]) -> None:
        """Writes an event with its number."""
        self.written.append(self._framed(kind, {"type": kind, "sequence_number": self.next_number, **fields}))
        self.next_number += 1

    def write_unnumbered(self, kind: str, fields: Mapping[str, Any]) -> None:
        """Writes an event that is no part of the answer's sequence."""
        self.written.append(self._framed(kind, {"type": kind, **fields}))

    def delta_writer(self, kind: str, fields: Mapping[str, Any]) -> DeltaWriter:
        """What writes the deltas of one part; the other fields stay the same."""
        hole = msgspec.Raw(_HOLE)
        document = self._framed(kind, {"type": kind, **fields, "delta": hole, "sequence_number": hole})
        return DeltaWriter(self, *document.split(_HOLE))

    def take(self) -> list[bytes]:
        """What was written since the last time."""
        written, self.written = self.written, []
        return written

    def _framed(self, kind: str, document: Mapping[str, Any]) -> bytes:
        payload = _encode(document)
        return encode_event(payload, kind) if self._framing == "sse" else payload


class DeltaWriter:
    """Writes the deltas of one part of an item."""

    __slots__ = ("_between", "_head", "_tail", "_writer", "used")

    def __init__(self, writer: EventWriter, head: bytes, between: bytes, tail: bytes) -> None:
        self._writer = writer
        self._head = head
        self._between = between
        self._tail = tail
        self.used = False
        """Whether any delta was written."""

    def write(self, delta: str) -> None:
        """Writes one delta event."""
        self.used = True
        writer = self._writer
        number = writer.next_number
        writer.next_number = number + 1
        writer.written.append(b"".join((self._head, _encode(delta), self._between, _encode(number), self._tail)))
