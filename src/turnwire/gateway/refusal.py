"""Errors as the gateway's clients are told of them: as an HTTP response, as a WebSocket's frame, and in mid-stream.

What a status makes a client do matters more than what it means. The Codex CLI gives up at 400 and shows the body; it
asks again after 401, 403, 404, 408, 409, 413, 422 and any 5xx; it gives up at a 429 without ``Retry-After``. The
OpenAI SDKs ask again after 408, 409, 429 and 5xx. So:

=======  ===============================================================================================
400      all that is permanent, whoever is at fault: the request, the account, the gateway's configuration
401      the caller's own key is missing or wrong
404 …    what the gateway does not have: a path, a method, a stored response (see `NotServed`)
408      a request whose body did not come in time
429      a rate limit, always with ``Retry-After``
500      a defect of the gateway
502      an upstream that can't be reached, breaks off, fails or talks nonsense, with ``Retry-After``
503      an upstream, or the gateway, that is too busy, always with ``Retry-After``
504      an upstream that is silent, with ``Retry-After``
=======  ===============================================================================================

In a stream there are only codes, and Codex gives up at those of permanent errors and at ``server_is_overloaded``; it
asks again after ``slow_down``, ``rate_limit_exceeded``, ``server_error`` and any that it does not know.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import msgspec
from msgspec import Struct

from turnwire.errors import (
    ApiError,
    ConfigurationError,
    ConnectionExpired,
    ContextWindowExceeded,
    HttpStatusError,
    InvalidPrompt,
    PreviousResponseNotFound,
    ProtocolError,
    QuotaExceeded,
    RateLimited,
    RetryableError,
    ServerOverloaded,
    StreamError,
    TransportError,
    UsageNotIncluded,
)
from turnwire.gateway.body import BodyTimeout
from turnwire.gateway.caller import Unauthorized
from turnwire.gateway.forwarding import UPSTREAM_REQUEST_ID_HEADER, can_travel
from turnwire.wire.responses.failure import encode_error_frame

__all__ = ["NotServed", "Refusal", "UnknownModel", "refusal", "refusal_frame", "stream_failure"]

_encode = msgspec.json.Encoder().encode


class UnknownModel(InvalidPrompt):
    """No upstream serves the model that a request names."""

    code = "model_not_found"


class NotServed(ApiError):
    """The gateway does not have what was asked for.

    404 is for an unknown path or stored response, 405 for a method (``headers`` then say which are allowed), 426 for
    what is only to be had as a WebSocket. None of them is for a turn's request: Codex would repeat it.
    """

    def __init__(self, message: str, *, status: Literal[404, 405, 426] = 404, headers: Mapping[str, str] = {}) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers


class Refusal(Struct, frozen=True):
    """An HTTP response that says no; its body is the error object that the OpenAI API would send."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class _Rule(Struct, frozen=True):
    """How errors of some kinds are told."""

    kinds: tuple[type[Exception], ...]
    status: int
    code: str
    in_stream: type[ApiError]
    """What they become in mid-stream."""
    may_pass: bool = False
    """Whether a client is told to come back."""
    param: str | None = None
    """The field of the request that is at fault."""


_RULES = (
    _Rule((UnknownModel,), 400, "model_not_found", InvalidPrompt, param="model"),
    _Rule((InvalidPrompt,), 400, "invalid_prompt", InvalidPrompt),
    _Rule((ContextWindowExceeded,), 400, "context_length_exceeded", ContextWindowExceeded),
    _Rule((QuotaExceeded,), 400, "insufficient_quota", QuotaExceeded),
    _Rule((UsageNotIncluded,), 400, "usage_not_included", UsageNotIncluded),
    _Rule((PreviousResponseNotFound,), 400, "previous_response_not_found", PreviousResponseNotFound),
    _Rule((ConnectionExpired,), 400, "websocket_connection_limit_reached", ConnectionExpired),
    _Rule((ConfigurationError,), 400, "gateway_misconfigured", InvalidPrompt),
    _Rule((Unauthorized,), 401, "invalid_api_key", InvalidPrompt),
    _Rule((BodyTimeout,), 408, "request_timeout", RetryableError),
    _Rule((RateLimited,), 429, "rate_limit_exceeded", RateLimited, may_pass=True),
    _Rule((ServerOverloaded,), 503, "slow_down", ServerOverloaded, may_pass=True),
    _Rule((TimeoutError,), 504, "upstream_timeout", RetryableError, may_pass=True),
    _Rule((TransportError,), 502, "upstream_unreachable", RetryableError, may_pass=True),
    _Rule((StreamError, RetryableError, ProtocolError), 502, "upstream_failed", RetryableError, may_pass=True),
)
"""The first that fits an error counts."""

