"""Responses clients in front of an upstream that speaks Responses as well."""

import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.decoding import cut, event_by_event, one_by_one
from tests.gateway.exchange.responding import ID, checked, frames_of, kinds_of, received, told
from tests.wire.responses.reading import payloads_of, sse
from turnwire.errors import Disconnected, ProtocolError, RateLimited, ServerOverloaded, StreamError
from turnwire.event import TokenUsage
from turnwire.gateway.exchange.exchange import Outcome
from turnwire.gateway.exchange.responses_relayed import ResponsesRelayed
from turnwire.wire.sse import MAX_EVENT_SIZE

MESSAGE = {"type": "message", "id": "msg_u", "role": "assistant", "content": [{"type": "output_text", "text": "hi"}]}
USAGE = {"input_tokens": 3, "output_tokens": 4, "total_tokens": 7}
RESPONSE = {"id": "resp_u", "object": "response", "status": "completed", "output": [MESSAGE], "usage": USAGE, "new": 1}
CREATED = {"type": "response.created", "response": {"id": "resp_u", "output": [], "new": {"a": []}}}
DELTA = {"type": "response.output_text.delta", "item_id": "msg_u", "delta": "hi", "obfuscation": "x8"}
DONE = {"type": "response.output_item.done", "item": MESSAGE}
COMPLETED = {"type": "response.completed", "response": RESPONSE}
STREAM = sse(CREATED, DELTA, DONE, COMPLETED)
TOKEN = "x-codex-turn-state"


def exchange(framing="sse", renames=False, position=0, **fields):
    return ResponsesRelayed(
        received(**fields),
        model="own",
        response_id=ID,
        clock=lambda: 1700000000.9,
        framing=framing,
        renames=renames,
        position=position,
    )


def test_the_request_goes_as_it_is_but_for_the_model_and_what_is_the_gateways_business():
    fields = {"new": {"é": [None]}, "tools": [{"type": "web_search", "x": 1}], "store": True, "background": True}
    one = exchange(**fields, previous_response_id="resp_1", generate=True, type="response.create")
    assert (one.path, one.dropped) == ("responses", ())
    assert json.loads(one.body) == {"model": "own", "input": "hi", "stream": True, **fields}
    assert "background" not in json.loads(exchange(renames=True, **fields).body)


def test_the_turns_token_is_not_for_the_upstream_to_see():
    one = exchange(client_metadata={TOKEN: "ours", "x-codex-window-id": "w"})
    assert json.loads(one.body)["client_metadata"] == {"x-codex-window-id": "w"}


def test_a_stream_goes_back_as_the_bytes_that_came():
    one = exchange()
    assert one.start({}) == []
    reads = [b": ping\n\n", b"retry: 5\nid: 7\n\n", *event_by_event(STREAM)[:-1]]
    assert [one.feed(read) for read in reads] == [[read] for read in reads]
    assert one.outcome == Outcome("resp_u", RESPONSE, TokenUsage(3, 0, 4, 0, 7))
    assert one.feed(b"data: [DONE]\n\n") == []


events = st.builds(
    lambda kind, fields, lines: b"".join(
        [*lines, b"event: %b\n" % kind, b"data: %b\n\n" % json.dumps(fields).encode()]
    ),
    st.sampled_from([b"response.output_text.delta", b"response.new.thing", b"codex.other", b"message"]),
    st.fixed_dictionaries(
        {"type": st.sampled_from(["response.output_text.delta", "response.new.thing", "codex.other"])},
        optional={"delta": st.text(max_size=3), "é": st.lists(st.integers(), max_size=2), "response": st.just({})},
    ),
    st.lists(st.sampled_from([b": note\n", b"id: 7\n", b"retry: 5\n", b"data: \n"]), max_size=2),
)


@settings(deadline=None, max_examples=60)
@example([b"event: codex.other\ndata: {\ndata: }\n\n"], [225], b"\r\n")
@given(
    st.lists(events, max_size=5),
    st.lists(st.integers(0, 1 << 10), max_size=8),
    st.sampled_from([b"\n", b"\r\n", b"\r"]),
)
def test_what_nobody_knows_passes_to_the_byte_wherever_it_is_cut(unknown, places, line_end):
    body = (sse(CREATED) + b"".join(unknown) + sse(COMPLETED)).replace(b"\n", line_end)
    for pieces in ([body], cut(body, places), one_by_one(body)):
        written = b"".join(told(exchange(), pieces))
        assert written in (body, body.removesuffix(b"\n"))  # behind a CR the last LF means nothing
    messages = [json.loads(event) for event in told(exchange("websocket"), [body])]
    assert messages == payloads_of([body])
    assert [json.loads(event) for event in told(exchange("websocket"), cut(body, places))] == messages


