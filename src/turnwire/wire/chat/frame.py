"""The frame of a stream's text chunks: what stays the same from one to the next, learnt from the first.

Nearly every server writes the same bytes around each piece of text: id, model, creation time. Once one such chunk
has been decoded in full, the bytes up to its text's opening quote and those after its closing quote are known to
mean "this text and nothing else". Another event between the same bytes is the same JSON document but for that one
string, so only the string needs decoding, and a read that holds many such events costs one search for a quote each.

This is exact, not a guess: a JSON string holds no raw line break and no bare quote, so one that decodes ends where the
frame says; whatever string stands there, what is around it says the same; and the place is proven once, by putting
another string there and decoding the whole.
"""

from __future__ import annotations

import re
from typing import Literal, TypeAlias

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from turnwire.wire.chat.chunk import Chunk, chunk_decoder

__all__ = ["TextFrame", "TextName", "learn_frame"]

TextName: TypeAlias = Literal["content", "reasoning", "reasoning_content"]

_TEXT = re.compile(rb'"(?:content|reasoning|reasoning_content)"\s*:\s*("(?:[^"\\]|\\.)*")')
_QUOTE = b'"'
_BACKSLASH = 0x5C
_PROBE = "\x02probe"
_string = msgspec.json.Decoder(str).decode
_strings = msgspec.json.Decoder(str).decode_lines


class TextFrame(Struct, frozen=True, gc=False):
    """The bytes around a text: ``head`` through its opening quote, ``tail`` from its closing quote on."""

    name: TextName
    head: bytes
    tail: bytes
    between: bytes

    def text(self, data: bytes) -> str | None:
        """The text of the one framed event that ``data`` is, or None."""
        head, tail = self.head, self.tail
        if data.startswith(head) and data.endswith(tail):
            try:
                return _string(data[len(head) - 1 : 1 - len(tail)])
            except (msgspec.DecodeError, UnicodeDecodeError):
                pass
        return None

    def texts(self, block: bytes) -> tuple[list[str], bytes] | None:
        """The texts of the framed events that ``block`` begins with, and what is behind the last of them.

        None where it does not begin with one. Most of the work is one search for a quote per event.
        """
        if not block.startswith(self.head):
            return None
        find, starts = block.find, block.startswith
        head, between, tail = self.head, self.between, self.tail
        strings = []
        event = 0  # where the event begins, and its text's quotes
        opening = len(head) - 1
        closing = find(_QUOTE, opening + 1)
        while closing > 0:
            if starts(between, closing):
                strings.append(block[opening : closing + 1])
                event = closing + len(tail)
                opening = closing + len(between) - 1
                closing = find(_QUOTE, opening + 1)
            elif starts(tail, closing):
                strings.append(block[opening : closing + 1])
                event = closing + len(tail)
                break
            elif block[closing - 1] == _BACKSLASH:
                closing = find(_QUOTE, closing + 1)
            else:
                break
        try:
            texts = _strings(b"\n".join(strings))
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None
        # Each of the strings began with a quote, so it is one at least; as many as there were means one each.
        return (texts, block[event:]) if texts and len(texts) == len(strings) else None


def learn_frame(payload: bytes, chunk: Chunk, name: TextName) -> TextFrame | None:
    """The frame of a chunk that brought the text ``name`` and nothing else, or None where its place is not plain."""
    for match in _TEXT.finditer(payload):
        start, end = match.span(1)
        if _is_text(payload[:start], payload[end:], chunk, name):
            head = b"data: " + payload[: start + 1]
            tail = payload[end - 1 :] + b"\n\n"
            return TextFrame(name, head, tail, tail + head)
    return None


def _is_text(before: bytes, after: bytes, chunk: Chunk, name: TextName) -> bool:
    """Whether a string between these bytes is the chunk's text, and all else stays as it was."""
    assert chunk.choices  # noqa: S101 - the caller saw the text in there
    choice = chunk.choices[0]
    assert choice.delta is not None  # noqa: S101 - as above
    expected = replace(chunk, choices=[replace(choice, delta=replace(choice.delta, **{name: _PROBE}))])
    try:
        # A chunk that says the probe itself proves nothing about a place.
        return chunk_decoder.decode(before + msgspec.json.encode(_PROBE) + after) == expected != chunk
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
