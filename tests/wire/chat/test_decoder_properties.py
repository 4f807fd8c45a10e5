"""What holds for any bytes: see `tests.decoding.check`, which the fuzzer shares."""

import json
import random
from itertools import islice

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fuzz.fuzz_chat_decoder import corpus, mutants, try_input
from tests.decoding import DONE, check, chunk, cut, decode, events_of, message, sse
from tests.recording import STREAMS
from turnwire.event import Completed
from turnwire.wire.chat import ChatDialect

DIALECTS = {"reference": ChatDialect(), "tolerant": ChatDialect.preset("tolerant")}
PLAIN = b"data: %b\n\n"

places = st.lists(st.integers(0, 1 << 16), max_size=12)
dialects = st.sampled_from(list(DIALECTS.values()))
options = st.fixed_dictionaries({"watch_calls": st.booleans(), "max_output_tokens_set": st.booleans()})
modest = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])

# What a text must not be mistaken for: quotes and escapes, a chunk's own bytes, the framing, line ends that are none.
HEAD = '{"id":"x","choices":[{"index":0,"delta":{"content":"'
TAIL = '"},"finish_reason":null}]}'
TRAPS = [
    *('"', "\\", '\\"', '","', "\\\\", "\n", "\r\n", "\n\n", "\n\ndata: ", "\n\ndata: [DONE]\n\n", "\0", "\x02probe"),
    *("\u2028", "\u2029", "\x85", "\ufeff", "\ud83d", "\ude00", "😀", "é", HEAD, TAIL, TAIL + "\n\ndata: " + HEAD),
]
texts = st.lists(st.sampled_from(["", "a", " b", *TRAPS]) | st.text(max_size=5), max_size=4).map("".join)

# Any JSON, shallow, and the words that the decoder looks for among its keys.
words = st.sampled_from(
    ["stop", "length", "tool_calls", "content_filter", "reasoning.text", "thinking", "call_0", "{}"]
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 3) | st.just(10**30) | st.floats(allow_nan=False) | texts | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts | words, inner, max_size=3),
    max_leaves=5,
)


def objects(required=(), /, **fields):
    """Objects with some of these fields, each in its shape or any other."""
    return st.fixed_dictionaries(
        {name: fields.pop(name) for name in required},
        optional={name: value | json_values if value is not json_values else value for name, value in fields.items()},
    )


parts = st.lists(objects(type=words, text=texts, thinking=texts, summary=texts, data=texts), max_size=3)
functions = objects(name=st.sampled_from(["f", "g", ""]), arguments=texts | words)
call_ids = st.sampled_from(["a", "b", "a-2", "tool-call-0", ""])
fragments = st.lists(
    objects(index=st.integers(0, 2), id=call_ids, function=functions, signature=json_values), max_size=2
)
deltas = objects(
    content=texts | parts,
    reasoning=texts | objects(text=texts, content=texts),
    reasoning_content=texts,
    reasoning_details=parts,
    tool_calls=fragments,
    refusal=texts,
    function_call=functions,
)
choices = objects(index=st.integers(0, 1), delta=deltas, message=deltas, finish_reason=words)
counts = st.integers(-1, 5)
usages = objects(prompt_tokens=counts, completion_tokens=counts, prompt_tokens_details=objects(cached_tokens=counts))
chunks = objects(["choices"], choices=st.lists(choices, max_size=2), id=texts, usage=usages, timings=usages) | objects(
    error=st.none() | objects(message=texts | words, code=st.integers(399, 504) | words, type=words)
)


def encoded(value, compact):
    """JSON with escapes, or as UTF-8: a lone surrogate then gives bytes that are none."""
    if compact:
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogatepass")
    return json.dumps(value).encode()


