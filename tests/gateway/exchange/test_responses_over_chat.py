"""Responses clients in front of an upstream that speaks Chat Completions."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.decoding import DONE, call, calls, chunk, cut, event_by_event, one_by_one, sse
from tests.gateway.exchange.responding import ID, checked, frames_of, kinds_of, received, told
from tests.recording import STREAMS
from tests.wire.responses.writing import accumulate, validate_response
from turnwire.errors import ContextWindowExceeded, Disconnected, RateLimited, StreamError
from turnwire.event import TokenUsage
from turnwire.gateway.exchange.exchange import Outcome
from turnwire.gateway.exchange.responses_over_chat import ResponsesOverChat
from turnwire.wire.chat import ChatDialect
from turnwire.wire.sealed import unseal

TOLERANT = ChatDialect.preset("tolerant")
USAGE = {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}}
ANSWER = sse(chunk(content="he"), chunk(content="llo"), chunk("stop"), USAGE) + DONE
TEXT = {"type": "output_text", "text": "hello", "annotations": [], "logprobs": []}
FUNCTION = {"type": "function", "name": "f", "parameters": {"type": "object", "properties": {}}}


def exchange(dialect=TOLERANT, framing="sse", position=0, **fields):
    return ResponsesOverChat(
        received(**fields),
        model="own",
        dialect=dialect,
        reasoning_name=None,
        response_id=ID,
        clock=lambda: 1700000000.9,
        framing=framing,
        position=position,
    )


@pytest.mark.parametrize("stream", [True, False])
def test_the_upstream_is_asked_for_a_stream_whatever_the_client_wants(stream):
    one = exchange(stream=stream, instructions="be brief", max_output_tokens=9, tools=[FUNCTION])
    assert (one.path, one.told_in_stream, one.dropped) == ("chat/completions", (ContextWindowExceeded,), ())
    assert json.loads(one.body) == {
        "model": "own",
        "messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hi"}],
        "tools": [{"type": "function", "function": {"name": "f", "parameters": FUNCTION["parameters"]}}],
        "max_tokens": 9,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def test_what_can_not_be_carried_over_is_named_once():
    search = {"type": "web_search"}
    one = exchange(tools=[search, search], truncation="auto", include=["file_search_call.results"])
    assert one.dropped == ("truncation", "include 'file_search_call.results'", "tool of type 'web_search'")


def test_a_stream_is_the_full_sequence_of_events():
    one = exchange()
    payloads = checked(told(one, event_by_event(ANSWER)))
    assert kinds_of(payloads) == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]
    last = payloads[-1]["response"]
    assert accumulate(payloads).output_text == "hello"
    assert (last["id"], last["model"], last["created_at"]) == (ID, "public", 1700000000)
    assert last["output"] == [
        {"type": "message", "id": "msg_7_0", "status": "completed", "role": "assistant", "content": [TEXT]}
    ]
    assert one.outcome == Outcome(ID, last, TokenUsage(3, 0, 4, 0, 7))


def test_a_calls_arguments_are_told_as_they_grow():
    pieces = [
        sse(calls(call(0, id="c1", name="f", arguments=""))),
        sse(calls(call(0, arguments='{"a"'))),
        sse(calls(call(0, arguments=": 1}"))),
        sse(chunk("tool_calls")) + DONE,
    ]
    one = exchange(tools=[FUNCTION])
    one.start({})
    grown = [kinds_of(checked_part(one.feed(piece))) for piece in pieces]
    assert grown == [
        ["output_item.added"],
        ["function_call_arguments.delta"],
        ["function_call_arguments.delta"],
        ["function_call_arguments.done", "output_item.done", "completed"],
    ]
    assert one.outcome.response["output"] == [
        {
            "type": "function_call",
            "id": "fc_7_0",
            "call_id": "c1",
            "name": "f",
            "arguments": '{"a": 1}',
            "status": "completed",
        }
    ]


def checked_part(written):
    return [json.loads(event.partition(b"data: ")[2]) for event in written]


def test_a_whole_answer_is_the_response_that_the_stream_would_have_ended_with():
    whole, streamed = exchange(stream=False), exchange()
    assert told(whole, [ANSWER]) == []
    last = checked(told(streamed, [ANSWER]))[-1]["response"]
    assert json.loads(whole.document()) == last
    assert whole.outcome == streamed.outcome
    validate_response(last)


@pytest.mark.parametrize("stream", [True, False])
def test_an_upstream_that_answers_whole_is_heard_as_well(stream):
    message = {"role": "assistant", "content": "hello"}
    body = {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": USAGE["usage"]}
    one, other = exchange(stream=stream), exchange(stream=stream)
    written = [*one.start({}), *one.feed_whole(json.dumps(body).encode())]
    assert one.over
    told(other, [ANSWER])
    assert one.outcome == other.outcome
    assert (kinds_of(checked(written))[-1] if stream else json.loads(one.document())["status"]) == "completed"


FAILURES = {
    "nothing at all": (b"", "server_error"),
    "cut before its finish": (sse(chunk(content="hel")), "server_error"),
    "cut in mid-event": (ANSWER[: ANSWER.index(b"llo")], "server_error"),
    "a web page": (b"<!doctype html>\n<p>Please sign in.</p>\n", "server_error"),
    "no JSON in it": (b"data: {not json\n\n", "server_error"),
    "an error behind text": (sse(chunk(content="a"), {"error": {"message": "died", "code": 500}}), "server_error"),
    "too long a prompt": (
        sse({"error": {"message": "maximum context length is 5", "code": 400}}),
        "context_length_exceeded",
    ),
    "out of room": (sse(chunk(content="a"), chunk("length")) + DONE, "context_length_exceeded"),
    "too many at once": (sse({"error": {"message": "slow", "code": 429}}), "rate_limit_exceeded"),
}


@pytest.mark.parametrize("case", FAILURES)
def test_what_is_no_answer_ends_in_response_failed(case):
    body, code = FAILURES[case]
    one, whole = exchange(), exchange(stream=False)
    payloads = checked(told(one, [body]))
    assert (payloads[-1]["type"], payloads[-1]["response"]["error"]["code"]) == ("response.failed", code)
    assert told(whole, [body]) == []
    with pytest.raises(type(one.error)):
        whole.document()


@pytest.mark.parametrize(
    ("finish_reason", "reason"), [("length", "max_output_tokens"), ("content_filter", "content_filter")]
)
def test_an_answer_that_was_cut_short_is_incomplete(finish_reason, reason):
    one = exchange(max_output_tokens=5)
    payloads = checked(told(one, [sse(chunk(content="hello"), chunk(finish_reason)) + DONE]))
    last = payloads[-1]
    assert (last["type"], last["response"]["incomplete_details"]) == ("response.incomplete", {"reason": reason})
    assert one.outcome == Outcome(ID, last["response"])


def test_a_failure_comes_behind_what_had_come():
    one = exchange()
    written = [*one.start({}), *one.feed(sse(chunk(content="hel"))), *one.fail(RateLimited("slow down", 1.5))]
    assert one.fail(Disconnected("again")) == []
    payloads = checked(written)
    assert payloads[-1]["response"]["error"] == {
        "code": "rate_limit_exceeded",
        "message": "slow down. Please try again in 1.5s.",
    }
    assert kinds_of(payloads)[-2:] == ["output_text.delta", "failed"]


def test_a_defect_in_writing_the_end_leaves_room_to_tell_of_it(monkeypatch):
    one = exchange()
    written = one.start({})
    with monkeypatch.context() as broken:
        broken.setattr(one._encoder, "encode", lambda events: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            one.feed(ANSWER)
    written += one.fail(StreamError("broken"))
    assert kinds_of(checked(written)) == ["created", "in_progress", "failed"]


def test_a_sign_of_life_is_an_event_with_a_number_of_its_own():
    one = exchange()
    written = [*one.start({}), *one.keepalive(), *one.feed(ANSWER)]
    assert kinds_of(checked(written))[:4] == ["created", "in_progress", "keepalive", "output_item.added"]
    assert exchange(stream=False).keepalive() == []


def test_another_goes_on_where_nothing_was_said_but_the_beginning():
    one = exchange()
    written = [*one.start({}), *one.keepalive()]
    other = exchange(position=one.position)
    payloads = checked([*written, *other.feed(ANSWER)])
    assert kinds_of(payloads)[:4] == ["created", "in_progress", "keepalive", "output_item.added"]
    one.feed(sse(chunk(content="a")))
    assert one.position is None


def test_over_a_websocket_each_event_is_a_message_and_the_metadata_comes_behind_the_first():
    messages = frames_of(told(exchange(framing="websocket"), [ANSWER], {"x-codex-turn-state": "t"}))
    assert kinds_of(messages)[:3] == ["created", "metadata", "in_progress"]
    assert messages[1] == {"type": "response.metadata", "headers": {"x-codex-turn-state": "t"}}
    assert messages[:1] + messages[2:] == checked(told(exchange(), [ANSWER]))


def test_reasoning_is_sealed_for_a_client_that_keeps_its_history():
    thought = sse(chunk(reasoning_content="because")) + ANSWER
    plain, sealed = exchange(), exchange(include=["reasoning.encrypted_content"], store=False)
    for one in (plain, sealed):
        checked(told(one, [thought]))
        assert one.reasoning_name == "reasoning_content"
    content = [{"type": "reasoning_text", "text": "because"}]
    item = {"type": "reasoning", "id": "rs_7_0", "status": "completed", "summary": [], "content": content}
    assert plain.outcome.response["output"][0] == {**item, "encrypted_content": None}
    given = sealed.outcome.response["output"][0]
    assert unseal("reasoning", given["encrypted_content"]) == "because"


def test_it_is_committed_with_the_first_of_the_answer_itself():
    one = exchange()
    one.start({})
    seen = []
    for piece in (b": ping\n\n", sse(chunk(role="assistant")), sse(chunk(content="a")), DONE):
        one.feed(piece)
        seen.append(one.committed)
    assert seen == [False, False, True, True]


def test_a_whole_answer_is_not_to_be_had_before_its_end():
    one = exchange(stream=False)
    one.feed(sse(chunk(content="a")))
    with pytest.raises(StreamError, match="has not ended yet"):
        one.document()


@settings(deadline=None, max_examples=30)
@given(
    st.sampled_from(STREAMS),
    st.lists(st.integers(0, 1 << 12), max_size=12),
    st.sampled_from(["sse", "websocket"]),
)
def test_the_events_do_not_depend_on_where_the_bytes_were_cut(recording, places, framing):
    body = recording.body
    whole = told(exchange(framing=framing), [body])
    assert told(exchange(framing=framing), cut(body, places)) == whole
    if len(body) < 1 << 14:
        assert told(exchange(framing=framing), one_by_one(body)) == whole
