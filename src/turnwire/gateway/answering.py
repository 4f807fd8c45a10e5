"""An answer from its request to its last event: routed, relayed under the turn's token, and told of."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from turnwire.errors import RateLimited
from turnwire.gateway.access_log import Fingerprints
from turnwire.gateway.account import Account, Accounts
from turnwire.gateway.attempt import Attempt, Patience, StandIn
from turnwire.gateway.catalog import Served
from turnwire.gateway.dropped import DROPPED_HEADER, dropped_header
from turnwire.gateway.exchange.exchange import Exchange, Outcome
from turnwire.gateway.forwarding import response_headers
from turnwire.gateway.inquiry import REQUEST_ID_HEADER, Inquiry
from turnwire.gateway.metrics import Metrics
from turnwire.gateway.pool import Lease, Pool
from turnwire.gateway.relay import Relay, RelayEnd
from turnwire.gateway.sink import Sink
from turnwire.gateway.turn import Turn, Turns

if TYPE_CHECKING:
    from turnwire.gateway.tracing import Tracing

__all__ = ["Answering", "MakeExchange"]

_RETRY_COUNT = "x-stainless-retry-count"
"""How often its client had sent a request before: what OpenAI's SDKs say, and nobody else."""

MakeExchange: TypeAlias = Callable[[Served, int], Exchange]
"""Makes the exchange for a model as one upstream serves it; the number is the `Exchange.position` that it begins at."""


class Answering:
    """What all answers share: the pool, the turns, what is told of them, and a bound for each caller.

    ``max_streams`` is how many answers a caller may have under way at once, and ``streams`` how many each has, by the
    caller's tenant; the rest is as for `Accounts`.
    """

    def __init__(
        self,
        pool: Pool,
        turns: Turns,
        metrics: Metrics,
        patience: Patience,
        *,
        max_streams: int | None = None,
        streams: Counter[str] | None = None,
        fingerprints: Fingerprints | None = None,
        tracing: Tracing | None = None,
    ) -> None:
        self.pool = pool
        self.turns = turns
        self.patience = patience
        self._accounts = Accounts(metrics, fingerprints=fingerprints, tracing=tracing)
        self._max_streams = max_streams
        self._open: Counter[str] = Counter() if streams is None else streams

    async def turn(self, inquiry: Inquiry, fields: Mapping[str, Any], model: str) -> Turn:
        """The turn of a request about a model; raises as `Catalog.find_all` does where nobody serves that."""
        await self.pool.require(model)
        return self.turns.of(inquiry, fields)

    async def run(
        self,
        make: MakeExchange,
        sink: Sink,
        inquiry: Inquiry,
        turn: Turn,
        *,
        api: str,
        model: str,
        streams: bool,
        keep: Callable[[Outcome], Awaitable[None]] | None = None,
    ) -> RelayEnd:
        """Carries one answer over, from whichever upstream gives it; ``keep`` is that of `Relay`."""
        if api != "websocket" and inquiry.headers.get(_RETRY_COUNT, "").lstrip("0").isdecimal():
            self._accounts.metrics.asked_again(api)  # a WebSocket's headers are its handshake's
        tenant = inquiry.caller.tenant
        under_way = self._open[tenant]
        if self._max_streams is not None and under_way >= self._max_streams:
            raise RateLimited(f"{self._max_streams} answers are under way already: wait for one to end", 1.0)
        account = self._accounts.open(inquiry, turn, sink, api=api, model=model, streams=streams)
        relay = Relay(
            _PoolRoute(self.pool, self.turns, make, model, inquiry, turn, account),
            account.sink,
            self.patience,
            streams=streams,
            headers={REQUEST_ID_HEADER: inquiry.request_id},
            forwarded=account.forwarded,
            returned=response_headers,
            keep=keep,
        )
        end: RelayEnd = "left"  # where the gateway ends first
        self._open[tenant] = under_way + 1
        try:
            end = await relay.run()
        finally:
            self._gives_back(tenant)
            account.over(end, relay.error, relay.first_output_after, signs=relay.signs)
            _learn(relay.attempt)
        return end

    def _gives_back(self, tenant: str) -> None:
        """Counts an answer of a caller no more."""
        self._open[tenant] -= 1
        if not self._open[tenant]:
            del self._open[tenant]


def _learn(attempt: Attempt | None) -> None:
    """Remembers what an upstream calls its reasoning, for requests to come."""
    if attempt is not None and attempt.exchange.reasoning_name is not None:
        attempt.upstream.reasoning_names[attempt.lease.served.model] = attempt.exchange.reasoning_name


class _PoolRoute:
    """A `turnwire.gateway.relay.Route` through the pool: each replica once."""

    def __init__(
        self,
        pool: Pool,
        turns: Turns,
        make: MakeExchange,
        model: str,
        inquiry: Inquiry,
        turn: Turn,
        account: Account,
    ) -> None:
        self._pool = pool
        self._turns = turns
        self._make = make
        self._model = model
        self._inquiry = inquiry
        self._turn = turn
        self._account = account

    async def next(self, position: Callable[[], int]) -> Attempt:
        """The next attempt, at a replica that was not tried; raises where there is none."""
        turn, account = self._turn, self._account
        account.looks_elsewhere()
        began = time.monotonic()
        lease = await self._pool.lease(self._model, turn.key, held_by=turn.held_by, tried=account.tried)
        try:
            exchange = self._make(lease.served, position())
        except BaseException:
            lease.end()
            raise
        account.asks(lease, exchange, waited=time.monotonic() - began)
        return Attempt(exchange, lease, turn.upstream_token(lease.name), _told_of(exchange))

    def stand_in(self) -> StandIn:
        """As if the upstream was asked that would be, had it room."""
        exchange = self._make(self._pool.preferred(self._model, self._turn.key), 0)
        return StandIn(exchange, _told_of(exchange))

    def has_other(self) -> bool:
        """Whether one that is well was not tried yet."""
        return self._pool.has_other(self._model, self._account.tried)

    def token(self, lease: Lease | None, upstream_token: str | None) -> str | None:
        """A token for the turn, where it has none."""
        return self._turns.token(self._turn, self._inquiry, "" if lease is None else lease.name, upstream_token)


def _told_of(exchange: Exchange) -> Mapping[str, str]:
    """The headers that tell a client what was lost on the way."""
    return {DROPPED_HEADER: dropped_header(exchange.dropped)} if exchange.dropped else {}
