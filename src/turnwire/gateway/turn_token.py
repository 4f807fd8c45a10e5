"""The routing token that the gateway hands out with a turn's first answer and gets back with all its later requests.

It says all that any process of any gateway machine needs to know, so nothing is kept anywhere. It is signed, not
sealed: a client may look at it, and can't make or change one. As long as a client keeps it, its age counts.

A token is ``PAYLOAD.TIME.SIGNATURE``, each base64 without padding: a version byte and the ticket in MessagePack; the
seconds since 1970; and HMAC-SHA-256 under a key made of a secret and the tenant. Without an upstream's own token in it
that is about 100 characters.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias

import msgspec
from itsdangerous import BadData, TimestampSigner
from itsdangerous.encoding import base64_decode, base64_encode
from msgspec import Struct
from msgspec.structs import replace

from turnwire.errors import ConfigurationError
from turnwire.gateway.forwarding import can_travel

__all__ = ["TokenFault", "TurnTicket", "TurnTokens"]

_log = logging.getLogger("turnwire.gateway")

TokenFault: TypeAlias = Literal["malformed", "forged", "expired"]
"""Why a token counts as none. One of another gateway, tenant or retired secret can't be told from a forged one."""

_VERSION = b"\x01"
_PARTS = 3
_MAX_SIZE = 2047
"""Characters. Codex's metadata on a WebSocket may lose values over 2,048."""
_SALT = b"turnwire turn token of "


class TurnTicket(Struct, frozen=True, array_like=True):
    """What a turn's token says; ``repr`` does not show the upstream's own."""

    turn: str
    """A random name for the turn."""
    upstream: str
    """The name of the upstream that its first request went to; empty for one that was issued before any."""
    upstream_token: str | None = None
    """That upstream's own turn state, where it gave one."""
    key: bytes = b""
    """The key of the turn's conversation: where that upstream is gone, it says which one replaces it."""

    def __repr__(self) -> str:
        return f"<TurnTicket of {self.turn} at {self.upstream}>"


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(TurnTicket).decode


class TurnTokens:
    """Makes and reads turn tokens.

    The first of ``secrets`` signs and all of them are tried. Where several processes can't change at the same moment, a
    new one is first put behind the old one everywhere, then in front of it, and the old one is taken away once
    ``max_age`` seconds have passed. ``clock`` gives the seconds since 1970.
    """

    def __init__(
        self, secrets: Sequence[str | bytes], *, max_age: float, clock: Callable[[], float] = time.time
    ) -> None:
        if not secrets:
            raise ConfigurationError("turn tokens need a secret to be signed with")
        # To itsdangerous the newest secret is the last one.
        self._secrets = [secret.encode() if isinstance(secret, str) else secret for secret in reversed(secrets)]
        self._max_age = max_age
        self._clock = clock

    def issue(self, ticket: TurnTicket, tenant: str) -> str:
        """A new token in visible ASCII, of at most 2,047 characters.

        An upstream's own token that does not fit in (over 1,400 characters it may not) is left out, and so is one that
        could not be sent back.
        """
        given = ticket.upstream_token
        if given is not None:
            if can_travel(given):
                token = self._sign(ticket, tenant)
                if len(token) <= _MAX_SIZE:
                    return token
            _log.warning("the turn token of upstream %s can't be carried: %d characters", ticket.upstream, len(given))
            ticket = replace(ticket, upstream_token=None)
        return self._sign(ticket, tenant)

    def read(self, token: str, tenant: str) -> TurnTicket | TokenFault:
        """The ticket of a token that was issued to this tenant, or why it counts as none; never raises."""
        if not (len(token) <= _MAX_SIZE and token.isascii() and token.count(".") == _PARTS - 1):
            return "malformed"
        try:
            payload, issued = self._signer(tenant).unsign(token, return_timestamp=True)
        except BadData:
            return "forged"
        # A token from the future is fine: the clock of the machine that made it goes before this one's.
        if self._clock() - issued.timestamp() > self._max_age:
            return "expired"
        try:
            data = base64_decode(payload)
            return _decode(data.removeprefix(_VERSION)) if data.startswith(_VERSION) else "malformed"
        except (BadData, msgspec.DecodeError):
            return "malformed"  # a later version's: its signature is sound

    def _sign(self, ticket: TurnTicket, tenant: str) -> str:
        return self._signer(tenant).sign(base64_encode(_VERSION + _encode(ticket))).decode()

    def _signer(self, tenant: str) -> _Signer:
        return _Signer(self._secrets, _SALT + tenant.encode(), self._clock)


class _Signer(TimestampSigner):
    """A signer with a clock of its own."""

    def __init__(self, secrets: list[bytes], salt: bytes, clock: Callable[[], float]) -> None:
        super().__init__(secrets, salt, key_derivation="hmac", digest_method=hashlib.sha256)
        self._clock = clock

    def get_timestamp(self) -> int:
        return int(self._clock())
