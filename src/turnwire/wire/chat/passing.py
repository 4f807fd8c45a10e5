"""An answer that is passed on as it comes: whether it ended and what it cost is all that is read of it.

Nearly all of a stream is plain chunks, which say nothing of that. A plain one is told by its bytes alone, at a small
part of what decoding it would cost: each of its finish reasons is null, it has no usage and no error. What is not
surely so is decoded: a text that is spelled like a key costs time and nothing else. Usage alone goes unnoticed where it
is written with odd spaces.
"""

from __future__ import annotations

import re

import msgspec

from turnwire.errors import ApiError, ProtocolError
from turnwire.event import Completed, ResponseEvent
from turnwire.wire.answer_decoder import Ending
from turnwire.wire.chat.answer import GrowingAnswer
from turnwire.wire.chat.chunk import Chunk, lenient_chunk
from turnwire.wire.sse import MAX_EVENT_SIZE, SseDecoder

__all__ = ["PassingAnswer"]

_ENDS = (b"\n\n", b"\r\n\r\n", b"\r\r")
_END = re.compile(b"|".join(_ENDS))
_FINISH = b'"finish_reason"'
_NO_FINISH = (b'"finish_reason":null', b'"finish_reason": null')
_USAGE = (b'"usage":{', b'"usage": {')


class PassingAnswer:
    """One stream on its way; ``choices`` is the number of answers that were asked for.

    Only whole events pass, so that one of our own can stand behind any of them.
    """

    def __init__(self, choices: int = 1) -> None:
        self._held = bytearray()  # the beginning of an event
        self._answer = GrowingAnswer(
            bounded=True, choices=choices, emit_open_calls=False, watch_calls=False, taken_ids=(), times_count=True
        )
        self.begun = False
        """Something of the answer itself came."""
        self.done_seen = False
        """``[DONE]`` came."""
        self.error: ApiError | None = None
        """What the server said to have failed."""

    def __repr__(self) -> str:
        return f"<PassingAnswer {self.ending}, done_seen={self.done_seen}, error={self.error!r}>"

    @property
    def ending(self) -> Ending:
        """``finished`` once every choice has a finish reason, or ``[DONE]`` came; ``open`` until then.

        Usage settles nothing here: more of the stream may follow it, and that is passed on as well.
        """
        return "open" if self._answer.ending == "open" and not self.done_seen else "finished"

    def feed(self, data: bytes) -> bytes:
        """The events that these bytes complete, as they came; none behind ``[DONE]`` or an error.

        Raises `ProtocolError` for an event over 16 MiB.
        """
        events = self._whole_events(data)
        if _are_plain(events):
            self._pass(events)
            return events
        return self._read(events)

    def completed(self) -> Completed:
        """How it ended, for an answer that did."""
        events: list[ResponseEvent] = []
        self._answer.complete(events)
        completed = events[-1]
        assert isinstance(completed, Completed)  # noqa: S101 - it is always the last
        return completed

    def _whole_events(self, data: bytes) -> bytes:
        held = self._held
        if held:
            seam = held[-3:] + data
            held += data
            if not any(end in seam for end in _ENDS):
                # Joining only where an event can end keeps many small pieces of a large one linear.
                self._check_size()
                return b""
            data = bytes(held)
            held.clear()
        if data.endswith(_ENDS):
            return data
        end = max(data.rfind(end) + len(end) if end in data else 0 for end in _ENDS)
        held += data[end:]
        self._check_size()
        return data[:end]

    def _check_size(self) -> None:
        if len(self._held) > MAX_EVENT_SIZE:
            raise ProtocolError(f"an event of the stream takes more than {MAX_EVENT_SIZE} bytes")

    def _read(self, events: bytes) -> bytes:
        start = 0
        for found in _END.finditer(events):
            event = events[start : found.end()]
            start = found.end()
            if _are_plain(event):
                self._pass(event)
                continue
            for server_sent in SseDecoder().feed(event):
                self._take(server_sent.data.strip())
            if self.done_seen or self.error is not None:
                return events[:start]
        return events

    def _pass(self, events: bytes) -> None:
        if not self.begun:
            self.begun = _FINISH in events or b'"choices"' in events

    def _take(self, data: str) -> None:
        if data in ("[DONE]", "DONE"):
            self.done_seen = True
        elif (chunk := _ends_of(data)) is not None:
            try:
                self._answer.take(chunk, [])
            except ApiError as error:
                self.error = error
            else:
                self.begun = self.begun or bool(chunk.choices)


def _are_plain(events: bytes) -> bool:
    rfind, count = events.rfind, events.count  # looking from the end is the quickest way to look into bytes
    if rfind(b"DONE") >= 0 or rfind(b'"error"') >= 0:
        return False
    finishes = count(_FINISH)
    if finishes != count(_NO_FINISH[0]) and finishes != count(_NO_FINISH[1]):
        return False
    return rfind(_USAGE[0]) < 0 and rfind(_USAGE[1]) < 0


def _ends_of(data: str) -> Chunk | None:
    """A chunk without what its choices gained; None for what is no chunk, which is for the client to make sense of."""
    try:
        chunk = lenient_chunk(msgspec.json.decode(data))
    except (msgspec.DecodeError, RecursionError):
        return None
    if chunk is not None:
        for choice in chunk.choices or ():
            choice.delta = choice.message = None
    return chunk
