"""What the Responses encoder writes: the events in full, and what strict readers make of them."""

import json

import pytest

from tests.wire.responses.reading import decode, payloads_of
from tests.wire.responses.writing import (
    USAGE,
    accumulate,
    call_events,
    encoder,
    message_events,
    reasoning_events,
    validate_events,
    validate_response,
)
from turnwire.errors import RateLimited
from turnwire.event import (
    Completed,
    Created,
    OutputItemAdded,
    OutputItemDone,
    OutputTextDelta,
    RateLimits,
    ReasoningSummaryDelta,
    ToolCallArgumentsDelta,
)
from turnwire.item import (
    Compaction,
    CustomToolCall,
    FunctionCall,
    InputImage,
    Message,
    OtherItem,
    OutputText,
    Reasoning,
    ReasoningText,
    SummaryText,
)
from turnwire.wire.responses import ResponseObject

DONE = Completed("chatcmpl-1", USAGE, "stop")
COUNTS = {
    "input_tokens": 20,
    "input_tokens_details": {"cached_tokens": 16},
    "output_tokens": 5,
    "output_tokens_details": {"reasoning_tokens": 2},
    "total_tokens": 25,
}


def written(*events, start=True, **options):
    """All that is written for these events, as a client reads it."""
    out = encoder(**options)
    return payloads_of([*(out.start() if start else ()), *out.encode(events)])


def between(payloads):
    """Without the events about the whole answer, and without the numbers, which count."""
    assert [payload.pop("sequence_number") for payload in payloads] == list(range(len(payloads)))
    return [payload for payload in payloads if "response" not in payload]


def place(item_id, index=0, **more):
    return {"item_id": item_id, "output_index": index, **more}


def text_part(text):
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def test_a_message_is_told_in_full():
    beginning = {"type": "message", "id": "msg_7_0", "status": "in_progress", "role": "assistant", "content": []}
    whole = {**beginning, "status": "completed", "content": [text_part("hello")]}
    here = place("msg_7_0", content_index=0)
    assert between(written(*message_events("hel", "lo"), DONE)) == [
        {"type": "response.output_item.added", "output_index": 0, "item": beginning},
        {"type": "response.content_part.added", **here, "part": text_part("")},
        {"type": "response.output_text.delta", **here, "logprobs": [], "delta": "hel"},
        {"type": "response.output_text.delta", **here, "logprobs": [], "delta": "lo"},
        {"type": "response.output_text.done", **here, "logprobs": [], "text": "hello"},
        {"type": "response.content_part.done", **here, "part": text_part("hello")},
        {"type": "response.output_item.done", "output_index": 0, "item": whole},
    ]


def test_reasoning_is_told_in_full_with_the_parts_of_its_summary():
    beginning = {
        "type": "reasoning",
        "id": "rs_7_0",
        "status": "in_progress",
        "summary": [],
        "content": [],
        "encrypted_content": None,
    }
    parts = [{"type": "summary_text", "text": text} for text in ("one", "two")]
    long = {"type": "reasoning_text", "text": "long"}
    whole = {**beginning, "status": "completed", "summary": parts, "content": [long]}
    first, second = (place("rs_7_0", summary_index=index) for index in (0, 1))
    here = place("rs_7_0", content_index=0)
    assert between(written(*reasoning_events("lo", "ng", summary=("one", "two")), DONE)) == [
        {"type": "response.output_item.added", "output_index": 0, "item": beginning},
        {"type": "response.reasoning_summary_part.added", **first, "part": {**parts[0], "text": ""}},
        {"type": "response.reasoning_summary_text.delta", **first, "delta": "one"},
        {"type": "response.reasoning_summary_text.done", **first, "text": "one"},
        {"type": "response.reasoning_summary_part.done", **first, "part": parts[0]},
        {"type": "response.reasoning_summary_part.added", **second, "part": {**parts[1], "text": ""}},
        {"type": "response.reasoning_summary_text.delta", **second, "delta": "two"},
        {"type": "response.content_part.added", **here, "part": {**long, "text": ""}},
        {"type": "response.reasoning_text.delta", **here, "delta": "lo"},
        {"type": "response.reasoning_text.delta", **here, "delta": "ng"},
        {"type": "response.reasoning_summary_text.done", **second, "text": "two"},
        {"type": "response.reasoning_summary_part.done", **second, "part": parts[1]},
        {"type": "response.reasoning_text.done", **here, "text": "long"},
        {"type": "response.content_part.done", **here, "part": long},
        {"type": "response.output_item.done", "output_index": 0, "item": whole},
    ]


CALLS = {
    "function": (False, "function_call", "fc_7_0", "arguments", "response.function_call_arguments"),
    "custom": (True, "custom_tool_call", "ctc_7_0", "input", "response.custom_tool_call_input"),
}


