"""What clients are told of errors: statuses over HTTP, frames on a WebSocket, codes in mid-stream."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from turnwire.errors import (
    ApiError,
    ConfigurationError,
    ConnectError,
    ConnectionExpired,
    ConnectTimeout,
    ContextWindowExceeded,
    Disconnected,
    ErrorResponse,
    HttpStatusError,
    IdleTimeout,
    InvalidPrompt,
    PreviousResponseNotFound,
    ProtocolError,
    QuotaExceeded,
    RateLimited,
    RetryableError,
    ServerOverloaded,
    StreamError,
    TlsError,
    TransportError,
    UsageNotIncluded,
)
from turnwire.gateway.body import BodyTimeout
from turnwire.gateway.caller import Unauthorized
from turnwire.gateway.refusal import NotServed, UnknownModel, refusal, refusal_frame, stream_failure
from turnwire.wire.failure import code_of, failure_from_code, failure_from_response

JSON = {"content-type": "application/json"}
SOON = {**JSON, "retry-after": "1"}


def answered(status: int, **fields: Any) -> HttpStatusError:
    return HttpStatusError("says no", response=ErrorResponse(status, **fields))


TOLD: list[tuple[ApiError, int, dict[str, str], str, type[ApiError], str]] = [
    # the error; over HTTP: status, headers, code; in mid-stream: what it becomes, its code
    (InvalidPrompt("says no"), 400, JSON, "invalid_prompt", InvalidPrompt, "invalid_prompt"),
    (UnknownModel("says no"), 400, JSON, "model_not_found", InvalidPrompt, "invalid_prompt"),
    (
        ContextWindowExceeded("says no"),
        400,
        JSON,
        "context_length_exceeded",
        ContextWindowExceeded,
        "context_length_exceeded",
    ),
    (QuotaExceeded("says no"), 400, JSON, "insufficient_quota", QuotaExceeded, "insufficient_quota"),
    (UsageNotIncluded("says no"), 400, JSON, "usage_not_included", UsageNotIncluded, "usage_not_included"),
    (
        PreviousResponseNotFound("says no"),
        400,
        JSON,
        "previous_response_not_found",
        PreviousResponseNotFound,
        "previous_response_not_found",
    ),
    (
        ConnectionExpired("says no"),
        400,
        JSON,
        "websocket_connection_limit_reached",
        ConnectionExpired,
        "websocket_connection_limit_reached",
    ),
    (ConfigurationError("says no"), 400, JSON, "gateway_misconfigured", InvalidPrompt, "invalid_prompt"),
    (
        Unauthorized("says no"),
        401,
        {**JSON, "www-authenticate": "Bearer"},
        "invalid_api_key",
        InvalidPrompt,
        "invalid_prompt",
    ),
    (BodyTimeout("says no"), 408, JSON, "request_timeout", RetryableError, "server_error"),
    (RateLimited("says no"), 429, SOON, "rate_limit_exceeded", RateLimited, "rate_limit_exceeded"),
    (
        RateLimited("says no", 12.1),
        429,
        {**JSON, "retry-after": "13"},
        "rate_limit_exceeded",
        RateLimited,
        "rate_limit_exceeded",
    ),
    (ServerOverloaded("says no"), 503, SOON, "slow_down", ServerOverloaded, "slow_down"),
    (ServerOverloaded("says no", 0.0), 503, SOON, "slow_down", ServerOverloaded, "slow_down"),
    (IdleTimeout("says no"), 504, SOON, "upstream_timeout", RetryableError, "server_error"),
    (ConnectTimeout("says no"), 504, SOON, "upstream_timeout", RetryableError, "server_error"),
    (ConnectError("says no"), 502, SOON, "upstream_unreachable", RetryableError, "server_error"),
    (TlsError("says no"), 502, SOON, "upstream_unreachable", RetryableError, "server_error"),
    (Disconnected("says no"), 502, SOON, "upstream_unreachable", RetryableError, "server_error"),
    (TransportError("says no"), 502, SOON, "upstream_unreachable", RetryableError, "server_error"),
    (StreamError("says no"), 502, SOON, "upstream_failed", RetryableError, "server_error"),
    (ProtocolError("says no"), 502, SOON, "upstream_failed", RetryableError, "server_error"),
    (RetryableError("says no"), 502, SOON, "upstream_failed", RetryableError, "server_error"),
    (answered(422), 400, JSON, "upstream_refused", InvalidPrompt, "invalid_prompt"),
    (answered(404), 400, JSON, "upstream_refused", InvalidPrompt, "invalid_prompt"),
    (answered(413), 400, JSON, "upstream_refused", InvalidPrompt, "invalid_prompt"),
    (answered(301), 400, JSON, "upstream_refused", InvalidPrompt, "invalid_prompt"),
    (answered(408), 502, SOON, "upstream_failed", RetryableError, "server_error"),
    (answered(409), 502, SOON, "upstream_failed", RetryableError, "server_error"),
    (answered(500), 502, SOON, "upstream_failed", RetryableError, "server_error"),
    (
        answered(500, retry_after=2.5),
        502,
        {**JSON, "retry-after": "3"},
        "upstream_failed",
        RetryableError,
        "server_error",
    ),
    (ApiError("says no"), 500, JSON, "server_error", RetryableError, "server_error"),
]


@pytest.mark.parametrize("told", TOLD, ids=lambda told: f"{type(told[0]).__name__} {told[1]}")
def test_each_kind_of_error_has_its_status_its_headers_and_its_code(
    told: tuple[ApiError, int, dict[str, str], str, type[ApiError], str],
) -> None:
    error, status, headers, code, kind_in_stream, code_in_stream = told
    refused = refusal(error)
    assert (refused.status, refused.headers) == (status, headers)
    kind = {401: "authentication_error", 429: "rate_limit_error"}.get(
        status, "server_error" if status >= 500 else "invalid_request_error"
    )
    param = "model" if isinstance(error, UnknownModel) else None
    assert msgspec.json.decode(refused.body) == {
        "error": {"message": "says no", "type": kind, "param": param, "code": code}
    }
    failure = stream_failure(error)
    assert (type(failure), failure.message, code_of(failure)) == (kind_in_stream, "says no", code_in_stream)


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_is_said_to_be_the_gateways_own(status: int) -> None:
    message = "the key that the gateway itself uses was refused: says no"
    refused = refusal(answered(status))
    assert refused.status == 400
    assert msgspec.json.decode(refused.body) == {
        "error": {
            "message": message,
            "type": "invalid_request_error",
            "param": None,
            "code": "upstream_refused_key",
        }
    }
    assert str(stream_failure(answered(status))) == message


@pytest.mark.parametrize(
    ("error", "status", "headers"),
    [
        (NotServed("there is no such path"), 404, {}),
        (NotServed("there is no such path", status=405, headers={"allow": "GET"}), 405, {"allow": "GET"}),
        (
            NotServed("there is no such path", status=426, headers={"upgrade": "websocket"}),
            426,
            {"upgrade": "websocket"},
        ),
    ],
    ids=lambda value: getattr(value, "status", ""),
)
def test_what_the_gateway_does_not_have_says_so_by_its_status(
    error: NotServed, status: int, headers: dict[str, str]
) -> None:
    refused = refusal(error)
    assert (refused.status, refused.headers) == (status, {**JSON, **headers})
    assert msgspec.json.decode(refused.body) == {
        "error": {"message": "there is no such path", "type": "invalid_request_error", "param": None, "code": None}
    }


def test_of_an_upstreams_headers_only_its_request_id_and_when_to_come_back_are_passed_on() -> None:
    headers = {"x-request-id": "req_1", "set-cookie": "a=b", "server": "uvicorn", "retry-after": "soon"}
    error = RateLimited("says no", response=ErrorResponse(429, headers, "", 7.0))
    assert refusal(error).headers == {**JSON, "retry-after": "7", "x-upstream-request-id": "req_1"}


def test_a_request_id_that_fits_no_header_is_left_out() -> None:
    error = InvalidPrompt("says no", response=ErrorResponse(400, {"x-request-id": "a\r\nb: c"}))
    assert refusal(error).headers == JSON


@pytest.mark.parametrize(
    "error",
    [
        InvalidPrompt("says no"),
        ContextWindowExceeded("says no"),
        QuotaExceeded("says no"),
        RateLimited("says no", 3.0),
        ServerOverloaded("says no", 3.0),
    ],
    ids=lambda error: type(error).__name__,
)
def test_the_librarys_own_client_reads_the_same_kind_back(error: ApiError) -> None:
    refused = refusal(error)
    retry_after = refused.headers.get("retry-after")
    response = ErrorResponse(
        refused.status, refused.headers, refused.body.decode(), None if retry_after is None else float(retry_after)
    )
    read = failure_from_response(response, where="the gateway")
    assert (type(read), read.message, getattr(read, "delay", None)) == (
        type(error),
        error.message,
        getattr(error, "delay", None),
    )


def test_a_frame_says_what_http_would_have_said() -> None:
    error = ServerOverloaded("says no", response=ErrorResponse(503, {"x-request-id": "req_1"}, "", 2.0))
    assert msgspec.json.decode(refusal_frame(error)) == {
        "type": "error",
        "status": 503,
        "error": {
            "type": "server_error",
            "code": "slow_down",
            "message": "says no. Please try again in 2s.",
            "param": None,
        },
        "headers": {"retry-after": "2", "x-upstream-request-id": "req_1"},
    }


@pytest.mark.parametrize("told", TOLD, ids=lambda told: f"{type(told[0]).__name__} {told[1]}")
def test_every_frame_has_a_status_and_the_code_of_the_refusal(
    told: tuple[ApiError, int, dict[str, str], str, type[ApiError], str],
) -> None:
    error, status, headers, code, *_ = told
    frame = msgspec.json.decode(refusal_frame(error))
    assert (frame["status"], frame["error"]["code"]) == (status, code)
    assert frame["headers"] == {name: value for name, value in headers.items() if name != "content-type"}


def test_a_frame_for_what_is_not_served_has_its_status() -> None:
    frame = msgspec.json.decode(refusal_frame(NotServed("no such thing")))
    assert (frame["status"], frame["error"]["message"]) == (404, "no such thing")


def test_in_mid_stream_a_delay_is_kept() -> None:
    for error in (RateLimited("says no", 1.5), ServerOverloaded("says no", 1.5), RetryableError("says no", 1.5)):
        failure = stream_failure(error)
        assert getattr(failure, "delay", None) == 1.5
        read = failure_from_code({"code": code_of(failure), "message": "try again in 1.5s"})
        assert type(read) is type(error)


def test_a_servers_own_word_gives_way_to_one_whose_effect_is_known() -> None:
    error = InvalidPrompt("says no")
    error.code = "invalid_request_error"  # after which Codex would ask again
    assert code_of(stream_failure(error)) == "invalid_prompt"
