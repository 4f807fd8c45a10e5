"""Hooks for whoever wants to measure: protocols to implement, frozen records to receive.

A hook is called on the event loop and must return quickly. Records hold no prompts, keys or tokens.
"""

from __future__ import annotations

from typing import Literal, Protocol, TypeAlias

from msgspec import Struct

from turnwire.event import TokenUsage

__all__ = [
    "PollOutcome",
    "RequestRecord",
    "RequestTelemetry",
    "RetryRecord",
    "SsePollRecord",
    "SseTelemetry",
    "StreamOutcome",
    "StreamRecord",
    "StreamTelemetry",
    "WebsocketConnectRecord",
    "WebsocketPollRecord",
    "WebsocketTelemetry",
    "Wire",
]


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


class WebsocketConnectRecord(Struct, frozen=True, gc=False):
    """One handshake: ``duration`` is in seconds, up to the server's answer to it or the failure."""

    provider: str
    url: str
    """Without its query, which may hold keys."""
    attempt: int
    """Counts from 0 until a connection is open."""
    duration: float
    error: str | None = None
    """The error's class name, None where the handshake succeeded."""


class WebsocketPollRecord(Struct, frozen=True, gc=False):
    """One wait for a connection's next message: what it brought and how long it took, in seconds."""

    outcome: PollOutcome
    duration: float
    events: int = 0
    """How many typed events came out of it."""


class RetryRecord(Struct, frozen=True, gc=False):
    """A failure that was not the end of a stream: what was tried again because of it."""

    what: Literal["handshake", "request", "stream"]
    """A WebSocket handshake, a request that got no success response, or an answer that broke off."""
    error: str
    """The error's class name."""
    at: float
    """Seconds from the stream's beginning."""
    delay: float
    """Seconds from then until the next attempt."""


Wire: TypeAlias = Literal["chat", "responses", "websocket"]
"""Chat Completions, Responses over HTTP, Responses over WebSocket."""

StreamOutcome: TypeAlias = Literal["completed", "incomplete", "failed", "abandoned"]
"""``abandoned``: whoever read the stream left it before its end, or was cancelled."""


class StreamRecord(Struct, frozen=True):
    """One answer from its first request to its end, all attempts included; times are in seconds."""

    provider: str
    base_url: str
    model: str
    """The one that was asked for."""
    wire: Wire
    outcome: StreamOutcome
    duration: float
    time_to_first_output: float | None = None
    """Until the first event of the answer itself, whether text, reasoning or a call; None where none came."""
    response_id: str = ""
    token_usage: TokenUsage | None = None
    """None where the answer did not complete, or the server counts nothing."""
    finish_reason: str | None = None
    incomplete_reason: str | None = None
    error: str | None = None
    """The error's class name, None unless the stream failed."""
    committed: bool = False
    """An output event was handed over."""
    retries: tuple[RetryRecord, ...] = ()
    """In the order in which they happened."""


class RequestTelemetry(Protocol):
    """Is told of every attempt."""

    def on_request(self, record: RequestRecord, /) -> None:
        """Called when an attempt has its response head or has failed."""


class SseTelemetry(Protocol):
    """Is told of every wait on a stream."""

    def on_sse_poll(self, record: SsePollRecord, /) -> None:
        """Called when a wait is over."""


class WebsocketTelemetry(Protocol):
    """Is told of every handshake and of every wait on a connection."""

    def on_websocket_connect(self, record: WebsocketConnectRecord, /) -> None:
        """Called when a handshake is over."""

    def on_websocket_poll(self, record: WebsocketPollRecord, /) -> None:
        """Called when a wait is over."""


class StreamTelemetry(Protocol):
    """Is told of every answer, once it is over."""

    def on_stream(self, record: StreamRecord, /) -> None:
        """Called when a stream has ended, failed or been left, in the context in which its first request went out.

        So a span that was current there is still the current one here.
        """
