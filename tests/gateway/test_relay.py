"""The waiting between a client and its upstream: signs of life, clients that leave or do not read, and the end."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import socket
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from tests.decoding import DONE, chunk, sse
from tests.gateway.asking import FORMS, ask, ask_socket, body_for
from tests.gateway.raw_upstream import ANSWER, HEAD, RawUpstream
from tests.gateway.serving import MODEL, ServedGateway, answered, serving, upstream_at
from tests.wire.responses.reading import sse as responses_sse
from turnwire.client.turn_state import TURN_STATE_HEADER
from turnwire.gateway.exchange.chat_relayed import ChatRelayed
from turnwire.gateway.exchange.responses_over_chat import ResponsesOverChat
from turnwire.gateway.relay import Relay
from turnwire.gateway.responses_service import ResponsesService
from turnwire.testing import ScriptedServer, Stall, Status, Turn

pytestmark = pytest.mark.usefixtures("nothing_left")

OFTEN = 0.02
"""Seconds between signs of life."""
RESPONSE = {"id": "resp_u", "object": "response", "status": "completed", "output": []}
RESPONSES_ANSWER = HEAD + responses_sse(
    {"type": "response.created", "response": {"id": "resp_u"}},
    {"type": "response.output_text.delta", "item_id": "msg_u", "delta": "one two"},
    {"type": "response.completed", "response": RESPONSE},
)


@asynccontextmanager
async def opened(gateway: ServedGateway, path: str, body: Any):
    """A streamed answer whose head has come, and what of its body has come so far."""
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{gateway.base_url}/{path}", json=body) as response,
    ):
        yield response


def kinds(payloads):
    return [payload["type"].removeprefix("response.") for payload in payloads]


def after_signs(count: int, event: asyncio.Event) -> Callable[[bytes], None]:
    """Sets an event once a client has heard so many signs of life."""
    heard = bytearray()

    def on_piece(piece: bytes) -> None:
        heard.extend(piece)
        if heard.count(b'"type":"keepalive"') >= count:
            event.set()

    return on_piece


@pytest.mark.parametrize(("wire", "answer"), [("chat", ANSWER), ("responses", RESPONSES_ANSWER)])
@pytest.mark.parametrize("form", ["responses", "websocket"])
async def test_a_client_hears_of_an_upstream_that_queues_without_a_head(wire: Any, answer: bytes, form: Any) -> None:
    may_answer = asyncio.Event()

    async def play(writer: asyncio.StreamWriter) -> None:
        await may_answer.wait()
        writer.write(answer)

    async with (
        RawUpstream(play) as upstream,
        serving(upstream_at(upstream.base_url, wire_api=wire), keepalive_interval=OFTEN) as gateway,
    ):
        told = await ask(gateway, form, on_piece=after_signs(2, may_answer))
    assert told.verdict == "completed"
    assert told.text == "one two"
    heard = [
        kind for kind in kinds(told.payloads) if kind in ("created", "keepalive", "completed", "output_text.delta")
    ]
    assert heard[:3] == ["created", "keepalive", "keepalive"]
    assert heard.count("created") == heard.count("completed") == 1
    assert told.payloads[0]["response"]["id"] == told.payloads[-1]["response"]["id"] != "resp_u"


@asynccontextmanager
async def busy(wire: Any, answer: bytes, **fields: Any) -> AsyncIterator[tuple[ServedGateway, asyncio.Event]]:
    """A gateway whose only upstream has no room until the event is set."""
    may_answer = asyncio.Event()

    async def play(writer: asyncio.StreamWriter) -> None:
        await may_answer.wait()
        writer.write(answer)

    async with (
        RawUpstream(play) as upstream,
        serving(
            upstream_at(upstream.base_url, wire_api=wire, max_concurrency=1), keepalive_interval=OFTEN, **fields
        ) as gateway,
    ):
        holding = asyncio.create_task(ask(gateway, "chat whole"))
        await upstream.asked.wait()
        try:
            yield gateway, may_answer
        finally:
            may_answer.set()
            await holding


@pytest.mark.parametrize(("wire", "answer"), [("chat", ANSWER), ("responses", RESPONSES_ANSWER)])
@pytest.mark.parametrize("form", ["responses", "websocket"])
async def test_a_client_hears_of_a_request_that_waits_for_an_upstream_with_room(
    wire: Any, answer: bytes, form: Any
) -> None:
    async with busy(wire, answer) as (gateway, may_answer):
        told = await ask(gateway, form, on_piece=after_signs(2, may_answer))
    assert (told.verdict, told.text) == ("completed", "one two")
    heard = [kind for kind in kinds(told.payloads) if kind in ("created", "metadata", "keepalive", "completed")]
    assert [kind for kind in heard if kind != "metadata"][:3] == ["created", "keepalive", "keepalive"]
    assert heard.count("created") == heard.count("completed") == 1
    numbers = [payload["sequence_number"] for payload in told.payloads if "sequence_number" in payload]
    assert numbers == sorted(set(numbers))
    assert told.payloads[0]["response"]["id"] == told.payloads[-1]["response"]["id"] != "resp_u"


async def test_a_chat_client_hears_of_a_request_that_waits_by_comments() -> None:
    async with (
        busy("chat", ANSWER) as (gateway, may_answer),
        opened(gateway, "chat/completions", body_for("chat")) as response,
    ):
        assert TURN_STATE_HEADER in response.headers
        assert await response.content.readany() == b": keepalive\n\n"
        may_answer.set()
        rest = await response.content.read()
    assert rest.lstrip(b": keepalive\n").startswith(b"data: ")
    assert rest.endswith(DONE)


@pytest.mark.parametrize("form", ["responses", "websocket", "chat"])
async def test_a_request_that_waited_in_vain_is_told_so_in_its_stream(form: Any) -> None:
    async with busy("chat", ANSWER, queue_timeout=3 * OFTEN) as (gateway, _):
        told = await ask(gateway, form)
    assert told.verdict == "failed slow_down"


async def test_a_turn_that_began_in_the_queue_keeps_its_token() -> None:
    async with busy("chat", ANSWER) as (gateway, may_answer):
        async with opened(gateway, "responses", body_for("responses")) as response:
            token = response.headers[TURN_STATE_HEADER]
            may_answer.set()
            await response.read()
        told = await ask(gateway, "responses", headers={TURN_STATE_HEADER: token})
    assert (told.verdict, TURN_STATE_HEADER in told.headers) == ("completed", False)


async def test_a_client_hears_of_an_upstream_that_falls_silent_in_the_middle() -> None:
    may_end = asyncio.Event()

    async def play(writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + sse(chunk(content="one ")))
        await may_end.wait()
        writer.write(sse(chunk(content="two"), chunk("stop")) + DONE)

    async with RawUpstream(play) as upstream, serving(upstream.base_url, keepalive_interval=OFTEN) as gateway:
        for form, sign in (("responses", b'"type":"keepalive"'), ("chat", b": keepalive\n\n")):
            may_end.clear()
            path = "responses" if form == "responses" else "chat/completions"
            async with opened(gateway, path, body_for(form)) as response:
                while sign not in await response.content.readany():
                    pass
                may_end.set()
                rest = await response.content.read()
            assert b"two" in rest


async def test_a_failure_behind_signs_of_life_is_told_in_the_stream() -> None:
    may_fail = asyncio.Event()

    async def play(writer: asyncio.StreamWriter) -> None:
        await may_fail.wait()
        writer.write(b"HTTP/1.1 429 Too Many Requests\r\nretry-after: 3\r\ncontent-length: 0\r\n\r\n")

    async with RawUpstream(play) as upstream, serving(upstream.base_url, keepalive_interval=OFTEN) as gateway:
        told = await ask(gateway, "responses", on_piece=after_signs(1, may_fail))
    assert told.verdict == "failed rate_limit_exceeded"
    assert "try again in 3s" in told.payloads[-1]["response"]["error"]["message"]


async def test_an_upstream_that_never_says_anything_has_failed() -> None:
    async def play(writer: asyncio.StreamWriter) -> None:
        pass

    async with RawUpstream(play) as upstream, serving(upstream_at(upstream.base_url, idle_timeout=0.05)) as gateway:
        told = [await ask(gateway, form) for form in FORMS]
        await upstream.left.wait()
    assert {answer.verdict for answer in told} == {"504 upstream_timeout"}
    assert "'upstream'" in told[0].payloads[0]["error"]["message"]


async def test_a_client_that_leaves_takes_its_upstream_request_along() -> None:
    turns = [Turn(text=["one ", "two"], fault=Stall(after)) for after in (0, 300) for _ in FORMS]
    async with ScriptedServer(turns, models=[MODEL]) as upstream, serving(upstream.base_url) as gateway:
        for number, form in enumerate(FORMS * 2, 1):
            asking = asyncio.create_task(ask(gateway, form))
            await until(lambda number=number: len(answered(upstream)) == number)
            asking.cancel()
            await asyncio.wait((asking,))
            await upstream.wait_idle()
            assert len(upstream.abandoned) == number
            await until(no_answer_is_under_way)


async def test_a_client_that_leaves_before_the_head_takes_its_upstream_request_along() -> None:
    async def play(writer: asyncio.StreamWriter) -> None:
        pass

    async with RawUpstream(play) as upstream, serving(upstream.base_url) as gateway:
        asking = asyncio.create_task(ask(gateway, "responses"))
        await upstream.asked.wait()
        asking.cancel()
        await upstream.left.wait()
        await until(no_answer_is_under_way)


async def until(condition: Callable[[], Any]) -> None:
    """Returns once something is so that tells nobody."""
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(0.001)


def no_answer_is_under_way() -> bool:
    """No task of the gateway's is in the middle of one."""
    return not any("Relay." in name for task in asyncio.all_tasks() for name in coroutines_of(task))


