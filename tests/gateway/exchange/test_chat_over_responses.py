"""Chat clients in front of an upstream that speaks Responses."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from tests.decoding import cut
from tests.gateway.exchange.chatting import DONE, failure, items_of, payloads_of, request, told
from tests.wire.responses.reading import sse
from tests.wire.responses.writing import USAGE, answers, call_events, encoder, message_events, reasoning_events
from turnwire.errors import InvalidPrompt, RateLimited, StreamError
from turnwire.event import Completed
from turnwire.gateway.exchange.chat_over_responses import ChatOverResponses
from turnwire.gateway.exchange.exchange import Exchange, Outcome
from turnwire.item import FunctionCall, Message, OutputText, Reasoning, ReasoningText
from turnwire.wire.chat import decode_chat_request

CUT = failure("stream closed before response.completed")
WHOLE = Completed("resp_7", USAGE, "completed")


def exchange(**fields) -> Exchange:
    return ChatOverResponses(
        decode_chat_request(request(**fields)), model="gpt-5", response_id="chatcmpl-1", clock=lambda: 1700000000.9
    )


def answer(*events):
    out = encoder()
    return b"".join([*out.start(), *out.encode(events)])


def chunk(finish_reason=None, **delta):
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1700000000,
        "model": "gpt",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}],
    }


BEGINNING = chunk(role="assistant", content="")


def test_the_upstream_is_asked_in_its_own_words_and_to_stream_in_any_case():
    for stream in (False, True):
        one = exchange(stream=stream, max_tokens=5, stop="x")
        assert (one.path, one.dropped, one.told_in_stream, one.reasoning_name) == ("responses", ("stop",), (), None)
        assert json.loads(one.body) == {
            "stream": True,
            "model": "gpt-5",
            "input": [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]}],
            "store": False,
            "max_output_tokens": 5,
        }


def test_a_tool_that_makes_no_sense_is_refused_before_anything_is_asked():
    with pytest.raises(InvalidPrompt, match=r"a tool is {}; expected an object with a type"):
        exchange(tools=[{}])


def test_a_stream_becomes_chunks():
    one = exchange(stream=True)
    body = answer(*reasoning_events("hm"), *message_events("a", "b"), *call_events("c", "{}"), WHOLE)
    assert payloads_of(told(one, [body])) == [
        BEGINNING,
        chunk(reasoning_content="hm"),
        chunk(content="a"),
        chunk(content="b"),
        chunk(tool_calls=[{"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": ""}}]),
        chunk(tool_calls=[{"index": 0, "function": {"arguments": "{}"}}]),
        chunk("tool_calls"),
        DONE,
    ]
    assert (one.outcome, one.error) == (Outcome("chatcmpl-1", usage=USAGE), None)


def test_the_openai_sdk_puts_the_same_together_from_a_stream_as_it_reads_whole():
    body = answer(*message_events("a", "b"), *call_events("c", "{", "}"), *call_events("d", "{}"), WHOLE)
    state = ChatCompletionStreamState()
    for payload in payloads_of(told(exchange(stream=True, stream_options={"include_usage": True}), [body]))[:-1]:
        state.handle_chunk(ChatCompletionChunk.model_validate(payload))
    streamed = state.get_final_completion().to_dict(exclude_none=True)
    one = exchange(stream=False)
    told(one, [body])
    whole = ChatCompletion.model_validate_json(one.document()).to_dict(exclude_none=True)
    for place, call in enumerate(whole["choices"][0]["message"]["tool_calls"]):
        call["index"] = place
    assert streamed == whole


def test_usage_comes_where_the_client_asked_for_it():
    payloads = payloads_of(told(exchange(stream=True, stream_options={"include_usage": True}), [answer(WHOLE)]))
    assert [payload for payload in payloads if payload != DONE and "usage" in payload] == [
        {
            **BEGINNING,
            "choices": [],
            "usage": {
                "prompt_tokens": 20,
                "completion_tokens": 5,
                "total_tokens": 25,
                "prompt_tokens_details": {"cached_tokens": 16},
                "completion_tokens_details": {"reasoning_tokens": 2},
            },
        }
    ]


def test_it_is_committed_once_something_of_the_answer_was_given():
    one = exchange(stream=True)
    one.start({})
    begun = answer(*message_events("a")[:1])
    assert (one.feed(begun), one.committed, one.ending) == ([], False, "open")
    one.feed(answer(*message_events("b")))
    assert one.committed


def test_a_sign_of_life_is_a_comment():
    assert exchange(stream=True).keepalive() == [b": keepalive\n\n"]
    assert exchange(stream=False).keepalive() == []


@pytest.mark.parametrize(
    ("ending", "expected", "error"),
    [
        (b"", CUT, "stream closed before response.completed"),
        (
            sse({"type": "response.failed", "response": {"error": {"code": "invalid_prompt", "message": "no"}}}),
            failure("no", "invalid_request_error", "invalid_prompt"),
            "no",
        ),
        (
            sse({"type": "error", "error": {"code": "rate_limit_exceeded", "message": "slow"}}),
            failure("slow", "rate_limit_error", "rate_limit_exceeded"),
            "slow",
        ),
        (
            sse({"type": "response.completed", "response": {}}),
            failure("the answer ended, but not its calls of f"),
            "the answer ended, but not its calls of f",
        ),
    ],
    ids=["cut", "failed", "error", "open call"],
)
def test_an_answer_that_breaks_ends_in_an_error_without_the_sentinel(ending, expected, error):
    one = exchange(stream=True)
    begun = answer(*message_events("a"), *call_events("c", "{}")[:2])
    payloads = payloads_of(told(one, [begun + ending]))
    assert payloads[:2] == [BEGINNING, chunk(content="a")]
    assert payloads[-1] == expected
    assert DONE not in payloads
    assert str(one.error) == error
    assert one.fail(StreamError("late")) == []


def test_the_first_failure_counts():
    one = exchange(stream=True)
    error = RateLimited("slow")
    one.fail(error)
    assert one.fail(StreamError("late")) == []
    assert one.error is error


def test_a_whole_answer_is_one_object():
    one = exchange(stream=False)
    body = answer(*reasoning_events("hm"), *message_events("a"), *call_events("c", "{}"), WHOLE)
    assert told(one, cut(body, range(0, len(body), 7))) == []
    assert json.loads(one.document())["choices"] == [
        {
            "index": 0,
            "message": {
                "role": "assistant",
                "content": "a",
                "refusal": None,
                "reasoning_content": "hm",
                "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
            },
            "finish_reason": "tool_calls",
        }
    ]
    assert (one.outcome, one.committed) == (Outcome("chatcmpl-1", usage=USAGE), False)


def test_a_whole_answer_that_broke_is_its_error():
    one = exchange(stream=False)
    with pytest.raises(StreamError, match="the answer has not ended yet"):
        one.document()
    assert told(one, [answer(*message_events("a"))]) == []
    with pytest.raises(StreamError, match=r"stream closed before response\.completed"):
        one.document()


def test_an_answer_that_was_cut_short_is_told_as_such():
    one = exchange(stream=True)
    payloads = payloads_of(told(one, [answer(Completed(incomplete_reason="max_output_tokens"))]))
    assert payloads == [BEGINNING, chunk("length"), DONE]
    assert one.outcome == Outcome("chatcmpl-1")


WHOLE_RESPONSE = json.dumps(
    {
        "id": "resp_7",
        "status": "completed",
        "output": [
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "a"}]},
            {"type": "function_call", "name": "f", "arguments": "{}", "call_id": "c"},
        ],
    }
).encode()


def test_an_upstream_that_does_not_stream_is_told_as_a_stream():
    one = exchange(stream=True)
    written = [*one.start({}), *one.feed_whole(WHOLE_RESPONSE)]
    assert items_of(written) == [FunctionCall("f", "{}", "c"), Message("assistant", [OutputText("a")])]
    assert payloads_of(written)[-2:] == [chunk("tool_calls"), DONE]
    assert one.over


def test_an_upstream_that_does_not_stream_can_answer_whole():
    one = exchange(stream=False)
    assert one.feed_whole(WHOLE_RESPONSE) == []
    assert json.loads(one.document())["choices"][0]["message"]["content"] == "a"


def test_a_client_of_functions_gets_a_function_call():
    one = exchange(stream=True, functions=[{"name": "f"}])
    payloads = payloads_of(told(one, [answer(*call_events("c", "{}"), WHOLE)]))
    assert payloads[1:] == [
        chunk(function_call={"name": "f", "arguments": ""}),
        chunk(function_call={"arguments": "{}"}),
        chunk("function_call"),
        DONE,
    ]


@settings(deadline=None)
@given(events=answers(), places=st.lists(st.integers(0, 1 << 12), max_size=12), end=st.integers(0, 1 << 12))
def test_what_a_client_gets_does_not_depend_on_the_cuts_and_a_cut_is_never_an_end(events, places, end):
    body = answer(*events)
    whole = told(exchange(stream=True), [body])
    assert b"".join(told(exchange(stream=True), cut(body, places))) == b"".join(whole)
    assert payloads_of(whole)[-1] == DONE
    one = exchange(stream=True)
    begun = body[: end % (len(body) - 1)]
    payloads = payloads_of(told(one, cut(begun, places)))
    assert DONE not in payloads
    assert payloads[-1] == CUT
    assert str(one.error) == "stream closed before response.completed"


def test_reasoning_is_read_back_by_a_chat_client():
    body = answer(*reasoning_events("a", "b"), *message_events("c"), WHOLE)
    assert items_of(told(exchange(stream=True), [body])) == [
        Reasoning(content=[ReasoningText("a"), ReasoningText("b")]),
        Message("assistant", [OutputText("c")]),
    ]
