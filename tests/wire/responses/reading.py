"""Reading Responses streams in tests: bodies and frames to write, outcomes to compare."""

import json
from collections.abc import Iterable
from typing import Any

from msgspec import Struct

from tests.decoding import cut, one_by_one
from tests.recording import Recording
from turnwire.errors import ApiError
from turnwire.event import Completed, OutputItemDone
from turnwire.wire.responses import ResponsesDecoder
from turnwire.wire.sse import SseDecoder

FOLDER = "../recordings_responses"


class Outcome(Struct, frozen=True):
    """All that a decoder gave: its events, the error behind them, and what it says of itself afterwards."""

    events: list[Any]
    error: str | None
    said: dict[str, Any]


def outcome(decoder: ResponsesDecoder, *takes: Iterable[Any]) -> Outcome:
    """The outcome of what the decoder gave; anything but an `ApiError` passes through, for it is a bug."""
    events: list[Any] = []
    error = None
    try:
        for take in takes:
            events.extend(take)
    except ApiError as failure:
        error = f"{type(failure).__name__}: {failure}"
    assert decoder.over
    assert [*decoder.feed(sse({})), *decoder.feed_frame("{}"), *decoder.feed_eof()] == []
    completed = [place for place, event in enumerate(events) if isinstance(event, Completed)]
    assert completed == ([] if error else [len(events) - 1])
    assert decoder.items == tuple(event.item for event in events if isinstance(event, OutputItemDone))
    names = ("finish_reason", "items", "metadata", "response_id", "skipped", "text")
    return Outcome(events, error, {name: getattr(decoder, name) for name in names})


def decode(pieces: Iterable[bytes], **options: Any) -> Outcome:
    """The outcome of a body in pieces."""
    decoder = ResponsesDecoder(**options)
    return outcome(decoder, (event for piece in pieces for event in decoder.feed(piece)), _late(decoder.feed_eof))


def decode_frames(frames: Iterable[str | bytes], **options: Any) -> Outcome:
    """The outcome of WebSocket messages, and the end of the connection behind them."""
    decoder = ResponsesDecoder(**options)
    return outcome(decoder, (event for frame in frames for event in decoder.feed_frame(frame)), _late(decoder.feed_eof))


def decode_whole(body: bytes, **options: Any) -> Outcome:
    """The outcome of an answer that is no stream."""
    decoder = ResponsesDecoder(**options)
    return outcome(decoder, _late(lambda: decoder.feed_completion(body)))


def events_of(*payloads: Any, **options: Any) -> list[Any]:
    """The events of a stream that does not fail: the same over server-sent events and over WebSocket."""
    body = decode([sse(*payloads)], **options)
    assert body.error is None
    assert decode_frames([json.dumps(payload) for payload in payloads], **options) == body
    return body.events


def sse(*payloads: Any, named: bool = True) -> bytes:
    return b"".join(
        (f"event: {payload.get('type')}\n" if named else "").encode()
        + b"data: "
        + json.dumps(payload).encode()
        + b"\n\n"
        for payload in payloads
    )


def payloads_of(events: Iterable[bytes]) -> list[Any]:
    """What the encoder wrote, as the JSON values that a client reads."""
    return [json.loads(event.data) for event in SseDecoder().feed(b"".join(events))]


def check(body: bytes, places: Iterable[int] = (), **options: Any) -> Outcome:
    """Asserts that the outcome does not depend on where the body is cut, nor on the plain form's shortcut."""
    whole = decode([body], **options)
    for pieces in (cut(body, places), one_by_one(body), body.replace(b"\n\n", b"\n\n\0").split(b"\0")):
        assert decode(pieces, **options) == whole
    if "max_event_size" not in options:
        assert decode([_behind_comments(body)], **options) == whole
    return whole


def recording(name: str) -> Recording:
    """The recording ``<server>/<case>`` of an answer to ``/v1/responses``."""
    return Recording.load(f"{FOLDER}/{name}")


def _behind_comments(body: bytes) -> bytes:
    lines = ["".join(f"data: {line}\n" for line in event.data.split("\n")) for event in SseDecoder().feed(body)]
    return "".join(f":\n{line}\n" for line in lines).encode()


def _late(call: Any) -> Iterable[Any]:
    yield from call()