def coroutines_of(task: asyncio.Task[Any]) -> Iterator[str]:
    """The names of a task's coroutines, each of which waits for the next."""
    coroutine: Any = task.get_coro()
    while (name := getattr(coroutine, "__qualname__", None)) is not None:
        yield name
        coroutine = getattr(coroutine, "cr_await", None)


class Flood:
    """An upstream that never stops writing."""

    def __init__(self) -> None:
        self.written = 0

    async def __call__(self, writer: asyncio.StreamWriter) -> None:
        block = sse(*[chunk(content="x" * 200)] * 100)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
        writer.write(HEAD)
        while True:
            writer.write(block)
            await writer.drain()
            self.written += len(block)

    async def stopped(self) -> None:
        """Returns when nothing was taken for a while."""
        written = 0
        while not written or written != self.written:
            written = self.written
            await asyncio.sleep(0.05)


@asynccontextmanager
async def not_reading(gateway: ServedGateway, form: str):
    """A client that asks, and reads next to nothing of its answer."""
    if form == "websocket":
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 12)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", int(gateway.server.url.rpartition(":")[2])))
        async with connect(gateway.socket_url, proxy=None, sock=sock, max_queue=1, compression=None) as client:
            await client.send(json.dumps({"type": "response.create", **body_for("websocket", "flood")}))
            yield client
            client.transport.abort()
        return
    path = "chat/completions" if form == "chat" else "responses"
    body = json.dumps(body_for(form, "flood")).encode()
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 12)
        client.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(client, ("127.0.0.1", int(gateway.server.url.rpartition(":")[2])))
        head = f"POST /v1/{path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: {len(body)}\r\n\r\n"
        await loop.sock_sendall(client, head.encode() + body)
        yield client