@pytest.mark.parametrize("case", CALLS)
def test_a_call_is_told_as_it_grows_or_at_once(case):
    custom, kind, item_id, key, events = CALLS[case]
    name = "patch" if custom else "f"
    beginning = {"type": kind, "id": item_id, "call_id": "c1", "name": name, key: "", "status": "in_progress"}
    whole = {**beginning, key: "{}", "status": "completed"}
    deltas = [{"type": f"{events}.delta", **place(item_id), "delta": delta} for delta in ("{", "}", "{}")]
    added, done = (
        {"type": f"response.output_item.{word}", "output_index": 0, "item": item}
        for word, item in (("added", beginning), ("done", whole))
    )
    text_done = {"type": f"{events}.done", **place(item_id), key: "{}"}
    grown = call_events("c1", "{", "}", custom=custom)
    assert between(written(*grown, DONE)) == [added, *deltas[:2], text_done, done]
    assert between(written(grown[-1], DONE)) == [added, deltas[2], text_done, done]


def test_a_refusal_behind_streamed_text_is_a_part_of_its_own():
    payloads = between(written(*message_events("yes", refusal="no"), DONE))
    assert [(payload["type"], payload.get("content_index")) for payload in payloads] == [
        ("response.output_item.added", None),
        ("response.content_part.added", 0),
        ("response.output_text.delta", 0),
        ("response.output_text.done", 0),
        ("response.content_part.done", 0),
        ("response.content_part.added", 1),
        ("response.refusal.delta", 1),
        ("response.refusal.done", 1),
        ("response.content_part.done", 1),
        ("response.output_item.done", None),
    ]
    assert payloads[-1]["item"]["content"] == [text_part("yes"), {"type": "refusal", "refusal": "no"}]


def test_several_items_may_be_open_at_once():
    thought, said = reasoning_events("hm"), message_events("so")
    first, second = call_events("c1", "1"), call_events("c2", "2")
    events = [thought[0], thought[1], said[0], said[1], first[0], second[0], second[1], first[1]]
    payloads = written(*events, thought[-1], second[-1], said[-1], first[-1], DONE)
    deltas = [(payload["item_id"], payload["delta"]) for payload in payloads if "delta" in payload]
    assert deltas == [("rs_7_0", "hm"), ("msg_7_1", "so"), ("fc_7_3", "2"), ("fc_7_2", "1")]
    ids = [item["id"] for item in payloads[-1]["response"]["output"]]
    assert ids == ["rs_7_0", "msg_7_1", "fc_7_2", "fc_7_3"]
    validate_events(payloads)


def test_items_that_never_grew_are_told_by_their_beginning_and_end():
    folded = Compaction("gAAA", id="cmp_1")
    odd = OtherItem({"type": "new_thing", "id": "x", "content": "as it came"})
    payloads = between(written(OutputItemAdded(odd), OutputItemDone(odd), OutputItemDone(folded), DONE))
    assert payloads == [
        {"type": f"response.output_item.{word}", "output_index": index, "item": item}
        for index, item in enumerate(
            [dict(odd.fields), {"type": "compaction", "id": "cmp_1", "encrypted_content": "gAAA"}]
        )
        for word in ("added", "done")
    ]


def test_ids_that_fit_are_kept_and_others_replaced():
    items = [Message("assistant", (), id="msg_up"), Reasoning(id="up"), FunctionCall("f", "", "c1", id="call_1")]
    output = written(*map(OutputItemDone, items), DONE)[-1]["response"]["output"]
    assert [item["id"] for item in output] == ["msg_up", "rs_7_1", "fc_7_2"]


def test_an_item_whose_id_changes_from_event_to_event_is_one_item():
    events = [*message_events("a", item_id="msg_a")[:2], OutputItemDone(Message("assistant", [OutputText("a")]))]
    (item,) = written(*events, DONE)[-1]["response"]["output"]
    assert item["id"] == "msg_a"


def test_a_part_that_is_no_text_stands_in_the_item_alone():
    image = InputImage("https://example.org/a.png")
    payloads = between(written(OutputItemDone(Message("assistant", [image])), DONE))
    assert [payload["type"] for payload in payloads] == ["response.output_item.added", "response.output_item.done"]


def test_what_a_server_said_of_a_part_or_of_a_status_goes_on_as_it_came():
    cited = OutputText("a", extra={"annotations": [{"type": "url_citation"}]})
    item = Message("assistant", [cited, OutputText("b")], extra={"status": "incomplete", "phase": "final_answer"})
    (output,) = written(*map(OutputTextDelta, "ab"), OutputItemDone(item), DONE)[-1]["response"]["output"]
    assert output == {
        "type": "message",
        "id": "msg_7_0",
        "role": "assistant",
        "status": "incomplete",
        "phase": "final_answer",
        "content": [{**text_part("a"), "annotations": [{"type": "url_citation"}]}, text_part("b")],
    }


