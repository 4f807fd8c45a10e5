"""The records of waits, whole lists of them; those of attempts are in test_attempt.py."""

from __future__ import annotations

import asyncio

import pytest
from msgspec.structs import replace

from tests.client.hearing import HELLO, hear, impatient, size_of
from tests.transport.serving import HEAD, RawServer, chunked
from turnwire import ModelClient
from turnwire.telemetry import PollOutcome, SsePollRecord, SseTelemetry
from turnwire.testing import (
    Comments,
    CutCleanly,
    ErrorEvent,
    Fault,
    Garbage,
    HangAfterFinish,
    ScriptedServer,
    Stall,
    Trickle,
    Truncate,
)
from turnwire.wire.sse import encode_comment, encode_event

pytestmark = pytest.mark.usefixtures("nothing_left")


class Waits(SseTelemetry):
    """The records of all waits, without their durations."""

    def __init__(self) -> None:
        self.records: list[SsePollRecord] = []

    def on_sse_poll(self, record: SsePollRecord, /) -> None:
        assert record.duration >= 0
        self.records.append(replace(record, duration=0.0))


def waits(*expected: tuple[PollOutcome, int]) -> list[SsePollRecord]:
    return [SsePollRecord(outcome, 0.0, events) for outcome, events in expected]


async def test_a_wait_is_told_with_what_it_brought() -> None:
    text = encode_event('{"choices":[{"delta":{"content":"x"}}]}')
    finish = encode_event('{"choices":[{"delta":{},"finish_reason":"stop"}]}')
    # Each packet goes out when the one before it was heard: the first opens the message, the comment says nothing.
    packets = [text, encode_comment("wait"), text + text, finish, b"data: [DONE]\n\n"]
    heard = asyncio.Semaphore(1)

    class Listening(Waits):
        def on_sse_poll(self, record: SsePollRecord, /) -> None:
            super().on_sse_poll(record)
            heard.release()

    telemetry = Listening()

    async def reply(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + b"transfer-encoding: chunked\r\n\r\n")
        for packet in packets:
            await heard.acquire()
            writer.write(chunked(packet, last=b""))
        await asyncio.Event().wait()

    async with RawServer(reply) as server, ModelClient(impatient(server.url), sse_telemetry=telemetry) as client:
        assert (await hear(client.new_session().stream("Hello"))).error is None
    assert telemetry.records == waits(("events", 2), ("comment", 0), ("events", 2), ("events", 1), ("events", 1))


@pytest.mark.parametrize(
    ("fault", "last"),
    [
        (CutCleanly(0), ("eof", 0)),
        (Truncate(0), ("error", 0)),
        (Stall(0), ("idle_timeout", 0)),
        (Stall(0, comments_every=0.01), ("idle_timeout", 0)),
        (HangAfterFinish(), ("eof", 0)),
        (ErrorEvent(0), ("events", 0)),
    ],
    ids=repr,
)
async def test_the_last_wait_is_told_with_its_outcome(fault: Fault, last: tuple[PollOutcome, int]) -> None:
    telemetry = Waits()
    async with ScriptedServer([replace(HELLO, fault=fault)]) as server:
        provider = impatient(server.base_url, idle_timeout=0.08, finish_grace=0.01)
        async with ModelClient(provider, sse_telemetry=telemetry) as client:
            await hear(client.new_session().stream("Hello"))
    assert telemetry.records[-1:] == waits(last)


async def test_a_cancelled_wait_is_told_as_one() -> None:
    telemetry = Waits()
    async with (
        ScriptedServer([replace(HELLO, fault=Stall(size_of(HELLO, parts=1)))]) as server,
        ModelClient(impatient(server.base_url), sse_telemetry=telemetry) as client,
    ):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await client.new_session().stream("Hello").__anext__()
    assert telemetry.records[-1:] == waits(("cancelled", 0))


@pytest.mark.parametrize("fault", [None, Comments(), Trickle(size=5), Garbage(after=0)], ids=repr)
async def test_the_counted_events_are_those_that_came(fault: Fault | None) -> None:
    telemetry = Waits()
    async with (
        ScriptedServer([replace(HELLO, fault=fault)]) as server,
        ModelClient(impatient(server.base_url), sse_telemetry=telemetry) as client,
    ):
        events, error = await hear(client.new_session().stream("Hello"))
    assert error is None
    assert sum(record.events for record in telemetry.records) == len(events)


async def test_a_hook_that_fails_ends_the_stream_with_its_error() -> None:
    class Broken(SseTelemetry):
        def on_sse_poll(self, record: SsePollRecord, /) -> None:
            raise ZeroDivisionError

    async with (
        ScriptedServer([HELLO]) as server,
        ModelClient(impatient(server.base_url), sse_telemetry=Broken()) as client,
    ):
        stream = client.new_session().stream("Hello")
        with pytest.raises(ZeroDivisionError):
            await anext(stream)
        assert [event async for event in stream] == []
