"""An answer from its request to its last event: routed, relayed under the turn's token, and told of."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeAlias

from turnwire.errors import RateLimited
from turnwire.gateway.catalog import Served
from turnwire.gateway.dropped import DROPPED_HEADER, dropped_header
from turnwire.gateway.exchange.exchange import Exchange, Outcome
from turnwire.gateway.forwarding import request_headers, response_headers
from turnwire.gateway.inquiry import REQUEST_ID_HEADER, Inquiry
from turnwire.gateway.metrics import Metrics
from turnwire.gateway.pool import Lease, Pool
from turnwire.gateway.reason import reason
from turnwire.gateway.relay import Attempt, Patience, Relay, RelayEnd
from turnwire.gateway.sink import Sink
from turnwire.gateway.turn import Turn, Turns

__all__ = ["Answering", "MakeExchange"]

_log = logging.getLogger("turnwire.gateway")

MakeExchange: TypeAlias = Callable[[Served, int], Exchange]
"""Makes the exchange for a model as one upstream serves it; the number is the `Exchange.position` that it begins at."""


class Answering:
    """What all answers share: the pool, the turns, the counters, the log, and a bound for each caller.

    ``max_streams`` is how many answers a caller may have under way at once.
    """

    def __init__(
        self, pool: Pool, turns: Turns, metrics: Metrics, patience: Patience, *, max_streams: int | None = None
    ) -> None:
        self.pool = pool
        self.turns = turns
        self.patience = patience
        self._metrics = metrics
        self._max_streams = max_streams
        self._open: Counter[str] = Counter()

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
        route = _PoolRoute(self.pool, self.turns, make, model, inquiry, turn, self._metrics)
        relay = Relay(
            route,
            sink,
            self.patience,
            streams=streams,
            headers={REQUEST_ID_HEADER: inquiry.request_id},
            forwarded=request_headers(inquiry.headers),
            returned=response_headers,
            keep=keep,
        )
        end: RelayEnd = "left"  # where the gateway ends first
        with self._counted(inquiry.caller.tenant):
            self._metrics.answer_begins(api)
            try:
                end = await relay.run()
            finally:
                self._tell(relay, inquiry, api, model, end)
        return end

    @contextmanager
    def _counted(self, tenant: str) -> Iterator[None]:
        """Counts an answer of a caller; raises `RateLimited` where there are too many."""
        if self._max_streams is not None and self._open[tenant] >= self._max_streams:
            raise RateLimited(f"{self._max_streams} answers are under way already: wait for one to end", 1.0)
        self._open[tenant] += 1
        try:
            yield
        finally:
            self._open[tenant] -= 1
            if not self._open[tenant]:
                del self._open[tenant]

    def _tell(self, relay: Relay, inquiry: Inquiry, api: str, model: str, end: RelayEnd) -> None:
        """Has an answer that is over counted and logged."""
        attempt = relay.attempt
        upstream = "" if attempt is None else attempt.upstream.name
        outcome = None if attempt is None else attempt.exchange.outcome
        self._metrics.answer_over(
            api,
            upstream,
            model,
            end,
            first_output_after=relay.first_output_after,
            usage=None if outcome is None else outcome.usage,
        )
        if attempt is not None and attempt.exchange.reasoning_name is not None:
            attempt.upstream.reasoning_names[attempt.lease.served.model] = attempt.exchange.reasoning_name
        told = (inquiry.request_id, api, inquiry.caller.name, upstream or "nobody", end)
        if relay.error is None:
            _log.info("%s %s of %s by %s %s", *told)
        else:
            _log.warning("%s %s of %s by %s %s: %s", *told, reason(relay.error, own=attempt is None))


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
        metrics: Metrics,
    ) -> None:
        self._pool = pool
        self._turns = turns
        self._make = make
        self._model = model
        self._inquiry = inquiry
        self._turn = turn
        self._metrics = metrics
        self._tried: list[str] = []

    async def next(self, position: int = 0) -> Attempt:
        """The next attempt, at a replica that was not tried; raises where there is none."""
        turn = self._turn
        lease = await self._pool.lease(self._model, turn.key, held_by=turn.held_by, tried=self._tried)
        try:
            exchange = self._make(lease.served, position)
        except BaseException:
            lease.end()
            raise
        if self._tried:
            self._metrics.moved(self._tried[-1])
            _log.warning("%s moves from %s to %s", self._inquiry.request_id, self._tried[-1], lease.name)
        self._tried.append(lease.name)
        return Attempt(exchange, lease, turn.upstream_token(lease.name), self._headers(exchange))

    def has_other(self) -> bool:
        """Whether one that is well was not tried yet."""
        return self._pool.has_other(self._model, self._tried)

    def token(self, lease: Lease, upstream_token: str | None) -> str | None:
        """A token for the turn, where it has none."""
        return self._turns.token(self._turn, self._inquiry, lease.name, upstream_token)

    def _headers(self, exchange: Exchange) -> dict[str, str]:
        if not exchange.dropped:
            return {}
        told = dropped_header(exchange.dropped)
        self._metrics.dropped(exchange.dropped)
        _log.warning("%s could not take along: %s", self._inquiry.request_id, told)
        return {DROPPED_HEADER: told}