_REFUSED_KEY = _Rule((HttpStatusError,), 400, "upstream_refused_key", InvalidPrompt)
_REFUSED = _Rule((HttpStatusError,), 400, "upstream_refused", InvalidPrompt)
_FAILED = _Rule((HttpStatusError,), 502, "upstream_failed", RetryableError, may_pass=True)
_DEFECT = _Rule((Exception,), 500, "server_error", RetryableError)

_KEY_STATUSES = frozenset({401, 403})
_PASSING_STATUSES = frozenset({408, 409, 425})
_KINDS = {401: "authentication_error", 429: "rate_limit_error"}
"""The ``type`` of the error object, where it is neither the request's fault nor the server's."""
_MAX_MESSAGE = 1000
"""Characters of a sentence that are told: it may quote what the client sent."""
_LEAST_PAUSE = 1
"""Seconds: the shortest that ``Retry-After`` can say, and what it says where nobody knows better."""


def refusal(error: ApiError) -> Refusal:
    """The HTTP response for an error that came before anything was sent.

    Of what an upstream said in headers, its name for the request is passed on, and when to come back; nothing else.
    """
    headers = {"content-type": "application/json"}
    if isinstance(error, NotServed):
        return Refusal(error.status, {**headers, **error.headers}, _body(error.status, None, error.message))
    rule = _rule(error)
    if rule.may_pass:
        headers["retry-after"] = str(_pause(error))
    if isinstance(error, Unauthorized):
        headers["www-authenticate"] = "Bearer"
    request_id = None if error.response is None else error.response.request_id
    if request_id is not None and can_travel(request_id):
        headers[UPSTREAM_REQUEST_ID_HEADER] = request_id
    return Refusal(rule.status, headers, _body(rule.status, rule.code, _sentence(error), rule.param))


def refusal_frame(error: ApiError) -> bytes:
    """The WebSocket message for an error that came before anything was sent, with what HTTP would have said."""
    refused = refusal(error)
    told = stream_failure(error)
    told.code = None if isinstance(error, NotServed) else _rule(error).code
    headers = {name: value for name, value in refused.headers.items() if name != "content-type"}
    return encode_error_frame(told, status=refused.status, headers=headers)


def stream_failure(error: ApiError) -> ApiError:
    """What ``response.failed`` shall say, so that a client asks again where that may help, and else gives up.

    A server's own word for the failure is replaced by one whose effect is known.
    """
    rule = _rule(error)
    told = rule.in_stream(_sentence(error), response=error.response)
    if isinstance(told, RateLimited | ServerOverloaded | RetryableError):
        told.delay = getattr(error, "delay", None)
    if isinstance(told, ServerOverloaded):
        told.code = rule.code
    return told


def _rule(error: ApiError) -> _Rule:
    if isinstance(error, HttpStatusError):
        if error.status in _KEY_STATUSES:
            return _REFUSED_KEY
        return _FAILED if error.status >= 500 or error.status in _PASSING_STATUSES else _REFUSED
    return next((rule for rule in _RULES if isinstance(error, rule.kinds)), _DEFECT)


def _sentence(error: ApiError) -> str:
    if isinstance(error, HttpStatusError) and error.status in _KEY_STATUSES:
        return f"the key that the gateway itself uses was refused: {error.message}"
    return error.message


def _pause(error: ApiError) -> int:
    """Whole seconds until a client should come back."""
    delay: float | None = getattr(error, "delay", None)
    if delay is None and error.response is not None:
        delay = error.response.retry_after
    return max(_LEAST_PAUSE, math.ceil(delay or 0))


def _body(status: int, code: str | None, message: str, param: str | None = None) -> bytes:
    kind = _KINDS.get(status, "invalid_request_error" if status < 500 else "server_error")
    if len(message) > _MAX_MESSAGE:
        message = f"{message[:_MAX_MESSAGE]}… ({len(message)} characters)"
    fields: dict[str, Any] = {"message": message, "type": kind, "param": param, "code": code}
    return _encode({"error": fields})
