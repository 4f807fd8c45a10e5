"""An answer as a client of the Chat Completions API gets it: events as chunks, or items as one object.

=========================== ==========================================================================
an event of ours            becomes
=========================== ==========================================================================
`start`                     the chunk that says who speaks
text                        ``content``; a further message begins with a blank line
reasoning                   ``reasoning_content``; of the text and its summary, whichever comes first
calls of functions          ``tool_calls``, or one ``function_call`` for clients from before there were several
calls of custom tools       ``tool_calls`` of type ``custom``
a message that is done      its ``refusal``, where it has one
`Completed`                 the finish reason, usage where it was asked for, ``[DONE]``
`failed`                    an ``error`` object, and nothing behind it: a cut must not look like an end
anything else               nothing: a chat client has no use for what a server does by itself
=========================== ==========================================================================
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import msgspec

from turnwire.errors import (
    ApiError,
    ContextWindowExceeded,
    InvalidPrompt,
    PreviousResponseNotFound,
    QuotaExceeded,
    RateLimited,
    StreamError,
    UsageNotIncluded,
)
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
from turnwire.item import CustomToolCall, FunctionCall, Message, Reasoning, Refusal, ResponseItem
from turnwire.wire.chat.dialect import ChatDialect
from turnwire.wire.chat.response import ChatEncoder, encode_error, encode_usage
from turnwire.wire.failure import code_of
from turnwire.wire.sse import encode_event

__all__ = ["ChatAnswerWriter", "encode_failure_event"]

_log = logging.getLogger("turnwire.wire.chat")

_encode = msgspec.json.Encoder().encode

_Json: TypeAlias = dict[str, Any]
_Call: TypeAlias = FunctionCall | CustomToolCall

_DIALECT = ChatDialect(reasoning_name="reasoning_content")
"""OpenAI's own, which has no name for reasoning; this one, DeepSeek's, is what most clients look for."""

_BLANK_LINE = "\n\n"
_FINISH_REASONS = {"max_output_tokens": "length", "content_filter": "content_filter"}
_CUT_SHORT = "length"
"""The finish reason of an answer that is not whole, for reasons that the API does not know."""

_REQUEST_ERRORS = (ContextWindowExceeded, InvalidPrompt, PreviousResponseNotFound, QuotaExceeded, UsageNotIncluded)


class ChatAnswerWriter:
    """One answer to one request, as a stream or as one object.

    A stream is `start`, `encode` of any number of events, and `failed` where they end without `Completed`. The events
    are those of a `turnwire.wire.responses.ResponsesDecoder` or a `ChatDecoder`, best with ``watch_calls``: a call that
    was not watched is told at once. `completion` gives the whole answer instead.

    ``created`` is in seconds since 1970. ``include_usage`` and ``legacy_calls`` are those of `ReceivedChatRequest`.
    """

    def __init__(
        self, *, response_id: str, model: str, created: int, include_usage: bool = False, legacy_calls: bool = False
    ) -> None:
        self._encoder = ChatEncoder(
            _DIALECT, response_id=response_id, model=model, created=created, include_usage=include_usage
        )
        self._fields = {"id": response_id, "created": created, "model": model}
        self._legacy_calls = legacy_calls
        self._text = _Passage()
        self._reasoning = _Passage()
        self._reasoning_kind: type[ResponseEvent] | None = None  # of the open reasoning: its text or its summary
        self._calls: dict[str, tuple[int, _Call]] = {}  # by id: the place and the beginning
        self._call_names: list[str] = []
        self._open_calls: set[str] = set()
        self._written: list[bytes] = []
        self._over = False
        self.completed: Completed | None = None
        """The event that ended the stream, once it came."""
        self.output_started = False
        """Something of the answer itself was written."""

    def __repr__(self) -> str:
        return f"<ChatAnswerWriter of {self._fields['id']}: {'over' if self._over else 'open'}>"

    @property
    def over(self) -> bool:
        """The end was written, or the failure; there is nothing more to write."""
        return self._over

    def start(self) -> list[bytes]:
        """The beginning."""
        return [self._encoder.start()]

    def encode(self, events: Iterable[ResponseEvent]) -> list[bytes]:
        """These events; what they raise passes through, and so does a `StreamError` for an end without that of a call.

        What was written until then comes with `failed`.
        """
        if not self._over:
            for event in events:
                if type(event) is OutputTextDelta:  # first, for there are more of it than of all others
                    self._write(self._encoder.text(self._text.goes_on(event.delta)))
                else:
                    self._encode(event)
        return self._take()

    def failed(self, error: ApiError) -> list[bytes]:
        """The end of an answer that broke; nothing where it is over."""
        if not self._over:
            self._over = True
            self._written.append(encode_failure_event(error))
        return self._take()

    def completion(self, items: Sequence[ResponseItem], completed: Completed) -> bytes:
        """The answer to a request without ``stream``: one ``chat.completion`` object of all its items."""
        messages = [item for item in items if isinstance(item, Message)]
        refusal = "".join(_refusal(message) for message in messages)
        reasoning = _passage(_reasoning_text(item) for item in items if isinstance(item, Reasoning))
        calls = [item for item in items if isinstance(item, FunctionCall | CustomToolCall)]
        message: _Json = {
            "role": "assistant",
            "content": _passage(message.text for message in messages) or None,
            "refusal": refusal or None,
        }
        if reasoning:
            message["reasoning_content"] = reasoning
        if calls and self._legacy_calls:
            _name_further_calls([call.name for call in calls])
            message["function_call"] = _legacy(calls[0])
        elif calls:
            message["tool_calls"] = [_call(call) for call in calls]
        reason = self._finish_reason(completed, called=bool(calls))
        whole: _Json = {
            **self._fields,
            "object": "chat.completion",
            "choices": [{"index": 0, "message": message, "finish_reason": reason}],
        }
        if completed.token_usage is not None:
            whole["usage"] = encode_usage(completed.token_usage)
        return _encode(whole)

    def _take(self) -> list[bytes]:
        written, self._written = self._written, []
        return written

    def _write(self, chunk: bytes) -> None:
        self.output_started = True
        self._written.append(chunk)

    def _write_delta(self, delta: _Json) -> None:
        choice = {"index": 0, "delta": delta, "finish_reason": None}
        chunk = {**self._fields, "object": "chat.completion.chunk", "choices": [choice]}
        self._write(encode_event(_encode(chunk)))

    def _encode(self, event: ResponseEvent) -> None:
        match event:
            case ReasoningContentDelta() | ReasoningSummaryDelta():
                self._reasoning_kind = self._reasoning_kind or type(event)
                if self._reasoning_kind is type(event):
                    self._write(self._encoder.reasoning(self._reasoning.goes_on(event.delta)))
            case ReasoningSummaryPartAdded():
                if self._reasoning_kind is not ReasoningContentDelta:
                    self._reasoning.pauses()
            case ToolCallArgumentsDelta():
                self._grow_call(event.call_id, event.delta)
            case OutputItemAdded(item=Message()):
                self._text.pauses()
            case OutputItemAdded(item=Reasoning()):
                self._reasoning_kind = None
                self._reasoning.pauses()
            case OutputItemAdded(item=FunctionCall() | CustomToolCall() as call):
                self._begin_call(call)
            case OutputItemDone(item=Message() as message):
                if refusal := _refusal(message):
                    self._write(self._encoder.refusal(refusal))
            case OutputItemDone(item=FunctionCall() | CustomToolCall() as call):
                self._finish_call(call)
            case Completed():
                self._complete(event)
            case _:
                pass

    def _begin_call(self, call: _Call) -> None:
        place = len(self._call_names)
        self._call_names.append(call.name)
        self._calls[call.call_id] = (place, call)
        self._open_calls.add(call.call_id)
        begun = _without_text(call)
        if not self._legacy_calls:
            self._write_delta({"tool_calls": [{"index": place, **_call(begun)}]})
        elif place == 0:
            self._write_delta({"function_call": _legacy(begun)})

    def _grow_call(self, call_id: str, delta: str) -> None:
        if call_id not in self._calls:
            return  # it will be told when it is whole
        place, call = self._calls[call_id]
        if not self._legacy_calls:
            key, text_key = _KEYS[type(call)]
            self._write_delta({"tool_calls": [{"index": place, key: {text_key: delta}}]})
        elif place == 0:
            self._write_delta({"function_call": {"arguments": delta}})

    def _finish_call(self, call: _Call) -> None:
        if call.call_id not in self._open_calls:
            self._begin_call(call)
            if text := _text(call):
                self._grow_call(call.call_id, text)
        self._open_calls.discard(call.call_id)

    def _complete(self, completed: Completed) -> None:
        if self._open_calls and completed.incomplete_reason is None:
            # A client would run it with the half of its arguments.
            names = ", ".join(self._calls[call_id][1].name for call_id in sorted(self._open_calls))
            raise StreamError(f"the answer ended, but not its calls of {names}")
        if self._legacy_calls:
            _name_further_calls(self._call_names)
        self._over = True
        self.completed = completed
        reason = self._finish_reason(completed, called=bool(self._call_names))
        self._write(self._encoder.finish(reason, completed.token_usage))
        self._write(self._encoder.done())

    def _finish_reason(self, completed: Completed, *, called: bool) -> str:
        if completed.incomplete_reason is not None:
            return _FINISH_REASONS.get(completed.incomplete_reason, _CUT_SHORT)
        if called:
            return "function_call" if self._legacy_calls else "tool_calls"
        return "stop"


def encode_failure_event(error: ApiError) -> bytes:
    """The event that tells a client of a broken stream: OpenAI's SDKs raise an ``APIError`` of it."""
    if isinstance(error, RateLimited):
        kind = "rate_limit_error"
    else:
        kind = "invalid_request_error" if isinstance(error, _REQUEST_ERRORS) else "server_error"
    return encode_event(encode_error(error.message, kind=kind, code=code_of(error)))


