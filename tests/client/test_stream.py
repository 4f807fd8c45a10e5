"""What a stream waits for, and what it does not: silence, a slow caller, an end that does not come."""

from __future__ import annotations

import asyncio

import msgspec
import pytest
from msgspec.structs import replace

from tests.client.hearing import (
    HELLO,
    HELLO_ITEM,
    HELLO_TEXT,
    chunk,
    hear,
    hello_events,
    impatient,
    session_with,
    size_of,
)
from tests.transport.serving import CHUNKED_HEAD, RawServer, chunked, saying
from turnwire import (
    Completed,
    ContextWindowExceeded,
    FunctionCall,
    IdleTimeout,
    Message,
    ModelClient,
    OutputItemAdded,
    OutputItemDone,
    OutputText,
    OutputTextDelta,
    Prompt,
    ProtocolError,
    RetryableError,
    StreamError,
    TokenUsage,
    ToolCallArgumentsDelta,
)
from turnwire.testing import (
    CutCleanly,
    HangAfterFinish,
    NoSentinel,
    ScriptedServer,
    Stall,
    Turn,
)
from turnwire.wire.sse import encode_comment

pytestmark = pytest.mark.usefixtures("nothing_left")

USAGE = TokenUsage(input_tokens=10, cached_input_tokens=8, output_tokens=3, total_tokens=13)
ONE_DELTA = size_of(HELLO, parts=2)


COUNTS = {"prompt_tokens": 10, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 8}}


# The answer came, its end does not.


@pytest.mark.parametrize("usage", [None, USAGE], ids=["without usage", "with usage"])
async def test_a_server_that_hangs_after_its_finish_holds_nothing_up(usage: TokenUsage | None) -> None:
    turn = replace(HELLO, usage=usage, fault=HangAfterFinish())
    # With usage nothing more is worth a wait: one of an hour would fail the test.
    grace = 0.05 if usage is None else 3600
    async with ScriptedServer([turn]) as server, session_with(server, finish_grace=grace) as session:
        assert await hear(session.stream("Hello")) == (
            [*hello_events()[:-1], Completed("chatcmpl-1", usage, "stop")],
            None,
        )
        await server.wait_idle()
        assert len(server.abandoned) == 1


async def test_the_grace_for_usage_can_be_none() -> None:
    turn = replace(HELLO, fault=HangAfterFinish())
    async with ScriptedServer([turn]) as server, session_with(server, finish_grace=0) as session:
        assert await hear(session.stream("Hello")) == (hello_events(), None)


@pytest.mark.parametrize("usage", [None, USAGE], ids=["without usage", "with usage"])
async def test_an_end_without_sentinel_is_a_whole_answer(usage: TokenUsage | None) -> None:
    turn = replace(HELLO, usage=usage, fault=NoSentinel())
    async with ScriptedServer([turn]) as server, session_with(server, finish_grace=3600) as session:
        assert await hear(session.stream("Hello")) == (
            [*hello_events()[:-1], Completed("chatcmpl-1", usage, "stop")],
            None,
        )


