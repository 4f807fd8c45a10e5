"""The loop that obeys the decisions: how often a server is asked, and after which pauses."""

from __future__ import annotations

import socket
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from msgspec.structs import replace

from tests.client.hearing import (
    HELLO,
    HELLO_TEXT,
    hear,
    hello_events,
    impatient,
    session_with,
    size_of,
)
from tests.transport.serving import RawServer, silence
from turnwire import (
    ApiError,
    ConnectError,
    Disconnected,
    HttpStatusError,
    IdleTimeout,
    ModelClient,
    OutputItemAdded,
    OutputTextDelta,
    Provider,
    RateLimited,
    ServerOverloaded,
    StreamError,
    StreamRestarted,
)
from turnwire.item import Message
from turnwire.telemetry import RequestRecord, RequestTelemetry
from turnwire.testing import (
    CutCleanly,
    DropBeforeHead,
    EmptyBody,
    ErrorEvent,
    Fault,
    ResetAfter,
    ScriptedServer,
    Stall,
    Status,
    Truncate,
    Turn,
)

pytestmark = pytest.mark.usefixtures("nothing_left")

ONE_DELTA = size_of(HELLO, parts=2)
BEGUN = [OutputItemAdded(Message("assistant", ())), OutputTextDelta("Grüezi")]


def faulty(fault: Fault) -> Turn:
    return replace(HELLO, fault=fault)


class Attempts(RequestTelemetry):
    """The records of all attempts, without their durations."""

    def __init__(self) -> None:
        self.records: list[RequestRecord] = []

    def on_request(self, record: RequestRecord, /) -> None:
        assert record.duration >= 0
        self.records.append(replace(record, duration=0.0))


@pytest.mark.parametrize(
    "fault",
    [Status(408), Status(409), Status(500), Status(502), Status(503), Status(529), DropBeforeHead()],
    ids=lambda fault: repr(fault)[:20],
)
async def test_a_failure_that_may_pass_is_asked_again(fault: Fault, pauses: list[float]) -> None:
    async with ScriptedServer([faulty(fault), faulty(fault), HELLO]) as server:
        async with session_with(server, request_max_retries=4) as session:
            assert await hear(session.stream("Hello")) == (hello_events(3), None)
        first, *others = [(request.headers, request.body) for request in server.requests]
        assert others == [first, first]
    assert pauses == [0.2, 0.4]


@pytest.mark.parametrize("status", [302, 400, 401, 403, 404, 413, 422, 429])
async def test_a_refusal_that_stays_is_not_asked_again(status: int, pauses: list[float]) -> None:
    async with (
        ScriptedServer([faulty(Status(status))]) as server,
        session_with(server, request_max_retries=4, stream_max_retries=4) as session,
    ):
        assert (await hear(session.stream("Hello"))).error is not None
    assert pauses == []


@pytest.mark.parametrize(
    ("fault", "error", "attempts"),
    [
        (Status(500), HttpStatusError, 3),
        (Status(503), ServerOverloaded, 3),
        (DropBeforeHead(), Disconnected, 3),
        (EmptyBody(), StreamError, 4),
        (Truncate(0), Disconnected, 4),
        (ResetAfter(0), Disconnected, 4),
    ],
    ids=lambda value: repr(value)[:40],
)
async def test_requests_and_streams_have_attempts_of_their_own(
    fault: Fault, error: type[ApiError], attempts: int, pauses: list[float]
) -> None:
    async with ScriptedServer([faulty(fault)] * 4) as server:
        async with session_with(server, request_max_retries=2, stream_max_retries=3) as session:
            assert type((await hear(session.stream("Hello"))).error) is error
        assert len(server.requests) == attempts
    assert pauses == [0.2, 0.4, 0.8][: attempts - 1]


async def test_a_refused_connection_is_tried_again(pauses: list[float]) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound and not listening: whoever connects is refused
        provider = impatient(f"http://127.0.0.1:{unused.getsockname()[1]}/v1", request_max_retries=2)
        async with ModelClient(provider) as client:
            heard = await hear(client.new_session().stream("Hello"))
    assert type(heard.error) is ConnectError
    assert str(heard.error) == f"can't connect to {provider.base_url}/chat/completions: connection refused"
    assert pauses == [0.2, 0.4]


