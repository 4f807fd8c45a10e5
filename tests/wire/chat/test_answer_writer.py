"""What chat clients are given: chunks for a stream of events, one object for an answer's items."""

import json
import logging

import pytest
from hypothesis import given, settings
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from tests.wire.responses.writing import USAGE, answers, call_events, encoder, message_events, reasoning_events
from turnwire.errors import (
    ContextWindowExceeded,
    InvalidPrompt,
    QuotaExceeded,
    RateLimited,
    ServerOverloaded,
    StreamError,
)
from turnwire.event import (
    Completed,
    Created,
    OutputItemAdded,
    OutputItemDone,
    OutputTextDelta,
    ReasoningContentDelta,
    ReasoningSummaryDelta,
    ReasoningSummaryPartAdded,
    ServerModel,
    ToolCallArgumentsDelta,
)
from turnwire.item import (
    CustomToolCall,
    FunctionCall,
    Message,
    OutputText,
    Reasoning,
    ReasoningText,
    Refusal,
    SummaryText,
    WebSearchCall,
)
from turnwire.wire.chat import ChatAnswerWriter
from turnwire.wire.responses import ResponsesDecoder
from turnwire.wire.sse import SseDecoder

HEAD = {"id": "chatcmpl-7", "created": 1700000000, "model": "m"}
COUNTS = {
    "prompt_tokens": 20,
    "completion_tokens": 5,
    "total_tokens": 25,
    "prompt_tokens_details": {"cached_tokens": 16},
    "completion_tokens_details": {"reasoning_tokens": 2},
}
DONE = "[DONE]"
WHOLE = Completed("resp_1", USAGE, "completed")


def writer(**options):
    return ChatAnswerWriter(response_id="chatcmpl-7", model="m", created=1700000000, **options)


def payloads_of(written):
    """What a client reads: JSON values, each a valid chunk or an error, and the sentinel."""
    payloads = [event.data for event in SseDecoder().feed(b"".join(written))]
    values = [one if one == DONE else json.loads(one) for one in payloads]
    for value in values:
        if value != DONE and "error" not in value and "custom" not in str(value):
            ChatCompletionChunk.model_validate(value)  # whose types know no custom tools
    return values


def chunk(finish_reason=None, **delta):
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    return {**HEAD, "object": "chat.completion.chunk", "choices": [choice]}


def written(events, **options):
    """What a stream's events become, but for its beginning."""
    out = writer(**options)
    payloads = payloads_of(out.encode(events))
    assert out.over
    return payloads


def tool_call(place, **fields):
    return chunk(tool_calls=[{"index": place, **fields}])


