"""Everything that can go wrong in a model turn, as one tree.

::

    ApiError
    ├── ConfigurationError        a provider, preset or file that can't be used (also a ValueError)
    ├── TransportError            the bytes did not get there, or not back
    │   ├── ConnectError          no connection: refused, no such host, no route
    │   │   ├── TlsError          no trust: certificate, host name, protocol version
    │   │   └── ConnectTimeout    none within open_timeout (also a TimeoutError)
    │   └── Disconnected          a connection that was lost before the response was whole
    ├── HttpStatusError           a status that says no, and none of the meanings below
    ├── StreamError               a response that began and did not end properly
    │   └── IdleTimeout           no event within idle_timeout (also a TimeoutError)
    ├── ContextWindowExceeded     the conversation does not fit the model
    ├── QuotaExceeded             the account has nothing left to spend
    ├── UsageNotIncluded          the account's plan does not include this model
    ├── RateLimited               too many requests; ``delay`` says how long to wait
    ├── ServerOverloaded          the server can't take it now; ``delay`` where it said
    ├── InvalidPrompt             the server will never accept this input
    ├── PreviousResponseNotFound  the server has forgotten the response that a request goes on from
    ├── ConnectionExpired         the WebSocket is as old as its server lets one become
    ├── RetryableError            the server failed and may succeed later; ``delay`` where it said
    └── ProtocolError             what answered does not speak the protocol

Any of them may come out of a stream. It then carries what the caller already has: ``committed`` (an output
event was handed over, so nothing is repeated behind the caller's back), ``items`` (the output items that were
whole) and ``text`` (the answer as far as it came). One that was told by an HTTP response carries it as
``response``; ``code`` is the server's own word for it, where it gave one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from turnwire.item import ResponseItem

__all__ = [
    "ApiError",
    "ConfigurationError",
    "ConnectError",
    "ConnectTimeout",
    "ConnectionExpired",
    "ContextWindowExceeded",
    "Disconnected",
    "ErrorResponse",
    "HttpStatusError",
    "IdleTimeout",
    "InvalidPrompt",
    "PreviousResponseNotFound",
    "ProtocolError",
    "QuotaExceeded",
    "RateLimited",
    "RetryableError",
    "ServerOverloaded",
    "StreamError",
    "TlsError",
    "TransportError",
    "UsageNotIncluded",
]


class ErrorResponse(Struct, frozen=True):
    """The HTTP response that told an error: its body is cut at 16 KiB, header names are lower case."""

    status: int
    headers: Mapping[str, str] = {}
    body: str = ""
    retry_after: float | None = None
    """Seconds from when it came until the server wants to be asked again; None where it did not say."""

    def __repr__(self) -> str:
        # A body may echo the prompt, so it stays out of logs and tracebacks.
        return f"<ErrorResponse {self.status}, {len(self.body)} characters>"

    @property
    def request_id(self) -> str | None:
        """The server's own name for the request, to quote when you report a problem."""
        return self.headers.get("x-request-id") or self.headers.get("request-id")


class ApiError(Exception):
    """Base of all errors that turnwire raises for a turn; ``str(error)`` is one clear sentence."""

    committed: bool = False
    """True once the caller has been given an output event of the stream that failed."""

    items: tuple[ResponseItem, ...] = ()
    """Output items that were whole before the failure."""

    text: str = ""
    """The answer's text as far as it came, that of whole messages included."""

    code: str | None = None
    """The server's own word for the failure, such as ``context_length_exceeded``; None where it gave none."""

    def __init__(self, message: str, *, response: ErrorResponse | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.response = response


class ConfigurationError(ApiError, ValueError):
    """A provider, a preset or a configuration file that can't be used."""


class TransportError(ApiError):
    """The bytes did not get there, or not back."""


class ConnectError(TransportError):
    """No connection could be opened: refused, no such host, no route, a proxy that said no."""


class TlsError(ConnectError):
    """The server could not be trusted: certificate, host name or protocol version."""


class ConnectTimeout(ConnectError, TimeoutError):
    """No connection within ``open_timeout``."""


class Disconnected(TransportError):
    """The connection was lost before the response was whole; a truncated chunked body counts."""


class HttpStatusError(ApiError):
    """The server answered with a status that says no; ``response`` has its head and the body's beginning."""

    response: ErrorResponse

    def __init__(self, message: str, *, response: ErrorResponse) -> None:
        super().__init__(message, response=response)

    @property
    def status(self) -> int:
        """The HTTP status code."""
        return self.response.status


class StreamError(ApiError):
    """A response that began and did not end properly."""


class IdleTimeout(StreamError, TimeoutError):
    """No event came within ``idle_timeout`` seconds; comments and pings do not count."""


class ContextWindowExceeded(ApiError):
    """The conversation, or the answer to it, does not fit the model's context window."""


class QuotaExceeded(ApiError):
    """The account has nothing left to spend."""


class UsageNotIncluded(ApiError):
    """The account's plan does not include this model."""


class InvalidPrompt(ApiError):
    """The server refused the input for good; sending it again can't help."""


class PreviousResponseNotFound(ApiError):
    """The server does not know the response that ``previous_response_id`` names: send the whole conversation."""


class ConnectionExpired(ApiError):
    """The WebSocket has reached the age, or the number of requests, that its server allows: open another."""


class ProtocolError(ApiError):
    """What answered does not speak the protocol: a web page, a foreign API, an event over its bound."""


class _Delayed(ApiError):
    """Base of the errors that may pass by themselves."""

    def __init__(self, message: str, delay: float | None = None, *, response: ErrorResponse | None = None) -> None:
        super().__init__(message, response=response)
        header = None if response is None else response.retry_after
        self.delay = delay if header is None else header
        """Seconds that the server asked to wait, in its ``Retry-After`` or else in words; None where it did not say."""


class RateLimited(_Delayed):
    """Too many requests or tokens for now."""


class ServerOverloaded(_Delayed):
    """The server can't take the request now."""


class RetryableError(_Delayed):
    """The server failed in a way that may pass."""
