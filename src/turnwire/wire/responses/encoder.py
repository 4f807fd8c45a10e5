"""An answer, encoded as a Responses server would send it: all of OpenAI's events, in OpenAI's order.

======================= ===============================================================================
an event of ours        becomes
======================= ===============================================================================
`start`                 ``created``, a ``response.metadata`` where it is given headers, ``in_progress``
`OutputItemAdded`       ``output_item.added``
the first delta         ``content_part.added`` or ``reasoning_summary_part.added``, then the delta
each further delta      ``output_text.delta`` and its likes
`OutputItemDone`        what was not told yet, the ends of its parts, ``output_item.done``
`Completed`             ``completed`` or ``incomplete``; ``failed`` where an item is still open
`failed`                ``failed``
======================= ===============================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

from turnwire.errors import ApiError, StreamError
from turnwire.event import (
    Completed,
    OutputItemAdded,
    OutputItemDone,
    OutputTextDelta,
    ReasoningContentDelta,
    ReasoningSummaryDelta,
    ReasoningSummaryPartAdded,
    ResponseEvent,
    ToolCallArgumentsDelta,
)
from turnwire.item import (
    CustomToolCall,
    FunctionCall,
    Message,
    OtherItem,
    Reasoning,
    ResponseItem,
    ToolSearchCall,
)
from turnwire.wire.responses.event_writer import EventWriter, Framing
from turnwire.wire.responses.growing_item import GrowingCall, GrowingItem, GrowingMessage, GrowingReasoning
from turnwire.wire.responses.response_object import ResponseObject

__all__ = ["ResponsesEncoder"]

_Key: TypeAlias = tuple[type[ResponseItem], str]

_GROWING: dict[type[ResponseItem], type[GrowingItem]] = {
    Message: GrowingMessage,
    Reasoning: GrowingReasoning,
    FunctionCall: GrowingCall,
    CustomToolCall: GrowingCall,
}


class ResponsesEncoder:
    """One answer to one request. Each method gives the events it makes: bytes to be written, or messages to be sent.

    A stream is `start`, `encode` of any number of events, and `failed` where they end without `Completed`. The events
    are those of a `turnwire.wire.chat.ChatDecoder` or a `ResponsesDecoder`, best with ``watch_calls``: a call that was
    not watched is told at once. Numbers and item ids depend on the events alone.

    ``response_id``, ``model``, ``clock`` (seconds since 1970) and ``request`` (the request's body, checked, of which
    the response repeats its part) are those of `ResponseObject`. ``first_number`` is that of the first event, where
    others went before it.
    """

    def __init__(
        self,
        *,
        response_id: str,
        model: str,
        clock: Callable[[], float],
        request: Mapping[str, Any] = {},
        framing: Framing = "sse",
        first_number: int = 0,
    ) -> None:
        self.response = ResponseObject(response_id=response_id, model=model, clock=clock, request=request)
        self._writer = EventWriter(framing, first_number)
        self._open: list[tuple[_Key, GrowingItem]] = []
        self._message: GrowingMessage | None = None  # where the next text belongs
        self._reasoning: GrowingReasoning | None = None
        self._write_text: Callable[[str], None] | None = None  # writes it, once some came
        self._write_reasoning: Callable[[str], None] | None = None
        self._over = False

    def __repr__(self) -> str:
        state = "over" if self._over else f"{len(self._open)} items open"
        return f"<ResponsesEncoder of {self.response.response_id}: {state}, event {self._writer.next_number}>"

    @property
    def over(self) -> bool:
        """The terminal event was written; there is nothing more to write."""
        return self._over

    @property
    def next_number(self) -> int:
        """The ``sequence_number`` of the next event."""
        return self._writer.next_number

    def start(self, metadata: Mapping[str, str] = {}) -> list[bytes]:
        """The beginning; ``metadata`` are headers that reach a WebSocket client only in an event."""
        self._writer.write("response.created", {"response": self.response.begun()})
        if metadata:
            self._write_metadata(metadata)
        self._writer.write("response.in_progress", {"response": self.response.begun()})
        return self._writer.take()

    def metadata(self, headers: Mapping[str, str]) -> list[bytes]:
        """Headers in an event of their own, any time after the start."""
        self._write_metadata(headers)
        return self._writer.take()

    def keepalive(self) -> list[bytes]:
        """An event that says nothing: unlike comments and pings, it counts as a sign of life."""
        self._writer.write("keepalive", {})
        return self._writer.take()

    def encode(self, events: Iterable[ResponseEvent]) -> list[bytes]:
        """These events; what comes behind `Completed` is left out."""
        if not self._over:
            for event in events:
                if type(event) is OutputTextDelta:
                    (self._write_text or self._begin_text())(event.delta)
                elif type(event) is ReasoningContentDelta:
                    (self._write_reasoning or self._begin_reasoning_text())(event.delta)
                else:
                    self._encode(event)
                    if self._over:
                        break
        # `EventWriter.take`, which is not called here: this is done for every chunk of a stream.
        writer = self._writer
        written, writer.written = writer.written, []
        return written

    def failed(self, error: ApiError) -> list[bytes]:
        """The end of an answer that broke; nothing where it is over."""
        if not self._over:
            self._end("response.failed", self.response.failed(error))
        return self._writer.take()

    def _write_metadata(self, headers: Mapping[str, str]) -> None:
        self._writer.write_unnumbered("response.metadata", {"headers": dict(headers)})

    def _encode(self, event: ResponseEvent) -> None:
        match event:
            case ReasoningSummaryPartAdded():
                (self._reasoning or self._begin_reasoning()).summary_part(event.summary_index)
            case ReasoningSummaryDelta():
                (self._reasoning or self._begin_reasoning()).summary(event.delta, event.summary_index)
            case ToolCallArgumentsDelta():
                for (_, call_id), growing in self._open:
                    if isinstance(growing, GrowingCall) and call_id == event.call_id:
                        growing.arguments(event.delta)
            case OutputItemAdded():
                self._begin(event.item)
            case OutputItemDone():
                self._finish(event.item)
            case Completed():
                self._complete(event)
            case _:
                pass  # Created is `start`; limits and names of models travel in headers

    def _begin(self, item: ResponseItem) -> GrowingItem:
        place = self.response.place()
        fields = self.response.item(item, place, status="in_progress")
        growing = _GROWING.get(type(item), GrowingItem)(self._writer, place, fields)
        self._open.append((_key(item), growing))
        if isinstance(growing, GrowingReasoning):
            self._reasoning, self._write_reasoning = growing, None
        elif isinstance(growing, GrowingMessage):
            self._message, self._write_text = growing, None
        return growing

    def _begin_text(self) -> Callable[[str], None]:
        if self._message is None:
            self._begin(Message("assistant", ()))
        assert self._message is not None  # noqa: S101 - it has begun
        self._write_text = self._message.text().write
        return self._write_text

    def _begin_reasoning_text(self) -> Callable[[str], None]:
        reasoning = self._reasoning or self._begin_reasoning()
        self._write_reasoning = reasoning.text().write
        return self._write_reasoning

    def _begin_reasoning(self) -> GrowingReasoning:
        self._begin(Reasoning())
        assert self._reasoning is not None  # noqa: S101 - it has just begun
        return self._reasoning

    def _finish(self, item: ResponseItem) -> None:
        growing = self._begun(item) or self._begin(item)
        self._open = [entry for entry in self._open if entry[1] is not growing]
        fields = self.response.item(item, growing.place, item_id=growing.item_id)
        growing.finish(fields)
        self.response.put(growing.place, fields)
        if growing is self._message:
            self._message = self._write_text = None
        elif growing is self._reasoning:
            self._reasoning = self._write_reasoning = None

    def _begun(self, item: ResponseItem) -> GrowingItem | None:
        """The open item that this one is the whole of."""
        kind, key = _key(item)
        alike = [(name, growing) for (other, name), growing in self._open if other is kind]
        named = next((growing for name, growing in alike if name == key), None)
        if named is None and alike and kind in (Message, Reasoning):
            # Deltas without an item, or ids that change from event to event: the oldest is meant.
            return alike[0][1]
        return named

    def _complete(self, completed: Completed) -> None:
        if self._open and completed.incomplete_reason is None:
            # A client that has seen an item begin takes it for a broken stream if that item never ends.
            ids = ", ".join(growing.item_id for _, growing in self._open)
            error = StreamError(f"the answer ended, but not its items {ids}")
            self._end("response.failed", self.response.failed(error))
        else:
            whole = completed.incomplete_reason is None
            self._end("response.completed" if whole else "response.incomplete", self.response.ended(completed))

    def _end(self, kind: str, response: Mapping[str, Any]) -> None:
        self._over = True
        self._open.clear()
        self._writer.write(kind, {"response": response})


def _key(item: ResponseItem) -> _Key:
    if isinstance(item, FunctionCall | CustomToolCall | ToolSearchCall):
        return type(item), item.call_id or ""
    item_id = item.fields.get("id") if isinstance(item, OtherItem) else getattr(item, "id", None)
    return type(item), str(item_id or "")