class _Passage:
    """Texts that come in pieces and are told as one, with a blank line between them."""

    __slots__ = ("_begun", "_paused")

    def __init__(self) -> None:
        self._begun = self._paused = False

    def pauses(self) -> None:
        """What comes next is another text."""
        self._paused = self._begun

    def goes_on(self, delta: str) -> str:
        """A piece as it is to be told."""
        self._begun = True
        if self._paused:
            self._paused = False
            return _BLANK_LINE + delta
        return delta


def _passage(texts: Iterable[str]) -> str:
    return _BLANK_LINE.join(filter(None, texts))


_KEYS: dict[type[_Call], tuple[str, str]] = {
    FunctionCall: ("function", "arguments"),
    CustomToolCall: ("custom", "input"),
}
"""Where a call's fields stand, and which of them is its text."""


def _text(call: _Call) -> str:
    return call.arguments if isinstance(call, FunctionCall) else call.input


def _without_text(call: _Call) -> _Call:
    replace = msgspec.structs.replace
    return replace(call, arguments="") if isinstance(call, FunctionCall) else replace(call, input="")


def _call(call: _Call) -> _Json:
    key, text_key = _KEYS[type(call)]
    return {**call.extra, "id": call.call_id, "type": key, key: {"name": call.name, text_key: _text(call)}}


def _legacy(call: _Call) -> _Json:
    return {"name": call.name, "arguments": _text(call)}


def _name_further_calls(names: Sequence[str]) -> None:
    if len(names) > 1:
        _log.warning("dropped calls beside the one that a client of function_call knows: %s", ", ".join(names[1:]))


def _refusal(message: Message) -> str:
    return "".join(part.refusal for part in message.content if isinstance(part, Refusal))


def _reasoning_text(reasoning: Reasoning) -> str:
    text = "".join(part.text for part in reasoning.content or ())
    return text or _passage(part.text for part in reasoning.summary)