def test_a_stream_begins_with_who_speaks_and_ends_with_the_sentinel():
    out = writer()
    begun = payloads_of(out.start())
    assert (begun, out.over, out.output_started) == ([chunk(role="assistant", content="")], False, False)
    assert payloads_of(out.encode([Created("resp_1"), ServerModel("x")])) == []
    assert repr(out) == "<ChatAnswerWriter of chatcmpl-7: open>"
    assert payloads_of(out.encode([OutputTextDelta("a")])) == [chunk(content="a")]
    assert (out.over, out.output_started) == (False, True)
    assert payloads_of(out.encode([OutputTextDelta("b"), WHOLE])) == [chunk(content="b"), chunk("stop"), DONE]
    assert (out.over, out.completed) == (True, WHOLE)
    assert repr(out) == "<ChatAnswerWriter of chatcmpl-7: over>"
    assert out.encode([OutputTextDelta("late")]) == out.failed(StreamError("late")) == []


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        (message_events("a", "b"), [chunk(content="a"), chunk(content="b"), chunk("stop")]),
        (
            [*message_events("a"), *message_events(), *message_events("b", "c")],
            [chunk(content="a"), chunk(content="\n\nb"), chunk(content="c"), chunk("stop")],
        ),
        (message_events("a", refusal="no"), [chunk(content="a"), chunk(refusal="no"), chunk("stop")]),
        (
            reasoning_events("a", "b"),
            [chunk(reasoning_content="a"), chunk(reasoning_content="b"), chunk("stop")],
        ),
        (
            reasoning_events(summary=("a", "b")),
            [chunk(reasoning_content="a"), chunk(reasoning_content="\n\nb"), chunk("stop")],
        ),
        (
            # Both at once, and the summary came first; then the text itself.
            [
                *reasoning_events("thought", summary=("a",)),
                OutputItemAdded(Reasoning()),
                ReasoningContentDelta("b", 0),
                ReasoningSummaryPartAdded(0),
                ReasoningSummaryDelta("summary", 0),
                ReasoningContentDelta("c", 1),
            ],
            [
                chunk(reasoning_content="a"),
                chunk(reasoning_content="\n\nb"),
                chunk(reasoning_content="c"),
                chunk("stop"),
            ],
        ),
        (
            call_events("c", '{"a"', ":1}"),
            [
                tool_call(0, id="c", type="function", function={"name": "f", "arguments": ""}),
                tool_call(0, function={"arguments": '{"a"'}),
                tool_call(0, function={"arguments": ":1}"}),
                chunk("tool_calls"),
            ],
        ),
        (
            call_events("c", "*** x", custom=True),
            [
                tool_call(0, id="c", type="custom", custom={"name": "patch", "input": ""}),
                tool_call(0, custom={"input": "*** x"}),
                chunk("tool_calls"),
            ],
        ),
        (
            # Two that grow at once, a third that nobody watched, and one without arguments.
            [
                OutputItemAdded(FunctionCall("f", "", "a")),
                OutputItemAdded(FunctionCall("g", "", "b")),
                ToolCallArgumentsDelta("b", "1"),
                ToolCallArgumentsDelta("a", "2"),
                ToolCallArgumentsDelta("c", "unknown"),
                OutputItemDone(FunctionCall("f", "2", "a")),
                OutputItemDone(FunctionCall("g", "1", "b")),
                OutputItemDone(CustomToolCall("h", "3", "c", extra={"signature": "s"})),
                OutputItemDone(FunctionCall("i", "", "d")),
            ],
            [
                tool_call(0, id="a", type="function", function={"name": "f", "arguments": ""}),
                tool_call(1, id="b", type="function", function={"name": "g", "arguments": ""}),
                tool_call(1, function={"arguments": "1"}),
                tool_call(0, function={"arguments": "2"}),
                tool_call(2, signature="s", id="c", type="custom", custom={"name": "h", "input": ""}),
                tool_call(2, custom={"input": "3"}),
                tool_call(3, id="d", type="function", function={"name": "i", "arguments": ""}),
                chunk("tool_calls"),
            ],
        ),
        ([OutputItemAdded(WebSearchCall()), OutputItemDone(WebSearchCall())], [chunk("stop")]),
    ],
    ids=["text", "messages", "refusal", "reasoning", "summary", "both", "call", "custom", "calls", "web search"],
)
def test_events_become_chunks(events, expected):
    assert written([*events, Completed()]) == [*expected, DONE]


@pytest.mark.parametrize(
    ("completed", "options", "expected"),
    [
        (WHOLE, {}, [chunk("stop")]),
        (
            WHOLE,
            {"include_usage": True},
            [chunk("stop"), {**HEAD, "object": "chat.completion.chunk", "choices": [], "usage": COUNTS}],
        ),
        (Completed(), {"include_usage": True}, [chunk("stop")]),
        (Completed(incomplete_reason="max_output_tokens"), {}, [chunk("length")]),
        (Completed(incomplete_reason="content_filter"), {}, [chunk("content_filter")]),
        (Completed(incomplete_reason="max_tool_calls"), {}, [chunk("length")]),
    ],
)
def test_the_end_says_how_it_came_to_it(completed, options, expected):
    assert written([completed], **options) == [*expected, DONE]


def test_a_client_of_old_gets_one_call_and_no_more(caplog):
    events = [*call_events("a", "{", "}"), *call_events("b", "{}"), *call_events("c", "{}"), WHOLE]
    with caplog.at_level(logging.WARNING, "turnwire"):
        payloads = written(events, legacy_calls=True)
    assert payloads == [
        chunk(function_call={"name": "f", "arguments": ""}),
        chunk(function_call={"arguments": "{"}),
        chunk(function_call={"arguments": "}"}),
        chunk("function_call"),
        DONE,
    ]
    assert caplog.messages == ["dropped calls beside the one that a client of function_call knows: f, f"]


def test_an_answer_that_ends_in_the_midst_of_a_call_has_failed():
    out = writer()
    with pytest.raises(StreamError, match="the answer ended, but not its calls of f"):
        out.encode([*message_events("a"), *call_events("c", "{")[:2], WHOLE])
    assert not out.over
    assert payloads_of(out.failed(StreamError("boom")))[-2:] == [
        tool_call(0, function={"arguments": "{"}),
        {"error": {"message": "boom", "type": "server_error", "param": None, "code": "server_error"}},
    ]
    assert out.over


def test_an_answer_that_was_cut_short_in_the_midst_of_a_call_says_so():
    payloads = written([*call_events("c", "{")[:2], Completed(incomplete_reason="max_output_tokens")])
    assert payloads[-2:] == [chunk("length"), DONE]


