"""A turn as a Responses server says it, over HTTP and over WebSocket."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, TypeAlias, TypeVar

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from turnwire.client.turn_state import TURN_STATE_HEADER
from turnwire.errors import RetryableError
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
    Message,
    OutputText,
    Reasoning,
    ReasoningText,
    Refusal,
    SummaryText,
)
from turnwire.testing.answer import JSON_TYPE, STREAM_TYPE, Answer, Part, PartKind
from turnwire.testing.asked import AskedResponse
from turnwire.testing.fault import ErrorEvent, Failed, check
from turnwire.testing.frame import Frame, FrameAnswer, error_frame
from turnwire.testing.infliction import inflict, inflict_frames, up_to_delta
from turnwire.testing.script import Turn, call_pieces
from turnwire.wire.responses import ResponseObject, ResponsesEncoder
from turnwire.wire.sse import encode_event

__all__ = ["TokenPlace", "answer_compaction", "answer_frames", "answer_response", "output_items"]

TokenPlace: TypeAlias = Literal["after_created", "before_created", "late", "array", "handshake", "never"]
"""Where a WebSocket server hands the token out.

``after_created``: in ``response.metadata`` directly behind ``response.created``, as it satisfies every client.
``before_created``: in front of it. ``late``: behind the first delta. ``array``: as ``after_created``, with the token as
the first of two values in a list. ``handshake``: in the 101 response, as older servers do; a turn's own token still
goes out in ``response.metadata``. ``never``: only over HTTP.
"""

_INCOMPLETE: Mapping[str | None, str] = {"length": "max_output_tokens", "content_filter": "content_filter"}

_Piece = TypeVar("_Piece", Part, Frame)

_DELTAS = (OutputTextDelta, ReasoningContentDelta, ReasoningSummaryDelta, ToolCallArgumentsDelta)


class _Written(Struct, frozen=True, gc=False):
    """One event as it goes out, and what it is for the faults that count."""

    data: bytes
    kind: PartKind = "other"


def answer_response(turn: Turn, asked: AskedResponse, *, headers: Mapping[str, str], response_id: str) -> Answer:
    """The answer over HTTP, fault included; `ValueError` where the fault can't be played."""
    if turn.fault is not None:
        check(turn.fault, "responses", streamed=asked.streamed)
    content_type = STREAM_TYPE if asked.streamed else JSON_TYPE
    if asked.streamed:
        encoder = _encoder(asked, response_id)
        written = [_Written(data, "start") for data in encoder.start()]
        written += _rest(turn, encoder)
        if isinstance(turn.fault, ErrorEvent):
            error = {"type": "error", "code": turn.fault.code, "message": turn.fault.message, "param": None}
            event = encode_event(msgspec.json.encode(error), "error")
            written = [*up_to_delta(written, turn.fault.after), _Written(event)]
        parts = [Part(event.data, event.kind) for event in written]
    else:
        parts = [Part(msgspec.json.encode(_response(asked, response_id).whole(_events(turn))))]
    answer = Answer(headers={"content-type": content_type, **headers, **turn.headers}, parts=_paced(parts, turn))
    return answer if turn.fault is None or isinstance(turn.fault, ErrorEvent | Failed) else inflict(turn.fault, answer)


def answer_frames(
    turn: Turn, asked: AskedResponse, *, token: str | None, place: TokenPlace, response_id: str
) -> FrameAnswer:
    """The answer over WebSocket, fault included; `ValueError` where the fault can't be played."""
    fault = turn.fault
    if fault is not None:
        check(fault, "websocket", streamed=True)
    encoder = _encoder(asked, response_id, framing="websocket")
    created, in_progress = encoder.start()
    frames = [Frame(created, "start"), Frame(in_progress, "start")]
    frames += [Frame(event.data, event.kind) for event in _rest(turn, encoder)]
    headers: dict[str, Any] = {} if token is None else {TURN_STATE_HEADER: token}
    headers |= turn.headers
    if headers:
        frames.insert(_position(frames, place), _metadata(headers, place))
    if isinstance(fault, ErrorEvent):
        error = error_frame(fault.message, kind=fault.kind, code=fault.code)
        return FrameAnswer(frames=_paced((*up_to_delta(frames, fault.after), error), turn))
    answer = FrameAnswer(frames=_paced(frames, turn))
    return answer if fault is None or isinstance(fault, Failed) else inflict_frames(fault, answer)


