"""What the scripted server shall say: a turn as the test writes it, and the answer that becomes of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from msgspec import Struct
from msgspec.structs import force_setattr, replace

from turnwire.event import TokenUsage
from turnwire.item import FunctionCall
from turnwire.testing.answer import JSON_TYPE, STREAM_TYPE, Answer, Part
from turnwire.testing.fault import Fault, check
from turnwire.testing.infliction import inflict
from turnwire.testing.request import RecordedRequest
from turnwire.wire.chat.dialect import ChatDialect
from turnwire.wire.chat.response import ChatEncoder

__all__ = ["ChatRequest", "Script", "StreamOptions", "Turn", "answer_turn", "call_pieces"]

_ARGUMENTS_PIECE = 12
"""Characters of a call's arguments that come in one delta, where the dialect does not give calls whole."""


class Turn(Struct, frozen=True, kw_only=True):
    """One answer of the model, over whichever wire it is asked for.

    ``text``, ``reasoning``, ``summary`` and ``refusal`` are streamed in one delta if they are a string, else in one
    delta per string of the sequence. The order is summary, reasoning, text, refusal, calls. The finish reason is the
    one that fits (``stop``, or what the dialect says after calls) unless ``finish_reason`` gives another: over
    Responses, ``length`` and ``content_filter`` end in ``response.incomplete``, anything else in
    ``response.completed``.

    What a wire has no words for is left out: Chat Completions know no ``summary`` of the reasoning, and Responses
    give a refusal in one piece.

    ``token`` is the routing token that this response hands out instead of the server's own; ``""`` for none.
    ``headers`` win over those that the server makes; over WebSocket they go out in ``response.metadata``.
    ``interval`` is in seconds, between two writes.
    """

    text: str | Sequence[str] = ()
    reasoning: str | Sequence[str] = ()
    summary: str | Sequence[str] = ()
    refusal: str | Sequence[str] = ()
    calls: Sequence[FunctionCall] = ()
    usage: TokenUsage | None = None
    finish_reason: str | None = None
    token: str | None = None
    headers: Mapping[str, str] = {}
    fault: Fault | None = None
    interval: float = 0.0

    def __post_init__(self) -> None:
        for name in ("text", "reasoning", "summary", "refusal"):
            value = getattr(self, name)
            force_setattr(self, name, (value,) if isinstance(value, str) else tuple(value))
        force_setattr(self, "calls", tuple(self.calls))


Script: TypeAlias = Sequence[Turn] | Callable[[RecordedRequest], Turn]
"""The turns in the order of the requests, or a function that makes up the turn for a request."""


class StreamOptions(Struct, frozen=True):
    """What a request wants to know besides the answer."""

    include_usage: bool | None = None


class ChatRequest(Struct, frozen=True):
    """The part of a Chat Completions request that decides the form of the answer."""

    model: str = "scripted"
    messages: Sequence[Any] = ()
    stream: bool | None = None
    stream_options: StreamOptions | None = None


def call_pieces(call: FunctionCall) -> Iterator[str]:
    """A call's arguments as they are streamed."""
    for at in range(0, len(call.arguments), _ARGUMENTS_PIECE):
        yield call.arguments[at : at + _ARGUMENTS_PIECE]


def answer_turn(
    turn: Turn, request: ChatRequest, dialect: ChatDialect, *, headers: Mapping[str, str], response_id: str
) -> Answer:
    """The answer to a request, fault included; `ValueError` where the fault can't be played."""
    if turn.fault is not None:
        check(turn.fault, "chat", streamed=bool(request.stream))
    encoder = ChatEncoder(
        dialect,
        response_id=response_id,
        model=request.model,
        created=0,
        include_usage=request.stream_options is not None and bool(request.stream_options.include_usage),
        running_usage=turn.usage,
    )
    if request.stream:
        parts = [part for part in _stream(turn, encoder, dialect) if part.data]
        parts[1:] = [replace(part, pause=turn.interval) for part in parts[1:]]
        content_type = STREAM_TYPE
    else:
        parts = [Part(_whole(turn, encoder))]
        content_type = JSON_TYPE
    answer = Answer(headers={"content-type": content_type, **headers, **turn.headers}, parts=tuple(parts))
    return answer if turn.fault is None else inflict(turn.fault, answer)


def _stream(turn: Turn, encoder: ChatEncoder, dialect: ChatDialect) -> Iterator[Part]:
    yield Part(encoder.start(), "start")
    for delta in turn.reasoning:
        yield Part(encoder.reasoning(delta), "delta")
    for delta in turn.text:
        yield Part(encoder.text(delta), "delta")
    for delta in turn.refusal:
        yield Part(encoder.refusal(delta), "delta")
    for call in turn.calls:
        if dialect.calls_whole:
            yield Part(encoder.call(call), "delta")
            continue
        yield Part(encoder.call_added(call), "delta")
        for piece in call_pieces(call):
            yield Part(encoder.call_arguments(call.call_id, piece), "delta")
    yield Part(encoder.finish(turn.finish_reason, turn.usage), "finish")
    yield Part(encoder.done(), "done")


def _whole(turn: Turn, encoder: ChatEncoder) -> bytes:
    return encoder.completion(
        text="".join(turn.text),
        reasoning="".join(turn.reasoning),
        refusal="".join(turn.refusal),
        calls=turn.calls,
        finish_reason=turn.finish_reason,
        usage=turn.usage,
    )
