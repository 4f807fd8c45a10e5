"""Which of a server's events become which of ours, and what is made of those that servers leave out or get wrong."""

import json

import pytest

from tests.wire.responses.reading import check, decode, decode_frames, decode_whole, events_of, sse
from turnwire.event import (
    Completed,
    Created,
    OutputItemAdded,
    OutputItemDone,
    OutputTextDelta,
    RateLimits,
    ReasoningContentDelta,
    ReasoningSummaryDelta,
    ReasoningSummaryPartAdded,
    TokenUsage,
    ToolCallArgumentsDelta,
)
from turnwire.item import (
    CustomToolCall,
    FunctionCall,
    Message,
    OutputText,
    Reasoning,
    ReasoningText,
    SummaryText,
    WebSearchCall,
)
from turnwire.wire.answer_decoder import AnswerDecoder
from turnwire.wire.chat import ChatDecoder
from turnwire.wire.responses import ResponsesDecoder
from turnwire.wire.responses.event import named_payloads


def event(kind, **fields):
    return {"type": f"response.{kind}", **fields}


def added(**item):
    return event("output_item.added", item=item)


def done(**item):
    return event("output_item.done", item=item)


def text_delta(delta, item_id="msg_1"):
    return event("output_text.delta", item_id=item_id, delta=delta)


def message(text, item_id="msg_1"):
    return {"type": "message", "id": item_id, "role": "assistant", "content": [{"type": "output_text", "text": text}]}


def call(arguments, **fields):
    return {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "f", "arguments": arguments, **fields}


CREATED = event("created", response={"id": "resp_1"})
COMPLETED = event("completed", response={"id": "resp_1"})
END = Completed("resp_1", None, "completed")
EMPTY = {"type": "message", "id": "msg_1", "role": "assistant", "content": []}
ADDED_MESSAGE = OutputItemAdded(Message("assistant", (), id="msg_1"))
HELLO = OutputItemDone(Message("assistant", [OutputText("hello")], id="msg_1"))
CALL = FunctionCall("f", '{"a":1}', "c1", id="fc_1")
ADDED_CALL = OutputItemAdded(FunctionCall("f", "", "c1", id="fc_1"))
PATCH = CustomToolCall("apply_patch", "*** Begin", "c2", id="ctc_1")
THOUGHT = Reasoning(id="rs_1", summary=[SummaryText("short")], content=[ReasoningText("long")])
THOUGHT_FIELDS = {
    "type": "reasoning",
    "id": "rs_1",
    "summary": [{"type": "summary_text", "text": "short"}],
    "content": [{"type": "reasoning_text", "text": "long"}],
    "encrypted_content": None,
}


def test_every_event_has_its_counterpart():
    assert events_of(
        CREATED,
        event("in_progress", response={"id": "resp_1"}),
        added(type="reasoning", id="rs_1", summary=[]),
        event("reasoning_summary_part.added", item_id="rs_1", summary_index=0),
        event("reasoning_summary_text.delta", item_id="rs_1", summary_index=0, delta="short"),
        event("reasoning_text.delta", item_id="rs_1", content_index=0, delta="long"),
        {"type": "response.output_item.done", "item": THOUGHT_FIELDS},
        added(**EMPTY),
        text_delta("hel"),
        text_delta("lo"),
        done(**message("hello")),
        added(type="web_search_call", id="ws_1", status="searching"),
        done(type="web_search_call", id="ws_1", status="completed"),
        {"type": "codex.rate_limits", "rate_limits": {"primary": {"used_percent": 3}}},
        event(
            "completed",
            response={
                "id": "resp_1",
                "usage": {
                    "input_tokens": 9,
                    "input_tokens_details": {"cached_tokens": 8},
                    "output_tokens": 5,
                    "output_tokens_details": None,
                    "total_tokens": 14,
                },
            },
        ),
    ) == [
        Created("resp_1"),
        OutputItemAdded(Reasoning(id="rs_1")),
        ReasoningSummaryPartAdded(0),
        ReasoningSummaryDelta("short", 0),
        ReasoningContentDelta("long", 0),
        OutputItemDone(THOUGHT),
        ADDED_MESSAGE,
        OutputTextDelta("hel"),
        OutputTextDelta("lo"),
        HELLO,
        OutputItemAdded(WebSearchCall(id="ws_1", status="searching")),
        OutputItemDone(WebSearchCall(id="ws_1", status="completed")),
        RateLimits({"primary": {"used_percent": 3}}),
        Completed("resp_1", TokenUsage(9, 8, 5, 0, 14), "completed"),
    ]


WATCHED = {
    "grown": [
        added(**call("")),
        event("function_call_arguments.delta", item_id="fc_1", delta='{"a"'),
        event("function_call_arguments.delta", item_id="fc_1", delta=":1}"),
        done(**call('{"a":1}')),
    ],
    "begun whole": [added(**call('{"a":1}')), done(**call('{"a":1}'))],
    "only done": [done(**call('{"a":1}'))],
}