TOMORROW = format_datetime(datetime.now(UTC) + timedelta(days=1), usegmt=True)


@pytest.mark.parametrize(
    ("fault", "changes", "pause"),
    [
        (Status(429), {"retry_429": True}, 0.2),
        (Status(429, headers={"retry-after": "7"}), {}, 7.0),
        (Status(429, headers={"retry-after-ms": "1500"}), {}, 1.5),
        (Status(429, headers={"retry-after": "0"}), {}, 0.2),
        (Status(429, headers={"retry-after": "Sun, 01 Mar 2020 12:00:00 GMT"}), {}, 0.2),
        (Status(429, message="Rate limit reached. Please try again in 1.25s."), {}, 1.25),
        (Status(429, message="Please try again in 900ms."), {}, 0.9),
        (Status(503, headers={"retry-after": "7"}), {}, 7.0),
        (Status(500, headers={"retry-after": "0.1"}), {}, 0.2),
        (Status(503, headers={"retry-after": "90"}), {"max_retry_delay": 100}, 90.0),
        (Status(500), {"max_retry_delay": 0.1}, 0.1),
    ],
    ids=lambda value: repr(value)[:70],
)
async def test_the_pause_is_what_the_server_asked_for(
    fault: Fault, changes: dict[str, Any], pause: float, pauses: list[float]
) -> None:
    async with (
        ScriptedServer([faulty(fault), HELLO]) as server,
        session_with(server, request_max_retries=1, **changes) as session,
    ):
        assert (await hear(session.stream("Hello"))).error is None
    assert pauses == [pause]


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Status(429, headers={"retry-after": "61"}), RateLimited),
        (Status(429, headers={"retry-after": TOMORROW}), RateLimited),
        (Status(503, headers={"retry-after": "3600"}), ServerOverloaded),
    ],
    ids=lambda value: repr(value)[:40],
)
async def test_who_asks_for_too_long_a_pause_is_given_up(
    fault: Fault, error: type[ApiError], pauses: list[float]
) -> None:
    async with ScriptedServer([faulty(fault)]) as server, session_with(server, request_max_retries=4) as session:
        assert type((await hear(session.stream("Hello"))).error) is error
    assert pauses == []


@pytest.mark.parametrize(
    "fault",
    [EmptyBody(), CutCleanly(0), CutCleanly(20), ResetAfter(0), Truncate(20), Stall(0), ErrorEvent(0)],
    ids=repr,
)
async def test_a_stream_that_breaks_before_its_first_event_is_begun_anew(fault: Fault, pauses: list[float]) -> None:
    async with (
        ScriptedServer([faulty(fault), HELLO]) as server,
        session_with(server, stream_max_retries=1, idle_timeout=0.1) as session,
    ):
        assert await hear(session.stream("Hello")) == (hello_events(2), None)
    assert pauses == [0.2]


@pytest.mark.parametrize(
    "fault",
    [CutCleanly(ONE_DELTA), ResetAfter(ONE_DELTA), Truncate(ONE_DELTA), Stall(ONE_DELTA), ErrorEvent(1)],
    ids=repr,
)
async def test_a_stream_that_breaks_after_its_first_event_is_not_repeated_behind_the_caller_s_back(
    fault: Fault, pauses: list[float]
) -> None:
    async with (
        ScriptedServer([faulty(fault)]) as server,
        session_with(server, request_max_retries=5, stream_max_retries=5, idle_timeout=0.1) as session,
    ):
        events, error = await hear(session.stream("Hello"))
    assert events == BEGUN
    assert error is not None
    assert (error.committed, error.text) == (True, "Grüezi")
    assert pauses == []


async def test_restarts_are_told_and_take_back_what_came_before(pauses: list[float]) -> None:
    script = [faulty(CutCleanly(ONE_DELTA)), faulty(Truncate(ONE_DELTA)), faulty(EmptyBody()), HELLO]
    async with ScriptedServer(script) as server, session_with(server, stream_max_retries=3) as session:
        stream = session.stream("Hello", restart=True)
        events, error = await hear(stream)
        where = f"{server.base_url}/chat/completions"
    assert error is None
    assert events == [
        *BEGUN,
        StreamRestarted(1, "the stream ended without a finish reason or [DONE]: it was cut off"),
        *BEGUN,
        StreamRestarted(2, f"{where} broke off in the middle of its response"),
        StreamRestarted(3, "the server sent an empty body instead of an answer"),
        *hello_events(4),
    ]
    assert (stream.text, len(stream.items)) == (HELLO_TEXT, 1)
    assert pauses == [0.2, 0.4, 0.8]


