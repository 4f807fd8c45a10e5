"""How a stream is left, by its end or before it, and what becomes of its connection."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable

import pytest
from msgspec.structs import replace

from tests.client.hearing import (
    HELLO,
    chunk,
    hear,
    hello_events,
    impatient,
    session_with,
    size_of,
)
from tests.transport.serving import CHUNKED_HEAD, RawServer, chunked, saying, silence
from turnwire import (
    Completed,
    ModelClient,
    OutputTextDelta,
    ResponseStream,
    StreamError,
    TokenUsage,
)
from turnwire.testing import (
    EmptyBody,
    Fault,
    ScriptedServer,
    Stall,
    Status,
)

pytestmark = pytest.mark.usefixtures("nothing_left")

USAGE = TokenUsage(input_tokens=10, cached_input_tokens=8, output_tokens=3, total_tokens=13)
ONE_DELTA = size_of(HELLO, parts=2)


async def test_streams_that_were_heard_to_their_end_share_one_connection() -> None:
    async with ScriptedServer([replace(HELLO, usage=USAGE)] * 3) as server, session_with(server) as session:
        for _ in range(3):
            assert (await hear(session.stream("Hello"))).error is None
    assert [request.connection for request in server.requests] == [0, 0, 0]


async def test_the_end_of_a_body_that_comes_behind_the_answer_s_is_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("turnwire.transport.message._DRAIN_TIMEOUT", 5.0)  # however slow the machine is
    script = [replace(HELLO, usage=USAGE, interval=0.002) for _ in range(2)]
    async with ScriptedServer(script) as server, session_with(server) as session:
        for number in (1, 2):
            heard = await hear(session.stream("Hello"))
            assert heard.events[-1] == Completed(f"chatcmpl-{number}", USAGE, "stop")
    assert [request.connection for request in server.requests] == [0, 0]
    assert server.abandoned == []


async def test_leaving_at_completed_keeps_the_connection() -> None:
    async with ScriptedServer([HELLO, HELLO]) as server, session_with(server) as session:
        for _ in range(2):
            async with session.stream("Hello") as stream:
                async for event in stream:
                    if isinstance(event, Completed):
                        break
    assert [request.connection for request in server.requests] == [0, 0]


async def test_a_kept_connection_that_the_server_has_closed_is_replaced() -> None:
    # Nothing says that the connection will be closed, and then it is, as llama.cpp does.
    packet = CHUNKED_HEAD + chunked(chunk({"content": "Hi"}, "stop"), b"data: [DONE]\n\n")
    async with RawServer(saying(packet)) as server, ModelClient(impatient(server.url)) as client:
        for _ in range(5):
            assert (await hear(client.new_session().stream("Hello"))).error is None
        assert len(server.requests) == 5


async def test_of_several_kept_connections_that_the_server_has_closed_all_are_replaced() -> None:
    packet = CHUNKED_HEAD + chunked(chunk({"content": "Hi"}, "stop"), b"data: [DONE]\n\n")
    async with RawServer(saying(packet)) as server, ModelClient(impatient(server.url)) as client:
        for _ in range(3):
            streams = [hear(client.new_session().stream("Hello")) for _ in range(5)]
            assert [heard.error for heard in await asyncio.gather(*streams)] == [None] * 5
        assert len(server.requests) == 15


Leave = Callable[[ResponseStream], Awaitable[None]]


async def by_break(stream: ResponseStream) -> None:
    async with stream:
        async for event in stream:
            if isinstance(event, OutputTextDelta):
                break


async def by_error(stream: ResponseStream) -> None:
    async def read() -> None:
        async with stream:
            async for _ in stream:
                raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await read()


async def by_close(stream: ResponseStream) -> None:
    await anext(stream)
    stream.close()
    stream.close()


async def by_cancellation(stream: ResponseStream) -> None:
    async def read() -> None:
        async with stream:
            async for _ in stream:
                reading.set()

    reading = asyncio.Event()
    task = asyncio.create_task(read())
    await reading.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def by_cancellation_without_entering(stream: ResponseStream) -> None:
    await anext(stream)
    await anext(stream)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await anext(stream)


async def before_the_first_event(stream: ResponseStream) -> None:
    async with stream:
        pass


@pytest.mark.parametrize(
    "leave",
    [by_break, by_error, by_close, by_cancellation, by_cancellation_without_entering, before_the_first_event],
    ids=lambda leave: leave.__name__,
)
async def test_leaving_a_stream_closes_its_connection_at_once(leave: Leave) -> None:
    async with ScriptedServer([replace(HELLO, fault=Stall(ONE_DELTA)), HELLO]) as server:
        async with session_with(server) as session:
            stream = session.stream("Hello")
            await leave(stream)
            async with asyncio.timeout(5):
                await server.wait_idle()
            assert server.abandoned == server.requests
            assert [event async for event in stream] == []
            assert (await hear(session.stream("Hello"))).error is None
        assert [request.connection for request in server.requests] == [0, 1]


async def test_cancelling_a_stream_that_waits_for_its_head_closes_the_connection() -> None:
    asked, left = asyncio.Event(), asyncio.Event()

    async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()
        await silence(reader, writer)
        left.set()

    async with asyncio.timeout(5), RawServer(reply) as server, ModelClient(impatient(server.url)) as client:
        task = asyncio.create_task(hear(client.new_session().stream("Hello")))
        await asked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await left.wait()


@pytest.mark.parametrize("fault", [Status(500), EmptyBody()], ids=["request", "stream"])
async def test_cancelling_a_stream_that_waits_to_try_again_ends_it(
    fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = asyncio.Event()

    async def wait_for_ever(_: float) -> None:
        waiting.set()
        await asyncio.Event().wait()

    turn = replace(HELLO, fault=fault)
    changes = {"request_max_retries": 1, "stream_max_retries": 1}
    async with asyncio.timeout(5), ScriptedServer([turn]) as server, session_with(server, **changes) as session:
        with monkeypatch.context() as patch:
            patch.setattr("asyncio.sleep", wait_for_ever)
            stream = session.stream("Hello")
            task = asyncio.create_task(hear(stream))
            await waiting.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert repr(stream) == "<ResponseStream over from scripted, committed=False>"
        assert len(server.requests) == 1


async def test_cancelling_the_wait_for_a_body_s_end_closes_the_connection() -> None:
    async def reply(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(CHUNKED_HEAD + chunked(chunk({"content": "Hi"}, "stop"), b"data: [DONE]\n\n", last=b""))
        await asyncio.Event().wait()

    async with RawServer(reply) as server, ModelClient(impatient(server.url)) as client:
        stream = client.new_session().stream("Hello")
        while not isinstance(await anext(stream), Completed):
            pass
        leaving = asyncio.create_task(stream.aclose())
        await asyncio.sleep(0)
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        assert repr(stream) == "<ResponseStream over from scripted, committed=True>"


async def test_closing_a_session_is_an_error_to_whoever_reads_one_of_its_streams() -> None:
    async with ScriptedServer([replace(HELLO, fault=Stall(ONE_DELTA))]) as server, session_with(server) as session:
        stream = session.stream("Hello")
        await anext(stream)
        task = asyncio.create_task(hear(stream))
        await asyncio.sleep(0)
        session.close()
        async with asyncio.timeout(5):
            events, error = await task
            await server.wait_idle()
    assert events == hello_events()[1:2]
    assert (type(error), str(error)) == (StreamError, "the stream was closed while somebody read it")
    assert error is not None
    assert (error.committed, error.text) == (True, "Grüezi")


async def test_closing_a_stream_that_waits_for_its_head_is_an_error_to_whoever_waits() -> None:
    asked, closed = asyncio.Event(), asyncio.Event()

    async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()
        await closed.wait()
        writer.write(CHUNKED_HEAD + chunked(chunk({"content": "too late"}), last=b""))
        await silence(reader, writer)

    async with asyncio.timeout(5), RawServer(reply) as server, ModelClient(impatient(server.url)) as client:
        stream = client.new_session().stream("Hello")
        task = asyncio.create_task(hear(stream))
        await asked.wait()
        stream.close()
        closed.set()
        events, error = await task
    assert events == []
    assert (type(error), str(error)) == (StreamError, "the stream was closed while somebody read it")


async def test_closing_a_client_is_an_error_to_whoever_waits_for_a_response(pauses: list[float]) -> None:
    async with asyncio.timeout(5), RawServer(silence) as server:
        async with ModelClient(impatient(server.url, request_max_retries=1)) as client:
            task = asyncio.create_task(hear(client.new_session().stream("Hello")))
            while not server.requests:  # noqa: ASYNC110 - the server has no event for that
                await asyncio.sleep(0)
        events, error = await task
    assert events == []
    assert (type(error), str(error)) == (StreamError, "the stream was closed while somebody read it")


async def test_a_stream_that_nobody_holds_any_more_leaves_nothing() -> None:
    async with ScriptedServer([replace(HELLO, fault=Stall(ONE_DELTA))]) as server, session_with(server) as session:
        stream = session.stream("Hello")
        await anext(stream)  # so that its idle timer runs
        del stream
        gc.collect()  # for interpreters that don't count references
        async with asyncio.timeout(5):
            await server.wait_idle()
        assert server.abandoned == server.requests
