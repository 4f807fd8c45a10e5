"""The events of a stream one by one, as the very bytes that came: what is relayed is not to be written anew."""

from __future__ import annotations

import re
from itertools import pairwise

from turnwire.errors import ProtocolError
from turnwire.wire.sse import MAX_EVENT_SIZE, SseDecoder

__all__ = ["WholeEvents"]

_BLANK_LINE = re.compile(rb"(?>\r\n|\r|\n){2}")  # atomic: a CR and its LF are one end of a line, not two


class WholeEvents:
    """Takes the bytes of a stream of server-sent events in any pieces; gives them back unchanged, cut between events.

    A part may hold no event at all, but a comment.
    """

    def __init__(self) -> None:
        self._sse = SseDecoder()

    def take(self, data: bytes) -> list[bytes]:
        """The events that are whole now; the rest is kept, for `ProtocolError` if it takes more than 16 MiB."""
        block = data if self._sse.fresh else self._sse.take(data) or b""
        if 13 in block:
            places = [0, *(found.end() for found in _BLANK_LINE.finditer(block))]
            events = [block[start:end] for start, end in pairwise(places)]
            rest = block[places[-1] :]
        else:
            *bodies, rest = block.split(b"\n\n")
            events = [body + b"\n\n" for body in bodies]
        if len(rest) > MAX_EVENT_SIZE:
            raise ProtocolError(f"an event of the upstream's stream takes more than {MAX_EVENT_SIZE} bytes")
        if rest:
            self._sse.keep(rest)
        return events
