"""Failures over the Responses API: a server's words as typed errors, and typed errors as a server's words."""

import json

import pytest

from tests.wire.responses.reading import sse
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
    StreamError,
    UsageNotIncluded,
)
from turnwire.wire.responses import ResponsesDecoder, encode_error_frame, encode_failure

CODES = {
    "context_length_exceeded": ContextWindowExceeded,
    "insufficient_quota": QuotaExceeded,
    "usage_not_included": UsageNotIncluded,
    "invalid_prompt": InvalidPrompt,
    "server_is_overloaded": ServerOverloaded,
    "slow_down": ServerOverloaded,
    "rate_limit_exceeded": RateLimited,
    "previous_response_not_found": PreviousResponseNotFound,
    "websocket_connection_limit_reached": ConnectionExpired,
    "server_error": RetryableError,
    "invalid_request_error": RetryableError,
    "anything_else": RetryableError,
}


def failure_of(payload, frames=False):
    decoder = ResponsesDecoder()
    events = decoder.feed_frame(json.dumps(payload)) if frames else decoder.feed(sse(payload))
    with pytest.raises(ApiError) as caught:
        list(events)
    assert decoder.over
    return caught.value


def told(error):
    return type(error), error.code, error.message, getattr(error, "delay", None), error.response


@pytest.mark.parametrize("code", CODES)
def test_a_code_decides_over_the_kind_of_error_wherever_it_stands(code):
    error = {"code": code, "message": "Sorry. Please try again in 1.5s."}
    delay = 1.5 if issubclass(CODES[code], RateLimited | ServerOverloaded | RetryableError) else None
    expected = (CODES[code], code, error["message"], delay, None)
    for payload in (
        {"type": "response.failed", "response": {"error": error}},
        {"type": "error", "error": error},
        {"type": "error", **error},
    ):
        assert told(failure_of(payload)) == told(failure_of(payload, frames=True)) == expected


@pytest.mark.parametrize(
    ("message", "delay"),
    [
        ("Please try again in 28ms.", 0.028),
        ("try again in 1.898s", 1.898),
        ("Try again in 35 seconds.", 35.0),
        ("Please try again later.", None),
    ],
)
def test_the_delay_stands_in_the_message(message, delay):
    error = {"code": "rate_limit_exceeded", "message": message}
    assert failure_of({"type": "response.failed", "response": {"error": error}}).delay == delay


@pytest.mark.parametrize("response", [None, {}, {"error": None}, "x", {"error": {"code": None, "message": None}}])
def test_a_failure_without_words_may_pass(response):
    expected = (RetryableError, None, "the response failed, and the server did not say why", None, None)
    assert told(failure_of({"type": "response.failed", "response": response})) == expected


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, InvalidPrompt),
        (401, HttpStatusError),
        (403, HttpStatusError),
        (404, HttpStatusError),
        (408, RetryableError),
        (409, RetryableError),
        (429, RateLimited),
        (500, RetryableError),
        (503, ServerOverloaded),
    ],
)
def test_where_the_code_tells_nothing_a_frames_status_decides(status, kind):
    frame = {"type": "error", "status": status, "error": {"code": "odd", "message": "no"}, "headers": {"A": ["b"]}}
    error = failure_of(frame, frames=True)
    body = '{"error":{"code":"odd","message":"no"}}'
    assert (type(error), error.code, error.response) == (kind, "odd", ErrorResponse(status, {"a": "b"}, body))


@pytest.mark.parametrize(("value", "seconds"), [("3", 3.0), ("1.5", 1.5), ("x", None), ("Wed, 21 Oct 2015", None)])
def test_a_frames_headers_say_when_to_come_back(value, seconds):
    frame = {"type": "error", "status": 429, "error": {"code": "x"}, "headers": {"Retry-After": value}}
    response = failure_of(frame, frames=True).response
    assert (response.retry_after, response.headers) == (seconds, {"retry-after": value})


@pytest.mark.parametrize("depth", [300, 700, 900, 5000])
def test_no_depth_of_nesting_is_a_way_out(depth):
    nested = "[" * depth + "]" * depth
    decoder = ResponsesDecoder()
    with pytest.raises(ApiError):
        list(decoder.feed_frame(f'{{"type":"error","status":400,"error":{nested}}}'))


@pytest.mark.parametrize("code", ["previous_response_not_found", "websocket_connection_limit_reached"])
def test_a_code_outranks_a_frames_status(code):
    frame = {"type": "error", "status": 400, "error": {"code": code, "message": "no"}}
    assert type(failure_of(frame, frames=True)) is CODES[code]


ERRORS = [
    ContextWindowExceeded("too long"),
    QuotaExceeded("nothing left"),
    UsageNotIncluded("not in the plan"),
    InvalidPrompt("no"),
    ServerOverloaded("busy"),
    ServerOverloaded("busy", 2.0),
    RateLimited("slow", 0.028),
    RateLimited("slow. Please try again in 1.5s.", 1.5),
    PreviousResponseNotFound("who?"),
    ConnectionExpired("too old"),
    RetryableError("boom"),
]


@pytest.mark.parametrize("error", ERRORS, ids=repr)
def test_what_is_told_of_an_error_is_read_back(error):
    fields = encode_failure(error)
    again = failure_of({"type": "response.failed", "response": {"error": fields}})
    assert (type(again), getattr(again, "delay", None)) == (type(error), getattr(error, "delay", None))
    assert (again.message, again.code) == (fields["message"], fields["code"])
    assert type(failure_of(json.loads(encode_error_frame(error)), frames=True)) is type(error)


def test_a_delay_is_told_in_words_once():
    assert [encode_failure(error)["message"] for error in ERRORS[5:8]] == [
        "busy. Please try again in 2s.",
        "slow. Please try again in 0.028s.",
        "slow. Please try again in 1.5s.",
    ]


def test_an_error_without_a_meaning_of_its_own_is_a_server_error():
    assert encode_failure(StreamError("cut")) == {"code": "server_error", "message": "cut"}


def test_a_code_that_a_server_gave_goes_on_as_it_came():
    error = failure_of({"type": "error", "error": {"code": "cyber_policy", "message": "no"}})
    assert encode_failure(error) == {"code": "cyber_policy", "message": "no"}


@pytest.mark.parametrize(
    ("error", "status", "kind", "headers"),
    [
        (InvalidPrompt("no"), 400, "invalid_request_error", {}),
        (PreviousResponseNotFound("no"), 400, "invalid_request_error", {}),
        (UsageNotIncluded("no"), 403, "invalid_request_error", {}),
        (HttpStatusError("no", response=ErrorResponse(401)), 401, "invalid_request_error", {}),
        (QuotaExceeded("no"), 429, "server_error", {}),
        (RateLimited("no"), 429, "server_error", {"retry-after": "1"}),
        (RateLimited("no. Please try again in 1.2s.", 1.2), 429, "server_error", {"retry-after": "2"}),
        (ServerOverloaded("no"), 503, "server_error", {"retry-after": "1"}),
        (StreamError("no"), 500, "server_error", {}),
    ],
)
def test_an_error_frame_has_all_that_a_client_needs(error, status, kind, headers):
    frame = json.loads(encode_error_frame(error, headers={"x-request-id": "7"}))
    fields = {"type": kind, **encode_failure(error), "param": None}
    expected = {"type": "error", "status": status, "error": fields, "headers": {**headers, "x-request-id": "7"}}
    assert frame == expected


def test_an_error_frame_may_be_given_another_status():
    assert json.loads(encode_error_frame(StreamError("no"), status=502))["status"] == 502
