"""Responses streams, bytes to events: the same mapping for server-sent events and for WebSocket frames.

======================================== ====================================================================
the server's event                       becomes
======================================== ====================================================================
``response.created``                     `Created`
``response.output_item.added``, ``done`` `OutputItemAdded`, `OutputItemDone`
``response.output_text.delta``           `OutputTextDelta`
``response.reasoning_…`` deltas, parts   `ReasoningContentDelta`, `ReasoningSummaryDelta`, `ReasoningSummaryPartAdded`
arguments and input of calls             `ToolCallArgumentsDelta`, for whoever watches calls
``response.completed``, ``incomplete``   `Completed`; over
``response.failed``, ``error``           a typed error; over
``response.metadata``                    kept as `ResponsesDecoder.metadata`
``codex.rate_limits``                    `RateLimits`
anything else                            counted in `ResponsesDecoder.skipped`
======================================== ====================================================================

The terminal event ends the answer, not the end of the body; a body that ends before it is a `StreamError`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from turnwire.errors import ApiError, ProtocolError, StreamError
from turnwire.event import (
    Completed,
    Created,
    OutputItemDone,
    OutputTextDelta,
    RateLimits,
    ReasoningContentDelta,
    ReasoningSummaryDelta,
    ReasoningSummaryPartAdded,
    ResponseEvent,
    ToolCallArgumentsDelta,
)
from turnwire.item import CustomToolCall, FunctionCall, Message, Reasoning, ResponseItem, decode_item, item_text
from turnwire.wire.answer_decoder import Ending
from turnwire.wire.responses.event import ServerEvent, decode_event, named_payloads
from turnwire.wire.responses.failure import failure_from_event, failure_from_failed
from turnwire.wire.responses.growth import GrowingItems
from turnwire.wire.responses.header import plain_headers
from turnwire.wire.responses.usage import decode_usage
from turnwire.wire.sse import MAX_EVENT_SIZE, SseDecoder, then_raise

__all__ = ["ResponsesDecoder"]

_log = logging.getLogger("turnwire.wire.responses")

_QUIET = frozenset(
    {
        "codex.response.metadata",
        "keepalive",
        "response.in_progress",
        "response.queued",
        "response.content_part.added",
        "response.content_part.done",
        "response.output_text.done",
        "response.output_text.annotation.added",
        "response.refusal.delta",
        "response.refusal.done",
        "response.reasoning_text.done",
        "response.reasoning.done",
        "response.reasoning_summary_text.done",
        "response.reasoning_summary_part.done",
        "response.function_call_arguments.done",
        "response.custom_tool_call_input.done",
    }
)
"""Events that say nothing beyond what others say as well, or (refusals, annotations) what the done item says."""

_SENTINELS = frozenset((b"[DONE]", "[DONE]", b"", ""))
"""LiteLLM ends its Responses streams as it does its chat streams, behind the terminal event."""


class ResponsesDecoder:
    """Turns one Responses answer into events; does no I/O and knows no clock. It is an `AnswerDecoder`.

    Over HTTP, `feed` takes the body in any pieces and `feed_eof` its end. Over WebSocket, `feed_frame` takes one
    message at a time. Each gives an iterable of events; where something failed it raises, behind the events that came
    before, one of `turnwire.errors`. `Completed` comes once and last.

    All text of a message is told in deltas before the message is done, be it in one; so is reasoning, and so are
    calls with ``watch_calls``.
    """

    def __init__(self, *, watch_calls: bool = False, max_event_size: int = MAX_EVENT_SIZE) -> None:
        self._max_event_size = max_event_size
        self._sse = SseDecoder(max_event_size)
        self._growing = GrowingItems(watch_calls=watch_calls)
        self._items: list[ResponseItem] = []
        self._over = False
        self._finish_reason: str | None = None
        self.response_id = ""
        """The server's name for this answer, once it said."""
        self.metadata: dict[str, str] = {}
        """The headers of ``response.metadata`` events, names in lower case; of a repeated one the first that is not
        empty."""
        self.response: Mapping[str, Any] | None = None
        """The response object of the terminal event, as it came; None until an answer has completed."""
        self.parsed = 0
        """How often something was read that is not a comment."""
        self.skipped = 0
        """Events of unknown types, or without a type, or that were no JSON object."""

    def __repr__(self) -> str:
        return f"<ResponsesDecoder {'over' if self._over else 'open'}, skipped={self.skipped}>"

    @property
    def over(self) -> bool:
        """Nothing more will come: completed or failed."""
        return self._over

    @property
    def ending(self) -> Ending:
        """Always ``open``: the terminal event alone says that an answer ends, and then it is over."""
        return "open"

    @property
    def finish_reason(self) -> str | None:
        """``completed`` or ``incomplete``, None so far."""
        return self._finish_reason

    @property
    def items(self) -> tuple[ResponseItem, ...]:
        """The items that are done."""
        return tuple(self._items)

    @property
    def dropped_calls(self) -> tuple[str, ...]:
        """None: a call is given when the server says that it is done."""
        return ()

    @property
    def text(self) -> str:
        """The answer's text as far as it came, that of open messages included."""
        return "".join(item_text(item) for item in self._items) + self._growing.text

    def feed(self, data: bytes) -> Iterable[ResponseEvent]:
        """The events that these bytes of the body complete, in order."""
        if self._over:
            return ()
        events: list[ResponseEvent] = []
        try:
            self._read(data, events)
        except ApiError as error:
            self._over = True
            return then_raise(events, error)
        return events

    def feed_frame(self, frame: str | bytes) -> Iterable[ResponseEvent]:
        """The events of one WebSocket message; one that is not a JSON object is a `ProtocolError`."""
        if self._over:
            return ()
        events: list[ResponseEvent] = []
        try:
            event = decode_event(frame)
            if event is None:
                raise ProtocolError(f"a frame of {len(frame)} bytes is no event; expected a JSON object")
            self._take(event, events)
        except ApiError as error:
            self._over = True
            return then_raise(events, error)
        return events

    def feed_eof(self) -> Iterable[ResponseEvent]:
        """The end of the body or of the connection: a `StreamError`, unless the answer was over."""
        if self._over:
            return ()
        self._over = True
        return then_raise((), StreamError("stream closed before response.completed"))

    def feed_completion(self, body: bytes) -> Iterable[ResponseEvent]:
        """The events of a whole answer, a ``response`` object, instead of a stream; then it is over."""
        self._over = True
        try:
            response = msgspec.json.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            response = None
        if not isinstance(response, dict) or not ("output" in response or response.get("error")):
            return then_raise((), StreamError("the server sent neither a stream nor a response object"))
        events: list[ResponseEvent] = []
        try:
            self._take_whole(response, events)
        except ApiError as error:
            return then_raise(events, error)
        return events

    def _read(self, data: bytes, events: list[ResponseEvent]) -> None:
        sse = self._sse
        block = data if sse.fresh else sse.take(data)
        if block == b"":
            return
        payloads: Iterable[bytes | str] | None = None
        if block is not None and block.startswith(b"event: ") and len(block) <= self._max_event_size:
            # The type stands in the data as well as in the event's name, so that nobody needs the name.
            named = named_payloads(block)
            if named is not None:
                payloads, rest = named
                sse.keep(rest)
        elif block is not None:
            payloads = sse.plain_payloads(block)
        if payloads is None:
            payloads = (event.data for event in sse.feed(data if block is None else block))
        for payload in payloads:
            event = decode_event(payload)
            if event is not None:
                self._take(event, events)
            elif payload.strip() not in _SENTINELS:
                self.parsed += 1
                self.skipped += 1
                _log.warning("skipped an event of %d bytes that is not a JSON object", len(payload))
            if self._over:
                return

    def _take(self, event: ServerEvent, events: list[ResponseEvent]) -> None:
        self.parsed += 1
        kind, delta = event.type, event.delta
        if kind == "response.output_text.delta":  # first, for there are more of it than of all others
            if isinstance(delta, str) and delta:
                message = self._growing.growing(Message, event.item_id, events)
                message.told = True
                message.texts.append(delta)
                events.append(OutputTextDelta(delta))
            return
        match kind:
            case "response.reasoning_text.delta" | "response.reasoning.delta":  # the latter: Open Responses
                if isinstance(delta, str) and delta:
                    self._growing.growing(Reasoning, event.item_id, events).told = True
                    events.append(ReasoningContentDelta(delta, _index(event.content_index)))
            case "response.reasoning_summary_part.added" | "response.reasoning_summary_text.delta":
                self._take_summary(event, events)
            case "response.function_call_arguments.delta":
                self._take_call_delta(FunctionCall, event, events)
            case "response.custom_tool_call_input.delta":
                self._take_call_delta(CustomToolCall, event, events)
            case "response.output_item.added":
                if isinstance(event.item, dict):
                    self._growing.begin(decode_item(event.item), events)
            case "response.output_item.done":
                if isinstance(event.item, dict):
                    self._done(decode_item(event.item), events)
            case "response.created":
                if isinstance(event.response, dict):
                    self._name(event.response)
                    events.append(Created(self.response_id))
            case "response.completed" | "response.done":
                self._complete(event.response, "completed", events)
            case "response.incomplete":
                self._complete(event.response, "incomplete", events)
            case "response.failed":
                raise failure_from_failed(event.response)
            case "error":
                raise failure_from_event(event)
            case "response.metadata":
                for name, value in plain_headers(event.headers).items():
                    self.metadata.setdefault(name, value)
            case "codex.rate_limits":
                if isinstance(event.rate_limits, dict):
                    events.append(RateLimits(event.rate_limits))
            case str() if kind in _QUIET:
                pass
            case _:
                self.skipped += 1
                _log.debug("skipped an event of an unknown type")

    def _take_summary(self, event: ServerEvent, events: list[ResponseEvent]) -> None:
        """A part's beginning, or more of its text; a part that the server did not begin is begun by its text."""
        summary_index = _index(event.summary_index)
        reasoning = self._growing.growing(Reasoning, event.item_id, events)
        reasoning.told = True
        if summary_index not in reasoning.summary_parts:
            reasoning.summary_parts.add(summary_index)
            events.append(ReasoningSummaryPartAdded(summary_index))
        if isinstance(event.delta, str) and event.delta:
            events.append(ReasoningSummaryDelta(event.delta, summary_index))

    def _take_call_delta(
        self, kind: type[FunctionCall | CustomToolCall], event: ServerEvent, events: list[ResponseEvent]
    ) -> None:
        call = self._growing.growing_call(kind, event.item_id)
        if call is not None and isinstance(event.delta, str) and event.delta:
            call.told = True
            events.append(ToolCallArgumentsDelta(call.call_id, event.delta))

    def _done(self, item: ResponseItem, events: list[ResponseEvent]) -> None:
        if self._growing.repeats(item):
            return
        events.extend(self._growing.finish(item))
        self._items.append(item)
        events.append(OutputItemDone(item))

    def _take_whole(self, response: dict[str, Any], events: list[ResponseEvent]) -> None:
        status = response.get("status")
        if response.get("error") or status in ("failed", "cancelled"):
            raise failure_from_failed(response)
        self._complete(response, "completed", events)

    def _complete(self, response: Any, status: str, events: list[ResponseEvent]) -> None:
        self._over = True
        fields: dict[str, Any] = response if isinstance(response, dict) else {}
        self.response = fields
        self._name(fields)
        output = fields.get("output")
        if isinstance(output, list) and not self._items:
            # A server that gave no item by itself, or an answer that is no stream.
            for item in output:
                if isinstance(item, dict):
                    self._done(decode_item(item), events)
        reason = None
        if status == "incomplete" or fields.get("status") == "incomplete":
            status = "incomplete"
            details = fields.get("incomplete_details")
            named = details.get("reason") if isinstance(details, dict) else None
            reason = named if isinstance(named, str) and named else "unknown"
        self._finish_reason = status
        events.append(Completed(self.response_id, decode_usage(fields.get("usage")), status, reason))

    def _name(self, response: Mapping[str, Any]) -> None:
        response_id = response.get("id")
        if isinstance(response_id, str) and response_id:
            self.response_id = response_id


def _index(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0
