"""Hooks for whoever wants to measure: protocols to implement, frozen records to receive.

A hook is called on the event loop and must return quickly. Records hold no prompts, keys or tokens.
"""

from __future__ import annotations

from typing import Literal, Protocol, TypeAlias

from msgspec import Struct

__all__ = ["PollOutcome", "RequestRecord", "RequestTelemetry", "SsePollRecord", "SseTelemetry"]


class RequestRecord(Struct, frozen=True, gc=False):
    """One attempt at one request: ``duration`` is in seconds, up to the response's head or the failure."""

    provider: str
    url: str
    """Without its query, which may hold keys."""
    attempt: int
    """Counts from 0 within a request."""
    duration: float
    status: int | None = None
    """None where no response came."""
    error: str | None = None
    """The error's class name, None where the attempt succeeded."""
    retry_delay: float | None = None
    """Seconds until the next attempt; None where there will be none."""


PollOutcome: TypeAlias = Literal["events", "comment", "eof", "idle_timeout", "error", "cancelled"]


class SsePollRecord(Struct, frozen=True, gc=False):
    """One wait for a stream's next bytes: what it brought and how long it took, in seconds."""

    outcome: PollOutcome
    duration: float
    events: int = 0
    """How many typed events came out of it."""


class RequestTelemetry(Protocol):
    """Is told of every attempt."""

    def on_request(self, record: RequestRecord, /) -> None:
        """Called when an attempt has its response head or has failed."""


class SseTelemetry(Protocol):
    """Is told of every wait on a stream."""

    def on_sse_poll(self, record: SsePollRecord, /) -> None:
        """Called when a wait is over."""