def test_text_that_was_told_in_one_part_is_not_told_again_in_another():
    parts = [OutputText("a", extra={"annotations": []}), OutputText("b", extra={"annotations": []})]
    payloads = written(*map(OutputTextDelta, "ab"), OutputItemDone(Message("assistant", parts)), DONE)
    assert "".join(payload.get("delta", "") for payload in payloads) == "ab"
    accumulate(payloads)


def test_deltas_without_an_item_begin_one():
    payloads = written(OutputTextDelta("a"), ReasoningSummaryDelta("b", 0))
    assert [payload["item"]["id"] for payload in payloads if "item" in payload] == ["msg_7_0", "rs_7_1"]


def test_more_of_a_summary_part_that_has_ended_or_of_an_unknown_call_is_left_to_the_whole_item():
    thought = Reasoning(summary=[SummaryText("ab"), SummaryText("c")])
    deltas = [ReasoningSummaryDelta(text, index) for text, index in (("a", 0), ("c", 1), ("b", 0))]
    payloads = written(ToolCallArgumentsDelta("c9", "x"), *deltas, OutputItemDone(thought), DONE)
    assert [payload["delta"] for payload in payloads if "delta" in payload] == ["a", "c"]
    assert [part["text"] for part in payloads[-1]["response"]["output"][0]["summary"]] == ["ab", "c"]


def test_events_that_are_no_part_of_an_answer_are_left_out():
    assert between(written(Created("x"), RateLimits({}), DONE)) == []


RESPONSE = {
    "id": "resp_7",
    "object": "response",
    "created_at": 1700000000,
    "completed_at": 1700000000,
    "status": "completed",
    "error": None,
    "incomplete_details": None,
    "model": "m",
    "output": [],
    "usage": COUNTS,
    "background": False,
    "frequency_penalty": 0.0,
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "presence_penalty": 0.0,
    "previous_response_id": None,
    "prompt_cache_key": None,
    "reasoning": {"effort": None, "summary": None},
    "safety_identifier": None,
    "service_tier": "default",
    "store": True,
    "temperature": 1.0,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_logprobs": 0,
    "top_p": 1.0,
    "truncation": "disabled",
    "user": None,
}


@pytest.mark.parametrize(
    ("event", "kind", "fields"),
    [
        (DONE, "completed", {}),
        (Completed(), "completed", {"usage": None}),
        (
            Completed("x", USAGE, "length", "max_output_tokens"),
            "incomplete",
            {
                "status": "incomplete",
                "incomplete_details": {"reason": "max_output_tokens"},
                "completed_at": None,
            },
        ),
    ],
)
def test_the_last_event_holds_the_whole_response(event, kind, fields):
    created, in_progress, last = written(event)
    begun = {**RESPONSE, "status": "in_progress", "completed_at": None, "usage": None}
    assert [created, in_progress, last] == [
        {"type": "response.created", "sequence_number": 0, "response": begun},
        {"type": "response.in_progress", "sequence_number": 1, "response": begun},
        {"type": f"response.{kind}", "sequence_number": 2, "response": {**RESPONSE, **fields}},
    ]
    validate_events([created, in_progress, last])


def test_the_response_repeats_what_the_request_asked_for():
    request = {
        "model": "alias",
        "input": "hi",
        "stream": True,
        "instructions": "Be brief.",
        "tools": [{"type": "function", "name": "f"}, {"type": "custom", "name": "patch"}],
        "tool_choice": {"type": "function", "name": "f"},
        "parallel_tool_calls": False,
        "reasoning": {"effort": "low"},
        "temperature": None,
        "store": False,
        "text": {"verbosity": "low", "format": {"type": "json_schema", "name": "s", "schema": {"type": "object"}}},
        "metadata": {"a": "b"},
        "client_metadata": {"x-codex-turn-state": "t"},
    }
    response = ResponseObject(response_id="resp_7", model="m", clock=lambda: 1700000000, request=request).ended(DONE)
    assert response == RESPONSE | {
        "instructions": "Be brief.",
        "tools": [
            {"type": "function", "name": "f", "description": None, "parameters": None, "strict": None},
            {"type": "custom", "name": "patch"},
        ],
        "tool_choice": {"type": "function", "name": "f"},
        "parallel_tool_calls": False,
        "reasoning": {"effort": "low", "summary": None},
        "store": False,
        "text": {
            "verbosity": "low",
            "format": {
                "type": "json_schema",
                "name": "s",
                "schema": {"type": "object"},
                "description": None,
                "strict": False,
            },
        },
        "metadata": {"a": "b"},
    }


