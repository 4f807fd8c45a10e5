"""A server's own words for a failure, turned into one of `turnwire.errors`.

Servers agree on little: the code may stand in ``code``, ``type`` or only in the message, as a word or as the HTTP
status, the object may be called ``error`` or ``detail`` or may be bare text. What is known is told by words first,
for they are more exact than a status; the status decides the rest.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from turnwire.errors import (
    ApiError,
    ConnectionExpired,
    ContextWindowExceeded,
    ErrorResponse,
    HttpStatusError,
    InvalidPrompt,
    PreviousResponseNotFound,
    QuotaExceeded,
    RateLimited,
    RetryableError,
    ServerOverloaded,
    UsageNotIncluded,
)

__all__ = ["code_of", "failure_from_code", "failure_from_object", "failure_from_response"]

_CONTEXT = re.compile(
    r"exceed_context_size|context_length_exceeded|contextwindowexceeded"  # llama.cpp, OpenAI, LiteLLM
    r"|context window exceed|exceeds?\b.{0,40}\bcontext (?:size|length|window)"  # LiteLLM's mocks, llama.cpp
    r"|maximum context length|requested tokens .{0,40}exceed|(?:prompt|input) is too long"  # vLLM, llama-cpp-python
    r"|too many (?:input )?tokens|longer than the model'?s context",  # SGLang and others
    re.IGNORECASE | re.DOTALL,
)
_QUOTA = re.compile(
    r"insufficient_quota|exceeded your current quota|insufficient (?:balance|credits|funds)", re.IGNORECASE
)
_PLAN = re.compile(r"usage_not_included", re.IGNORECASE)
_RATE = re.compile(r"rate_?limit|ratelimit|too many requests|throttl", re.IGNORECASE)
_OVERLOAD = re.compile(r"server_is_overloaded|overloaded|slow_down|service_?unavailable", re.IGNORECASE)
_INVALID = re.compile(r"invalid_prompt|invalid_request|bad_?request|bad request", re.IGNORECASE)
_DELAY = re.compile(r"try again in (\d{1,9}(?:\.\d{1,9})?)\s*(ms|seconds?|s)\b", re.IGNORECASE)

_OVERLOADED = frozenset({503, 529})
_PASSING = frozenset({408, 409})
_MAX_MESSAGE = 500


def failure_from_object(error: Any) -> ApiError:
    """The error for an ``error`` object inside a stream: an object, or bare text."""
    words = _Words.of(error)
    return _known(words, words.status, None) or RetryableError(
        f"the server failed in mid-stream: {words.message or words.codes or 'it did not say why'}", words.delay
    )


def failure_from_code(error: Any, response: ErrorResponse | None = None) -> ApiError:
    """The error for a failed response or an ``error`` event of the Responses API, which go by their code alone.

    ``response`` is what a WebSocket's error frame says of an HTTP response: where the code tells nothing, its status
    decides. What neither tells may pass, so it is a `RetryableError`.
    """
    words = _Words.of("" if error is None else error)
    fields = error if isinstance(error, Mapping) else {}
    codes = [code for name in ("code", "type") if isinstance(code := fields.get(name), str) and code]
    message = words.message or words.codes or "the response failed, and the server did not say why"
    failure: ApiError | None = None
    known = next((_BY_CODE[code] for code in codes if code in _BY_CODE), None)
    if known is not None:
        delay = (words.delay,) if issubclass(known, _DELAYED) else ()
        failure = known(message, *delay, response=response)
    elif response is not None:
        failure = _known(words, response.status, response)
        if failure is None and 400 <= response.status < 500 and response.status not in _PASSING:
            advice = _ADVICE.get(response.status, "")
            failure = HttpStatusError(f"the server answered {response.status}: {message}{advice}", response=response)
    if failure is None:
        failure = RetryableError(message, words.delay, response=response)
    failure.code = codes[0] if codes else None
    return failure


def code_of(error: ApiError) -> str:
    """The Responses API's code for an error: the server's own, or the one that fits its kind."""
    kinds = (code for code, kind in _BY_CODE.items() if isinstance(error, kind))
    return error.code or next(kinds, "server_error")


def failure_from_response(response: ErrorResponse, *, where: str) -> ApiError:
    """The error for an HTTP response that is not a success; ``where`` names the server in the sentence."""
    words = _Words.of(_body(response.body))
    known = _known(words, response.status, response)
    if known is not None:
        return known
    said = f": {words.message}" if words.message else ""
    advice = _ADVICE.get(response.status, "")
    if 300 <= response.status < 400:
        target = response.headers.get("location", "elsewhere")
        advice = f" (it points to {target}, and redirects are not followed: set the base_url to where it should go)"
    return HttpStatusError(f"{where} answered {response.status}{said}{advice}", response=response)


_DELAYED = (RateLimited, ServerOverloaded, RetryableError)
_BY_CODE: dict[str, type[ApiError]] = {
    "context_length_exceeded": ContextWindowExceeded,
    "insufficient_quota": QuotaExceeded,
    "usage_not_included": UsageNotIncluded,
    "invalid_prompt": InvalidPrompt,
    "server_is_overloaded": ServerOverloaded,
    "slow_down": ServerOverloaded,
    "rate_limit_exceeded": RateLimited,
    "previous_response_not_found": PreviousResponseNotFound,
    "websocket_connection_limit_reached": ConnectionExpired,
}

_ADVICE = {
    401: " (check the api key)",
    403: " (check the api key and what it may use)",
    404: " (check the base_url and the model's name)",
}


class _Words(msgspec.Struct, frozen=True):
    """What an error object says: its code words, its message, the status it names."""

    codes: str
    message: str
    status: int | None
    delay: float | None

    @classmethod
    def of(cls, error: Any) -> _Words:
        while isinstance(error, Mapping) and "message" not in error and (inner := _inner(error)):
            error = inner
        if isinstance(error, Mapping):
            codes = [str(error[name]) for name in ("code", "type", "status") if isinstance(error.get(name), str)]
            message = error.get("message") or error.get("msg") or ""
            status = next((number for name in ("code", "status") if (number := _status(error.get(name)))), None)
        else:
            codes, status = [], None
            message = error
        text = " ".join(_text(message).split())
        return cls(" ".join(codes), _short(text), status, _delay(text))


def _inner(error: Mapping[Any, Any]) -> Any:
    return error.get("error") or error.get("detail") or error.get("errors")


def _text(message: Any) -> str:
    if isinstance(message, str):
        return message
    try:
        return msgspec.json.encode(message).decode()
    except RecursionError:
        return ""  # nested beyond what anybody would read


def _known(words: _Words, status: int | None, response: ErrorResponse | None) -> ApiError | None:
    message = words.message or words.codes or f"the server answered {status}"
    said = f"{words.codes} {words.message}"
    if _CONTEXT.search(said):
        return ContextWindowExceeded(message, response=response)
    if _QUOTA.search(said) or status == 402:
        return QuotaExceeded(message, response=response)
    if _PLAN.search(words.codes):
        return UsageNotIncluded(message, response=response)
    if status == 429 or _RATE.search(words.codes):
        return RateLimited(message, words.delay, response=response)
    if _OVERLOAD.search(words.codes) or status in _OVERLOADED:
        return ServerOverloaded(message, words.delay, response=response)
    if status in (400, 422) or (status is None and _INVALID.search(words.codes)):
        return InvalidPrompt(message, response=response)
    return None


def _body(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        # A web page says nothing in its markup that a person wants to read in an error.
        return "" if text.lstrip().startswith("<") else text


def _status(value: Any) -> int | None:
    if isinstance(value, str) and value.isdecimal() and len(value) == 3:
        value = int(value)
    return value if isinstance(value, int) and 400 <= value <= 599 else None


def _delay(text: str) -> float | None:
    found = _DELAY.search(text)
    if found is None:
        return None
    return float(found[1]) / (1000 if found[2].lower() == "ms" else 1)


def _short(text: str) -> str:
    return text if len(text) <= _MAX_MESSAGE else text[: _MAX_MESSAGE - 1] + "…"
