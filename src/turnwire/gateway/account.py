"""The account of one answer: what those who run the gateway are told of it, in the log, by counters and in a trace."""

from __future__ import annotations

import asyncio
import logging
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from turnwire.errors import ApiError
from turnwire.event import TokenUsage
from turnwire.gateway import access_log
from turnwire.gateway.access_log import AccessEntry, Fingerprints, Held
from turnwire.gateway.dropped import dropped_header
from turnwire.gateway.exchange.exchange import Exchange
from turnwire.gateway.forwarding import request_headers
from turnwire.gateway.inquiry import Inquiry
from turnwire.gateway.metered_sink import MeteredSink
from turnwire.gateway.metrics import Metrics
from turnwire.gateway.pool import Lease
from turnwire.gateway.reason import reason
from turnwire.gateway.sink import Sink
from turnwire.gateway.turn import Turn

if TYPE_CHECKING:
    from turnwire.gateway.tracing import Tracing

__all__ = ["Account", "Accounts", "configured_tracing"]

_log = logging.getLogger("turnwire.gateway")


def configured_tracing() -> Tracing | None:
    """Tracing, where OpenTelemetry is installed and set up; else None."""
    try:
        from turnwire.gateway.tracing import Tracing
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "opentelemetry":
            raise
        return None
    return Tracing.configured()


class Accounts:
    """What all accounts are kept by. Without ``fingerprints`` there is no access log, without ``tracing`` no trace."""

    def __init__(
        self, metrics: Metrics, *, fingerprints: Fingerprints | None = None, tracing: Tracing | None = None
    ) -> None:
        self.metrics = metrics
        self.fingerprints = fingerprints
        self.tracing = tracing

    def open(self, inquiry: Inquiry, turn: Turn, sink: Sink, *, api: str, model: str, streams: bool) -> Account:
        """The account of an answer that begins now."""
        return Account(self, inquiry, turn, sink, api=api, model=model, streams=streams)


class Account:
    """One answer, from its request to its end: `asks` for each upstream, and `over` once."""

    def __init__(
        self, accounts: Accounts, inquiry: Inquiry, turn: Turn, sink: Sink, *, api: str, model: str, streams: bool
    ) -> None:
        self._metrics = accounts.metrics
        self._inquiry = inquiry
        self._turn = turn
        self._api = api
        self._model = model
        self._started = time.monotonic()
        self._lease: Lease | None = None
        self._exchange: Exchange | None = None
        self._dropped = 0
        self._fingerprints = accounts.fingerprints if access_log.is_kept() else None
        self._metered = None if self._fingerprints is None else MeteredSink(sink)
        self.sink: Sink = self._metered or sink
        """Where the answer is to go."""
        self.tried: list[str] = []
        """The upstreams that were asked, by name."""
        self.forwarded = request_headers(inquiry.headers)
        """The headers that the upstream gets which is asked next."""
        caller = inquiry.caller.name
        self._trace = (
            None
            if accounts.tracing is None
            else accounts.tracing.begin(
                inquiry.headers, request_id=inquiry.request_id, caller=caller, api=api, model=model, streams=streams
            )
        )
        # Nobody need wait for what is counted: it is, as soon as something has to be waited for, and so before the end.
        self._call_soon = asyncio.get_running_loop().call_soon
        self._call_soon(self._metrics.answer_begins, api, caller)

    def looks_elsewhere(self) -> None:
        """The upstream that was asked has failed, and another one is looked for."""
        error = None if self._lease is None else self._lease.error
        if self._trace is not None and error is not None:
            self._trace.give_up(type(error).__name__)

    def asks(self, lease: Lease, exchange: Exchange, *, waited: float) -> None:
        """An upstream is asked next, for whose lease it took so many seconds."""
        self._call_soon(self._metrics.waited, lease.name, waited)
        if self.tried:
            self._metrics.moved(self.tried[-1])
            _log.warning("%s moves from %s to %s", self._inquiry.request_id, self.tried[-1], lease.name)
        self.tried.append(lease.name)
        self._lease = lease
        self._exchange = exchange
        if self._trace is not None:
            self.forwarded |= self._trace.ask(lease.served)
        self._dropped = len(exchange.dropped)
        if exchange.dropped:
            self._metrics.dropped(exchange.dropped)
            told = dropped_header(exchange.dropped)
            _log.warning("%s could not take along: %s", self._inquiry.request_id, told)

    def over(self, end: str, error: ApiError | None, first_output_after: float | None, *, signs: int = 0) -> None:
        """The answer is over; the error is why it is not whole, times are in seconds, ``signs`` are signs of life."""
        self._metrics.kept_alive(signs)
        duration = time.monotonic() - self._started
        upstream = self.tried[-1] if self.tried else ""
        outcome = None if self._exchange is None else self._exchange.outcome
        usage = None if outcome is None else outcome.usage
        kind = None if error is None else type(error).__name__
        inquiry = self._inquiry
        self._metrics.answer_over(
            self._api,
            inquiry.caller.name,
            upstream,
            self._model,
            end,
            duration=duration,
            first_output_after=first_output_after,
            usage=usage,
        )
        if self._trace is not None:
            self._trace.over(
                end, error=kind, attempts=len(self.tried), first_output_after=first_output_after, usage=usage
            )
        told = (inquiry.request_id, self._api, inquiry.caller.name, upstream or "nobody", end)
        if error is None:
            _log.info("%s %s of %s by %s %s", *told)
        else:
            _log.warning("%s %s of %s by %s %s: %s", *told, reason(error, own=not self.tried))
        if self._fingerprints is not None and self._metered is not None:
            access_log.write(
                self._entry(self._fingerprints, self._metered, end, kind, duration, first_output_after, usage)
            )

    def _entry(
        self,
        fingerprints: Fingerprints,
        metered: MeteredSink,
        end: str,
        error: str | None,
        duration: float,
        first_output_after: float | None,
        usage: TokenUsage | None,
    ) -> AccessEntry:
        return AccessEntry(
            time=datetime.now(UTC),
            request_id=self._inquiry.request_id,
            caller=self._inquiry.caller.name,
            tenant=self._inquiry.caller.tenant,
            api=self._api,
            model=self._model,
            upstreams=self.tried,
            turn=fingerprints.of(self._turn.name.encode()),
            conversation=fingerprints.of(self._turn.key),
            held=self._held,
            end=end,
            status=metered.status,
            error=error,
            first_output=None if first_output_after is None else round(first_output_after, 6),
            duration=round(duration, 6),
            input_tokens=None if usage is None else usage.input_tokens,
            cached_input_tokens=None if usage is None else usage.cached_input_tokens,
            output_tokens=None if usage is None else usage.output_tokens,
            dropped=self._dropped,
            bytes=metered.bytes,
        )

    @property
    def _held(self) -> Held | None:
        if not self.tried:
            return None
        if self._turn.held_by is not None:
            return "token" if self.tried[-1] == self._turn.held_by else "moved"
        return "key" if len(self.tried) == 1 else "moved"
