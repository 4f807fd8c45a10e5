"""An answer, encoded as a Chat Completions server would send it: the stream's events, or one whole object.

What differs between servers comes from the "How it speaks" fields of `ChatDialect`. Within one stream only the text
differs from one delta to the next: the bytes around it are made once, and `ChatEncoder.text` joins three pieces.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import msgspec

from turnwire.event import TokenUsage
from turnwire.item import FunctionCall
from turnwire.wire.chat.dialect import ChatDialect
from turnwire.wire.sse import encode_event

__all__ = ["ChatEncoder", "encode_error", "encode_usage"]

_encode = msgspec.json.Encoder().encode

_HOLE = b"\0"
"""Marks the place of a text in a frame. JSON escapes NUL, so the byte can't come from anything else."""

_Frame: TypeAlias = tuple[bytes, bytes]
"""The bytes of an event before its text and behind it."""


class ChatEncoder:
    """One answer to one request. Each method gives the bytes of one or more events, ready to be written.

    A stream is `start`, any number of deltas, `finish`, `done`. ``created`` is in seconds since 1970.

    ``include_usage`` says whether the request asked for usage. A dialect that has it in a chunk of its own sends
    it only then; the others send it in any case. ``running_usage`` is what a dialect with usage on every chunk
    says before the finish; null where it is None.
    """

    __slots__ = (
        "_arguments",
        "_call_count",
        "_dialect",
        "_include_usage",
        "_object",
        "_reasoning",
        "_running_usage",
        "_text",
    )

    def __init__(
        self,
        dialect: ChatDialect,
        *,
        response_id: str,
        model: str,
        created: int,
        include_usage: bool = False,
        running_usage: TokenUsage | None = None,
    ) -> None:
        self._dialect = dialect
        self._include_usage = include_usage
        self._running_usage = running_usage
        self._object = {"id": response_id, "object": "chat.completion.chunk", "created": created, "model": model}
        self._call_count = 0
        self._arguments: dict[str, _Frame] = {}  # by the call's id
        self._text = self._frame({"content": msgspec.Raw(_HOLE)})
        self._reasoning = self._frame(_reasoning_field(dialect, msgspec.Raw(_HOLE)))

    def __repr__(self) -> str:
        return f"<ChatEncoder: {self._object['id']}, {self._call_count} calls>"

    def start(self) -> bytes:
        """The first chunk, which says who speaks."""
        return self._event({"role": "assistant", "content": ""})

    def text(self, delta: str) -> bytes:
        """More of the answer."""
        before, after = self._text
        return before + _encode(delta) + after

    def reasoning(self, delta: str) -> bytes:
        """More of the reasoning, under the dialect's name for it."""
        before, after = self._reasoning
        return before + _encode(delta) + after

    def refusal(self, delta: str) -> bytes:
        """More of the words in which the model declines."""
        return self._event({"refusal": delta})

    def call(self, call: FunctionCall) -> bytes:
        """A whole call: in one delta or in two, as the dialect has it."""
        if self._dialect.calls_whole:
            return self._call_added(call)
        return self.call_added(call) + self.call_arguments(call.call_id, call.arguments)

    def call_added(self, call: FunctionCall) -> bytes:
        """The head of a call whose arguments follow in pieces; those that it already has are left out.

        ``extra`` goes along as it is; ``id`` and ``namespace`` have no place in Chat Completions.
        """
        return self._call_added(msgspec.structs.replace(call, arguments=""))

    def call_arguments(self, call_id: str, delta: str) -> bytes:
        """More of a call's arguments; `KeyError` for a call that was not added."""
        before, after = self._arguments[call_id]
        return before + _encode(delta) + after

    def finish(self, reason: str | None = None, usage: TokenUsage | None = None) -> bytes:
        """The finish reason, and usage where the dialect has it; without a reason, the one that fits the answer."""
        place = self._dialect.usage_place
        reason = reason or self._fitting_reason(calls=self._call_count > 0)
        if usage is None or place == "never" or (place == "own_chunk" and not self._include_usage):
            return self._event({}, finish_reason=reason)
        counts = encode_usage(usage)
        if place == "own_chunk":
            own = {**self._object, "choices": [], "usage": counts}
            return self._event({}, finish_reason=reason) + encode_event(_encode(own))
        return self._event({}, finish_reason=reason, usage=counts)

    def done(self) -> bytes:
        """What ends the stream: the sentinel, or nothing where the dialect has none."""
        return encode_event("[DONE]") if self._dialect.done_sentinel else b""

    def completion(
        self,
        *,
        text: str = "",
        reasoning: str = "",
        refusal: str = "",
        calls: Sequence[FunctionCall] = (),
        finish_reason: str | None = None,
        usage: TokenUsage | None = None,
    ) -> bytes:
        """The answer to a request without ``stream``: one ``chat.completion`` object."""
        message: dict[str, Any] = {"role": "assistant", "content": text or None}
        if reasoning:
            field = _reasoning_field(self._dialect, reasoning)
            if "content" in field and text:
                field = {"content": [*field["content"], {"type": "text", "text": text}]}
            message |= field
        if refusal:
            message["refusal"] = refusal
        if calls:
            message["tool_calls"] = [_call_field(call) for call in calls]
        reason = finish_reason or self._fitting_reason(calls=bool(calls))
        whole: dict[str, Any] = {
            **self._object,
            "object": "chat.completion",
            "choices": [{"index": 0, "message": message, "finish_reason": reason}],
        }
        if usage is not None and self._dialect.usage_place != "never":
            whole["usage"] = encode_usage(usage)
        return _encode(whole)

    def _event(
        self, delta: dict[str, Any], *, finish_reason: str | None = None, usage: dict[str, Any] | None = None
    ) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
        chunk: dict[str, Any] = {**self._object, "choices": [choice]}
        if usage is not None:
            chunk["usage"] = usage
        elif self._dialect.usage_place == "every_chunk":
            chunk["usage"] = None if self._running_usage is None else encode_usage(self._running_usage)
        return encode_event(_encode(chunk))

    def _frame(self, delta: dict[str, Any]) -> _Frame:
        before, after = self._event(delta).split(_HOLE)
        return before, after

    def _call_added(self, call: FunctionCall) -> bytes:
        counted = self._dialect.call_index == "counted"
        index: dict[str, Any] = {}
        if self._dialect.call_index != "missing":
            index["index"] = self._call_count if counted else 0
        # Where the index does not tell calls apart, each piece repeats the id.
        place = index if counted else {**index, "id": call.call_id}
        self._call_count += 1
        piece = {**place, "function": {"arguments": msgspec.Raw(_HOLE)}}
        self._arguments[call.call_id] = self._frame({"tool_calls": [piece]})
        return self._event({"tool_calls": [{**index, **_call_field(call)}]})

    def _fitting_reason(self, *, calls: bool) -> str:
        return self._dialect.calls_finish if calls else "stop"


def encode_usage(usage: TokenUsage) -> dict[str, Any]:
    """The ``usage`` object of Chat Completions."""
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_input_tokens},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_output_tokens},
    }


def encode_error(
    message: str, *, kind: str = "invalid_request_error", code: str | int | None = None, param: str | None = None
) -> bytes:
    """The ``error`` object that a refused request gets as its body and a failing stream as an event's data."""
    return _encode({"error": {"message": message, "type": kind, "param": param, "code": code}})


def _reasoning_field(dialect: ChatDialect, text: Any) -> dict[str, Any]:
    """The key of a delta or a message that holds reasoning; ``thinking`` is a part of the content (Mistral)."""
    match dialect.reasoning_name:
        case "reasoning_details":
            return {"reasoning_details": [{"type": "reasoning.text", "text": text}]}
        case "thinking":
            return {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": text}]}]}
        case name:
            return {name: text}


def _call_field(call: FunctionCall) -> dict[str, Any]:
    function = {"name": call.name, "arguments": call.arguments}
    return {**call.extra, "id": call.call_id, "type": "function", "function": function}
