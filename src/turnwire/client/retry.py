"""When a request is tried again, and after how long: pure decisions, made from what is known."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from msgspec import Struct

from turnwire.errors import (
    ApiError,
    ConnectError,
    ConnectionExpired,
    Disconnected,
    HttpStatusError,
    PreviousResponseNotFound,
    RateLimited,
    RetryableError,
    ServerOverloaded,
    StreamError,
    TlsError,
)

__all__ = ["RetryPolicy", "parse_retry_after", "request_delay", "stream_delay"]

_STATUSES = frozenset({408, 409})
_MAX_DOUBLINGS = 32
"""More would only be a longer number: no pause is ever that long."""


class RetryPolicy(Struct, frozen=True, gc=False):
    """How often, and how patiently. Delays are in seconds."""

    request_max_retries: int = 4
    """Further attempts at a request that got no success response."""
    stream_max_retries: int = 5
    """Further attempts at a stream that broke before anything was handed over."""
    retry_429: bool = False
    """Whether 429 is tried again even where the server did not say when."""
    base_delay: float = 0.2
    """The first pause; each further one is twice as long."""
    max_delay: float = 60.0
    """No pause is longer; a server that asks for a longer one is given up, and the error has its ``delay``."""


def request_delay(policy: RetryPolicy, error: ApiError, attempt: int, *, jitter: float) -> float | None:
    """Seconds until a failed request is tried again, None to give up.

    ``attempt`` counts from 0; ``jitter`` is a random number between 0 and 1. Tried again are connections that could
    not be opened or were lost before the response, 408, 409, 5xx, and 429 where it says when to come back.
    """
    if attempt >= policy.request_max_retries:
        return None
    match error:
        case TlsError():
            return None  # trust does not come back by itself
        case ConnectError() | Disconnected() | ServerOverloaded():
            pass
        case RateLimited():
            if _asked(error) is None and not policy.retry_429:
                return None
        case HttpStatusError():
            if error.status not in _STATUSES and error.status < 500:
                return None
        case _:
            return None
    return _pause(policy, error, attempt, jitter)


def stream_delay(policy: RetryPolicy, error: ApiError, attempt: int, *, jitter: float) -> float | None:
    """Seconds until a stream that broke is begun anew, None to give up; arguments as for `request_delay`."""
    if isinstance(error, PreviousResponseNotFound | ConnectionExpired):
        # No failure of anybody's: the whole conversation on another connection is what the server asks for.
        return 0.0 if attempt < max(1, policy.stream_max_retries) else None
    if attempt >= policy.stream_max_retries:
        return None
    match error:
        case StreamError() | Disconnected() | RetryableError() | ServerOverloaded():
            pass
        case RateLimited():
            if _asked(error) is None and not policy.retry_429:
                return None
        case _:
            return None
    return _pause(policy, error, attempt, jitter)


def _pause(policy: RetryPolicy, error: ApiError, attempt: int, jitter: float) -> float | None:
    """Doubling, spread by a tenth either way, never before what the server asked for."""
    doubled: float = policy.base_delay * 2 ** min(attempt, _MAX_DOUBLINGS)
    pause = min(doubled * (0.9 + 0.2 * jitter), policy.max_delay)
    asked = _asked(error)
    if asked is None:
        return pause
    return max(pause, asked) if asked <= policy.max_delay else None


def _asked(error: ApiError) -> float | None:
    """Seconds that the server asked to wait."""
    if isinstance(error, HttpStatusError):
        return error.response.retry_after
    delay: float | None = getattr(error, "delay", None)
    return delay


def parse_retry_after(headers: Mapping[str, str], now: datetime) -> float | None:
    """Seconds that ``Retry-After`` (a number or a date, RFC 9110 section 10.2.3) or ``retry-after-ms`` ask for."""
    milliseconds = _number(headers.get("retry-after-ms", ""))
    if milliseconds is not None:
        return milliseconds / 1000
    value = headers.get("retry-after", "").strip()
    seconds = _number(value)
    if seconds is not None or not value:
        return seconds
    try:
        date = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    return max(0.0, (date - now).total_seconds())


def _number(value: str) -> float | None:
    value = value.strip()
    whole, _, fraction = value.partition(".")
    if whole.isdecimal() and len(whole) < 10 and (not fraction or fraction.isdecimal()):
        return float(value)
    return None