@pytest.mark.parametrize(
    ("error", "kind", "code"),
    [
        (StreamError("x"), "server_error", "server_error"),
        (ServerOverloaded("x"), "server_error", "server_is_overloaded"),
        (RateLimited("x"), "rate_limit_error", "rate_limit_exceeded"),
        (InvalidPrompt("x"), "invalid_request_error", "invalid_prompt"),
        (ContextWindowExceeded("x"), "invalid_request_error", "context_length_exceeded"),
        (QuotaExceeded("x"), "invalid_request_error", "insufficient_quota"),
    ],
)
def test_a_failure_is_an_error_behind_which_no_sentinel_comes(error, kind, code):
    out = writer()
    out.encode(message_events("a"))
    failure = {"error": {"message": "x", "type": kind, "param": None, "code": code}}
    assert payloads_of(out.failed(error)) == [failure]


def completion(items, completed=WHOLE, **options):
    document = json.loads(writer(**options).completion(items, completed))
    if "custom" not in str(document):
        ChatCompletion.model_validate(document)
    return document


def test_an_answer_can_be_given_as_one_object():
    items = [
        Reasoning(summary=[SummaryText("a"), SummaryText("b")]),
        Message("assistant", [OutputText("c"), OutputText("d")]),
        Reasoning(content=[ReasoningText("e"), ReasoningText("f")], summary=[SummaryText("g")]),
        WebSearchCall(),
        FunctionCall("f", "{}", "c1"),
        CustomToolCall("patch", "*** x", "c2"),
        Message("assistant", [OutputText("e"), Refusal("no")]),
    ]
    message = {
        "role": "assistant",
        "content": "cd\n\ne",
        "refusal": "no",
        "reasoning_content": "a\n\nb\n\nef",
        "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}},
            {"id": "c2", "type": "custom", "custom": {"name": "patch", "input": "*** x"}},
        ],
    }
    assert completion(items) == {
        **HEAD,
        "object": "chat.completion",
        "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}],
        "usage": COUNTS,
    }


@pytest.mark.parametrize(
    ("items", "completed", "options", "message", "finish_reason"),
    [
        ([], Completed(), {}, {"content": None, "refusal": None}, "stop"),
        (
            [Message("assistant", [OutputText("a")])],
            Completed(incomplete_reason="max_output_tokens"),
            {},
            {"content": "a", "refusal": None},
            "length",
        ),
        (
            [FunctionCall("f", "{}", "a"), FunctionCall("g", "{}", "b")],
            Completed(),
            {"legacy_calls": True},
            {"content": None, "refusal": None, "function_call": {"name": "f", "arguments": "{}"}},
            "function_call",
        ),
    ],
)
def test_one_object_has_no_more_than_there_is(items, completed, options, message, finish_reason):
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish_reason}
    assert completion(items, completed, **options) == {**HEAD, "object": "chat.completion", "choices": [choice]}


def accumulated(payloads):
    """The message that a client puts together from a stream, and its finish reason."""
    message = {"role": "assistant", "content": "", "refusal": ""}
    calls = []
    finish_reason = None
    for payload in payloads:
        for choice in [] if payload == DONE else payload["choices"]:
            finish_reason = choice["finish_reason"] or finish_reason
            for name, value in choice["delta"].items():
                if name == "tool_calls":
                    (fragment,) = value
                    if fragment["index"] == len(calls):
                        calls.append({key: part for key, part in fragment.items() if key != "index"})
                    elif "custom" in fragment:
                        calls[fragment["index"]]["custom"]["input"] += fragment["custom"]["input"]
                    else:
                        calls[fragment["index"]]["function"]["arguments"] += fragment["function"]["arguments"]
                elif name != "role":
                    message[name] = message.get(name, "") + value
    message = {name: value or None for name, value in message.items()}
    return {**message, **({"tool_calls": calls} if calls else {})}, finish_reason


def _has_text_and_summary(item):
    return isinstance(item, Reasoning) and bool(item.content and item.summary)


@settings(deadline=None)
@given(events=answers())
def test_a_stream_adds_up_to_the_object(events):
    upstream, decoder, out = encoder(), ResponsesDecoder(watch_calls=True), writer()
    body = b"".join([*upstream.start(), *upstream.encode(events)])
    message, finish_reason = accumulated(payloads_of([*out.start(), *out.encode(decoder.feed(body))]))
    assert out.completed is not None
    choice = completion(decoder.items, out.completed)["choices"][0]
    for one in (message, choice["message"]):
        # Calls stand in a stream as they begin, in an object as they end.
        one["tool_calls"] = sorted(one.get("tool_calls", []), key=lambda call: call["id"])
        if any(map(_has_text_and_summary, decoder.items)):
            one.pop("reasoning_content")  # the stream has the one that came first
    assert (message, finish_reason) == (choice["message"], choice["finish_reason"])
