"""A server's own words for a failure, and the error that they become."""

import json

import pytest

from turnwire.errors import (
    ApiError,
    ContextWindowExceeded,
    ErrorResponse,
    HttpStatusError,
    InvalidPrompt,
    QuotaExceeded,
    RateLimited,
    RetryableError,
    ServerOverloaded,
    UsageNotIncluded,
)
from turnwire.wire.failure import failure_from_object, failure_from_response


def told(error):
    """What an error says: its kind, its sentence, and the delay where it can have one."""
    return (type(error), str(error), error.delay) if hasattr(error, "delay") else (type(error), str(error))


@pytest.mark.parametrize(
    ("said", "error"),
    [
        pytest.param(
            {"message": "Rate limit reached. Please try again in 1.5s.", "code": "rate_limit_exceeded"},
            (RateLimited, "Rate limit reached. Please try again in 1.5s.", 1.5),
            id="a rate limit that says how long",
        ),
        pytest.param(
            {"message": "Try again in 20ms", "code": 429}, (RateLimited, "Try again in 20ms", 0.02), id="milliseconds"
        ),
        pytest.param(
            {"message": "try again in 1 second", "code": "429"},
            (RateLimited, "try again in 1 second", 1.0),
            id="a status in words",
        ),
        pytest.param(
            {"message": "slow", "type": "throttling_error"}, (RateLimited, "slow", None), id="a rate limit by its type"
        ),
        pytest.param(
            {"message": "You exceeded your current quota", "code": 429},
            (QuotaExceeded, "You exceeded your current quota"),
            id="a quota outranks its status",
        ),
        pytest.param({"message": "no", "code": "insufficient_quota"}, (QuotaExceeded, "no"), id="a quota by its code"),
        pytest.param({"message": "pay", "code": 402}, (QuotaExceeded, "pay"), id="a quota by its status"),
        pytest.param(
            {"message": "not in plan", "type": "usage_not_included"}, (UsageNotIncluded, "not in plan"), id="a plan"
        ),
        pytest.param(
            {"message": "busy, try again in 3 seconds", "code": "server_is_overloaded"},
            (ServerOverloaded, "busy, try again in 3 seconds", 3.0),
            id="overloaded",
        ),
        pytest.param({"message": "busy", "code": 503}, (ServerOverloaded, "busy", None), id="overloaded by its status"),
        pytest.param(
            {"message": "too long", "code": "context_length_exceeded"},
            (ContextWindowExceeded, "too long"),
            id="a context by its code",
        ),
        pytest.param(
            {"message": "This model's maximum context length is 4096 tokens.", "code": 400},
            (ContextWindowExceeded, "This model's maximum context length is 4096 tokens."),
            id="a context by its message",
        ),
        pytest.param(
            {"message": "Grammar error", "type": "BadRequestError", "code": 400},
            (InvalidPrompt, "Grammar error"),
            id="bad input by its status",
        ),
        pytest.param({"message": "no", "code": "invalid_prompt"}, (InvalidPrompt, "no"), id="bad input by its code"),
        pytest.param(
            {"message": "engine died", "code": 500},
            (RetryableError, "the server failed in mid-stream: engine died", None),
            id="anything else may pass",
        ),
        pytest.param(
            {"message": "a\n  b", "code": "500"},
            (RetryableError, "the server failed in mid-stream: a b", None),
            id="lines",
        ),
        pytest.param(
            "out of luck", (RetryableError, "the server failed in mid-stream: out of luck", None), id="bare text"
        ),
        pytest.param(
            {"error": {"error": {"message": "in a box", "code": 400}}}, (InvalidPrompt, "in a box"), id="wrapped twice"
        ),
        pytest.param(
            {"message": {"why": "x"}},
            (RetryableError, 'the server failed in mid-stream: {"why":"x"}', None),
            id="a message that is no text",
        ),
        pytest.param(
            {"code": "boom"},
            (RetryableError, "the server failed in mid-stream: boom", None),
            id="no message",
        ),
        pytest.param({}, (RetryableError, "the server failed in mid-stream: it did not say why", None), id="nothing"),
        pytest.param(True, (RetryableError, "the server failed in mid-stream: true", None), id="no object at all"),
    ],
)
def test_an_error_object_becomes_its_typed_error(said, error):
    assert told(failure_from_object(said)) == error


def test_a_long_message_is_shortened_but_its_delay_is_read():
    error = failure_from_object({"message": "x" * 600 + " try again in 2s", "code": 429})
    assert told(error) == (RateLimited, "x" * 499 + "…", 2.0)


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        pytest.param(400, {"error": {"message": "no"}}, (InvalidPrompt, "no"), id="400"),
        pytest.param(422, {"detail": "no"}, (InvalidPrompt, "no"), id="422 with a detail"),
        pytest.param(
            422,
            {"detail": [{"msg": "no", "loc": ["body"]}]},
            (InvalidPrompt, '[{"msg":"no","loc":["body"]}]'),
            id="a list",
        ),
        pytest.param(
            401,
            {"error": {"message": "Invalid API Key", "code": 401}},
            (HttpStatusError, "llama answered 401: Invalid API Key (check the api key)"),
            id="401",
        ),
        pytest.param(
            404, "", (HttpStatusError, "llama answered 404 (check the base_url and the model's name)"), id="404"
        ),
        pytest.param(
            500,
            "<html><body>Internal Server Error</body></html>",
            (HttpStatusError, "llama answered 500"),
            id="a web page says nothing",
        ),
        pytest.param(500, "Oops", (HttpStatusError, "llama answered 500: Oops"), id="bare text"),
        pytest.param(
            307,
            "",
            (
                HttpStatusError,
                "llama answered 307 (it points to /v2, and redirects are not followed: "
                "set the base_url to where it should go)",
            ),
            id="a redirect",
        ),
        pytest.param(402, "", (QuotaExceeded, "the server answered 402"), id="402"),
        pytest.param(429, "", (RateLimited, "the server answered 429", None), id="429"),
        pytest.param(529, "busy", (ServerOverloaded, "busy", None), id="529"),
        pytest.param(
            500,
            {"error": {"message": "x", "type": "context_length_exceeded"}},
            (ContextWindowExceeded, "x"),
            id="words first",
        ),
    ],
)
def test_a_response_becomes_its_typed_error(status, body, error):
    response = ErrorResponse(status, {"location": "/v2"}, body if isinstance(body, str) else json.dumps(body))
    failure = failure_from_response(response, where="llama")
    assert told(failure) == error
    assert failure.response is response


@pytest.mark.parametrize("said", ["[" * 5000, '{"error":' * 400 + "1" + "}" * 400, "[" * 900 + "]" * 900, "1" * 5000])
def test_any_body_becomes_some_error(said):
    assert isinstance(failure_from_response(ErrorResponse(500, {}, said), where="llama"), ApiError)
