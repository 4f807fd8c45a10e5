"""Every recording, decoded by turnwire and read by a plain reader that knows nothing of the decoder."""

import json
from typing import Any

import pytest
from msgspec import Struct

from tests.decoding import decode
from tests.recording import ANSWERS, RECORDINGS, REFUSALS, STREAMS
from turnwire.errors import (
    ApiError,
    ContextWindowExceeded,
    HttpStatusError,
    InvalidPrompt,
    RateLimited,
)
from turnwire.event import Completed, OutputItemDone, OutputTextDelta, ReasoningContentDelta, TokenUsage
from turnwire.item import FunctionCall, Message, Reasoning
from turnwire.wire.chat import ChatDialect, decode_completion
from turnwire.wire.failure import failure_from_response


class Answer(Struct):
    """What a person would say that an answer holds."""

    text: str = ""
    reasoning: str = ""
    calls: list[tuple[str, str, str]] = []
    usage: TokenUsage | None = None
    finish_reason: str | None = None
    incomplete_reason: str | None = None
    error: str | None = None


def read_plainly(body: bytes, *, bounded: bool, tolerant: bool) -> Answer:
    """The answer as a reader finds it who goes through the lines one by one and keeps what they say."""
    answer, growing, released = Answer(), {}, []
    empty = True
    for line in body.decode().split("\n"):
        if not line.startswith("data:"):
            continue
        data = line.removeprefix("data:").strip()
        if data == "[DONE]":
            break
        chunk = json.loads(data)
        empty = False
        if "error" in chunk:
            answer.error = "RetryableError" if chunk["error"]["code"] >= 500 else "InvalidPrompt"
            return answer
        if chunk.get("usage"):
            answer.usage = usage_of(chunk)
        for choice in chunk["choices"]:
            delta = choice.get("delta", choice.get("message"))
            answer.reasoning += delta.get("reasoning") or delta.get("reasoning_content") or ""
            answer.text += delta.get("content") or ""
            for place, fragment in enumerate(delta.get("tool_calls") or ()):
                slot = choice["index"], fragment.get("index", place)
                call = growing.setdefault(slot, {"name": "", "arguments": "", "id": ""})
                function = fragment["function"]
                call["id"] = call["id"] or fragment.get("id", "")
                call["name"] = call["name"] or function.get("name", "")
                call["arguments"] += function.get("arguments", "")
            reason = choice.get("finish_reason")
            answer.finish_reason = reason or answer.finish_reason
            if reason == "tool_calls":
                released += growing.values()
                growing = {}
    if empty:
        answer.error = "StreamError"
    if answer.finish_reason == "length":
        answer.error, answer.incomplete_reason = (
            (None, "max_output_tokens") if bounded else ("ContextWindowExceeded", None)
        )
    elif tolerant:
        released += [call for call in growing.values() if is_object(call["arguments"])]
    answer.calls = [(call["name"], call["arguments"], call["id"]) for call in released]
    return answer


def is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False


def usage_of(chunk: dict[str, Any]) -> TokenUsage:
    usage = chunk["usage"]
    cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens")
    return TokenUsage(
        usage["prompt_tokens"],
        cached or chunk.get("timings", {}).get("cache_n", 0),
        usage["completion_tokens"],
        (usage.get("completion_tokens_details") or {}).get("reasoning_tokens", 0),
        usage["total_tokens"],
    )


def answer_of(events: list[Any], error: str | None) -> Answer:
    """The same of what turnwire gave: the deltas, which the items must repeat, and what came last."""
    answer = Answer(error=error.partition(":")[0] if error else None)
    answer.text = "".join(event.delta for event in events if isinstance(event, OutputTextDelta))
    answer.reasoning = "".join(event.delta for event in events if isinstance(event, ReasoningContentDelta))
    items = [event.item for event in events if isinstance(event, OutputItemDone)]
    answer.calls = [(item.name, item.arguments, item.call_id) for item in items if isinstance(item, FunctionCall)]
    if error is None:
        assert "".join(item.text for item in items if isinstance(item, Message)) == answer.text
        assert "".join(item.text for item in items if isinstance(item, Reasoning)) == answer.reasoning
        completed = events[-1]
        assert isinstance(completed, Completed)
        answer.usage, answer.finish_reason = completed.token_usage, completed.finish_reason
        answer.incomplete_reason = completed.incomplete_reason
    return answer


@pytest.mark.parametrize("tolerant", [False, True], ids=["reference", "tolerant"])
@pytest.mark.parametrize("recording", STREAMS, ids=lambda recording: recording.name)
def test_a_recorded_stream_is_decoded_to_what_a_plain_reader_finds(recording, tolerant):
    dialect = ChatDialect.preset("tolerant") if tolerant else ChatDialect()
    bounded = recording.max_output_tokens_set
    expected = read_plainly(recording.body, bounded=bounded, tolerant=tolerant)
    events, error = decode([recording.body], dialect, max_output_tokens_set=bounded)
    if error is not None:
        expected.usage = expected.finish_reason = None
    assert answer_of(events, error) == expected


@pytest.mark.parametrize("recording", ANSWERS, ids=lambda recording: recording.name)
def test_a_recorded_answer_that_is_no_stream_is_decoded_too(recording):
    bounded = recording.max_output_tokens_set
    events = list(decode_completion(recording.body, max_output_tokens_set=bounded))
    # A plain reader sees one chunk in it.
    line = b"data: " + json.dumps(json.loads(recording.body)).encode()
    assert answer_of(events, None) == read_plainly(line, bounded=bounded, tolerant=False)


KINDS = {
    "aimock/err_no_fixture": HttpStatusError,
    "litellm/err_bad_json": InvalidPrompt,
    "litellm/err_upstream_down": HttpStatusError,
    "litellm/mock_500": HttpStatusError,
    "litellm/mock_context": ContextWindowExceeded,
    "litellm/mock_ratelimit": RateLimited,
    "litellm/via_llamacpp_err_bad_param_type": InvalidPrompt,
    "litellm/via_vllm_err_context_overflow": ContextWindowExceeded,
    "llama-cpp-python/err_bad_json": HttpStatusError,
    "llama-cpp-python/err_bad_param_type": HttpStatusError,
    "llama-cpp-python/err_bad_schema": HttpStatusError,
    "llama-cpp-python/json_schema": HttpStatusError,
    "llamacpp/err_auth": HttpStatusError,
    "llamacpp/err_bad_schema": InvalidPrompt,
    "llamacpp/err_context_overflow": ContextWindowExceeded,
    "llamacpp/err_no_messages": InvalidPrompt,
    "transformers/err_bad_json": InvalidPrompt,
    "transformers/err_bad_param_type": HttpStatusError,
    "transformers/err_unknown_model": InvalidPrompt,
    "vllm/err_bad_json": InvalidPrompt,
    "vllm/err_bad_param_type": InvalidPrompt,
    "vllm/err_bad_tool_choice": InvalidPrompt,
    "vllm/err_context_overflow": ContextWindowExceeded,
}


@pytest.mark.parametrize("recording", REFUSALS, ids=lambda recording: recording.name)
def test_a_recorded_refusal_becomes_its_typed_error(recording):
    failure = failure_from_response(recording.error_response, where=recording.name)
    assert isinstance(failure, ApiError)
    assert (type(failure), failure.response) == (KINDS[recording.name], recording.error_response)


def test_every_recording_is_of_one_kind():
    assert len(STREAMS) + len(ANSWERS) + len(REFUSALS) == len(RECORDINGS) == 142
    assert {recording.name for recording in REFUSALS} == set(KINDS)