@pytest.mark.parametrize("form", ["responses", "websocket", "chat"])
async def test_a_client_that_does_not_read_holds_up_its_own_stream_alone(form: str, caplog: Any) -> None:
    flood = Flood()
    async with (
        RawUpstream(flood) as upstream,
        ScriptedServer([Turn(text="one two")], models=[MODEL]) as other,
        serving(
            other.base_url,
            upstream_at(upstream.base_url, name="flood", models={"flood": "flood"}),
            client_timeout=0.3,
        ) as gateway,
        not_reading(gateway, form),
    ):
        await flood.stopped()
        buffered = [one.transport.get_write_buffer_size() for one in gateway.server.server_state.connections]
        assert max(buffered) < 1 << 20
        assert (await ask(gateway, "responses")).verdict == "completed"
        await upstream.left.wait()
    assert "a client did not read for 0.3 s and was left" in caplog.messages


async def test_answers_under_way_end_by_themselves_when_the_gateway_stops() -> None:
    may_end = asyncio.Event()
    playing = []

    async def play(writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + sse(chunk(content="one ")))
        playing.append(writer)
        await may_end.wait()
        writer.write(sse(chunk(content="two"), chunk("stop")) + DONE)
        await writer.drain()
        writer.close()

    async with RawUpstream(play) as upstream, serving(upstream.base_url, drain_timeout=5.0) as gateway:
        asking = asyncio.gather(*(ask(gateway, form) for form in FORMS))
        await until(lambda: len(playing) == len(FORMS))
        gateway.stop()
        await gateway.server.draining.wait()
        may_end.set()
        told = await asking
        await gateway.task
    assert {(answer.verdict, answer.text) for answer in told} == {("completed", "one two")}


CUT_OFF = {
    "responses": "failed slow_down",
    "responses whole": "503 slow_down",
    "websocket": "failed slow_down",
    "chat": "failed slow_down",
    "chat whole": "503 slow_down",
}


