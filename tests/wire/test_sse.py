"""Server-sent events: the rules' own examples, cuts anywhere, bounds, and the fast path beside the slow one."""

import re
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turnwire.errors import ProtocolError
from turnwire.wire.sse import ServerSentEvent, SseDecoder, encode_comment, encode_event

BOM = b"\xef\xbb\xbf"
BLOCKS = [
    b"data: a\n",
    b"data",
    b":",
    b" ",
    b"data:",
    b"event: e\n",
    b"id: 1\n",
    b"\n",
    b"\r",
    b"\r\n",
    b"\n\n",
    BOM,
    b"x",
]
bodies = st.lists(st.sampled_from(BLOCKS) | st.binary(max_size=3), max_size=12).map(b"".join)


def read(*pieces, max_event_size=1000):
    """The events, and the error's sentence behind them where there is one."""
    decoder = SseDecoder(max_event_size)
    events = []
    try:
        for piece in pieces:
            events.extend(decoder.feed(piece))
    except ProtocolError as error:
        events.append(str(error))
    return events


def one_by_one(body):
    return [body[place : place + 1] for place in range(len(body))]


def naive(body):
    """The WHATWG rules over a whole body, as literally as can be."""
    lines = re.split(r"\r\n|\r|\n", body.removeprefix(BOM).decode("utf-8", "replace"))
    events, data, kind, last_id, retry = [], [], "", "", None
    for line in lines[:-1]:
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not line:
            if data:
                events.append(ServerSentEvent("\n".join(data), kind or "message", last_id, retry))
            data, kind, retry = [], "", None
        elif field == "data":
            data.append(value)
        elif field == "event":
            kind = value
        elif field == "id" and "\0" not in value:
            last_id = value
        elif field == "retry" and re.fullmatch("[0-9]+", value):
            retry = int(value)
    return events


@pytest.mark.parametrize(
    ("body", "events"),
    [
        pytest.param(
            b"data: YHOO\ndata: +2\ndata: 10\n\n", [ServerSentEvent("YHOO\n+2\n10")], id="data lines are joined"
        ),
        pytest.param(
            b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n",
            [ServerSentEvent("first event", id="1"), ServerSentEvent("second event"), ServerSentEvent(" third event")],
            id="an id stays until it is taken back; one space is dropped",
        ),
        pytest.param(b"data\n\ndata\ndata\n\ndata:", [ServerSentEvent(""), ServerSentEvent("\n")], id="no colon"),
        pytest.param(b"data:test\n\ndata: test\n\n", [ServerSentEvent("test")] * 2, id="with and without a space"),
        pytest.param(b"event: a\n\nevent: b\ndata: x\n\n", [ServerSentEvent("x", "b")], id="an event without data"),
        pytest.param(b"retry: 10\ndata: x\n\n", [ServerSentEvent("x", retry=10)], id="a retry in digits"),
        pytest.param(b"retry: 1s\ndata: x\n\n", [ServerSentEvent("x")], id="a retry that is no number"),
        pytest.param(b"id: 1\0\ndata: x\n\n", [ServerSentEvent("x")], id="an id with a NUL is ignored"),
        pytest.param(b"foo: bar\ndata: x\n\n", [ServerSentEvent("x")], id="an unknown field is ignored"),
        pytest.param(BOM + b"data: x\n\n", [ServerSentEvent("x")], id="a BOM is dropped"),
        pytest.param(BOM * 2 + b"data: x\n\n", [], id="a second BOM makes it another field"),
        pytest.param(b"data: x\n\n" + BOM + b"data: y\n\n", [ServerSentEvent("x")], id="a BOM later is none"),
        pytest.param(b"data: x\r\rdata: y\r\n\r\ndata: z\n\r", [ServerSentEvent(text) for text in "xyz"],
                     id="lines end at CR, CRLF and LF"),
        pytest.param("data: a\u2028b\u2029c\x85d\x0be\n\n".encode(), [ServerSentEvent("a\u2028b\u2029c\x85d\x0be")],
                     id="lines end nowhere else"),
        pytest.param(b"data: \xff\xc3\n\n", [ServerSentEvent("\ufffd\ufffd")], id="bytes that are not UTF-8"),
        pytest.param(b"data: x\n", [], id="an event that the end leaves open never happened"),
    ],
)  # fmt: skip
def test_events_follow_the_rules_whole_and_byte_by_byte(body, events):
    assert read(body) == events
    assert read(*one_by_one(body)) == events
    assert naive(body) == events


