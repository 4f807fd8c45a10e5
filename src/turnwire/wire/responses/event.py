"""The part of a server's event that anybody reads, as a typed view: msgspec skips the rest without building it.

Leaves are ``Any``, for servers put all kinds of things there: what is in the wrong shape counts as absent.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

__all__ = ["ServerEvent", "decode_event", "named_payloads"]


class ServerEvent(Struct, gc=False):
    """One event of a Responses stream, over server-sent events and WebSocket alike."""

    type: Any = None
    delta: Any = None
    item_id: Any = None
    item: Any = None
    content_index: Any = None
    summary_index: Any = None
    response: Any = None
    error: Any = None
    code: Any = None
    message: Any = None
    status: Any = None
    headers: Any = None
    rate_limits: Any = None


_decode = msgspec.json.Decoder(ServerEvent).decode
_BLANK = b"\n\n"
_DATA = b"\ndata: "
_BETWEEN = b"\n\nevent: "


def decode_event(payload: str | bytes) -> ServerEvent | None:
    """The event that a JSON object stands for; None for anything else."""
    try:
        return _decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def named_payloads(block: bytes) -> tuple[list[bytes], bytes] | None:
    r"""The payloads of a block's whole events, and what is behind the last of them.

    None where an event is not in the form that servers write, one line ``event: …`` and one line ``data: …``.

    >>> named_payloads(b'event: a\ndata: {}\n\nevent: b')
    ([b'{}'], b'event: b')
    """
    if 13 in block or not block.startswith(b"event: "):
        return None
    if block.endswith(_BLANK):
        # One event is what most reads bring.
        place = block.find(_DATA)
        payload = block[place + len(_DATA) : -2]
        if place > 0 and 10 not in payload and 10 not in block[:place]:
            return [payload], b""
    end = block.rfind(_BLANK)
    if end < 0:
        return [], block
    body, rest = block[:end], block[end + 2 :]
    events = body.split(_BETWEEN)
    if body.count(b"\n") != 3 * len(events) - 2:
        return None
    try:
        # Besides those between them, there is one line break for each event, and each must have one before its data.
        return [event[event.index(_DATA) + len(_DATA) :] for event in events], rest
    except ValueError:
        return None
