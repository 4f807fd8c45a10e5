"""What a relay is given: upstreams to ask, one after the other, and how long to wait for whom."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from msgspec import Struct

from turnwire.gateway.exchange.exchange import Exchange
from turnwire.gateway.pool import Lease
from turnwire.gateway.upstream import Upstream

__all__ = ["Attempt", "Patience", "Route", "StandIn"]


class Patience(Struct, frozen=True):
    """How long is waited for what, in seconds."""

    keepalive_interval: float = 15.0
    """Silence after which a client gets a sign of life."""
    client_timeout: float = 60.0
    """How long a client may leave what was written to it unread."""


class Attempt(Struct, frozen=True, eq=False):
    """One upstream, asked for an answer."""

    exchange: Exchange
    lease: Lease
    token: str | None = None
    """The upstream's own turn state."""
    headers: Mapping[str, str] = {}
    """What the client is to be told of this attempt."""

    @property
    def upstream(self) -> Upstream:
        """The upstream."""
        return self.lease.served.upstream


class StandIn(Struct, frozen=True, eq=False):
    """What a stream begins with before any upstream was asked; an `Attempt` goes on from there."""

    exchange: Exchange
    headers: Mapping[str, str] = {}
    """What the client is to be told of it."""


class Route(Protocol):
    """Where a request may go: one upstream after the other, each once."""

    async def next(self, position: Callable[[], int]) -> Attempt:
        """The next attempt, once an upstream has room for it; raises the `ApiError` that says why there is none.

        ``position`` tells how many events the client was given by then.
        """

    def stand_in(self) -> StandIn:
        """Who speaks to the client as long as no upstream has room; raises as `next` does."""

    def has_other(self) -> bool:
        """Whether `next` would give one that is well."""

    def token(self, lease: Lease | None, upstream_token: str | None) -> str | None:
        """A token for the turn, given the upstream's own where it has one; None where the client has a token.

        Without a lease the conversation's key alone says where the turn belongs.
        """