async def test_answers_that_take_too_long_are_told_that_the_gateway_stops() -> None:
    began = []

    async def play(writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + sse(chunk(content="one ")))
        began.append(writer)

    async with RawUpstream(play) as upstream, serving(upstream.base_url, drain_timeout=0) as gateway:
        asking = asyncio.gather(*(ask(gateway, form) for form in FORMS))
        await until(lambda: len(began) == len(FORMS))
        await asyncio.sleep(0.03)
        gateway.stop()
        told = dict(zip(FORMS, await asking, strict=True))
        await gateway.task
    assert {form: answer.verdict for form, answer in told.items()} == CUT_OFF
    assert all("shutting down" in str(answer.payloads[-1]) for answer in told.values())


async def test_a_websocket_is_told_to_come_back_when_the_gateway_stops() -> None:
    async with ScriptedServer([Turn(text="hi")], models=[MODEL]) as upstream, serving(upstream.base_url) as gateway:
        async with connect(gateway.socket_url, proxy=None) as client:
            assert (await ask_socket(client, **body_for("websocket"))).verdict == "completed"
            gateway.stop()
            with pytest.raises(ConnectionClosed) as closed:
                await client.recv()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1012


OWN_ERRORS = {
    "responses": "failed server_error",
    "responses whole": "502 upstream_failed",
    "websocket": "failed server_error",
    "chat": "failed server_error",
    "chat whole": "502 upstream_failed",
}


async def test_a_defect_in_mid_answer_is_told_and_logged(monkeypatch: Any, caplog: Any) -> None:
    def break_down(exchange: Any, data: bytes) -> list[bytes]:
        if b"two" in data:
            raise ZeroDivisionError("a defect")
        return feeds[type(exchange)](exchange, data)

    feeds = {kind: kind.feed for kind in (ResponsesOverChat, ChatRelayed)}
    for kind in feeds:
        monkeypatch.setattr(kind, "feed", break_down)
    monkeypatch.setattr(ChatRelayed, "feed_whole", break_down)
    turns = [Turn(text=["one ", "two"], interval=0.02)] * len(FORMS)
    async with ScriptedServer(turns, models=[MODEL]) as upstream, serving(upstream.base_url) as gateway:
        told = {form: await ask(gateway, form) for form in FORMS}
    assert {form: answer.verdict for form, answer in told.items()} == OWN_ERRORS
    records = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert [record.getMessage() for record in records] == ["an answer failed in the gateway"] * len(FORMS)
    assert all(record.exc_info for record in records)


async def test_a_defect_before_the_answer_is_a_500(monkeypatch: Any, caplog: Any) -> None:
    async def break_down(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr(ResponsesService, "answer", break_down)
    async with serving("http://127.0.0.1:1/v1") as gateway:
        told = await ask(gateway, "responses")
        assert told.verdict == "500 server_error"
        async with connect(gateway.socket_url, proxy=None) as client:
            with pytest.raises(ConnectionClosed):
                await ask_socket(client, **body_for("websocket"))
            assert client.close_code == 1011
    assert "a WebSocket's request failed in the gateway" in caplog.messages
    assert "a request failed in the gateway" in caplog.messages


async def test_an_answer_that_can_not_be_kept_is_an_answer_all_the_same(monkeypatch: Any, caplog: Any) -> None:
    async def break_down(*_: Any) -> None:
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr(ResponsesService, "_keep", break_down)
    async with (
        ScriptedServer([Turn(text="hi")] * 3, models=[MODEL]) as upstream,
        serving(upstream.base_url) as gateway,
    ):
        told = [await ask(gateway, form) for form in ("responses", "responses whole", "websocket")]
    assert {answer.verdict for answer in told} == {"completed"}
    assert caplog.messages.count("an answer could not be kept") == 3


async def test_what_an_answer_held_is_gone_with_it(monkeypatch: Any) -> None:
    """Prompts are large, and what is left to the garbage collector stays until some thousands of objects later."""
    relays: weakref.WeakSet[Relay] = weakref.WeakSet()

    def noticed(relay: Relay, *args: Any, **options: Any) -> None:
        relays.add(relay)
        init(relay, *args, **options)

    init = Relay.__init__
    monkeypatch.setattr(Relay, "__init__", noticed)
    turns = [Turn(text=["one ", "two"]), Turn(fault=Status(500))] * len(FORMS)
    async with ScriptedServer(turns, models=[MODEL]) as upstream, serving(upstream.base_url) as gateway:
        gc.disable()
        try:
            for form in FORMS:
                await ask(gateway, form)
                await ask(gateway, form)
            await asyncio.sleep(0.01)
            assert not relays
        finally:
            gc.enable()
