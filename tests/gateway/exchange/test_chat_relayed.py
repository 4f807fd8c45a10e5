"""Chat clients in front of an upstream that speaks Chat Completions as well."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.decoding import DONE as SENTINEL
from tests.decoding import call, calls, chunk, cut, event_by_event, one_by_one, sse
from tests.gateway.exchange.chatting import DONE, HI, failure, payloads_of, request, told
from tests.recording import ANSWERS, STREAMS
from turnwire.errors import Disconnected, InvalidPrompt, ProtocolError, StreamError
from turnwire.event import TokenUsage
from turnwire.gateway.exchange.chat_relayed import ChatRelayed
from turnwire.gateway.exchange.exchange import Exchange, Outcome
from turnwire.wire.chat import ChatDialect
from turnwire.wire.sse import MAX_EVENT_SIZE

CUT = failure("the stream ended without a finish reason or [DONE]: it was cut off")
USAGE = {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 4}}
COUNTED = TokenUsage(input_tokens=3, output_tokens=4, total_tokens=7)
ANSWER = sse(chunk(role="assistant"), chunk(content="a"), {**chunk("stop"), "id": "c-1"}, USAGE)


def exchange(dialect=ChatDialect(), **fields) -> Exchange:  # noqa: B008
    return ChatRelayed(
        request(**fields), model="llama", dialect=dialect, response_id="chatcmpl-1", clock=lambda: 1700000000.9
    )


def test_the_request_goes_as_it_is_but_for_the_model():
    fields = {"stream": True, "n": None, "top_k": 3, "temperature": 1.0, "messages": [{**HI, "anything": {"é": []}}]}
    one = exchange(**fields)
    assert (one.path, one.dropped, one.told_in_stream) == ("chat/completions", (), ())
    assert json.loads(one.body) == {**request(**fields), "model": "llama"}
    assert list(json.loads(one.body)) == list(request(**fields))


@pytest.mark.parametrize("fields", [{"stream_options": 1, "n": "2"}, {"n": -1, "stream": True}])
def test_what_the_upstream_will_refuse_is_for_the_upstream_to_refuse(fields):
    assert json.loads(exchange(**fields).body) == {**request(**fields), "model": "llama"}


def test_a_stream_goes_back_as_it_is_in_one_write_for_each_read():
    one = exchange(stream=True)
    assert one.start({"x-a": "b"}) == []
    reads = [b": ping\n\n", *event_by_event(ANSWER)[:-1], SENTINEL]
    assert [one.feed(read) for read in reads] == [[read] for read in reads]
    assert (one.over, one.error, one.ending) == (True, None, "finished")
    assert one.outcome == Outcome("c-1", usage=COUNTED)
    assert one.feed(b": late\n\n") == one.feed_eof() == one.fail(StreamError("late")) == one.keepalive() == []


def test_it_is_committed_with_the_first_chunk():
    one = exchange(stream=True)
    one.feed(b": ping\n\n")
    assert (one.committed, one.ending) == (False, "open")
    one.feed(sse(chunk(role="assistant")))
    assert (one.committed, one.ending) == (True, "open")
    one.feed(sse(chunk("stop")))
    assert (one.over, one.ending) == (False, "finished")


def test_only_whole_events_go_back_so_that_one_of_ours_can_stand_behind_each():
    one = exchange(stream=True)
    first, rest = sse(chunk(content="a"), chunk(content="b"))[:-20], sse(chunk(content="b"))[-20:]
    assert one.feed(first[:5]) == []
    assert one.feed(first[5:]) == [sse(chunk(content="a"))]
    assert one.keepalive() == [b": keepalive\n\n"]
    assert one.feed(rest) == [sse(chunk(content="b"))]


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n"])
def test_lines_may_end_as_they_like(end):
    body = (ANSWER + SENTINEL).replace(b"\n", end)
    for pieces in ([body], one_by_one(body), [body[:-1], body[-1:]]):
        assert b"".join(told(exchange(stream=True), pieces)) == body


@pytest.mark.parametrize("behind", [b"", b"data: [DONE]", b'data: {"choices":[{"del'])
def test_an_answer_that_ended_gets_the_sentinel_that_it_lacks(behind):
    one = exchange(stream=True)
    assert b"".join(told(one, [ANSWER + behind])) == ANSWER + SENTINEL
    assert one.outcome == Outcome("c-1", usage=COUNTED)


def test_a_connection_that_breaks_behind_the_end_breaks_nothing():
    one = exchange(stream=True)
    one.feed(ANSWER)
    assert one.fail(Disconnected("gone")) == [SENTINEL]
    assert (one.error, one.outcome) == (None, Outcome("c-1", usage=COUNTED))


@pytest.mark.parametrize("begun", [b"", sse(chunk(content="a")), sse(chunk(content="a")) + b'data: {"choi'])
def test_an_answer_that_was_cut_is_an_error_without_the_sentinel(begun):
    one = exchange(stream=True)
    payloads = payloads_of(told(one, [begun] if begun else []))
    assert payloads[-1] == CUT
    assert DONE not in payloads
    assert (one.outcome, one.committed) == (None, bool(begun))


def test_with_several_choices_all_must_have_ended():
    one = exchange(stream=True, n=2)
    body = sse(chunk("stop", index=0), chunk(content="a", index=1))
    assert payloads_of(told(one, [body]))[-1] == CUT


def test_a_server_that_just_ends_is_believed_where_that_is_its_habit():
    ends = ChatDialect(bare_end="end")
    body = sse(chunk(content="a"))
    assert b"".join(told(exchange(ends, stream=True), [body])) == body + SENTINEL
    assert payloads_of(told(exchange(ends, stream=True), [])) == [CUT]


def test_an_error_in_the_stream_goes_back_as_it_is_and_nothing_behind_it():
    one = exchange(stream=True)
    body = sse(chunk(content="a"), {"error": {"message": "no such tool", "type": "invalid_request_error"}})
    assert one.feed(body + SENTINEL) == [body]  # vLLM sends the sentinel behind an error as well
    assert (one.over, one.outcome, repr(one.error)) == (True, None, repr(InvalidPrompt("no such tool")))


def test_an_event_without_an_end_is_an_error():
    one = exchange(stream=True)
    one.feed(sse(chunk(content="a")))
    assert one.feed(b"data: " + bytes(MAX_EVENT_SIZE)) != []
    assert isinstance(one.error, ProtocolError)


def test_a_whole_answer_goes_back_as_it_is():
    body = b' {"id":"c-1", "choices":[{"index":0,"message":{"content":"a"},"finish_reason":"stop","new":1}]}\n'
    one = exchange(stream=False)
    assert (one.start({}), one.feed_whole(body), one.document()) == ([], [], body)
    assert (one.over, one.committed, one.outcome) == (True, False, Outcome("chatcmpl-1"))


@pytest.mark.parametrize(
    "recording", [one for one in ANSWERS if "choices" in one.body.decode()], ids=lambda one: one.name
)
def test_a_recorded_answer_goes_back_as_it_is(recording):
    one = exchange(stream=False)
    assert one.feed_whole(recording.body) == []
    assert one.document() == recording.body


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"<html>", "the server sent neither a stream nor a chat.completion object"),
        (b'{"error":{"message":"no","type":"bad_request"}}', "no"),
    ],
)
def test_a_whole_body_that_is_no_answer_is_an_error(body, error):
    for stream in (False, True):
        one = exchange(stream=stream)
        payloads = payloads_of(one.feed_whole(body))
        assert [payload["error"]["message"] for payload in payloads[1:]] == [error] * stream
        assert str(one.error) == error
    with pytest.raises(type(one.error), match=error):
        one.document()


def test_an_answer_that_came_whole_is_told_as_a_stream_where_one_was_asked_for():
    called = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    message = {"role": "assistant", "reasoning": "hm", "content": "a", "tool_calls": [called]}
    body = {"id": "c-1", "choices": [{"message": message, "finish_reason": "tool_calls"}], "usage": USAGE["usage"]}
    one = exchange(stream=True, stream_options={"include_usage": True})
    payloads = payloads_of(one.feed_whole(json.dumps(body).encode()))
    assert payloads.pop() == DONE
    deltas = [choice["delta"] for payload in payloads for choice in payload["choices"]]
    assert deltas == [
        {"role": "assistant", "content": ""},
        {"reasoning_content": "hm"},
        {"content": "a"},
        {"tool_calls": [{"index": 0, **called, "function": {"name": "f", "arguments": ""}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]},
        {},
    ]
    assert payloads[-1]["usage"]["total_tokens"] == 7
    assert one.outcome == Outcome("chatcmpl-1", usage=COUNTED)
    assert one.committed


def test_a_stream_becomes_a_whole_answer_where_one_was_asked_for():
    one = exchange(stream=False)
    body = sse(chunk(content="a"), calls(call(0, id="c", name="f", arguments="{}"), finish_reason="tool_calls"))
    assert (one.feed(body), one.ending) == ([], "finished")
    assert one.feed_eof() == []
    document = json.loads(one.document())
    assert (document["id"], document["model"], document["created"]) == ("chatcmpl-1", "gpt", 1700000000)
    assert document["choices"][0]["message"]["content"] == "a"
    assert document["choices"][0]["finish_reason"] == "tool_calls"


@pytest.mark.parametrize("stream", [False, True])
def test_several_answers_in_another_form_than_asked_for_are_refused(stream):
    one = exchange(stream=stream, n=2)
    body = b'{"choices":[{"message":{"content":"a"}},{"message":{"content":"b"}}]}'
    one.feed_whole(body) if stream else one.feed(ANSWER)
    assert str(one.error) == "the server gave its 2 answers in another form than it was asked for"


@pytest.mark.parametrize("recording", [one for one in STREAMS if b"[DONE]" in one.body], ids=lambda one: one.name)
def test_a_recorded_stream_goes_back_as_it_is(recording):
    for pieces in ([recording.body], event_by_event(recording.body)):
        one = exchange(stream=True)
        written = b"".join(told(one, pieces))
        assert recording.body.startswith(written)
        assert (SENTINEL in written) == (one.error is None)


texts = st.text(max_size=5) | st.sampled_from(["\n\n", "[DONE]", '"finish_reason":"stop"', "data: "])
chunks = st.lists(texts.map(lambda text: sse(chunk(content=text))), max_size=5).map(b"".join)


@settings(deadline=None)
@given(begun=chunks, places=st.lists(st.integers(0, 1 << 12), max_size=12), end=st.integers(0, 1 << 12))
def test_bytes_go_back_the_same_wherever_they_are_cut_and_a_cut_is_never_an_end(begun, places, end):
    body = begun + ANSWER + SENTINEL
    assert b"".join(told(exchange(stream=True), cut(body, places))) == body
    cut_off = begun[: end % (len(begun) + 1)]
    payloads = payloads_of(told(exchange(stream=True), cut(cut_off, places)))
    assert payloads[-1] == CUT
    assert DONE not in payloads