@pytest.mark.parametrize("case", WATCHED)
def test_a_watched_call_begins_and_grows_however_it_came(case):
    events = events_of(*WATCHED[case], COMPLETED, watch_calls=True)
    grown = "".join(one.delta for one in events if isinstance(one, ToolCallArgumentsDelta) and one.call_id == "c1")
    assert grown == '{"a":1}'
    assert [one for one in events if not isinstance(one, ToolCallArgumentsDelta)] == [
        ADDED_CALL,
        OutputItemDone(CALL),
        END,
    ]


@pytest.mark.parametrize("case", WATCHED)
def test_a_call_that_nobody_watches_appears_when_it_is_whole(case):
    assert events_of(*WATCHED[case], COMPLETED) == [OutputItemDone(CALL), END]


def test_the_input_of_a_custom_tool_grows_as_well():
    fields = {"type": "custom_tool_call", "id": "ctc_1", "call_id": "c2", "name": "apply_patch"}
    assert events_of(
        added(**fields, input=""),
        event("custom_tool_call_input.delta", item_id="ctc_1", delta="*** "),
        event("custom_tool_call_input.delta", item_id="ctc_1", delta="Begin"),
        done(**fields, input="*** Begin"),
        COMPLETED,
        watch_calls=True,
    ) == [
        OutputItemAdded(CustomToolCall("apply_patch", "", "c2", id="ctc_1")),
        ToolCallArgumentsDelta("c2", "*** "),
        ToolCallArgumentsDelta("c2", "Begin"),
        OutputItemDone(PATCH),
        END,
    ]


ONE_MESSAGE = {
    "only done": [done(**message("hello")), COMPLETED],
    "only in the terminal event": [event("completed", response={"id": "resp_1", "output": [message("hello")]})],
    "done, and in the terminal event again": [
        done(**message("hello")),
        event("completed", response={"id": "resp_1", "output": [message("hello")]}),
    ],
    "added, but no deltas": [added(**EMPTY), done(**message("hello")), COMPLETED],
    "deltas under another id": [added(**EMPTY), text_delta("hello", "x"), done(**message("hello")), COMPLETED],
    "deltas without an id": [added(**EMPTY), text_delta("hello", None), done(**message("hello")), COMPLETED],
    "empty deltas": [added(**EMPTY), text_delta(""), text_delta("hello"), done(**message("hello")), COMPLETED],
    "the whole item twice (transformers)": [
        *(added(**EMPTY), text_delta("hello"), done(**message("hello"))),
        *(added(**EMPTY), done(**message("hello")), COMPLETED),
    ],
}


@pytest.mark.parametrize("case", ONE_MESSAGE)
def test_a_message_is_told_in_full_and_once_whatever_the_server_leaves_out(case):
    assert events_of(*ONE_MESSAGE[case]) == [ADDED_MESSAGE, OutputTextDelta("hello"), HELLO, END]


FORMS = {
    "one event": (b"event: a\ndata: 1\n\n", ([b"1"], b"")),
    "several, and a beginning": (b"event: a\ndata: 1\n\nevent: b\ndata: 2\n\nev", ([b"1", b"2"], b"ev")),
    "no whole event": (b"event: a\ndata: 1\n", ([], b"event: a\ndata: 1\n")),
    "no name": (b"data: 1\n\n", None),
    "one without a name": (b"event: a\ndata: 1\n\ndata: 2\n\n", None),
    "other line ends": (b"event: a\r\ndata: 1\n\n", None),
    "data of several lines": (b"event: a\ndata: 1\ndata: 2\n\n", None),
    "one without data": (b"event: a\n\nevent: b\n\n", None),
    "one without data, one with two lines": (b"event: a\n\nevent: b\ndata: 1\ndata: 2\n\n", None),
    "two lines, and none": (b"event: a\ndata: 1\ndata: 2\n\nevent: b\n\n", None),
    "a blank line too many": (b"event: a\ndata: 1\n\n\nevent: b\ndata: 2\n\n", None),
}


@pytest.mark.parametrize("case", FORMS)
def test_events_in_the_usual_form_are_split_at_once_and_others_are_left_alone(case):
    block, payloads = FORMS[case]
    assert named_payloads(block) == payloads


def test_two_messages_may_be_open_under_one_id_or_none():
    unnamed = {"type": "message", "role": "assistant", "content": []}
    said = {**unnamed, "content": [{"type": "output_text", "text": "a"}]}
    begun, delta, whole = (
        OutputItemAdded(Message("assistant", ())),
        OutputTextDelta("a"),
        OutputItemDone(Message("assistant", [OutputText("a")])),
    )
    assert events_of(added(**unnamed), added(**unnamed), text_delta("a"), done(**said), done(**said), COMPLETED) == [
        *(begun, begun, delta),
        *(delta, whole, whole),
        END,
    ]


def test_deltas_without_an_item_begin_one():
    assert events_of(text_delta("hello"), done(**message("hello")), COMPLETED) == [
        OutputItemAdded(Message("assistant", ())),
        OutputTextDelta("hello"),
        HELLO,
        END,
    ]


