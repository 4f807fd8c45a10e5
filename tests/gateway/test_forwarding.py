"""Which headers cross the gateway, and which stay on their side."""

from __future__ import annotations

import pytest

from turnwire.gateway.forwarding import can_travel, request_headers, response_headers

CODEX = {
    "user-agent": "codex_exec/0.169.0",
    "originator": "codex_exec",
    "version": "0.169.0",
    "session-id": "s",
    "session_id": "s",
    "thread-id": "t",
    "x-client-request-id": "t",
    "x-codex-window-id": "w",
    "x-codex-turn-metadata": '{"request_kind":"turn"}',
    "x-codex-beta-features": "a,b",
    "x-openai-subagent": "review",
    "openai-beta": "responses=v1",
    "traceparent": "00-1-2-01",
    "tracestate": "a=b",
    "x-request-id": "r",
    "idempotency-key": "i",
}
KEPT_BACK = {
    "authorization": "Bearer secret",
    "api-key": "secret",
    "x-api-key": "secret",
    "chatgpt-account-id": "secret",
    "openai-organization": "org",
    "cookie": "a=b",
    "host": "gateway",
    "connection": "keep-alive",
    "keep-alive": "timeout=5",
    "proxy-authorization": "secret",
    "te": "trailers",
    "transfer-encoding": "chunked",
    "upgrade": "websocket",
    "content-length": "5",
    "content-encoding": "zstd",
    "content-type": "application/json",
    "accept": "text/event-stream",
    "accept-encoding": "br",
    "x-forwarded-for": "10.0.0.1",
    "x-codex-turn-state": "token",
}


def test_an_upstream_gets_what_says_who_asks_and_in_which_turn_but_no_key() -> None:
    assert request_headers({**CODEX, **KEPT_BACK}) == CODEX


def test_a_client_gets_limits_and_the_upstreams_request_id_but_nothing_that_makes_codex_doubt_its_model() -> None:
    returned = {
        "openai-processing-ms": "12",
        "openai-version": "2020-10-01",
        "x-ratelimit-remaining-tokens": "5",
        "x-codex-primary-used-percent": "3",
    }
    kept_back = {
        "x-codex-turn-state": "token",
        "x-models-etag": "e",
        "openai-model": "other",
        "openai-organization": "org",
        "set-cookie": "a=b",
        "connection": "close",
        "content-length": "5",
        "content-type": "text/event-stream",
        "server": "uvicorn",
        "www-authenticate": "Basic",
    }
    assert response_headers({**returned, **kept_back, "x-request-id": "req_1"}) == {
        **returned,
        "x-upstream-request-id": "req_1",
    }


def test_names_are_compared_and_sent_on_in_lower_case() -> None:
    assert request_headers({"X-Codex-Window-Id": "w", "X-CODEX-TURN-STATE": "token"}) == {"x-codex-window-id": "w"}


@pytest.mark.parametrize(
    ("value", "fit"),
    [
        ("a", True),
        ("a b", True),
        ("x" * 8192, True),
        ("x" * 8193, False),
        ("", False),
        ("a\r\nx: y", False),
        ("a\tb", False),
        ("\x7f", False),
        ("Zürich", False),
        ("\udce9", False),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_a_value_is_sent_on_if_it_fits_a_header(value: str, fit: bool) -> None:
    assert can_travel(value) is fit
    assert request_headers({"x-codex-a": value}) == ({"x-codex-a": value} if fit else {})


def test_more_than_16_kib_are_not_sent_on() -> None:
    headers = {f"x-codex-{number}": "x" * 8_000 for number in range(3)} | {"originator": "codex"}
    assert request_headers(headers) == {"x-codex-0": "x" * 8_000, "x-codex-1": "x" * 8_000, "originator": "codex"}
