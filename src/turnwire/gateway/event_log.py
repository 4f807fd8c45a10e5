"""The events of one stream, kept so that it can be read again from any of them."""

from __future__ import annotations

from bisect import bisect_right
from typing import Any

import msgspec
from msgspec import Struct

from turnwire.wire.sse import SseDecoder, encode_event

__all__ = ["EventLog"]

_TERMINAL = frozenset({"response.completed", "response.incomplete", "response.failed"})


class _View(Struct):
    """What of an event is looked at."""

    type: Any = None
    sequence_number: Any = None
    response: msgspec.Raw = msgspec.Raw()


_decode = msgspec.json.Decoder(_View).decode
_encode = msgspec.json.Encoder().encode


class EventLog:
    """Events of the Responses API, as they are written to clients: in whole, in order, each as one block of bytes."""

    def __init__(self) -> None:
        self._decoder = SseDecoder()
        self._numbers: list[int] = []
        self.events: list[bytes] = []
        self.size = 0
        """Bytes of all events."""
        self.next_number = 0
        """The ``sequence_number`` that the next event has."""
        self.response: bytes | None = None
        """The ``response`` object that an event last carried, as JSON."""
        self.over = False
        """The terminal event is there, and ends the log: what comes behind it is left out."""

    def __repr__(self) -> str:
        return f"<EventLog of {len(self.events)} events, {self.size} bytes{', over' if self.over else ''}>"

    def feed(self, data: bytes) -> None:
        """Takes bytes of a stream, cut anywhere; raises `ProtocolError` at an event without end."""
        for event in self._decoder.feed(data):
            if not self.over:
                self._take(event.data, event.event)

    def append(self, kind: str, response: dict[str, Any]) -> None:
        """Takes an event that nobody sent, about the whole response."""
        event = {"type": kind, "sequence_number": self.next_number, "response": response}
        self._take(_encode(event).decode(), kind)

    def place_behind(self, number: int | None) -> int:
        """The index of the first event behind the one of this ``sequence_number``; all are behind None.

        An event without a number belongs to the one before it.
        """
        return 0 if number is None else bisect_right(self._numbers, number)

    def _take(self, payload: str, kind: str) -> None:
        try:
            view = _decode(payload)
        except msgspec.DecodeError:
            return  # nothing that a client could read
        number = view.sequence_number
        if isinstance(number, int) and number >= self.next_number:
            self.next_number = number + 1
        self._numbers.append(self.next_number - 1)
        event = encode_event(payload, None if kind == "message" else kind)
        self.events.append(event)
        self.size += len(event)
        if view.response:
            self.response = bytes(view.response)
        self.over = view.type in _TERMINAL
