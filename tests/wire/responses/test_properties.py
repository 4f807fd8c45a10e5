"""What holds for any bytes, and for any answer: what the encoder writes, the decoder reads back."""

import json

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.wire.responses.reading import check, decode_frames, decode_whole, payloads_of, sse
from tests.wire.responses.test_recordings import STREAMS
from tests.wire.responses.writing import USAGE, accumulate, answers, encoder, validate_events, validate_response
from turnwire.event import (
    Completed,
    Created,
    OutputItemAdded,
    OutputItemDone,
    OutputTextDelta,
    ReasoningContentDelta,
    ReasoningSummaryDelta,
    ToolCallArgumentsDelta,
)
from turnwire.item import CustomToolCall, FunctionCall, Message, Reasoning, Refusal
from turnwire.wire.responses import ResponseObject

modest = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
places = st.lists(st.integers(0, 1 << 12), max_size=12)
watch = st.booleans()

words = st.sampled_from(
    ["a", "b", "", "\n\n", "\u2028", "\ndata: ", "completed", "incomplete", "failed", "fc_1", "rs_1"]
)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-2, 3)
    | st.just(10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=5,
)


def objects(required=(), /, **fields):
    """Objects with some of these fields, each in its shape or any other."""
    return st.fixed_dictionaries(
        {name: fields.pop(name) for name in required},
        optional={name: value | json_values if value is not json_values else value for name, value in fields.items()},
    )


parts = st.lists(
    objects(
        ["type"],
        type=st.sampled_from(["output_text", "refusal", "reasoning_text", "summary_text", "input_image", "x"]),
        text=words,
        refusal=words,
        annotations=json_values,
    ),
    max_size=3,
)
items = objects(
    ["type"],
    type=st.sampled_from(["message", "reasoning", "function_call", "custom_tool_call", "web_search_call", "new"]),
    id=words,
    role=st.just("assistant"),
    content=parts,
    summary=parts,
    call_id=words,
    name=words,
    arguments=words,
    input=words,
    status=words,
)
usages = objects(input_tokens=st.integers(-1, 5), output_tokens=st.integers(-1, 5), input_tokens_details=json_values)
errors = objects(
    code=words | st.sampled_from(["rate_limit_exceeded", "invalid_prompt"]),
    message=words | st.just("try again in 3s"),
    type=words,
)
responses = objects(
    id=words,
    status=words,
    output=st.lists(items, max_size=3),
    usage=usages,
    error=errors,
    incomplete_details=objects(reason=words),
)
kinds = st.sampled_from(
    [
        *("created", "completed", "incomplete", "failed", "metadata", "new", "output_item.added", "output_item.done"),
        *("output_text.delta", "reasoning_text.delta", "reasoning_summary_text.delta", "function_call_arguments.delta"),
        *("reasoning_summary_part.added", "custom_tool_call_input.delta", "content_part.added"),
    ]
).map("response.{}".format) | st.sampled_from(["error", "codex.rate_limits", "keepalive"])
server_events = objects(
    ["type"],
    type=kinds,
    delta=words,
    item_id=words,
    item=items,
    content_index=st.integers(0, 3),
    summary_index=st.integers(0, 3),
    response=responses,
    error=errors,
    status=st.sampled_from([200, 400, 401, 429, 503]),
    headers=st.dictionaries(words, words | st.lists(words)),
    rate_limits=json_values,
)
streams = st.lists(st.tuples(server_events | json_values, st.integers(0, 5)), max_size=8)
FRAMINGS = [b"event: x\ndata: %b\n\n"] * 3 + [b"data: %b\n\n", b"event: x\r\ndata: %b\r\n\r\n", b"id: 1\ndata:%b\n\n"]
ODD = [
    b"event: x\n\n",
    b"event: x\ndata: a\ndata: b\n\n",
    b"event: x\ndata: 1\n\n\n",
    b"data: a\nevent: x\ndata: b\n\n",
]


@modest
@given(body=st.binary(max_size=200), places=places)
def test_any_bytes_give_events_or_a_typed_error(body, places):
    check(body, places)


@modest
@given(stream=streams, odd=st.lists(st.sampled_from(ODD), max_size=1), places=places, watch_calls=watch)
def test_any_events_give_the_same_however_they_are_framed_and_cut(stream, odd, places, watch_calls):
    framed = [FRAMINGS[framing] % json.dumps(payload).encode() for payload, framing in stream]
    check(b"".join([*framed[:2], *odd, *framed[2:]]), places, watch_calls=watch_calls)


@modest
@given(stream=st.lists(server_events, max_size=8), watch_calls=watch)
def test_frames_give_what_server_sent_events_give(stream, watch_calls):
    frames = [json.dumps(payload) for payload in stream]
    assert decode_frames(frames, watch_calls=watch_calls) == check(sse(*stream), watch_calls=watch_calls)


@modest
@given(body=st.binary(max_size=50) | (responses | json_values).map(lambda value: json.dumps(value).encode()))
def test_any_body_that_is_no_stream_gives_events_or_a_typed_error(body):
    decode_whole(body)


