"""Decoding for tests: bodies to write, outcomes to compare, and what must hold for any bytes whatever."""

import itertools
import json
from collections.abc import Iterable, Sequence
from typing import Any

from msgspec import Struct

from turnwire.errors import ApiError
from turnwire.event import Completed, OutputItemAdded, OutputItemDone, OutputTextDelta, ReasoningContentDelta
from turnwire.item import Message, OutputText, Reasoning, ReasoningText
from turnwire.wire.chat import ChatDecoder
from turnwire.wire.sse import SseDecoder

DONE = b"data: [DONE]\n\n"


class Outcome(Struct, frozen=True):
    """All that a decoder gave: its events, the error behind them, and what it says of itself afterwards."""

    events: list[Any]
    error: str | None = None
    said: dict[str, Any] | None = None

    def __iter__(self):
        return iter((self.events, self.error))


def decode(pieces: Iterable[bytes], *args: Any, **options: Any) -> Outcome:
    """The outcome of a body in pieces; anything but an `ApiError` passes through, for it is a bug."""
    decoder = ChatDecoder(*args, **options)
    events: list[Any] = []
    error = None
    try:
        for piece in pieces:
            events.extend(decoder.feed(piece))
        events.extend(decoder.feed_eof())
    except ApiError as failure:
        error = f"{type(failure).__name__}: {failure}"
    assert decoder.over
    assert [*decoder.feed(b"data: {}\n\n"), *decoder.feed(DONE), *decoder.feed_eof()] == []
    said = {
        name: getattr(decoder, name)
        for name in ("done_seen", "dropped_calls", "finish_reason", "items", "reasoning_name", "skipped", "text")
    }
    return Outcome(events, error, said)


def events_of(*payloads: Any, done: bool = True, **options: Any) -> list[Any]:
    """The events of a stream that does not fail; payloads are JSON values or bytes."""
    events, error = decode([sse(*payloads) + (DONE if done else b"")], **options)
    assert error is None
    return events


def sse(*payloads: Any) -> bytes:
    return b"".join(b"data: %b\n\n" % (one if isinstance(one, bytes) else json.dumps(one).encode()) for one in payloads)


def chunk(finish_reason: str | None = None, *, index: int = 0, **delta: Any) -> dict[str, Any]:
    return {"choices": [{"index": index, "delta": delta, "finish_reason": finish_reason}]}


def call(index: int | None = None, /, **fields: Any) -> dict[str, Any]:
    """A fragment of a call, as ``tool_calls`` of a delta holds it; name and arguments go where they belong."""
    function = {name: fields.pop(name) for name in ("name", "arguments") if name in fields}
    return ({} if index is None else {"index": index}) | fields | {"function": function}


def calls(*fragments: dict[str, Any], finish_reason: str | None = None) -> dict[str, Any]:
    return chunk(finish_reason, tool_calls=list(fragments))


def message(*texts: str) -> list[Any]:
    """The events of a message that was open from its first text to its end."""
    done = Message("assistant", [OutputText(text) for text in texts])
    return [OutputItemAdded(Message("assistant", ())), *map(OutputTextDelta, texts), OutputItemDone(done)]


def reasoning(*texts: str) -> list[Any]:
    done = Reasoning(content=[ReasoningText(text) for text in texts])
    deltas = [ReasoningContentDelta(text, index) for index, text in enumerate(texts)]
    return [OutputItemAdded(Reasoning(content=())), *deltas, OutputItemDone(done)]


def cut(body: bytes, places: Iterable[int]) -> list[bytes]:
    """The body in pieces; places beyond its end count from the start again."""
    ends = sorted({place % (len(body) + 1) for place in places} | {0, len(body)})
    return [body[start:end] for start, end in itertools.pairwise(ends)]


def one_by_one(body: bytes) -> Sequence[bytes]:
    return [body[place : place + 1] for place in range(len(body))]


def event_by_event(body: bytes) -> Sequence[bytes]:
    """As a server that flushes each event has it arrive: what the decoder is quickest at."""
    *events, rest = body.split(b"\n\n")
    return [*(event + b"\n\n" for event in events), rest]


def taken_apart(body: bytes) -> bytes:
    """The same events, each behind a comment: none is taken for plain, and every one is read line by line."""
    events = SseDecoder().feed(body)
    lines = ["".join(f"data: {line}\n" for line in event.data.split("\n")) for event in events]
    return "".join(f":\n{line}\n" for line in lines).encode()


def check(body: bytes, places: Iterable[int] = (), *args: Any, **options: Any) -> Outcome:
    """Asserts all that holds for any bytes, and gives the outcome of the whole body.

    The outcome does not depend on where the body is cut, nor on the shortcuts that plain events take. `Completed`
    comes once and last, or an error comes instead.
    """
    whole = decode([body], *args, **options)
    assert decode(cut(body, places), *args, **options) == whole
    assert decode(one_by_one(body), *args, **options) == whole
    assert decode(event_by_event(body), *args, **options) == whole
    if "max_event_size" not in options:
        assert decode([taken_apart(body)], *args, **options) == whole
    completed = [place for place, event in enumerate(whole.events) if isinstance(event, Completed)]
    assert completed == ([] if whole.error else [len(whole.events) - 1])
    items = tuple(event.item for event in whole.events if isinstance(event, OutputItemDone))
    assert whole.said is not None
    assert items == whole.said["items"]
    return whole