async def test_usage_that_comes_after_the_finish_within_the_grace_is_taken() -> None:
    finish_was_heard = asyncio.Event()

    async def reply(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(CHUNKED_HEAD + chunked(chunk({"content": "Hi"}), chunk({}, "stop"), last=b""))
        await finish_was_heard.wait()
        writer.write(chunked(chunk(usage=COUNTS), last=b""))
        await asyncio.Event().wait()

    events = []
    async with (
        asyncio.timeout(5),
        RawServer(reply) as server,
        ModelClient(impatient(server.url, finish_grace=3600)) as client,
        client.new_session().stream("Hello") as stream,
    ):
        async for event in stream:
            events.append(event)
            if isinstance(event, OutputItemDone):
                finish_was_heard.set()
    assert events[-1] == Completed("chatcmpl-1", USAGE, "stop")


async def test_a_stream_of_comments_after_the_finish_ends_with_the_grace() -> None:
    async def reply(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(CHUNKED_HEAD + chunked(chunk({"content": "Hi"}), chunk({}, "stop"), last=b""))
        while True:
            writer.write(chunked(encode_comment("wait"), last=b""))
            await writer.drain()
            await asyncio.sleep(0.005)

    async with RawServer(reply) as server, ModelClient(impatient(server.url, finish_grace=0.05)) as client:
        events, error = await hear(client.new_session().stream("Hello"))
    assert error is None
    assert events[-1] == Completed("chatcmpl-1", None, "stop")


async def test_an_answer_whose_connection_breaks_after_the_finish_is_whole() -> None:
    packet = CHUNKED_HEAD + chunked(chunk({"content": "Hi"}), chunk({}, "stop"), last=b"")
    async with RawServer(saying(packet)) as server, ModelClient(impatient(server.url)) as client:
        events, error = await hear(client.new_session().stream("Hello"))
    assert error is None
    assert events[-1] == Completed("chatcmpl-1", None, "stop")


async def test_an_end_without_finish_is_one_where_the_dialect_says_so() -> None:
    turn = replace(HELLO, fault=CutCleanly(size_of(HELLO, parts=4)))
    async with ScriptedServer([turn]) as server:
        dialect = replace(impatient(server.base_url).dialect, bare_end="end")
        async with session_with(server, dialect=dialect) as session:
            events, error = await hear(session.stream("Hello"))
    assert error is None
    assert events == [*hello_events()[:-1], Completed("chatcmpl-1")]


# Silence.


async def test_comments_do_not_put_off_the_idle_timeout() -> None:
    turn = replace(HELLO, fault=Stall(ONE_DELTA, comments_every=0.01))
    async with ScriptedServer([turn]) as server, session_with(server, idle_timeout=0.1) as session:
        _, error = await hear(session.stream("Hello"))
    assert type(error) is IdleTimeout
    assert str(error) == "idle timeout waiting for SSE: no event from scripted for 0.1 s"


class Clock:
    """The loop's time, which a test can put forward instead of waiting."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        loop = asyncio.get_running_loop()
        time, self._ahead = loop.time, 0.0
        monkeypatch.setattr(loop, "time", lambda: time() + self._ahead)

    async def jump(self, seconds: float) -> None:
        self._ahead += seconds
        for _ in range(5):  # timers that are due run now
            await asyncio.sleep(0)


async def test_a_stream_may_take_longer_than_the_idle_timeout_as_long_as_events_come(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock, heard = Clock(monkeypatch), asyncio.Semaphore(0)

    async def reply(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(CHUNKED_HEAD)
        for _text in range(5):
            await clock.jump(900)
            writer.write(chunked(chunk({"content": "x"}), last=b""))
            await heard.acquire()
        writer.write(chunked(chunk({}, "stop"), b"data: [DONE]\n\n"))

    async with RawServer(reply) as server, ModelClient(impatient(server.url, idle_timeout=1000)) as client:
        stream = client.new_session().stream("Hello")
        async for event in stream:
            if isinstance(event, OutputTextDelta):
                heard.release()
    assert stream.text == "xxxxx"


async def test_a_caller_who_takes_long_does_not_make_the_stream_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, events = Clock(monkeypatch), []
    async with (
        ScriptedServer([replace(HELLO, interval=0.001)]) as server,
        session_with(server, idle_timeout=1000) as session,
        session.stream("Hello") as stream,
    ):
        async for event in stream:
            events.append(event)
            await clock.jump(5000)
    assert events == hello_events()


async def test_a_chunk_that_is_none_ends_in_the_idle_timeout_at_the_latest() -> None:
    begun = asyncio.Event()

    async def reply(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(CHUNKED_HEAD + chunked(chunk({"content": "Hi"}), last=b""))
        await begun.wait()
        writer.write(b"zz\r\nno chunk")

    async with RawServer(reply) as server, ModelClient(impatient(server.url, idle_timeout=0.1)) as client:
        stream = client.new_session().stream("Hello")
        await anext(stream)
        begun.set()
        _, error = await hear(stream)
    assert isinstance(error, StreamError)
    assert (error.committed, error.text) == (True, "Hi")


# An answer that is not a stream.

WHOLE_ANSWER = {
    "id": "chatcmpl-9",
    "object": "chat.completion",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": HELLO_TEXT}, "finish_reason": "stop"}],
    "usage": COUNTS,
}


def json_response(body: bytes) -> bytes:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: Application/JSON; charset=utf-8\r\n"
    return head + b"content-length: %d\r\n\r\n" % len(body) + body


async def test_an_answer_that_comes_whole_gives_the_same_events() -> None:
    message = Message("assistant", [OutputText(HELLO_TEXT)])
    response = json_response(msgspec.json.encode(WHOLE_ANSWER))
    packets = (response[:100], response[100:])
    async with RawServer(saying(*packets)) as server, ModelClient(impatient(server.url)) as client:
        stream = client.new_session().stream("Hello")
        events, error = await hear(stream)
    assert error is None
    assert events == [
        OutputItemAdded(Message("assistant", ())),
        OutputTextDelta(HELLO_TEXT),
        OutputItemDone(message),
        Completed("chatcmpl-9", USAGE, "stop"),
    ]
    assert (stream.items, stream.text) == ((message,), HELLO_TEXT)


@pytest.mark.parametrize(
    ("body", "error", "sentence"),
    [
        (
            b'{"error": {"message": "the prompt is too long", "code": "context_length_exceeded"}}',
            ContextWindowExceeded,
            "the prompt is too long",
        ),
        (b'{"error": "died"}', RetryableError, "the server failed in mid-stream: died"),
        (b'{"detail": "?"}', StreamError, "the server sent neither a stream nor a chat.completion object"),
        (b"[]", StreamError, "the server sent neither a stream nor a chat.completion object"),
        (b"{", StreamError, "the server sent neither a stream nor a chat.completion object"),
        (b"", StreamError, "the server sent neither a stream nor a chat.completion object"),
    ],
    ids=lambda value: str(value)[:30],
)
async def test_a_whole_answer_that_is_none_is_an_error(body: bytes, error: type[Exception], sentence: str) -> None:
    async with RawServer(saying(json_response(body))) as server, ModelClient(impatient(server.url)) as client:
        heard = await hear(client.new_session().stream("Hello"))
    assert heard.events == []
    assert (type(heard.error), str(heard.error)) == (error, sentence)


async def test_a_whole_answer_that_stalls_is_an_idle_timeout() -> None:
    async def reply(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(json_response(b'{"choices": []}')[:-2])
        await asyncio.Event().wait()

    async with RawServer(reply) as server, ModelClient(impatient(server.url, idle_timeout=0.1)) as client:
        _, error = await hear(client.new_session().stream("Hello"))
    assert type(error) is IdleTimeout
    assert str(error) == "no whole answer from scripted within idle_timeout, 0.1 s"


async def test_a_whole_answer_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("turnwire.client.stream._MAX_WHOLE_BODY", 10)
    response = json_response(msgspec.json.encode(WHOLE_ANSWER))
    async with RawServer(saying(response)) as server, ModelClient(impatient(server.url)) as client:
        _, error = await hear(client.new_session().stream("Hello"))
    assert (type(error), str(error)) == (ProtocolError, "the answer takes more than 10 bytes")


async def test_a_web_page_is_not_an_answer() -> None:
    page = b"HTTP/1.1 200 OK\r\ncontent-type: Text/HTML\r\ncontent-length: 6\r\n\r\n<html>"
    async with RawServer(saying(page)) as server, ModelClient(impatient(server.url)) as client:
        _, error = await hear(client.new_session().stream("Hello"))
        assert type(error) is ProtocolError
        assert str(error) == f"{server.url} answered with a web page instead of an event stream: check the base_url"


# What a stream tells while it runs.


async def test_entering_waits_for_the_head_and_reading_for_the_rest() -> None:
    turn = replace(HELLO, headers={"X-Model": "seven"})
    async with ScriptedServer([turn]) as server, session_with(server) as session:
        stream = session.stream("Hello")
        assert repr(stream) == "<ResponseStream not begun from scripted, committed=False>"
        assert (stream.response_headers, server.requests) == ({}, [])
        async with stream:
            assert stream.response_headers["x-model"] == "seven"
            assert stream.response_headers["x-request-id"] == "request-1"
            assert repr(stream) == "<ResponseStream open from scripted, committed=False>"
            texts = [stream.text async for _ in stream]
        assert (texts[-1], stream.items) == (HELLO_TEXT, (HELLO_ITEM,))
        assert repr(stream) == "<ResponseStream over from scripted, committed=True>"


async def test_a_stream_that_is_not_entered_can_be_iterated() -> None:
    async with ScriptedServer([HELLO]) as server, session_with(server) as session:
        assert [event async for event in session.stream("Hello")] == hello_events()


async def test_a_stream_that_is_over_has_no_more_events() -> None:
    async with ScriptedServer([HELLO]) as server, session_with(server) as session:
        stream = session.stream("Hello")
        assert await hear(stream) == (hello_events(), None)
        assert await hear(stream) == ([], None)
        assert len(server.requests) == 1


async def test_calls_can_be_watched_while_they_grow() -> None:
    call = FunctionCall("get_weather", '{"city":"Zürich"}', "call_1")
    async with ScriptedServer([Turn(calls=[call])] * 2) as server, session_with(server) as session:
        watched = (await hear(session.stream("Hello", watch_calls=True))).events
        unwatched = (await hear(session.stream("Hello"))).events
    deltas = [event.delta for event in watched if isinstance(event, ToolCallArgumentsDelta)]
    assert ("".join(deltas), len(deltas) > 1) == (call.arguments, True)
    assert unwatched == [OutputItemDone(call), Completed("chatcmpl-2", None, "tool_calls")]


async def test_what_a_server_can_t_be_told_is_named(caplog: pytest.LogCaptureFixture) -> None:
    prompt = Prompt("Hello", tools=[{"type": "image_generation"}])
    async with ScriptedServer([HELLO]) as server, session_with(server) as session:
        stream = session.stream(prompt)
        assert (await hear(stream)).error is None
    assert stream.dropped == ("tool of type 'image_generation'",)
    assert "tool of type 'image_generation' can't be sent to scripted and was left out" in caplog.messages


async def test_reasoning_goes_back_under_the_name_it_came_by() -> None:
    call = FunctionCall("get_weather", "{}", "call_1")
    thinking = Turn(reasoning="Hm.", calls=[call])
    spoken = replace(impatient("http://127.0.0.1/v1").dialect, reasoning_name="reasoning_content")
    sent = replace(spoken, reasoning_back="always", reasoning_name="reasoning")
    async with (
        ScriptedServer([thinking, HELLO], dialect=spoken) as server,
        session_with(server, dialect=sent) as session,
    ):
        stream = session.stream("Hello")
        await hear(stream)
        await hear(session.stream(Prompt([*Prompt("Hello").items, *stream.items])))
    assert server.requests[1].json["messages"][1]["reasoning_content"] == "Hm."