async def test_restarts_end_with_their_number(pauses: list[float]) -> None:
    async with (
        ScriptedServer([faulty(Truncate(ONE_DELTA))] * 2) as server,
        session_with(server, stream_max_retries=1) as session,
    ):
        events, error = await hear(session.stream("Hello", restart=True))
    assert [type(event) for event in events] == [*map(type, BEGUN), StreamRestarted, *map(type, BEGUN)]
    assert isinstance(error, Disconnected)
    assert pauses == [0.2]


async def test_a_head_that_never_comes_is_an_idle_timeout_and_asked_again(pauses: list[float]) -> None:
    async with RawServer(silence) as server:
        provider = impatient(server.url, idle_timeout=0.05, request_max_retries=3, stream_max_retries=1)
        async with ModelClient(provider) as client, client.new_session() as session:
            with pytest.raises(IdleTimeout, match=r"^no response from scripted within idle_timeout, 0\.05 s$"):
                await session.stream("Hello").__aenter__()
        assert len(server.requests) == 2
    assert pauses == [0.2]


async def test_every_attempt_is_told_to_the_telemetry(pauses: list[float]) -> None:
    script = [
        faulty(DropBeforeHead()),
        faulty(Status(429, headers={"retry-after": "2"})),
        faulty(EmptyBody()),
        faulty(Status(503)),
        HELLO,
        faulty(Status(401)),
    ]
    attempts = Attempts()
    async with ScriptedServer(script) as server:
        provider = impatient(server.base_url, request_max_retries=4, stream_max_retries=2, query={"key": "secret"})
        async with ModelClient(provider, request_telemetry=attempts) as client, client.new_session() as session:
            assert (await hear(session.stream("Hello"))).error is None
            assert (await hear(session.stream("Hello"))).error is not None
        url = f"{server.base_url}/chat/completions"
    assert attempts.records == [
        RequestRecord("scripted", url, 0, 0.0, None, "Disconnected", 0.2),
        RequestRecord("scripted", url, 1, 0.0, 429, "RateLimited", 2.0),
        RequestRecord("scripted", url, 2, 0.0, 200),
        RequestRecord("scripted", url, 0, 0.0, 503, "ServerOverloaded", 0.2),
        RequestRecord("scripted", url, 1, 0.0, 200),
        RequestRecord("scripted", url, 0, 0.0, 401, "HttpStatusError"),
    ]
    assert pauses == [0.2, 2.0, 0.2, 0.2]


async def test_a_failed_connection_is_told_to_the_telemetry(pauses: list[float]) -> None:
    attempts = Attempts()
    provider = Provider("closed", "http://127.0.0.1:1/v1", model="m", request_max_retries=1)
    async with ModelClient(provider, request_telemetry=attempts) as client:
        await hear(client.new_session().stream("Hello"))
    url = "http://127.0.0.1:1/v1/chat/completions"
    assert attempts.records == [
        RequestRecord("closed", url, 0, 0.0, None, "ConnectError", 0.2),
        RequestRecord("closed", url, 1, 0.0, None, "ConnectError"),
    ]


async def test_a_key_is_asked_for_anew_with_each_attempt(pauses: list[float]) -> None:
    keys = iter(["first", "second"])

    async def key() -> str:
        return next(keys)

    async with ScriptedServer([faulty(Status(500)), HELLO]) as server:
        async with session_with(server, api_key=key, request_max_retries=1) as session:
            assert (await hear(session.stream("Hello"))).error is None
        assert [request.headers["authorization"] for request in server.requests] == ["Bearer first", "Bearer second"]


async def test_a_silent_server_s_error_is_both_a_stream_error_and_a_timeout() -> None:
    async with ScriptedServer([faulty(Stall(0))]) as server, session_with(server, idle_timeout=0.05) as session:
        error = (await hear(session.stream("Hello"))).error
    assert isinstance(error, IdleTimeout)
    assert isinstance(error, StreamError)
    assert isinstance(error, TimeoutError)
    assert str(error) == "idle timeout waiting for SSE: no event from scripted for 0.05 s"