FAILURES = {
    "nothing at all": (b"", ["created", "failed"], "server_error"),
    "a web page": (b"<!doctype html>\n\n", ["created", "failed"], "server_error"),
    "cut behind its beginning": (sse(CREATED), ["created", "failed"], "server_error"),
    "cut in mid-event": (STREAM[:-9], ["created", "output_text.delta", "output_item.done", "failed"], "server_error"),
    "an error event": (
        sse(CREATED, {"type": "error", "code": "context_length_exceeded", "message": "too long"}),
        ["created", "failed"],
        "context_length_exceeded",
    ),
}


@pytest.mark.parametrize("framing", ["sse", "websocket"])
@pytest.mark.parametrize("case", FAILURES)
def test_what_is_no_answer_ends_in_response_failed(case, framing):
    body, kinds, code = FAILURES[case]
    one = exchange(framing)
    written = told(one, [body])
    payloads = payloads_of(written) if framing == "sse" else frames_of(written)
    assert [kind for kind in kinds_of(payloads) if kind != "error"] == kinds
    assert payloads[-1]["sequence_number"] == max(1, one._decoder.parsed)
    assert payloads[-1]["response"]["error"]["code"] == code
    assert payloads[-1]["response"]["id"] == ("resp_u" if b"resp_u" in body else ID)


def test_an_error_event_that_nobody_heeds_is_told_again_as_a_failure():
    error = {"type": "error", "code": "insufficient_quota", "message": "empty", "param": None}
    failed = {"code": "insufficient_quota", "message": "empty"}
    for framing, passed in (("sse", [CREATED, error]), ("websocket", [CREATED])):
        written = told(exchange(framing), [sse(CREATED, error)])
        payloads = payloads_of(written) if framing == "sse" else frames_of(written)
        assert payloads[:-1] == passed  # of a WebSocket's error frame without a status nobody knows what to make
        assert (payloads[-1]["type"], payloads[-1]["response"]["error"]) == ("response.failed", failed)


def test_the_upstreams_own_failure_is_told_in_its_own_words():
    error = {"code": "insufficient_quota", "message": "empty", "new": 1}
    body = sse(CREATED, {"type": "response.failed", "response": {"id": "resp_u", "error": error}})
    one = exchange()
    assert b"".join(told(one, [body])) == body
    assert type(one.error).__name__ == "QuotaExceeded"


def test_an_event_without_end_is_a_failure_and_no_full_memory():
    one = exchange()
    assert one.feed(sse(CREATED) + b"data: ") == [sse(CREATED)]
    assert kinds_of(payloads_of(one.feed(bytes(MAX_EVENT_SIZE)))) == ["failed"]
    assert isinstance(one.error, ProtocolError)


@pytest.mark.parametrize("framing", ["sse", "websocket"])
def test_a_sign_of_life_in_front_of_the_answer_begins_it_under_an_id_that_it_keeps(framing):
    one = exchange(framing)
    metadata = {} if framing == "sse" else {TOKEN: "t"}
    written = [*one.start(metadata), *one.keepalive(), *one.keepalive(), *one.feed(STREAM)]
    payloads = payloads_of(written) if framing == "sse" else frames_of(written)
    kinds = ["created", "metadata", "keepalive", "keepalive", "output_text.delta", "output_item.done", "completed"]
    assert kinds_of(payloads) == [kind for kind in kinds if metadata or kind != "metadata"]
    assert payloads[0]["response"]["id"] == ID
    assert payloads[-1] == {**COMPLETED, "response": {**RESPONSE, "id": ID}}
    assert one.outcome == Outcome(ID, {**RESPONSE, "id": ID}, TokenUsage(3, 0, 4, 0, 7))
    assert not one.committed or one.over
    assert exchange(stream=False).keepalive() == []


def test_a_whole_answer_behind_a_beginning_of_our_own_goes_on_from_there():
    one = exchange()
    payloads = checked([*one.keepalive(), *one.feed_whole(json.dumps(RESPONSE).encode())])
    assert kinds_of(payloads).count("created") == 1
    assert {payload["response"]["id"] for payload in payloads if "response" in payload} == {ID}


def test_another_goes_on_where_nothing_was_said_but_its_own_beginning():
    one, other = exchange(), exchange(position=1)
    assert one.position is None  # as long as nothing was given there is nothing to go on from
    written = one.keepalive()
    assert one.position == 1
    payloads = payloads_of([*written, *other.feed(STREAM)])
    assert kinds_of(payloads) == ["created", "keepalive", "output_text.delta", "output_item.done", "completed"]
    assert payloads[-1]["response"]["id"] == ID
    one.feed(sse(CREATED, DELTA))
    assert one.position is None


