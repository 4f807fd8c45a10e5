"""Learnt frames: what is learnt, and that nothing is ever read by one that it would not say in full."""

import pytest

from turnwire.wire.chat.chunk import chunk_decoder
from turnwire.wire.chat.frame import TextFrame, learn_frame

HEAD, TAIL = b'data: {"id":"c","choices":[{"delta":{"content":"', b'"}}]}\n\n'
FRAME = TextFrame("content", HEAD, TAIL, TAIL + HEAD)


def learn(payload, name="content"):
    return learn_frame(payload, chunk_decoder.decode(payload), name)


def framed(*texts):
    return b"".join(HEAD + text + TAIL for text in texts)


def test_a_frame_is_all_but_the_text():
    assert learn(b'{"id":"c","choices":[{"delta":{"content":"a\\"b"}}]}') == FRAME


@pytest.mark.parametrize(
    ("payload", "head"),
    [
        pytest.param(
            b'{"x":{"content":"decoy"},"choices":[{"delta":{"content":"a"}}]}',
            b'data: {"x":{"content":"decoy"},"choices":[{"delta":{"content":"',
            id="a decoy in front",
        ),
        pytest.param(
            b'{"choices":[{"delta":{"content":"a","content":"b"}}]}',
            b'data: {"choices":[{"delta":{"content":"a","content":"',
            id="a name that stands twice: the last counts",
        ),
        pytest.param(
            b'{"choices":[{"message":{"content":"a"},"delta":{"content" : "a"}}]}',
            b'data: {"choices":[{"message":{"content":"a"},"delta":{"content" : "',
            id="the same text elsewhere",
        ),
    ],
)
def test_the_text_is_found_behind_what_looks_like_it(payload, head):
    frame = learn(payload)
    assert frame is not None
    assert frame.head == head


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(b'{"x":{"content":"a"},"choices":[{"delta":{"content":"\\u0002probe"}}]}', id="the probe itself"),
        pytest.param(b'{"choices":[{"delta":{"cont\\u0065nt":"a"}}]}', id="an escaped name"),
    ],
)
def test_no_frame_is_learnt_where_the_place_is_not_plain(payload):
    assert learn(payload) is None


@pytest.mark.parametrize(
    ("data", "text"),
    [
        pytest.param(framed(b"a"), "a", id="one"),
        pytest.param(framed(b'\\"\\u00fc\\\\'), '"ü\\', id="escapes"),
        pytest.param(framed(b""), "", id="nothing"),
        pytest.param(framed(b"a", b"b"), None, id="two are not one"),
        pytest.param(framed(b'a","x":"b'), None, id="another field"),
        pytest.param(framed(b"\\"), None, id="an escaped closing quote"),
        pytest.param(framed(b"a\nb"), None, id="a raw line break"),
        pytest.param(framed(b"\xff"), None, id="bytes that are not UTF-8"),
        pytest.param(framed(b"\\ud83d"), None, id="half a surrogate pair"),
        pytest.param(HEAD[:-1] + TAIL, None, id="one quote for both"),
        pytest.param(framed(b"a") + b"\n", None, id="a line more"),
    ],
)
def test_a_text_is_read_only_from_one_whole_event(data, text):
    assert FRAME.text(data) == text


@pytest.mark.parametrize(
    ("block", "read"),
    [
        pytest.param(framed(b"a", b"\\\\", b'\\"'), (["a", "\\", '"'], b""), id="several"),
        pytest.param(framed(b"a") + HEAD + b"b", (["a"], HEAD + b"b"), id="one cut in its text"),
        pytest.param(framed(b"a") + b"dat", (["a"], b"dat"), id="one cut in its head"),
        pytest.param(framed(b"a", b"b")[:-1], (["a"], framed(b"b")[:-1]), id="one cut in its tail"),
        pytest.param(framed(b"a") + b": c\n\n" + framed(b"b"), (["a"], b": c\n\n" + framed(b"b")), id="a comment"),
        pytest.param(framed(b"a", b'b","x":"y'), (["a"], framed(b'b","x":"y')), id="another field"),
        pytest.param(framed(b"a") + b"\n" + framed(b"b"), (["a"], b"\n" + framed(b"b")), id="an empty line more"),
        pytest.param(framed(TAIL[1:-2].replace(b'"', b'\\"')), (["}}]}"], b""), id="a text like the tail"),
        pytest.param(framed(b"a", b"b\nc"), None, id="a raw line break, and nothing is taken"),
        pytest.param(framed(b"a", b"\\"), None, id="an escaped closing quote, and nothing is taken"),
        pytest.param(framed(b"\\", b'"'), None, id="strings that would close each other"),
        pytest.param(framed(b'a","x":"y'), None, id="a stranger at once"),
        pytest.param(HEAD, None, id="no text yet"),
    ],
)
def test_texts_are_read_up_to_the_first_stranger(block, read):
    assert FRAME.texts(block) == read