def test_a_failure_ends_the_answer_and_says_why():
    out = encoder()
    payloads = payloads_of(
        [*out.start(), *out.encode(message_events("a")[:-1]), *out.failed(RateLimited("slow down", 1.5))]
    )
    error = {"code": "rate_limit_exceeded", "message": "slow down. Please try again in 1.5s."}
    failed = {**RESPONSE, "status": "failed", "error": error, "completed_at": None, "usage": None}
    assert payloads[-1] == {"type": "response.failed", "sequence_number": 5, "response": failed}
    validate_events(payloads)
    assert (out.over, out.failed(RateLimited("again")), out.encode([OutputTextDelta("late")])) == (True, [], [])


def test_an_answer_that_ends_with_an_open_item_has_failed():
    payloads = written(*message_events("a"), *call_events("c1", "{")[:-1], DONE, OutputTextDelta("late"))
    error = {"code": "server_error", "message": "the answer ended, but not its items fc_7_1"}
    last = payloads[-1]
    assert (last["type"], last["response"]["error"]) == ("response.failed", error)


def test_an_answer_that_was_cut_short_may_leave_an_item_open():
    cut = Completed("x", None, "length", "max_output_tokens")
    assert written(*call_events("c1", "{")[:-1], cut)[-1]["type"] == "response.incomplete"


def test_over_a_websocket_each_event_is_a_message_and_metadata_comes_behind_the_first():
    out = encoder(framing="websocket")
    token = {"x-codex-turn-state": "t"}
    frames = [*out.start(token), *out.encode([*message_events("é"), DONE]), *out.metadata({"late": "1"})]
    payloads = [json.loads(frame) for frame in frames]
    assert payloads[1] == {"type": "response.metadata", "headers": token}
    assert payloads[-1] == {"type": "response.metadata", "headers": {"late": "1"}}
    numbered = [payload for payload in payloads if payload["type"] != "response.metadata"]
    assert numbered == written(*message_events("é"), DONE)


def test_an_event_is_named_in_its_framing_too():
    (first, _) = encoder().start()
    assert first.startswith(b'event: response.created\ndata: {"type":"response.created","sequence_number":0,')
    assert first.endswith(b"}\n\n")


def test_a_keepalive_is_an_event_that_readers_pass_over():
    out = encoder()
    body = [*out.start(), *out.keepalive(), *out.encode([*message_events("a"), DONE])]
    assert payloads_of(body)[2] == {"type": "keepalive", "sequence_number": 2}
    assert decode(body).said["skipped"] == 0
    assert accumulate(payloads_of(body)).output_text == "a"


def test_a_response_without_a_stream_is_made_of_the_same_events():
    events = [*reasoning_events("hm"), *message_events("a", "b"), *call_events("c1", "{}"), DONE]
    streamed = written(*events)[-1]["response"]
    whole = ResponseObject(response_id="resp_7", model="m", clock=lambda: 1700000000).whole(events)
    assert whole == streamed
    validate_response(whole)


def test_events_that_do_not_complete_are_no_response():
    response = ResponseObject(response_id="resp_7", model="m", clock=lambda: 1700000000)
    with pytest.raises(ValueError, match="end with Completed"):
        response.whole(message_events("a"))


def test_parts_of_a_custom_call_satisfy_the_sdk():
    final = accumulate(written(*call_events("c1", "*** Begin", custom=True), DONE))
    (call,) = final.output
    assert (call.type, call.input, call.call_id) == ("custom_tool_call", "*** Begin", "c1")


def test_the_encoder_says_where_it_stands():
    out = encoder()
    out.encode(message_events("a")[:-1])
    assert repr(out) == "<ResponsesEncoder of resp_7: 1 items open, event 3>"
    out.encode([DONE])
    assert repr(out) == "<ResponsesEncoder of resp_7: over, event 4>"


def test_reasoning_of_a_chat_stream_is_one_part():
    thought = Reasoning(content=[ReasoningText("a"), ReasoningText("b")], encrypted_content="gAAA")
    call = CustomToolCall("patch", "x", "c1", id="ctc_up", namespace="ns")
    output = written(OutputItemDone(thought), OutputItemDone(call), DONE)[-1]["response"]["output"]
    assert output == [
        {
            "type": "reasoning",
            "id": "rs_7_0",
            "status": "completed",
            "summary": [],
            "content": [{"type": "reasoning_text", "text": "ab"}],
            "encrypted_content": "gAAA",
        },
        {
            "type": "custom_tool_call",
            "id": "ctc_up",
            "status": "completed",
            "call_id": "c1",
            "name": "patch",
            "input": "x",
            "namespace": "ns",
        },
    ]