def test_a_failure_behind_a_beginning_of_our_own_has_no_other():
    one = exchange()
    payloads = checked([*one.keepalive(), *one.fail(RateLimited("later", 2.0))])
    assert kinds_of(payloads) == ["created", "keepalive", "failed"]
    assert one.fail(Disconnected("again")) == []


def test_a_websocket_gets_the_metadata_behind_the_first_event():
    messages = frames_of(told(exchange("websocket"), [STREAM], {TOKEN: "t"}))
    metadata = {"type": "response.metadata", "headers": {TOKEN: "t"}}
    assert messages == [CREATED, metadata, DELTA, DONE, COMPLETED]


@pytest.mark.parametrize("framing", ["sse", "websocket"])
def test_the_upstreams_own_token_stays_behind(framing):
    theirs = {"type": "response.metadata", "headers": {"X-Codex-Turn-State": "theirs", "x-other": "o"}}
    odd = {"type": "response.metadata", "headers": None}
    written = told(exchange(framing), [sse(CREATED, theirs, odd, DELTA, COMPLETED)])
    payloads = payloads_of(written) if framing == "sse" else frames_of(written)
    assert payloads == [CREATED, {**theirs, "headers": {"x-other": "o"}}, odd, DELTA, COMPLETED]


def test_what_a_websocket_has_no_word_for_is_left_out():
    body = b"data: [DONE]\n\n: ping\n\ndata:\n\n" + STREAM
    assert frames_of(told(exchange("websocket"), [body])) == [CREATED, DELTA, DONE, COMPLETED]
    broken = b'data: {"response": "response.metadata"\n\n'
    assert frames_of(told(exchange("websocket"), [broken + STREAM])) == [CREATED, DELTA, DONE, COMPLETED]
    assert told(exchange(), [broken + STREAM])[0] == broken


def test_a_response_that_was_named_before_keeps_its_name():
    one = exchange(renames=True)
    payloads = payloads_of(told(one, [STREAM]))
    assert [payload["response"]["id"] for payload in (payloads[0], payloads[-1])] == [ID, ID]
    assert one.outcome == Outcome(ID, {**RESPONSE, "id": ID}, TokenUsage(3, 0, 4, 0, 7))


def test_a_whole_answer_goes_back_as_the_bytes_that_came():
    one = exchange(stream=False)
    body = json.dumps(RESPONSE, indent=1).encode()
    with pytest.raises(StreamError, match="has not ended"):
        one.document()
    assert [*one.start({}), *one.feed_whole(body)] == []
    assert one.document() == body
    assert one.outcome == Outcome("resp_u", RESPONSE, TokenUsage(3, 0, 4, 0, 7))


def test_an_upstream_that_streams_unasked_gives_a_whole_answer_too():
    one = exchange(stream=False)
    assert told(one, [STREAM]) == []
    assert json.loads(one.document()) == RESPONSE


def test_an_upstream_that_answers_whole_unasked_gives_a_stream_too():
    one = exchange()
    payloads = checked([*one.start({}), *one.feed_whole(json.dumps(RESPONSE).encode())])
    assert [kinds_of(payloads)[0], kinds_of(payloads)[-1]] == ["created", "completed"]
    assert payloads[-1]["response"]["output"][0]["content"][0]["text"] == "hi"


@pytest.mark.parametrize("body", [b"{}", b"<html>", b'{"status": "failed", "error": {"code": "slow_down"}}'])
def test_a_whole_answer_that_is_none_is_an_error(body):
    one, streamed = exchange(stream=False), exchange()
    assert one.feed_whole(body) == []
    with pytest.raises((StreamError, ServerOverloaded)) as caught:
        one.document()
    assert caught.value is one.error
    assert kinds_of(checked(streamed.feed_whole(body))) == ["created", "failed"]


def test_an_answer_that_was_cut_short_is_incomplete():
    response = {**RESPONSE, "status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}
    one = exchange()
    told(one, [sse(CREATED, {"type": "response.incomplete", "response": response})])
    assert one.outcome == Outcome("resp_u", response, TokenUsage(3, 0, 4, 0, 7))


def test_it_is_committed_with_the_first_of_the_answer_itself():
    one = exchange()
    seen = []
    for event in event_by_event(b": ping\n\n" + STREAM)[:-1]:
        one.feed(event)
        seen.append(one.committed)
    assert seen == [False, False, True, True, True]