@modest
@given(stream=st.lists(server_events, max_size=8), watch_calls=watch)
def test_whatever_the_decoder_gives_can_be_encoded(stream, watch_calls):
    events = check(sse(*stream), watch_calls=watch_calls).events
    out = encoder()
    payloads = payloads_of([*out.start(), *out.encode(events)])
    numbers = [payload["sequence_number"] for payload in payloads]
    assert numbers == list(range(len(payloads)))


@modest
@given(one=st.sampled_from(STREAMS).filter(lambda one: len(one.body) < 10_000), places=places)
def test_a_recording_may_be_cut_anywhere(one, places):
    check(one.body, places)


@modest
@given(one=st.sampled_from(STREAMS).filter(lambda one: len(one.body) < 10_000), watch_calls=watch)
def test_a_recording_can_be_served_again(one, watch_calls):
    outcome = check(one.body, watch_calls=watch_calls)
    out = encoder()
    written = [*out.start(), *out.encode(outcome.events)]
    again = check(b"".join(written), watch_calls=watch_calls)
    assert said(again.events) == said(outcome.events)


def said(events):
    """What an answer says, whatever its ids and its cuts: items in order, deltas by kind, and the end."""
    items = []
    for event in events:
        if isinstance(event, OutputItemDone):
            match event.item:
                case Message() as item:
                    refusals = "".join(part.refusal for part in item.content if isinstance(part, Refusal))
                    items.append(("message", item.text, refusals))
                case Reasoning() as item:
                    summary = [part.text for part in item.summary]
                    items.append(("reasoning", "".join(part.text for part in item.content or ()), summary))
                case FunctionCall() as item:
                    items.append((item.call_id, item.name, item.arguments))
                case CustomToolCall() as item:
                    items.append((item.call_id, item.name, item.input))
    deltas = {
        kind: "".join(event.delta for event in events if isinstance(event, kind))
        for kind in (OutputTextDelta, ReasoningContentDelta, ReasoningSummaryDelta)
    }
    arguments: dict[str, str] = {}
    for event in events:
        if isinstance(event, ToolCallArgumentsDelta):
            arguments[event.call_id] = arguments.get(event.call_id, "") + event.delta
    ends = [(event.token_usage, event.incomplete_reason) for event in events if isinstance(event, Completed)]
    return items, {**deltas, ToolCallArgumentsDelta: arguments}, ends


@modest
@given(events=answers(), places=places)
def test_what_the_encoder_writes_the_decoder_reads_back(events, places):
    out = encoder()
    written = [*out.start(), *out.encode(events)]
    outcome = check(b"".join(written), places, watch_calls=True)
    assert (outcome.error, outcome.said["skipped"], out.over) == (None, 0, True)
    begun = sum(isinstance(event, OutputItemAdded) for event in outcome.events)
    whole = [event for event in events if isinstance(event, OutputItemDone)]
    assert (outcome.events[0], begun) == (Created("resp_7"), len(whole))
    items, deltas, ends = said(outcome.events)
    assert (items, ends) == said(events)[::2]
    assert deltas == {
        OutputTextDelta: "".join(text for kind, text, _ in items if kind == "message"),
        ReasoningContentDelta: "".join(text for kind, text, _ in items if kind == "reasoning"),
        ReasoningSummaryDelta: "".join("".join(summary) for kind, _, summary in items if kind == "reasoning"),
        ToolCallArgumentsDelta: {name: text for name, _, text in items if name.startswith("c") and text},
    }


@modest
@given(events=answers())
def test_over_a_websocket_the_same_is_read(events):
    out, framed = encoder(), encoder(framing="websocket")
    body = b"".join([*out.start(), *out.encode(events)])
    frames = [*framed.start(), *framed.encode(events)]
    assert decode_frames(frames, watch_calls=True) == check(body, watch_calls=True)
    assert payloads_of([body]) == [json.loads(frame) for frame in frames]


@modest
@given(events=answers())
def test_what_the_encoder_writes_satisfies_strict_readers(events):
    out = encoder()
    payloads = payloads_of([*out.start(), *out.encode(events)])
    if not any(isinstance(event, OutputItemDone) and isinstance(event.item, CustomToolCall) for event in events):
        validate_events(payloads)
        validate_response(payloads[-1]["response"])
    final = accumulate(payloads)
    if payloads[-1]["type"] == "response.completed":
        output = payloads[-1]["response"]["output"]
        assert [item.id for item in final.output] == [item["id"] for item in output]


@modest
@given(events=answers(), size=st.integers(1, 3))
def test_it_does_not_matter_how_many_events_are_encoded_at_once(events, size):
    whole, stepwise = encoder(), encoder()
    steps = [events[start : start + size] for start in range(0, len(events), size)]
    assert whole.encode(events) == [event for step in steps for event in stepwise.encode(step)]


@modest
@given(events=answers())
def test_a_response_without_a_stream_holds_the_same_items(events):
    whole = ResponseObject(response_id="resp_7", model="m", clock=lambda: 1700000000).whole(events)
    outcome = decode_whole(json.dumps(whole).encode())
    assert said(outcome.events)[::2] == said(events)[::2]


def test_usage_is_read_back():
    out = encoder()
    outcome = check(b"".join(out.encode([Completed("x", USAGE, "stop")])))
    assert outcome.events == [Completed("resp_7", USAGE, "completed")]