def test_reasoning_that_comes_whole_is_told_in_full():
    assert events_of({"type": "response.output_item.done", "item": THOUGHT_FIELDS}, COMPLETED) == [
        OutputItemAdded(Reasoning(id="rs_1")),
        ReasoningSummaryPartAdded(0),
        ReasoningSummaryDelta("short", 0),
        ReasoningContentDelta("long", 0),
        OutputItemDone(THOUGHT),
        END,
    ]


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        (event("incomplete", response={"incomplete_details": {"reason": "max_output_tokens"}}), "max_output_tokens"),
        (event("incomplete", response={"incomplete_details": {"reason": "content_filter"}}), "content_filter"),
        (event("incomplete"), "unknown"),
        (
            event("completed", response={"status": "incomplete", "incomplete_details": {"reason": "why"}}),  # vLLM
            "why",
        ),
    ],
)
def test_an_incomplete_answer_says_why(response, reason):
    assert events_of(response) == [Completed("", None, "incomplete", reason)]


METADATA = {
    "any case": ({"X-Codex-Turn-State": "t"}, {"x-codex-turn-state": "t"}),
    "a list counts by its first element": ({"a": ["x", "y"], "b": []}, {"a": "x"}),
    "an empty value locks nothing": ({"A": "", "a": "x", "b": [""]}, {"a": "x"}),
    "nothing but texts": ({"a": 1, "b": None, "c": {"d": "e"}, "f": [2]}, {}),
    "no headers": (None, {}),
}


@pytest.mark.parametrize("case", METADATA)
def test_metadata_is_kept_in_plain_form(case):
    headers, expected = METADATA[case]
    assert decode([sse(CREATED, event("metadata", headers=headers), COMPLETED)]).said["metadata"] == expected


def test_of_repeated_metadata_the_first_value_counts_whatever_comes_between():
    late = [event("metadata", headers={"t": ""}), CREATED, event("metadata", headers={"T": "1"})]
    later = [{"type": "codex.response.metadata", "headers": {"u": "2"}}, event("metadata", headers={"t": "3"})]
    outcome = decode([sse(*late, *later, COMPLETED)])
    assert (outcome.said["metadata"], outcome.said["skipped"]) == ({"t": "1"}, 0)


def test_what_is_unknown_is_skipped_and_counted():
    body = sse({"type": "response.new_thing"}, {"no": "type"}) + b"data: no json\n\ndata: [1]\n\n" + sse(COMPLETED)
    outcome = check(body)
    assert (outcome.events, outcome.said["skipped"]) == ([END], 4)


def test_a_sentinel_behind_or_before_the_end_means_nothing():
    done_line = b"data: [DONE]\n\n"
    assert decode([done_line + sse(COMPLETED) + done_line]).said["skipped"] == 0


@pytest.mark.parametrize("body", [b"", b": busy\n\n", sse(CREATED), sse(CREATED, done(**message("hello")))])
def test_a_body_that_ends_before_the_terminal_event_is_an_error(body):
    assert check(body).error == "StreamError: stream closed before response.completed"


@pytest.mark.parametrize("frame", ["", "[]", "no json", b"\xff", "1"])
def test_a_frame_that_is_no_event_is_an_error(frame):
    expected = f"ProtocolError: a frame of {len(frame)} bytes is no event; expected a JSON object"
    assert decode_frames([frame]).error == expected


def test_an_event_over_its_bound_is_an_error_wherever_it_is_cut():
    body = sse(CREATED, text_delta("x" * 200)) + sse(COMPLETED)
    outcome = check(body, range(0, 300, 7), max_event_size=150)
    assert outcome.events == [Created("resp_1")]
    assert outcome.error == "ProtocolError: an event takes more than max_event_size, 150 bytes"


def test_an_answer_that_is_no_stream_gives_the_same_events():
    body = {"id": "resp_1", "object": "response", "status": "completed", "output": [message("hello")]}
    assert decode_whole(json.dumps(body).encode()).events == [ADDED_MESSAGE, OutputTextDelta("hello"), HELLO, END]


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"<html>", "StreamError: the server sent neither a stream nor a response object"),
        (b"{}", "StreamError: the server sent neither a stream nor a response object"),
        (b'{"output":[],"status":"failed","error":{"code":"server_error","message":"boom"}}', "RetryableError: boom"),
        (
            b'{"output":[],"status":"cancelled"}',
            "RetryableError: the response failed, and the server did not say why",
        ),
    ],
)
def test_a_body_that_is_no_answer_is_an_error(body, error):
    assert decode_whole(body).error == error


def test_text_that_is_not_done_is_there_for_whoever_is_cut_off():
    decoder = ResponsesDecoder()
    list(decoder.feed(sse(CREATED, done(**message("one ")), added(**EMPTY), text_delta("two", "msg_2"))))
    assert (decoder.text, decoder.ending, decoder.finish_reason) == ("one two", "open", None)
    assert repr(decoder) == "<ResponsesDecoder open, skipped=0>"


def test_both_decoders_are_answer_decoders():
    def drive(decoder: AnswerDecoder) -> AnswerDecoder:
        return decoder

    names = [name for name in vars(AnswerDecoder) if not name.startswith("_")]
    for decoder in (drive(ChatDecoder()), drive(ResponsesDecoder())):
        assert [name for name in names if not hasattr(decoder, name)] == []
