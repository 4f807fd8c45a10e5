from __future__ import annotations

import pytest

from turnwire.errors import ProtocolError
from turnwire.gateway.event_log import EventLog
from turnwire.wire.sse import MAX_EVENT_SIZE

CREATED = b'event: response.created\ndata: {"type":"response.created","sequence_number":0,"response":{"id":"r"}}\n\n'
METADATA = b'event: response.metadata\ndata: {"type":"response.metadata","headers":{}}\n\n'
DELTA = b'data: {"type":"response.output_text.delta","sequence_number":1,"delta":"a"}\n\n'
DONE = (
    b'event: response.completed\ndata: {"type":"response.completed","sequence_number":2,'
    b'"response":{"id":"r","status":"completed"}}\n\n'
)
STREAM = [CREATED, METADATA, DELTA, DONE]


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_events_are_kept_however_their_bytes_were_cut(size: int) -> None:
    log, stream = EventLog(), b"".join(STREAM)
    for place in range(0, len(stream), size):
        log.feed(stream[place : place + size])
    assert log.events == STREAM
    assert log.size == len(stream)
    assert log.next_number == 3
    assert log.response == b'{"id":"r","status":"completed"}'
    assert log.over
    assert repr(log) == f"<EventLog of 4 events, {len(stream)} bytes, over>"


@pytest.mark.parametrize(("number", "place"), [(None, 0), (0, 2), (1, 3), (2, 4), (9, 4)])
def test_an_event_without_a_number_belongs_to_the_one_before_it(number: int | None, place: int) -> None:
    log = EventLog()
    log.feed(b"".join(STREAM))
    assert log.place_behind(number) == place


def test_what_comes_behind_the_end_is_left_out() -> None:
    log = EventLog()
    log.feed(DONE + DELTA)
    log.feed(DELTA)
    assert log.events == [DONE]


def test_what_is_no_event_is_left_out() -> None:
    log = EventLog()
    log.feed(b"data: [DONE]\n\n: comment\n\ndata: {\n\n" + DELTA)
    assert log.events == [DELTA]


def test_an_event_of_ones_own_has_the_next_number() -> None:
    log = EventLog()
    log.feed(CREATED + DELTA)
    log.append("response.failed", {"id": "r", "status": "failed"})
    assert log.events[-1] == (
        b'event: response.failed\ndata: {"type":"response.failed","sequence_number":2,'
        b'"response":{"id":"r","status":"failed"}}\n\n'
    )
    assert log.over


def test_an_event_without_end_is_an_error() -> None:
    with pytest.raises(ProtocolError, match="an event takes more than"):
        EventLog().feed(b"data: " + b"x" * (MAX_EVENT_SIZE + 1))