def answer_compaction(turn: Turn, asked: AskedResponse, *, headers: Mapping[str, str], response_id: str) -> Answer:
    """The turn's items as those that a conversation was folded into."""
    if turn.fault is not None:
        check(turn.fault, "responses", streamed=False)
    whole = _response(asked, response_id).whole(_events(turn))
    kept = {name: whole[name] for name in ("id", "created_at", "output", "usage")}
    body = msgspec.json.encode({**kept, "object": "response.compaction"})
    answer = Answer(headers={"content-type": JSON_TYPE, **headers, **turn.headers}, parts=(Part(body),))
    return answer if turn.fault is None else inflict(turn.fault, answer)


def output_items(turn: Turn, asked: AskedResponse, *, response_id: str) -> Sequence[Any]:
    """The items of the answer as JSON, for whoever goes on from it."""
    output: Sequence[Any] = _response(asked, response_id).whole(_events(turn))["output"]
    return output


def _encoder(asked: AskedResponse, response_id: str, framing: Literal["sse", "websocket"] = "sse") -> ResponsesEncoder:
    return ResponsesEncoder(
        response_id=response_id, model=asked.model, clock=_no_time, request=asked.fields, framing=framing
    )


def _response(asked: AskedResponse, response_id: str) -> ResponseObject:
    return ResponseObject(response_id=response_id, model=asked.model, clock=_no_time, request=asked.fields)


def _no_time() -> float:
    """The same bytes in each run."""
    return 0.0


def _rest(turn: Turn, encoder: ResponsesEncoder) -> list[_Written]:
    """All behind the start, up to where a `Failed` ends it."""
    written: list[_Written] = []
    deltas = 0
    for event in _events(turn):
        is_delta = isinstance(event, _DELTAS)
        if isinstance(turn.fault, Failed) and (deltas == turn.fault.after or isinstance(event, Completed)):
            error = RetryableError(turn.fault.message)
            error.code = turn.fault.code
            return [*written, *[_Written(data) for data in encoder.failed(error)]]
        deltas += is_delta
        kind: PartKind = "finish" if isinstance(event, Completed) else "other"
        written += [_Written(data, kind) for data in encoder.encode([event])]
        if is_delta:
            written[-1] = replace(written[-1], kind="delta")  # what it opened stands in front of it
    return written


def _events(turn: Turn) -> Iterator[ResponseEvent]:
    """The turn in the vocabulary of all wires."""
    if turn.summary or turn.reasoning:
        yield OutputItemAdded(Reasoning())
        if turn.summary:
            yield ReasoningSummaryPartAdded(0)
        for delta in turn.summary:
            yield ReasoningSummaryDelta(delta, 0)
        for delta in turn.reasoning:
            yield ReasoningContentDelta(delta, 0)
        yield OutputItemDone(_reasoning(turn))
    if turn.text or turn.refusal:
        yield OutputItemAdded(Message("assistant", ()))
        for delta in turn.text:
            yield OutputTextDelta(delta)
        text = [OutputText("".join(turn.text))] if turn.text else []
        refusal = [Refusal("".join(turn.refusal))] if turn.refusal else []
        yield OutputItemDone(Message("assistant", (*text, *refusal)))
    for call in turn.calls:
        yield OutputItemAdded(replace(call, arguments=""))
        for piece in call_pieces(call):
            yield ToolCallArgumentsDelta(call.call_id, piece)
        yield OutputItemDone(call)
    reason = turn.finish_reason
    yield Completed(token_usage=turn.usage, finish_reason=reason, incomplete_reason=_INCOMPLETE.get(reason))


def _reasoning(turn: Turn) -> Reasoning:
    summary = [SummaryText("".join(turn.summary))] if turn.summary else []
    return Reasoning(summary=summary, content=[ReasoningText("".join(turn.reasoning))] if turn.reasoning else None)


def _position(frames: Sequence[Frame], place: TokenPlace) -> int:
    if place == "before_created":
        return 0
    first_delta = next((at for at, frame in enumerate(frames) if frame.kind == "delta"), 0)
    return first_delta + 1 if place == "late" else 1


def _metadata(headers: Mapping[str, Any], place: TokenPlace) -> Frame:
    if place == "array":
        headers = {name: [value, "of no account"] for name, value in headers.items()}
    data = msgspec.json.encode({"type": "response.metadata", "headers": headers})
    return Frame(data, "other" if place == "late" else "start")


def _paced(pieces: Iterable[_Piece], turn: Turn) -> tuple[_Piece, ...]:
    """With the turn's interval in front of each but the first."""
    return tuple(replace(piece, pause=turn.interval) if at else piece for at, piece in enumerate(pieces))
