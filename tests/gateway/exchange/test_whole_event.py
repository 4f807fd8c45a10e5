"""A relayed stream, cut between its events and nowhere else."""

import pytest

from tests.decoding import one_by_one
from turnwire.errors import ProtocolError
from turnwire.gateway.exchange.whole_event import WholeEvents
from turnwire.wire.sse import MAX_EVENT_SIZE, SseDecoder

EVENTS = [
    b'event: first\ndata: {"a":\ndata: 1}\n\n',
    b": note\n\n",
    b"id: 7\ndata: two\n\n",
]


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"], ids=["LF", "CRLF", "CR"])
def test_events_are_whole_whatever_ends_their_lines(line_end):
    events = [event.replace(b"\n", line_end) for event in EVENTS]
    assert WholeEvents().take(b"".join(events)) == events


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"], ids=["LF", "CRLF", "CR"])
def test_nothing_is_lost_wherever_a_stream_is_cut(line_end):
    body = b"".join(EVENTS).replace(b"\n", line_end)
    whole = list(SseDecoder().feed(body))
    cuts = [[body[:place], body[place:]] for place in range(len(body) + 1)]
    for pieces in (*cuts, one_by_one(body)):
        events = WholeEvents()
        taken = [event for piece in pieces for event in events.take(piece)]
        assert b"".join(taken) in (body, body.removesuffix(b"\n"))  # behind a CR the last LF means nothing
        assert [told for event in taken for told in SseDecoder().feed(event)] == whole


def test_an_event_has_a_bound():
    events = WholeEvents()
    with pytest.raises(ProtocolError, match=f"takes more than {MAX_EVENT_SIZE} bytes"):
        [events.take(b"data: " + bytes(MAX_EVENT_SIZE // 2)) for _ in range(3)]