FRAMINGS = st.sampled_from(
    [PLAIN] * 8
    + [
        b"data:%b\n\n",
        b"data: %b\r\n\r\n",
        b"data: %b\r\r",
        b"data: %b\n\n\n",
        b"\n\ndata: %b\n\n",
        b":\n\ndata: %b\n\n",
    ]
    + [
        b": c\ndata: %b\n\n",
        b"event: message\ndata: %b\n\n",
        b"id: 1\nretry: 5\ndata: %b\n\n",
        b"data: %b \n\n",
        b"%b\n\n",
    ]
    + [b"data: %b\n", b"data\ndata: %b\n\n", b"data: 1\rdata: %b\n\n", b"\xef\xbb\xbfdata: %b\n\n"]
)
NAMED = PLAIN % b'{"id":"c","choices":[]}'  # behind it the id is known, and chunks can be plain
beginnings = st.sampled_from([b"", b"\xef\xbb\xbf", NAMED, NAMED, NAMED])
endings = st.sampled_from([DONE, DONE + sse(chunk(content="late")), b"data: DONE\n\n", b"data: [DONE]", b""])


@st.composite
def streams(draw, payloads):
    """A body: payloads, framed one way or another, with or without its end."""
    framed = [draw(FRAMINGS) % payload for payload in draw(st.lists(payloads, max_size=6))]
    return draw(beginnings) + b"".join(framed) + draw(endings)


BEFORE = ['{"choices":[{"delta":{"%s":"', '{"x":{"%s":"decoy"},"choices":[{"delta":{"%s": "']
AFTER = [
    *('"}}]}', TAIL, '","content":""}}]}', '"}}],"x":{"content":"decoy"}}', '"}}],"n":1e999}'),
    # More than a text, so that it is not plain.
    *(
        '"},"finish_reason":"stop"}]}',
        '"}},{"delta":{"content":"c"}}]}',
        '","reasoning":"r"}}]}',
        '"}}],"usage":{"n":1}}',
    ),
]


