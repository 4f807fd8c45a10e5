"""What a Responses client makes of an exchange: the requests that it sends, and the events that it is given."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

from tests.wire.responses.reading import payloads_of
from tests.wire.responses.writing import validate_events
from turnwire.gateway.exchange.exchange import Exchange
from turnwire.wire.responses.received import ReceivedRequest, decode_response_request

ID = "resp_7"


def received(**fields: Any) -> ReceivedRequest:
    return decode_response_request({"model": "public", "input": "hi", "stream": True, **fields})


def told(exchange: Exchange, pieces: Iterable[bytes], metadata: dict[str, str] | None = None) -> list[bytes]:
    """All that a client gets, as the relay has it: pieces until it is over, else the end of the body."""
    written = exchange.start(metadata or {})
    for piece in pieces:
        if not exchange.over:
            written += exchange.feed(piece)
    if not exchange.over:
        written += exchange.feed_eof()
    assert exchange.over
    assert [*exchange.feed(b'data: {"choices":[]}\n\n'), *exchange.feed_eof(), *exchange.keepalive()] == []
    assert (exchange.outcome is None) == (exchange.error is not None)
    return written


def frames_of(written: Sequence[bytes]) -> list[Any]:
    """WebSocket messages, as JSON values."""
    return [json.loads(message) for message in written]


def kinds_of(payloads: Iterable[Any]) -> list[str]:
    return [payload["type"].removeprefix("response.") for payload in payloads]


def checked(written: Sequence[bytes]) -> list[Any]:
    """The events of a stream, which are those of the specification, numbered one by one, with the terminal one last."""
    payloads = payloads_of(written)
    validate_events(payloads)
    numbers = [payload["sequence_number"] for payload in payloads if "sequence_number" in payload]
    assert numbers == list(range(len(numbers)))
    terminal = [kind in ("completed", "incomplete", "failed") for kind in kinds_of(payloads)]
    assert terminal == [False] * (len(terminal) - 1) + [True]
    return payloads
