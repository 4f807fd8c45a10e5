"""The record of a stream: whole ones, for every way in which a stream can end."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from typing import Any

import pytest
from msgspec.structs import replace

from tests.client.hearing import HELLO, hear, impatient, size_of
from tests.client.wires import AUTO, SOCKET, SSE
from turnwire import ModelClient, Provider, ResponseStream, TokenUsage
from turnwire.telemetry import RetryRecord, StreamRecord, StreamTelemetry
from turnwire.testing import ResetAfter, ScriptedServer, Stall, Status, Truncate, Turn

pytestmark = pytest.mark.usefixtures("nothing_left")

USAGE = TokenUsage(100, 60, 20, 5, 120)


class Streams(StreamTelemetry):
    """The records of all streams, without their times, which are only looked at for their order."""

    def __init__(self) -> None:
        self.records: list[StreamRecord] = []

    def on_stream(self, record: StreamRecord, /) -> None:
        times = [0.0, *(retry.at for retry in record.retries), record.duration]
        assert times == sorted(times)
        first = record.time_to_first_output
        assert (first is not None) == record.committed
        assert first is None or 0 <= first <= record.duration
        retries = tuple(replace(retry, at=0.0) for retry in record.retries)
        self.records.append(replace(record, duration=0.0, time_to_first_output=None, retries=retries))


def record_from(server: ScriptedServer, **fields: Any) -> StreamRecord:
    base: dict[str, Any] = {"model": "scripted", "wire": "chat", "duration": 0.0, "base_url": server.base_url}
    return StreamRecord(provider="scripted", **{**base, **fields})


@pytest.mark.parametrize(
    ("provider", "turn", "expected"),
    [
        (
            {},
            replace(HELLO, usage=USAGE),
            {"outcome": "completed", "response_id": "chatcmpl-1", "token_usage": USAGE, "finish_reason": "stop"},
        ),
        (
            {},
            replace(HELLO, finish_reason="content_filter"),
            {
                "outcome": "incomplete",
                "response_id": "chatcmpl-1",
                "finish_reason": "content_filter",
                "incomplete_reason": "content_filter",
            },
        ),
        ({}, replace(HELLO, fault=Truncate(size_of(HELLO, parts=2))), {"outcome": "failed", "error": "Disconnected"}),
        ({}, Turn(fault=Status(401)), {"outcome": "failed", "error": "HttpStatusError", "committed": False}),
        (
            SSE,
            replace(HELLO, usage=USAGE),
            {
                "wire": "responses",
                "outcome": "completed",
                "response_id": "resp_1",
                "token_usage": USAGE,
                "finish_reason": "completed",
            },
        ),
        (
            SOCKET,
            replace(HELLO, usage=USAGE),
            {
                "wire": "websocket",
                "outcome": "completed",
                "response_id": "resp_1",
                "token_usage": USAGE,
                "finish_reason": "completed",
            },
        ),
        (
            SOCKET,
            replace(HELLO, fault=Status(401)),
            {"wire": "websocket", "outcome": "failed", "error": "HttpStatusError", "committed": False},
        ),
    ],
    ids=["complete", "incomplete", "cut", "refused", "responses", "websocket", "refused websocket"],
)
async def test_a_stream_is_told_once_it_is_over(provider: dict[str, Any], turn: Turn, expected: dict[str, Any]) -> None:
    telemetry = Streams()
    async with (
        ScriptedServer([turn]) as server,
        ModelClient(impatient(server.base_url, **provider), stream_telemetry=telemetry) as client,
    ):
        stream = client.new_session().stream("Hello")
        assert telemetry.records == []
        await hear(stream)
        await stream.aclose()
        assert telemetry.records == [record_from(server, **{"committed": True, **expected})]


@pytest.mark.parametrize(
    ("provider", "server", "retry"),
    [
        (
            {"request_max_retries": 1},
            ScriptedServer([Turn(fault=Status(503)), HELLO]),
            RetryRecord("request", "ServerOverloaded", 0.0, 0.2),
        ),
        (
            {"stream_max_retries": 1},
            ScriptedServer([Turn(fault=ResetAfter(0)), HELLO]),
            RetryRecord("stream", "Disconnected", 0.0, 0.2),
        ),
        (
            {**SOCKET, "request_max_retries": 1},
            ScriptedServer([HELLO], handshakes=[Status(503)]),
            RetryRecord("handshake", "ServerOverloaded", 0.0, 0.2),
        ),
        (
            {**SOCKET, "api_key": lambda: "asked for twice"},
            ScriptedServer([HELLO], handshakes=[Status(401)]),
            RetryRecord("handshake", "HttpStatusError", 0.0, 0.0),
        ),
    ],
    ids=["request", "stream", "handshake", "key"],
)
async def test_what_was_tried_again_is_told(
    provider: dict[str, Any], server: ScriptedServer, retry: RetryRecord, pauses: list[float]
) -> None:
    telemetry = Streams()
    async with server, ModelClient(impatient(server.base_url, **provider), stream_telemetry=telemetry) as client:
        assert (await hear(client.new_session().stream("Hello"))).error is None
    assert [record.retries for record in telemetry.records] == [(retry,)]
    assert pauses == ([retry.delay] if retry.delay else [])


async def test_a_stream_that_falls_back_is_told_with_the_wire_that_it_came_over() -> None:
    telemetry = Streams()
    async with (
        ScriptedServer([HELLO], handshakes=Status(426)) as server,
        ModelClient(impatient(server.base_url, **AUTO), stream_telemetry=telemetry) as client,
    ):
        assert (await hear(client.new_session().stream("Hello"))).error is None
    assert [(record.wire, record.outcome) for record in telemetry.records] == [("responses", "completed")]


@pytest.mark.parametrize("way", ["break", "leave", "close", "drop", "cancel"])
async def test_a_stream_that_is_left_is_abandoned(way: str) -> None:
    telemetry = Streams()
    turn = replace(HELLO, fault=Stall(size_of(HELLO, parts=2)))
    async with (
        ScriptedServer([turn]) as server,
        ModelClient(impatient(server.base_url), stream_telemetry=telemetry) as client,
    ):
        session = client.new_session()
        stream = session.stream("Hello")
        match way:
            case "break":
                async for _ in stream:
                    break
                await stream.aclose()
            case "leave":
                async with stream:
                    await anext(stream)
            case "close":
                await anext(stream)
                session.close()
            case "drop":
                await anext(stream)
                del stream
            case "cancel":
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(_read(stream), 0.05)
        assert telemetry.records == [record_from(server, outcome="abandoned", committed=True)]


async def _read(stream: ResponseStream) -> None:
    async for _ in stream:
        pass


async def test_a_stream_that_was_never_begun_is_not_told() -> None:
    telemetry = Streams()
    async with ModelClient(Provider("nobody", "http://127.0.0.1:1/v1"), stream_telemetry=telemetry) as client:
        client.new_session().stream("Hello", model="any").close()
    assert telemetry.records == []


async def test_the_hook_is_called_in_the_context_of_the_first_request() -> None:
    current: ContextVar[str] = ContextVar("current", default="none")
    heard: list[str] = []

    class Listening(StreamTelemetry):
        def on_stream(self, record: StreamRecord, /) -> None:
            heard.append(current.get())

    async with (
        ScriptedServer([HELLO]) as server,
        ModelClient(impatient(server.base_url), stream_telemetry=Listening()) as client,
    ):
        current.set("begun")
        async with client.new_session().stream("Hello"):
            current.set("left")
    assert heard == ["begun"]


async def test_a_hook_that_fails_is_logged_and_the_answer_is_not_harmed(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(StreamTelemetry):
        def on_stream(self, record: StreamRecord, /) -> None:
            raise ZeroDivisionError

    async with (
        ScriptedServer([HELLO]) as server,
        ModelClient(impatient(server.base_url), stream_telemetry=Broken()) as client,
    ):
        assert (await hear(client.new_session().stream("Hello"))).error is None
    assert [(record.levelname, record.message) for record in caplog.records] == [("ERROR", "the hook on_stream failed")]
