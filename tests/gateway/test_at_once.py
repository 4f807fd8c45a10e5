"""Writing at once: what a server offers, when it is made use of, and that nothing is lost where it can't be."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import pytest
from websockets.asyncio.client import connect

from tests.gateway.asking import Form, ask
from tests.gateway.bare_server import serving as serving_bare
from tests.gateway.serving import serving
from turnwire.gateway.at_once import Put, body_of, extension, put_of
from turnwire.gateway.sink import HttpSink
from turnwire.gateway.socket_connection import SocketConnection
from turnwire.testing import ScriptedServer, Turn

if TYPE_CHECKING:
    from starlette.types import Message, Receive, Scope, Send

pytestmark = pytest.mark.usefixtures("nothing_left")

LARGE = bytes(1024 * 1024)


async def send(message: Message) -> None:
    raise AssertionError(message)


def put(_: Sequence[bytes]) -> bool:
    return True


def test_a_server_that_offers_nothing_can_write_nothing_at_once() -> None:
    assert put_of({}, send)([b"x"]) is False
    assert body_of({}, send) is None  # type: ignore[arg-type]
    assert put_of({"extensions": {}}, send)([b"x"]) is False


def test_what_is_offered_with_a_send_is_used_with_that_one_alone() -> None:
    async def counted(message: Message) -> None:
        await send(message)

    async def receive() -> Message:
        raise AssertionError

    async def watched() -> Message:
        return await receive()

    scope = {"extensions": extension(receive, send, put, lambda: b"body")}
    assert put_of(scope, send) is put
    assert put_of(scope, counted)([b"x"]) is False, "what stands before a send must see all that passes"
    assert body_of(scope, receive) == b"body"
    assert body_of(scope, watched) is None


class PuttingApplication:
    """Hands its server's `Put` to the test, once a body or a WebSocket has begun, and ends when it is told to."""

    def __init__(self) -> None:
        self.put: asyncio.Future[Put] = asyncio.get_running_loop().create_future()
        self.finish = asyncio.Event()
        self.ended = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        put = put_of(scope, send)
        await receive()
        assert not put([b"early"]), "nothing was begun"
        is_socket = scope["type"] == "websocket"
        if is_socket:
            await send({"type": "websocket.accept"})
        else:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        self.put.set_result(put)
        await self.finish.wait()
        if is_socket:
            await send({"type": "websocket.close"})
        else:
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        assert not put([b"late"]), "it is over"
        self.ended.set()


async def test_pieces_of_a_body_are_one_chunk_and_nothing_is_none() -> None:
    async with asyncio.timeout(5), serving_bare(application := PuttingApplication()) as served:
        client = await served.connect()
        client.get("/")
        put = await application.put
        await client.until(b"\r\n\r\n")
        assert put([b"one", b"two"])
        assert put([]), "which must not be the end"
        assert await client.until(b"two\r\n") == b"6\r\nonetwo\r\n"
        application.finish.set()
        assert await client.until(b"0\r\n\r\n") == b"0\r\n\r\n"
        await application.ended.wait()


async def test_messages_of_a_websocket_come_one_by_one() -> None:
    async with (
        asyncio.timeout(5),
        serving_bare(application := PuttingApplication()) as served,
        connect(f"ws://127.0.0.1:{served.port}/", proxy=None) as socket,
    ):
        put = await application.put
        assert put([b"one", "zwölf".encode()])
        assert [await socket.recv(), await socket.recv()] == ["one", "zwölf"]
        application.finish.set()
        await application.ended.wait()


@pytest.mark.parametrize("is_socket", [False, True], ids=["http", "websocket"])
async def test_nothing_is_written_at_once_to_a_client_that_does_not_read(is_socket: bool) -> None:
    async with asyncio.timeout(5), serving_bare(application := PuttingApplication()) as served:
        client = await served.connect()
        upgrade = (
            "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n"
            "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        )
        client.writer.write(f"GET / HTTP/1.1\r\nhost: localhost\r\n{upgrade if is_socket else ''}\r\n".encode())
        put = await application.put
        written = 0
        while put([LARGE]):
            written += 1
        assert written < 64
        while not put([b"end"]):  # until the client has read
            await client.reader.read(len(LARGE))
            await asyncio.sleep(0)
        application.finish.set()
        await application.ended.wait()


@pytest.mark.parametrize("is_socket", [False, True], ids=["http", "websocket"])
async def test_nothing_is_written_at_once_to_a_client_that_has_left(is_socket: bool) -> None:
    async with asyncio.timeout(5), serving_bare(application := PuttingApplication()) as served:
        if is_socket:
            async with connect(f"ws://127.0.0.1:{served.port}/", proxy=None):
                put = await application.put
        else:
            client = await served.connect()
            client.get("/")
            put = await application.put
            await client.close()
        while put([b"anybody?"]):  # noqa: ASYNC110 - nothing else tells
            await asyncio.sleep(0)


@pytest.mark.parametrize("is_socket", [False, True], ids=["http", "websocket"])
async def test_nothing_is_written_at_once_to_a_connection_that_was_just_closed(is_socket: bool) -> None:
    """Its protocol hears of that in the event loop's next round; uvloop raises where it is written to before."""
    async with (
        asyncio.timeout(5),
        serving_bare(application := PuttingApplication()) as served,
        AsyncExitStack() as clients,
    ):
        if is_socket:
            await clients.enter_async_context(connect(f"ws://127.0.0.1:{served.port}/", proxy=None))
        else:
            (await served.connect()).get("/")
        put = await application.put
        assert put([b"open"])
        for protocol in served.server.server_state.connections:
            protocol.transport.abort()  # type: ignore[union-attr]
        assert not put([b"closed"])


@pytest.mark.parametrize("form", ["responses", "chat", "websocket"])
async def test_a_chunk_in_the_middle_of_an_answer_wakes_nobody(form: Form, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else each of them would cost a good third more, and nothing else would show it."""
    awaited: list[Any] = []

    def counting(method: Callable[..., Any]) -> Callable[..., Any]:
        async def counted(*arguments: Any) -> None:
            awaited.append(arguments)
            await method(*arguments)

        return counted

    monkeypatch.setattr(HttpSink, "write", counting(HttpSink.write))
    monkeypatch.setattr(SocketConnection, "send", counting(SocketConnection.send))
    texts = [f"text {number} " for number in range(50)]
    turn = Turn(text=texts, interval=0.001)
    async with ScriptedServer([turn]) as upstream, serving(upstream.base_url) as gateway:
        told = await ask(gateway, form)
    assert told.text == "".join(texts)
    assert len(awaited) < 25
