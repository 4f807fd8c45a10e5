"""When a request is tried again and after how long: tables of decisions."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from turnwire.client.retry import RetryPolicy, parse_retry_after, request_delay, stream_delay
from turnwire.errors import (
    ApiError,
    ConfigurationError,
    ConnectError,
    ConnectTimeout,
    ContextWindowExceeded,
    Disconnected,
    ErrorResponse,
    HttpStatusError,
    IdleTimeout,
    InvalidPrompt,
    ProtocolError,
    QuotaExceeded,
    RateLimited,
    RetryableError,
    ServerOverloaded,
    StreamError,
    TlsError,
    UsageNotIncluded,
)

POLICY = RetryPolicy()
PATIENT_WITH_429 = replace(POLICY, retry_429=True)
MIDDLE = 0.5
"""The jitter that changes nothing."""


def status(number: int, retry_after: float | None = None) -> HttpStatusError:
    return HttpStatusError("no", response=ErrorResponse(number, retry_after=retry_after))


def rate_limited(delay: float | None = None, retry_after: float | None = None) -> RateLimited:
    return RateLimited("slow down", delay, response=ErrorResponse(429, retry_after=retry_after))


def overloaded(retry_after: float | None = None) -> ServerOverloaded:
    return ServerOverloaded("busy", response=ErrorResponse(503, retry_after=retry_after))


def shown(value: object) -> str:
    if isinstance(value, HttpStatusError):
        return str(value.status)
    return type(value).__name__ if isinstance(value, ApiError) else repr(value)


@pytest.mark.parametrize(
    ("error", "delay"),
    [
        (ConnectError("refused"), 0.2),
        (ConnectTimeout("late"), 0.2),
        (Disconnected("gone"), 0.2),
        (status(408), 0.2),
        (status(409), 0.2),
        (status(500), 0.2),
        (status(502), 0.2),
        (status(504), 0.2),
        (overloaded(), 0.2),
        (TlsError("no trust"), None),
        (status(301), None),
        (status(401), None),
        (status(403), None),
        (status(404), None),
        (status(413), None),
        (InvalidPrompt("no"), None),
        (ContextWindowExceeded("full"), None),
        (QuotaExceeded("spent"), None),
        (UsageNotIncluded("no"), None),
        (ProtocolError("what?"), None),
        (ConfigurationError("no"), None),
        (IdleTimeout("silent"), None),
    ],
    ids=shown,
)
def test_what_may_pass_by_itself_is_asked_again(error: ApiError, delay: float | None) -> None:
    assert request_delay(POLICY, error, 0, jitter=MIDDLE) == delay


@pytest.mark.parametrize(
    ("error", "delay"),
    [
        (StreamError("cut"), 0.2),
        (IdleTimeout("silent"), 0.2),
        (Disconnected("gone"), 0.2),
        (RetryableError("died"), 0.2),
        (RetryableError("died", 3.0), 3.0),
        (ServerOverloaded("busy"), 0.2),
        (RateLimited("slow down", 3.0), 3.0),
        (RateLimited("slow down"), None),
        (ContextWindowExceeded("full"), None),
        (InvalidPrompt("no"), None),
        (QuotaExceeded("spent"), None),
        (ProtocolError("what?"), None),
        (status(500), None),
        (ConnectError("refused"), None),
    ],
    ids=shown,
)
def test_a_stream_that_broke_is_begun_anew_where_that_promises_something(error: ApiError, delay: float | None) -> None:
    assert stream_delay(POLICY, error, 0, jitter=MIDDLE) == delay


@pytest.mark.parametrize(
    ("policy", "error", "delay"),
    [
        (POLICY, rate_limited(), None),
        (POLICY, rate_limited(retry_after=3.0), 3.0),
        (POLICY, rate_limited(delay=3.0), 3.0),
        (POLICY, rate_limited(delay=3.0, retry_after=5.0), 5.0),
        (POLICY, rate_limited(retry_after=0.0), 0.2),
        (PATIENT_WITH_429, rate_limited(), 0.2),
        (PATIENT_WITH_429, rate_limited(retry_after=3.0), 3.0),
        (POLICY, rate_limited(retry_after=60.0), 60.0),
        (POLICY, rate_limited(retry_after=60.1), None),
        (PATIENT_WITH_429, rate_limited(retry_after=3600.0), None),
        (POLICY, overloaded(retry_after=0.05), 0.2),
        (POLICY, overloaded(retry_after=7.0), 7.0),
        (POLICY, overloaded(retry_after=61.0), None),
        (POLICY, status(500, retry_after=2.0), 2.0),
        (replace(POLICY, max_delay=2.0), status(500, retry_after=2.5), None),
        (replace(POLICY, max_delay=0.1), status(500), 0.1),
    ],
)
def test_nobody_is_asked_before_the_time_they_named(policy: RetryPolicy, error: ApiError, delay: float | None) -> None:
    assert request_delay(policy, error, 0, jitter=MIDDLE) == delay


def test_pauses_double_up_to_the_longest_and_end_with_the_attempts() -> None:
    policy = RetryPolicy(request_max_retries=6, stream_max_retries=3, max_delay=3.0)
    error = Disconnected("gone")
    assert [request_delay(policy, error, attempt, jitter=MIDDLE) for attempt in range(8)] == [
        pytest.approx(seconds) if seconds else None for seconds in (0.2, 0.4, 0.8, 1.6, 3.0, 3.0, None, None)
    ]
    assert [stream_delay(policy, error, attempt, jitter=MIDDLE) for attempt in range(5)] == [
        pytest.approx(seconds) if seconds else None for seconds in (0.2, 0.4, 0.8, None, None)
    ]


@pytest.mark.parametrize(("jitter", "delay"), [(0.0, 0.18), (0.25, 0.19), (1.0, 0.22)])
def test_pauses_are_spread_by_a_tenth_either_way(jitter: float, delay: float) -> None:
    assert request_delay(POLICY, ConnectError("refused"), 0, jitter=jitter) == pytest.approx(delay)


@given(
    attempt=st.integers(0, 2000),
    jitter=st.floats(0, 1),
    asked=st.none() | st.floats(0, 1e6),
    max_delay=st.floats(0, 1e4),
)
def test_a_pause_is_never_longer_than_the_longest_nor_shorter_than_asked(
    attempt: int, jitter: float, asked: float | None, max_delay: float
) -> None:
    policy = RetryPolicy(request_max_retries=10_000, max_delay=max_delay)
    delay = request_delay(policy, status(503, asked), attempt, jitter=jitter)
    if delay is None:
        assert asked is not None
        assert asked > max_delay
    else:
        assert (asked or 0.0) <= delay <= max_delay


NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "3"}, 3.0),
        ({"retry-after": " 3 "}, 3.0),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "1e9"}, None),
        ({"retry-after": "9" * 400}, None),
        ({"retry-after": "Sun, 01 Mar 2026 12:00:07 GMT"}, 7.0),
        ({"retry-after": "Sunday, 01-Mar-26 12:00:07 GMT"}, 7.0),
        ({"retry-after": "Sun, 01 Mar 2026 13:00:07 +0100"}, 7.0),
        ({"retry-after": "Sun, 01 Mar 2026 12:00:07 -0000"}, 7.0),
        ({"retry-after": "Sun, 01 Mar 2026 11:59:00 GMT"}, 0.0),
        ({"retry-after": "Sun, 99 Mar 2026 12:00:07 GMT"}, None),
        ({"retry-after": "Sun, 01 Mar 2026 12:00:07 +99999999999999999"}, None),
        ({"retry-after-ms": "250"}, 0.25),
        ({"retry-after-ms": "250", "retry-after": "1"}, 0.25),
        ({"retry-after-ms": "never", "retry-after": "1"}, 1.0),
    ],
    ids=lambda value: str(value)[:50],
)
def test_a_server_may_say_when_in_seconds_milliseconds_or_a_date(
    headers: dict[str, str], seconds: float | None
) -> None:
    assert parse_retry_after(headers, NOW) == seconds


@given(st.text() | st.from_regex(r"(Sun, )?\d{1,5} (Mar|Feb) \d{1,6} (\d{1,3}:?){1,4} ([+-]\d{1,30}|GMT|[A-Z]*)"))
def test_any_header_gives_seconds_or_nothing(value: str) -> None:
    for headers in ({"retry-after": value}, {"retry-after-ms": value}):
        seconds = parse_retry_after(headers, NOW)
        assert seconds is None or seconds >= 0.0


@given(st.integers(0, 10**9))
def test_a_date_is_as_far_as_it_says(seconds: int) -> None:
    date = format_datetime(NOW + timedelta(seconds=seconds), usegmt=True)
    assert parse_retry_after({"retry-after": date}, NOW) == seconds
