"""Answers that are passed on: their ends are found, whatever else is not looked at."""

import pytest

from tests.decoding import DONE, call, calls, chunk, decode, event_by_event, one_by_one, sse
from tests.recording import STREAMS, Recording
from turnwire.errors import ProtocolError
from turnwire.event import Completed, TokenUsage
from turnwire.wire.chat.passing import PassingAnswer
from turnwire.wire.sse import MAX_EVENT_SIZE

USAGE = {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 4}}
COUNTED = TokenUsage(input_tokens=3, output_tokens=4, total_tokens=7)
TIMINGS = {"timings": {"cache_n": 2, "prompt_n": 1, "predicted_n": 9}}
TIMED = TokenUsage(input_tokens=3, cached_input_tokens=2, output_tokens=9, total_tokens=12)
USED = TokenUsage(input_tokens=3, cached_input_tokens=2, output_tokens=4, total_tokens=7)


def compact(payload):
    return sse(payload).replace(b'": ', b'":').replace(b", ", b",")


def watched(*payloads, choices=1):
    """An answer that has seen these events, in both spellings that servers have for them."""
    spaced, dense = PassingAnswer(choices), PassingAnswer(choices)
    for payload in payloads:
        spaced.feed(payload if isinstance(payload, bytes) else sse(payload))
        dense.feed(payload if isinstance(payload, bytes) else compact(payload))
    assert repr(spaced) == repr(dense)
    assert spaced.completed() == dense.completed()
    return dense


@pytest.mark.parametrize(
    ("payloads", "begun", "ending", "completed"),
    [
        ([], False, "open", Completed()),
        ([b": ping\n\n"], False, "open", Completed()),
        ([chunk(content="a")], True, "open", Completed()),
        ([{"id": "c", "choices": [{"index": 0, "delta": {"content": "a"}}]}], True, "open", Completed()),
        ([{**chunk(content="a"), "usage": None}], True, "open", Completed()),
        # Texts that are spelled like what is looked for.
        ([chunk(content="finish_reason")], True, "open", Completed()),
        ([chunk(content='"finish_reason":"stop"')], True, "open", Completed()),
        ([chunk(content="[DONE]")], True, "open", Completed()),
        ([calls(call(0, id="c", name="f", arguments="{}"))], True, "open", Completed()),
        ([{**chunk("stop"), "id": "c"}], True, "finished", Completed("c", finish_reason="stop")),
        ([chunk("length")], True, "finished", Completed(finish_reason="length", incomplete_reason="max_output_tokens")),
        ([calls(finish_reason="tool_calls")], True, "finished", Completed(finish_reason="tool_calls")),
        ([b'data: {"choices":[{"finish_reason" : "stop"}]}\n\n'], True, "finished", Completed(finish_reason="stop")),
        ([b'data: {"choices":[{"finish_reason":"stop"}]}\r\n\r\n'], True, "finished", Completed(finish_reason="stop")),
        ([chunk("stop"), USAGE], True, "finished", Completed("", COUNTED, "stop")),
        ([{**chunk("stop"), **TIMINGS}], True, "finished", Completed("", TIMED, "stop")),
        ([{**chunk("stop"), **TIMINGS}, USAGE], True, "finished", Completed("", USED, "stop")),
        ([{**chunk("stop"), "timings": {"cache_n": 7}}], True, "finished", Completed("", None, "stop")),
        (
            [{**chunk("stop"), **USAGE, "choices": chunk("stop")["choices"]}],
            True,
            "finished",
            Completed("", COUNTED, "stop"),
        ),
        ([chunk(content="a"), DONE], True, "finished", Completed()),
        ([b"data: DONE\n\n"], False, "finished", Completed()),
        ([b'data: {"finish_reason":1\n\ndata: "DONE"\n\n'], False, "open", Completed()),
    ],
)
def test_an_end_is_found_and_nothing_else_is_one(payloads, begun, ending, completed):
    answer = watched(*payloads)
    assert (answer.begun, answer.ending, answer.completed()) == (begun, ending, completed)


def test_it_has_ended_when_all_its_choices_have():
    first, second = chunk("stop", index=1), chunk("tool_calls", index=0)
    assert watched(first, choices=2).ending == "open"
    assert watched(first, first, choices=2).ending == "open"
    assert watched(first, second, choices=2).ending == "finished"


def test_an_error_in_the_stream_ends_it():
    answer = PassingAnswer()
    failed = sse({"error": {"message": "no such tool", "type": "invalid_request_error"}})
    assert answer.feed(failed + DONE) == failed
    assert (answer.begun, answer.done_seen) == (False, False)
    assert repr(answer) == "<PassingAnswer open, done_seen=False, error=InvalidPrompt('no such tool')>"
    answer = watched({**chunk(content="a"), "error": None})
    assert (answer.begun, answer.error) == (True, None)


def test_the_end_says_itself_in_its_repr():
    assert repr(watched(DONE)) == "<PassingAnswer finished, done_seen=True, error=None>"


@pytest.mark.parametrize("recording", [one for one in STREAMS if one.body], ids=lambda recording: recording.name)
def test_of_a_recording_it_finds_what_the_decoder_finds(recording):
    decoded = decode([recording.body], max_output_tokens_set=True)
    for pieces in ([recording.body], event_by_event(recording.body)):
        answer = PassingAnswer()
        for piece in pieces:
            if not (answer.done_seen or answer.error):
                answer.feed(piece)
        assert (None if answer.error is None else f"{type(answer.error).__name__}: {answer.error}") == decoded.error
        if answer.error is None:
            expected = decoded.events[-1]
            found = answer.completed()
            # It counts one thing more: timings where there is no usage.
            usage = None if expected.token_usage is None and b'"timings"' in recording.body else found.token_usage
            assert (usage, found.finish_reason, found.incomplete_reason) == (
                expected.token_usage,
                expected.finish_reason,
                expected.incomplete_reason,
            )
            assert answer.done_seen == decoded.said["done_seen"]


def test_bytes_pass_the_same_wherever_they_are_cut():
    for end in (b"\n", b"\r\n", b"\r"):
        body = (sse(chunk(content="a"), chunk("stop")) + b": late\n\n" + DONE).replace(b"\n", end)
        for pieces in (one_by_one(body + sse(chunk())), [body[:-1], body[-1:]], [body[:30], body[30:40], body[40:]]):
            answer = PassingAnswer()
            assert b"".join(answer.feed(piece) for piece in pieces if not answer.done_seen) == body


def test_an_event_has_a_bound():
    answer = PassingAnswer()
    with pytest.raises(ProtocolError, match="an event of the stream takes more than 16777216 bytes"):
        [answer.feed(bytes(MAX_EVENT_SIZE // 2)) for _ in range(3)]
    with pytest.raises(ProtocolError, match="an event of the stream takes more than 16777216 bytes"):
        PassingAnswer().feed(bytes(MAX_EVENT_SIZE + 1))


@pytest.mark.parametrize(
    ("name", "choices", "usage"),
    [
        ("err_bad_tool_choice", 1, TokenUsage(24, 23, 8, 0, 32)),
        ("timings_per_token", 1, TokenUsage(1512, 1, 5, 0, 1517)),
        ("timings_per_token", 2, None),  # they are one choice's, and which other one had more nobody says
    ],
)
def test_llamacpp_counts_for_those_who_do_not_ask(name, choices, usage):
    answer = PassingAnswer(choices)
    answer.feed(Recording.load(f"llamacpp/{name}").body)
    assert answer.completed().token_usage == usage
