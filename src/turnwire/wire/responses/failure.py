"""Failures as the Responses API tells them, both ways: ``response.failed``, ``error`` events and WebSocket frames."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import msgspec

from turnwire.errors import (
    ApiError,
    ConnectionExpired,
    ContextWindowExceeded,
    ErrorResponse,
    InvalidPrompt,
    PreviousResponseNotFound,
    QuotaExceeded,
    RateLimited,
    ServerOverloaded,
    UsageNotIncluded,
)
from turnwire.wire.failure import code_of, failure_from_code
from turnwire.wire.responses.event import ServerEvent
from turnwire.wire.responses.header import plain_headers

__all__ = ["encode_error_frame", "encode_failure", "failure_from_event", "failure_from_failed"]

_encode = msgspec.json.Encoder().encode
_MAX_BODY = 16 * 1024

_STATUSES: Mapping[type[ApiError], int] = {
    ContextWindowExceeded: 400,
    InvalidPrompt: 400,
    PreviousResponseNotFound: 400,
    ConnectionExpired: 400,
    UsageNotIncluded: 403,
    QuotaExceeded: 429,
    RateLimited: 429,
    ServerOverloaded: 503,
}


def failure_from_failed(response: Any) -> ApiError:
    """The error for the response that a ``response.failed`` event carries."""
    return failure_from_code(response.get("error") if isinstance(response, dict) else None)


def failure_from_event(event: ServerEvent) -> ApiError:
    """The error for an ``error`` event, or for a WebSocket's error frame, which has a status and headers as well.

    ``response`` of the error then has them. Its ``retry_after`` is set where the header counts seconds; who knows the
    time can read a date.
    """
    # Events of OpenAI's server-sent events have the fields at the top, without an object.
    error = event.error if event.error is not None else {"code": event.code, "message": event.message}
    status = event.status
    if not isinstance(status, int) or isinstance(status, bool) or not 100 <= status <= 599:
        return failure_from_code(error)
    headers = plain_headers(event.headers)
    return failure_from_code(
        error, ErrorResponse(status, headers, _body(error), _seconds(headers.get("retry-after", "")))
    )


def encode_failure(error: ApiError) -> dict[str, Any]:
    """The ``error`` object of a failed response. A delay is told in words, where clients look for it."""
    message = error.message
    delay = getattr(error, "delay", None)
    if delay is not None and "try again in" not in message.lower():
        message = f"{message.rstrip('.')}. Please try again in {_decimal(delay)}s."
    return {"code": code_of(error), "message": message}


def encode_error_frame(error: ApiError, *, status: int | None = None, headers: Mapping[str, str] = {}) -> bytes:
    """The WebSocket frame that refuses a request, for an error before the response began.

    ``status`` is what HTTP would have answered, by default what fits the error. A client may ignore a frame without a
    status, and gives up on 429 and 503 without ``retry-after``, so those are always there.
    """
    if status is None:
        fitting = (status for kind, status in _STATUSES.items() if isinstance(error, kind))
        status = getattr(error, "status", None) or next(fitting, 500)
    delay = getattr(error, "delay", None)
    if isinstance(error, RateLimited | ServerOverloaded):
        headers = {"retry-after": str(max(1, math.ceil(delay or 1))), **headers}
    kind = "invalid_request_error" if status < 500 and status != 429 else "server_error"
    fields = {"type": kind, **encode_failure(error), "param": None}
    return _encode({"type": "error", "status": status, "error": fields, "headers": dict(headers)})


def _body(error: Any) -> str:
    try:
        return _encode({"error": error}).decode()[:_MAX_BODY]
    except (RecursionError, OverflowError, ValueError):
        return ""  # nothing that anybody would read


def _seconds(value: str) -> float | None:
    value = value.strip()
    whole, _, fraction = value.partition(".")
    digits = whole.isdecimal() and len(whole) < 10 and (not fraction or fraction.isdecimal())
    return float(value) if digits else None


def _decimal(seconds: float) -> str:
    """Seconds without an exponent, which nobody reads back."""
    return f"{seconds:.3f}".rstrip("0").rstrip(".")