@st.composite
def repetitive_streams(draw):
    """A body as servers write it, the same bytes around each text; a stranger may come between, or the bytes change."""
    ascii_only = draw(st.booleans())
    text = texts.map(lambda one: json.dumps(one, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")[1:-1])
    broken = st.sampled_from([b'"', b"\\", b"\n", b" ", b"a", b"\xff", b"\xc3", TAIL.encode()])
    hole = text | text | text | st.lists(broken, max_size=4).map(b"".join)
    body = draw(beginnings)
    for _ in range(draw(st.integers(1, 3))):
        name = draw(st.sampled_from(["content", "reasoning", "reasoning_content"]))
        head, tail = draw(st.sampled_from(BEFORE)).replace("%s", name).encode(), draw(st.sampled_from(AFTER)).encode()
        for _ in range(draw(st.integers(0, 5))):
            body += draw(FRAMINGS) % (head + draw(hole) + tail)
        if draw(st.booleans()):
            body += PLAIN % encoded(draw(chunks), ascii_only)
    return body + draw(endings)


@modest
@given(body=st.binary(max_size=200), places=places)
def test_any_bytes_give_events_or_a_typed_error(body, places):
    check(body, places)


@modest
@given(body=streams(st.builds(encoded, json_values, st.booleans())), places=places, dialect=dialects)
def test_any_json_gives_events_or_a_typed_error(body, places, dialect):
    check(body, places, dialect)


@modest
@given(body=streams(st.builds(encoded, chunks, st.booleans())), places=places, dialect=dialects, options=options)
def test_chunks_with_anything_in_their_fields_give_events_or_a_typed_error(body, places, dialect, options):
    check(body, places, dialect, **options)


@modest
@given(body=repetitive_streams(), places=places, dialect=dialects)
def test_the_shortcut_for_plain_chunks_changes_nothing(body, places, dialect):
    check(body, places, dialect, max_output_tokens_set=True)


@pytest.mark.parametrize("after", AFTER)
@pytest.mark.parametrize("before", BEFORE)
def test_a_chunk_is_plain_only_where_a_text_is_all_there_is(before, after):
    said = [PLAIN % (before.replace("%s", "content") + text + after).encode() for text in ("a", "b", "", "c")]
    counted = sse({"choices": [], "usage": {"prompt_tokens": 5}})
    check(NAMED + b"".join([*said, counted, *said]) + DONE)


def test_an_event_behind_an_open_line_is_no_event_of_its_own():
    event = sse(chunk(content="a"))
    for pieces in ([event, event, b"data: 1\n", event, event], [event, event, b"data: ", event, event]):
        assert decode(pieces) == decode([b"".join(pieces)])


@modest
@given(
    body=st.one_of(repetitive_streams(), streams(st.builds(encoded, chunks, st.booleans()))),
    places=places,
    max_event_size=st.integers(3, 120),
)
def test_an_event_is_too_large_wherever_it_is_cut(body, places, max_event_size):
    check(body, places, max_event_size=max_event_size)


@modest
@given(
    texts=st.lists(texts.map(lambda text: text.encode(errors="replace").decode()), max_size=8), compact=st.booleans()
)
def test_every_text_comes_out_as_it_went_in(texts, compact):
    body = NAMED + b"".join(PLAIN % encoded(chunk(content=text), compact) for text in texts) + DONE
    outcome = check(body)
    assert outcome.said is not None
    assert outcome.said["text"] == "".join(texts)


@modest
@given(recording=st.sampled_from(STREAMS).filter(lambda one: len(one.body) < 20_000), places=places, dialect=dialects)
def test_a_recording_may_be_cut_anywhere(recording, places, dialect):
    settings = {"max_output_tokens_set": recording.max_output_tokens_set}
    whole = decode([recording.body], dialect, **settings)
    assert decode(cut(recording.body, places), dialect, **settings) == whole


@pytest.mark.parametrize("dialect", DIALECTS.values(), ids=DIALECTS)
@pytest.mark.parametrize("recording", STREAMS, ids=lambda recording: recording.name)
def test_a_recording_gives_the_same_byte_by_byte_and_without_any_shortcut(recording, dialect):
    check(recording.body, (), dialect, max_output_tokens_set=recording.max_output_tokens_set)


def test_an_error_comes_behind_the_events_that_came_before_it():
    body = sse(chunk(content="a"), {"error": {"message": "boom", "code": 500}}, chunk(content="b")) + DONE
    events, error = check(body, (10,))
    assert [type(event).__name__ for event in events] == ["OutputItemAdded", "OutputTextDelta"]
    assert error == "RetryableError: the server failed in mid-stream: boom"


@pytest.mark.parametrize(
    ("before", "opening", "after"),
    [
        ('{"error":', '{"error":', "}"),
        ('{"error":{"message":', "[", "}}"),
        ('{"choices":[{"delta":{"content":"x"},"index":', "[", "}]}"),
        ('{"choices":[{"delta":{"tool_calls":[{"function":{"name":"f","arguments":', "[", "}}]}}]}"),
    ],
    ids=["error in error", "message", "index", "arguments"],
)
def test_no_depth_of_nesting_is_a_way_out(before, opening, after):
    closing = {"[": "]", "{": "}"}[opening[0]]
    for depth in (*range(300, 850, 50), *range(850, 1000), 5000):
        decode([sse((before + opening * depth + "0" + closing * depth + after).encode())])


@pytest.mark.parametrize("number", ["9" * 5000, "1e999", "-1e999"])
def test_a_number_beyond_all_bounds_is_no_way_out(number):
    skipped = events_of(b'{"choices":[{"delta":{"content":"x"},"index":%b}]}' % number.encode())
    assert skipped == [Completed()]
    unread = events_of(b'{"choices":[{"delta":{"content":"x"}}],"created":%b}' % number.encode())
    assert unread == [*message("x"), Completed()]


def test_the_fuzzer_finds_nothing_in_its_first_inputs():
    for data in islice(mutants(corpus(), random.Random(0)), 50):
        try_input(data)
