"""The ids of a conversation's calls, in a form that the server accepts."""

from __future__ import annotations

import hashlib
import re

from turnwire.wire.chat.dialect import CallIdStyle

__all__ = ["CallIds"]

_ACCEPTED: dict[CallIdStyle, re.Pattern[str]] = {
    "any": re.compile(r".+", re.DOTALL),
    "64": re.compile(r".{1,64}", re.DOTALL),
    "mistral": re.compile(r"[A-Za-z0-9]{9}"),
}
_DIGEST_LENGTH: dict[CallIdStyle, int] = {"any": 64, "64": 64, "mistral": 9}


class CallIds:
    """Calls of one conversation by two ids: the one they came with and the one they are sent under.

    What `to_wire` gives is unique within the conversation, even where a server counts its calls anew in every
    round (``call_0``) or gives no id at all. It depends on the earlier calls alone: as a conversation grows, its
    beginning stays the same to the byte, and so does what a prompt cache knows of it.
    """

    def __init__(self, style: CallIdStyle = "any") -> None:
        self._style = style
        self._uses: dict[str, int] = {}
        self._origins: dict[str, str] = {}

    def to_wire(self, call_id: str) -> str:
        """The id to send the conversation's next call under; asked again for the same id, it gives another."""
        base = call_id or "call"
        uses = self._uses.get(base, 0)
        while True:
            uses += 1
            wire_id = self._fitted(base if uses == 1 else f"{base}-{uses}")
            if wire_id not in self._origins:
                break
        self._uses[base] = uses
        self._origins[wire_id] = call_id
        return wire_id

    def from_wire(self, wire_id: str) -> str:
        """The id that the call came with; an id that was never sent is the server's own and stays as it is."""
        return self._origins.get(wire_id, wire_id)

    def _fitted(self, wire_id: str) -> str:
        if _ACCEPTED[self._style].fullmatch(wire_id):
            return wire_id
        digest = hashlib.sha256(wire_id.encode("utf-8", "surrogatepass")).hexdigest()
        return digest[: _DIGEST_LENGTH[self._style]]
