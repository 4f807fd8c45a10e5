"""Every recording of ``/v1/responses``, decoded by turnwire and read by a plain reader that knows nothing of it."""

import json
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct

import tests.recording
from tests.wire.responses.reading import check, decode, decode_frames, decode_whole, recording
from turnwire.errors import ContextWindowExceeded, HttpStatusError, InvalidPrompt
from turnwire.event import (
    Completed,
    OutputItemDone,
    OutputTextDelta,
    ReasoningContentDelta,
    ReasoningSummaryDelta,
    TokenUsage,
    ToolCallArgumentsDelta,
)
from turnwire.item import FunctionCall, Message, Reasoning
from turnwire.wire.failure import failure_from_response

ROOT = Path(tests.recording.__file__).parent / "recordings_responses"
RECORDINGS = tuple(
    recording(f"{path.parent.name}/{path.name.removesuffix('.meta.json')}")
    for path in sorted(ROOT.glob("*/*.meta.json"))
)
STREAMS = tuple(one for one in RECORDINGS if one.is_stream)
REFUSALS = tuple(one for one in RECORDINGS if one.status != 200)
ANSWERS = tuple(one for one in RECORDINGS if one.status == 200 and not one.is_stream)


def name_of(one):
    return one.name.rpartition("../recordings_responses/")[2]


class Answer(Struct):
    """What a person would say that an answer holds."""

    text: str = ""
    reasoning: str = ""
    calls: list[tuple[str, str, str]] = []
    arguments: dict[str, str] = {}
    usage: TokenUsage | None = None
    status: str | None = None
    incomplete_reason: str | None = None
    error: str | None = None


def read_plainly(body: bytes) -> Answer:
    """The answer as a reader finds it who goes through the lines one by one and keeps what they say."""
    answer, done = Answer(), False
    for line in body.decode().split("\n"):
        if not line.startswith("data: {"):
            continue
        event = json.loads(line.removeprefix("data: "))
        match event["type"].removeprefix("response."):
            case "output_text.delta":
                answer.text += event["delta"]
            case "reasoning_text.delta" | "reasoning_summary_text.delta":
                answer.reasoning += event["delta"]
            case "output_item.done" if event["item"]["type"] == "function_call":
                item = event["item"]
                answer.calls.append((item["name"], item["arguments"], item["call_id"]))
            case "completed":
                done = True
                read_response(event["response"], answer)
            case "failed":
                done = True
                answer.error = "RetryableError"
    if not done:
        answer.error = "StreamError"
    return answer


def read_response(response: dict[str, Any], answer: Answer) -> None:
    answer.status = response.get("status")
    if answer.status == "incomplete":
        answer.incomplete_reason = response["incomplete_details"]["reason"]
    if usage := response.get("usage"):
        answer.usage = TokenUsage(
            usage["input_tokens"],
            (usage.get("input_tokens_details") or {}).get("cached_tokens", 0),
            usage["output_tokens"],
            (usage.get("output_tokens_details") or {}).get("reasoning_tokens", 0),
            usage["total_tokens"],
        )


def answer_of(events: list[Any], error: str | None) -> Answer:
    """The same of what turnwire gave: the deltas, which the items must repeat, and what came last."""
    answer = Answer(error=error.partition(":")[0] if error else None)
    answer.text = "".join(event.delta for event in events if isinstance(event, OutputTextDelta))
    thoughts = ReasoningContentDelta | ReasoningSummaryDelta
    answer.reasoning = "".join(event.delta for event in events if isinstance(event, thoughts))
    items = [event.item for event in events if isinstance(event, OutputItemDone)]
    answer.calls = [(item.name, item.arguments, item.call_id) for item in items if isinstance(item, FunctionCall)]
    if error is None:
        assert "".join(item.text for item in items if isinstance(item, Message)) == answer.text
        assert "".join(item.text for item in items if isinstance(item, Reasoning)) == answer.reasoning
        completed = events[-1]
        assert isinstance(completed, Completed)
        answer.usage, answer.status = completed.token_usage, completed.finish_reason
        answer.incomplete_reason = completed.incomplete_reason
    return answer


@pytest.mark.parametrize("one", STREAMS, ids=name_of)
def test_a_recorded_stream_is_decoded_to_what_a_plain_reader_finds(one):
    outcome = decode([one.body])
    assert answer_of(outcome.events, outcome.error) == read_plainly(one.body)
    assert outcome.said["skipped"] == 0


@pytest.mark.parametrize("one", STREAMS, ids=name_of)
def test_a_recorded_stream_may_be_cut_anywhere_or_come_as_frames(one):
    places = range(0, len(one.body), 1009)
    whole = check(one.body, places, watch_calls=True)
    lines = one.body.decode().split("\n")
    frames = [line.removeprefix("data: ") for line in lines if line.startswith("data: {")]
    assert decode_frames(frames, watch_calls=True) == whole


@pytest.mark.parametrize("one", STREAMS, ids=name_of)
def test_whoever_watches_calls_sees_all_their_arguments(one):
    outcome = decode([one.body], watch_calls=True)
    grown: dict[str, str] = {}
    for event in outcome.events:
        if isinstance(event, ToolCallArgumentsDelta):
            grown[event.call_id] = grown.get(event.call_id, "") + event.delta
    assert grown == {call_id: arguments for _, arguments, call_id in read_plainly(one.body).calls}


@pytest.mark.parametrize("one", ANSWERS, ids=name_of)
def test_a_recorded_answer_that_is_no_stream_is_decoded_too(one):
    response = json.loads(one.body)
    expected = Answer()
    read_response(response, expected)
    for item in response["output"]:
        texts = "".join(part["text"] for part in item.get("content") or ())
        if item["type"] == "message":
            expected.text += texts
        elif item["type"] == "reasoning":
            expected.reasoning += texts
        else:
            expected.calls.append((item["name"], item["arguments"], item["call_id"]))
    outcome = decode_whole(one.body)
    assert answer_of(outcome.events, outcome.error) == expected


KINDS = {
    "litellm/via_llamacpp_responses_err_context": ContextWindowExceeded,
    "litellm/via_llamacpp_responses_err_no_input": InvalidPrompt,
    "litellm/via_vllm_responses_err_context": ContextWindowExceeded,
    "litellm/via_vllm_responses_err_no_input": InvalidPrompt,
    "transformers/responses_err_no_input": HttpStatusError,
    "transformers/responses_json_schema": InvalidPrompt,
    "transformers/responses_tools": InvalidPrompt,
    "vllm/responses_err_context": ContextWindowExceeded,
    "vllm/responses_err_no_input": InvalidPrompt,
}


@pytest.mark.parametrize("one", REFUSALS, ids=name_of)
def test_a_recorded_refusal_becomes_its_typed_error(one):
    failure = failure_from_response(one.error_response, where=name_of(one))
    assert (type(failure), failure.response) == (KINDS[name_of(one)], one.error_response)


def test_every_recording_is_of_one_kind():
    assert len(STREAMS) + len(ANSWERS) + len(REFUSALS) == len(RECORDINGS) == 34
    assert {name_of(one) for one in REFUSALS} == set(KINDS)
