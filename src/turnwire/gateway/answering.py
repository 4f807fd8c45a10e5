"""An answer from its request to its last event: routed, relayed under the turn's token, and told of."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Awaitable, Callable

from turnwire.gateway.dropped import DROPPED_HEADER, dropped_header
from turnwire.gateway.exchange.exchange import Exchange, Outcome
from turnwire.gateway.forwarding import request_headers, response_headers
from turnwire.gateway.inquiry import REQUEST_ID_HEADER, Inquiry
from turnwire.gateway.metrics import Metrics
from turnwire.gateway.relay import Patience, Relay, RelayEnd
from turnwire.gateway.sink import Sink
from turnwire.gateway.turn_token import TurnTicket, TurnTokens
from turnwire.gateway.upstream import Upstream

__all__ = ["Answering"]

_log = logging.getLogger("turnwire.gateway")


class Answering:
    """What all answers share: the turn's token, the counters, the log."""

    def __init__(self, tokens: TurnTokens, metrics: Metrics, patience: Patience) -> None:
        self._tokens = tokens
        self._metrics = metrics
        self._patience = patience

    def ticket(self, inquiry: Inquiry) -> TurnTicket | None:
        """Where the turn's token says that its requests go; one that is not ours counts as none, and is counted."""
        if inquiry.token is None:
            return None
        ticket = self._tokens.read(inquiry.token, inquiry.caller.tenant)
        if isinstance(ticket, TurnTicket):
            return ticket
        self._metrics.token_refused(ticket)
        _log.info("%s came with a turn token that is %s", inquiry.request_id, ticket)
        return None

    def issuer(self, inquiry: Inquiry, upstream: Upstream) -> Callable[[str | None], str]:
        """What makes a new turn's token, given the upstream's own."""

        def issue(upstream_token: str | None) -> str:
            ticket = TurnTicket(secrets.token_hex(8), upstream.name, upstream_token)
            return self._tokens.issue(ticket, inquiry.caller.tenant)

        return issue

    async def run(
        self,
        exchange: Exchange,
        upstream: Upstream,
        sink: Sink,
        inquiry: Inquiry,
        *,
        api: str,
        model: str,
        streams: bool,
        ticket: TurnTicket | None,
        keep: Callable[[Outcome], Awaitable[None]] | None = None,
    ) -> RelayEnd:
        """Relays one answer to its end; ``ticket`` is the turn's, where it has one, and ``keep`` that of `Relay`."""
        headers = {REQUEST_ID_HEADER: inquiry.request_id}
        if exchange.dropped:
            headers[DROPPED_HEADER] = dropped_header(exchange.dropped)
            self._metrics.dropped(exchange.dropped)
            _log.warning("%s could not take along: %s", inquiry.request_id, headers[DROPPED_HEADER])
        own = ticket is not None and ticket.upstream == upstream.name
        relay = Relay(
            exchange,
            upstream,
            sink,
            self._patience,
            streams=streams,
            upstream_token=ticket.upstream_token if ticket is not None and own else None,
            issue_token=None if ticket is not None else self.issuer(inquiry, upstream),
            headers=headers,
            forwarded=request_headers(inquiry.headers),
            returned=response_headers,
            keep=keep,
        )
        self._metrics.answer_begins(api)
        end: RelayEnd = "left"  # where the gateway ends first
        try:
            end = await relay.run()
        finally:
            outcome = exchange.outcome
            self._metrics.answer_over(
                api,
                upstream.name,
                model,
                end,
                first_output_after=relay.first_output_after,
                usage=None if outcome is None else outcome.usage,
            )
            if exchange.reasoning_name is not None:
                upstream.reasoning_names[model] = exchange.reasoning_name
            error = "" if exchange.error is None else f": {type(exchange.error).__name__}"
            _log.info("%s %s of %s by %s %s%s", inquiry.request_id, api, inquiry.caller.name, upstream.name, end, error)
        return end
