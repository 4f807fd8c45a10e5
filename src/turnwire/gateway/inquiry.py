"""What a request brings besides its body: who asks, and under which turn."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from os import urandom

from msgspec import Struct

from turnwire.client.turn_state import TURN_STATE_HEADER
from turnwire.gateway.caller import Caller

__all__ = ["REQUEST_ID_HEADER", "Inquiry", "plain_headers"]

REQUEST_ID_HEADER = "x-request-id"


class Inquiry(Struct, frozen=True):
    """One request, without its body; ``repr`` shows neither headers nor token."""

    caller: Caller
    headers: Mapping[str, str]
    """Names in lower case; of a repeated one the last."""
    request_id: str
    """The gateway's own name for it, which the client is told."""
    token: str | None
    """The turn's token, where the client has one already."""

    def __repr__(self) -> str:
        return f"<Inquiry {self.request_id} of {self.caller.name}>"

    @classmethod
    def of(cls, caller: Caller, headers: Mapping[str, str], client_metadata: object = None) -> Inquiry:
        """The inquiry of a request; a WebSocket has the token in each frame's ``client_metadata``.

        That outranks the header, which a WebSocket has in its handshake. An empty token is none.
        """
        framed = client_metadata.get(TURN_STATE_HEADER) if isinstance(client_metadata, dict) else None
        token = framed if isinstance(framed, str) and framed else headers.get(TURN_STATE_HEADER)
        return cls(caller, headers, f"req_{urandom(12).hex()}", token or None)


def plain_headers(raw: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """ASGI's headers as text, names in lower case."""
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in raw}