@settings(deadline=None)
@given(body=bodies, places=st.lists(st.integers(0, 60), max_size=6), max_event_size=st.sampled_from([3, 8, 1000]))
def test_events_do_not_depend_on_where_the_bytes_were_cut(body, places, max_event_size):
    ends = sorted({0, len(body), *(place for place in places if place < len(body))})
    pieces = [body[start:end] for start, end in pairwise(ends)]
    whole = read(body, max_event_size=max_event_size)
    assert read(*pieces, max_event_size=max_event_size) == whole
    assert read(*one_by_one(body), max_event_size=max_event_size) == whole
    if max_event_size == 1000:
        assert whole == naive(body)


TOO_LARGE = "an event takes more than max_event_size, 10 bytes"


@pytest.mark.parametrize(
    ("body", "events"),
    [
        pytest.param(b"data: 1234\n\n", [ServerSentEvent("1234")], id="just fits"),
        pytest.param(b"data: 12345\n\n", [TOO_LARGE], id="one byte over"),
        pytest.param(b"data: a\n\ndata: 12345", [ServerSentEvent("a"), TOO_LARGE], id="behind one that fits, and open"),
        pytest.param(BOM + b"data: 1234\n\n", [ServerSentEvent("1234")], id="a BOM is no part of it"),
        pytest.param(BOM + b"data: 12345", [TOO_LARGE], id="one byte over behind a BOM"),
        pytest.param(b"data: 12\ndata: 34\n\n", [TOO_LARGE], id="its lines count together"),
        pytest.param(b"data\n" * 11, [TOO_LARGE], id="endless empty lines"),
        pytest.param(b":12345678\n" * 3 + b"data: a\n\n", [ServerSentEvent("a")], id="comments don't add up"),
        pytest.param(b":1234567890", [TOO_LARGE], id="a comment has a bound of its own"),
        pytest.param(b"data: a\n\n" * 9, [ServerSentEvent("a")] * 9, id="many small ones fit"),
    ],
)
def test_an_event_has_a_bound_wherever_it_is_cut(body, events):
    assert read(body, max_event_size=10) == events
    assert read(*one_by_one(body), max_event_size=10) == events


def payloads_of(*pieces, max_event_size=1000):
    """What a reader of bare payloads gets, as the chat decoder reads: the fast path first, `feed` where it must."""
    decoder = SseDecoder(max_event_size)
    payloads, plain = [], 0
    for piece in pieces:
        block = decoder.take(piece)
        taken = decoder.plain_payloads(block) if block else None if block is None else []
        if taken is None:
            payloads += [event.data for event in decoder.feed(piece if block is None else block)]
        else:
            plain += len(taken)
            payloads += [payload.decode("utf-8", "replace") for payload in taken]
    return payloads, plain


@pytest.mark.parametrize(
    ("pieces", "payloads", "plain"),
    [
        pytest.param([b"data: a\n\ndata: b\n\n"], ["a", "b"], 2, id="plain events"),
        pytest.param([b"data: a\n\nda", b"ta: b\n", b"\n"], ["a", "b"], 2, id="one cut in its name and in its end"),
        pytest.param([b"data: a\n\ndata: b\n\ndata: c", b"\n\n"], ["a", "b", "c"], 3, id="an end that is open"),
        pytest.param([BOM + b"data: a\n\n", b"data: b\n\n"], ["a", "b"], 1, id="behind a BOM"),
        pytest.param([BOM, b"data: a\n\n"], ["a"], 0, id="a BOM by itself"),
        pytest.param([b":\n", b"data: a\n\n"], ["a"], 0, id="a comment line before the cut"),
        pytest.param([b": comm", b"ent\n\ndata: a\n\n", b"data: b\n\n"], ["a", "b"], 1, id="a cut in a comment"),
        pytest.param([b"data: a\r\n\r", b"\n", b"data: b\n\n"], ["a", "b"], 1, id="CR at the cut"),
        pytest.param(
            [b"data: a\r\n", b"data: b\n\n", b"data: c\n\n"], ["a\nb", "c"], 1, id="an event that feed has begun"
        ),
        pytest.param([b"data: a\n\n\n", b"\ndata: b\n\n"], ["a", "b"], 0, id="more empty lines than needed"),
        pytest.param([b"data: a\n\n", b"\ndata: b\n\ndata: c"], ["a", "b"], 1, id="an empty line at the cut"),
        pytest.param([b"data: a\ndata: b\n\ndata: c"], ["a\nb"], 0, id="two lines"),
        pytest.param([b"data: a\n\ndata:b\n\ndata: c\n\nda"], ["a", "b", "c"], 0, id="no space"),
        pytest.param([b"data: \n\ndata: \n\n"], ["", ""], 2, id="empty payloads"),
    ],
)
def test_plain_events_are_split_at_once_and_others_line_by_line(pieces, payloads, plain):
    assert payloads_of(*pieces) == (payloads, plain)


@settings(deadline=None)
@given(pieces=st.lists(bodies | st.just(b"data: b\n\ndata: c\n\n"), max_size=6))
def test_the_fast_path_gives_what_the_rules_say(pieces):
    expected = [event.data for event in naive(b"".join(pieces))]
    assert payloads_of(*pieces)[0] == expected
    assert payloads_of(*one_by_one(b"".join(pieces)))[0] == expected


def test_a_decoder_is_fresh_where_the_next_byte_begins_an_event():
    decoder = SseDecoder()
    states = []
    for piece in (b"", b"data: a\n", b"\n", b"data: a\n\n", b"event: e\n", b"\n", b"data: a\r\r", b"\n"):
        list(decoder.feed(piece))
        states.append(decoder.fresh)
    assert states == [True, False, True, True, False, True, False, True]


def test_its_repr_says_how_full_it_is():
    decoder = SseDecoder(100)
    decoder.feed(b"data: abc\ndata: d")
    assert repr(decoder) == "<SseDecoder holding 11 of at most 100 bytes>"


@pytest.mark.parametrize(
    ("encoded", "body"),
    [
        pytest.param(encode_event("hello"), b"data: hello\n\n", id="text"),
        pytest.param(encode_event(b"{}", event="e", id="7"), b"event: e\nid: 7\ndata: {}\n\n", id="all fields"),
        pytest.param(encode_event("a\r\nb\rc\nd"), b"data: a\ndata: b\ndata: c\ndata: d\n\n", id="lines"),
        pytest.param(encode_event(""), b"data: \n\n", id="nothing"),
        pytest.param(encode_comment(), b": \n\n", id="a bare comment"),
        pytest.param(encode_comment("a\nb"), b": a\n: b\n\n", id="a comment of two lines"),
    ],
)
def test_an_event_is_written_as_the_rules_say(encoded, body):
    assert encoded == body


@pytest.mark.parametrize("fields", [{"event": "a\nb"}, {"id": "a\rb"}, {"id": "a\0b"}])
def test_a_field_of_two_lines_is_refused(fields):
    with pytest.raises(ValueError, match="must be a single line"):
        encode_event("x", **fields)


@given(data=st.text(), event=st.none() | st.text().filter(str.isalnum))
def test_what_is_written_is_read_back(data, event):
    expected = "\n".join(re.split("\r\n|\r|\n", data))
    assert read(encode_comment(data), encode_event(data, event), max_event_size=10_000) == [
        ServerSentEvent(expected, event or "message")
    ]
