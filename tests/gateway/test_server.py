"""The server, over real sockets: what it bounds, and how it ends."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from starlette.applications import Starlette
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode

from tests.gateway.bare_server import UPSTREAM, Application, Client, serving
from turnwire.errors import ConfigurationError
from turnwire.gateway.configuration import GatewayConfiguration
from turnwire.gateway.drain import draining
from turnwire.gateway.server import CannotServe, GatewayServer, listen, url_of

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

pytestmark = pytest.mark.usefixtures("nothing_left")

SOON = 0.03
"""Seconds: a timeout that a test waits for."""


async def begun(client: Client, path: str = "/stream") -> bytes:
    """The head of an answer that is under way."""
    client.get(path)
    return await client.until(b"begin \r\n")


async def test_an_answer_names_no_server_and_has_a_date() -> None:
    async with serving(Application()) as served:
        client = await served.connect()
        client.get("/hello")
        answer = (await client.until(b"hello")).decode()
        assert re.sub(r"date: [^\r]*GMT", "date: now", answer) == (
            "HTTP/1.1 200 OK\r\ndate: now\r\ncontent-length: 5\r\n\r\nhello"
        )


# What comes before a request.


@pytest.mark.parametrize("head", [b"", b"\r\n", b"GET / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nhost: localhost\r\nx-a: b"])
async def test_a_connection_whose_head_does_not_come_is_closed(head: bytes) -> None:
    async with serving(Application(), head_timeout=SOON) as served:
        client = await served.connect()
        client.writer.write(head)
        assert await client.rest() == b""


async def test_each_later_head_is_bounded_too() -> None:
    async with serving(Application(), head_timeout=SOON) as served:
        client = await served.connect()
        for _ in range(2):
            client.get("/hello")
            await client.until(b"hello")
        client.writer.write(b"GET /hel")
        assert await client.rest() == b""


async def test_a_body_and_an_answer_take_the_time_they_take() -> None:
    application = Application()
    async with serving(application, head_timeout=0.01) as served:
        client = await served.connect()
        client.writer.write(b"POST /stream HTTP/1.1\r\ncontent-length: 2\r\n\r\n{")
        await asyncio.sleep(SOON)
        client.writer.write(b"}")
        await client.until(b"begin \r\n")
        await asyncio.sleep(SOON)
        application.finish.set()
        assert await client.until(b"0\r\n\r\n") == b"3\r\nend\r\n0\r\n\r\n"


async def test_an_idle_connection_between_two_requests_is_kept() -> None:
    async with serving(Application(), head_timeout=0.01) as served:
        client = await served.connect()
        for _ in range(2):
            client.get("/hello")
            await client.until(b"hello")
            await asyncio.sleep(SOON)


EARLY = b"POST /early HTTP/1.1\r\ncontent-length: 200000\r\n\r\n"


async def test_a_body_that_comes_after_its_answer_is_passed_over() -> None:
    async with serving(Application()) as served:
        client = await served.connect()
        client.writer.write(EARLY)
        await client.until(b"hello")
        for _ in range(50):
            client.writer.write(b"x" * 4000)
            await client.writer.drain()
        client.get("/hello")
        assert (await client.until(b"hello")).startswith(b"HTTP/1.1 200 OK\r\n")


async def test_a_body_that_trickles_in_after_its_answer_is_not_waited_for() -> None:
    async with serving(Application(), head_timeout=SOON) as served:
        client = await served.connect()
        client.writer.write(EARLY)
        await client.until(b"hello")
        client.writer.write(b"x")
        assert await client.rest() == b""


async def test_a_head_that_does_not_end_is_refused() -> None:
    async with serving(Application()) as served:
        client = await served.connect()
        client.writer.write(b"GET / HTTP/1.1\r\nx-long: ")
        try:
            for _ in range(64):
                client.writer.write(b"x" * 4096)
                await client.writer.drain()
            answer = await client.rest()
        except ConnectionError:  # it was closed while we still wrote
            return
        assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
        assert answer.endswith(b"The request's head is over 65536 bytes.")


async def test_a_head_just_within_the_bound_is_read() -> None:
    async with serving(Application()) as served:
        client = await served.connect()
        client.writer.write(b"GET /hello HTTP/1.1\r\nx-long: ")
        for _ in range(15):
            client.writer.write(b"x" * 4096)
            await asyncio.sleep(0)
        client.writer.write(b"\r\n\r\n")
        assert (await client.until(b"hello")).startswith(b"HTTP/1.1 200 OK\r\n")


# WebSockets.


async def test_a_websocket_stays_open_and_its_messages_are_compressed() -> None:
    application = Application()
    application.finish.set()
    async with serving(application, head_timeout=0.01) as served, connect(f"ws://127.0.0.1:{served.port}/") as client:
        assert client.response is not None
        assert client.response.headers["sec-websocket-extensions"].startswith("permessage-deflate")
        await asyncio.sleep(SOON)
        await client.send("x" * 1000)
        assert [await client.recv(), await client.recv()] == ["begin 1000", "end"]


async def test_a_message_over_max_body_closes_the_websocket() -> None:
    async with serving(Application(), max_body=1000) as served, connect(f"ws://127.0.0.1:{served.port}/") as client:
        await client.send("x" * 1001)
        with pytest.raises(ConnectionClosed):
            await client.recv()
        assert client.close_code == CloseCode.MESSAGE_TOO_BIG


# The end.


async def test_an_answer_under_way_ends_by_itself_while_nothing_new_is_taken() -> None:
    application = Application()
    async with serving(application) as served:
        idle, asking = await served.connect(), await served.connect()
        idle.get("/hello")
        await idle.until(b"hello")
        await begun(asking)
        assert application.draining is not None
        assert not application.draining.is_set()
        served.stop()
        await application.draining.wait()
        assert await idle.rest() == b""
        with pytest.raises(ConnectionError):
            await served.connect()
        assert not application.ended
        application.finish.set()
        assert await asking.rest() == b"3\r\nend\r\n0\r\n\r\n"
        await served.task
        assert application.ended


async def test_an_answer_under_way_on_a_websocket_ends_by_itself() -> None:
    application = Application()
    async with serving(application) as served, connect(f"ws://127.0.0.1:{served.port}/") as client:
        await client.send("go")
        assert await client.recv() == "begin 2"
        assert application.draining is not None
        served.stop()
        await application.draining.wait()
        application.finish.set()
        assert await client.recv() == "end"
        with pytest.raises(ConnectionClosed):
            await client.recv()
        assert client.close_code == CloseCode.SERVICE_RESTART
        await served.task


async def test_an_answer_that_does_not_end_in_time_is_cut_off_and_may_say_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    application = Application()
    async with serving(application, drain_timeout=SOON) as served:
        url = f"ws://127.0.0.1:{served.port}/"
        asking = await served.connect()
        await begun(asking)
        async with connect(url) as client:
            await client.send("go")
            assert await client.recv() == "begin 2"
            served.stop()
            assert await asking.rest() == b"3\r\ncut\r\n0\r\n\r\n"
            assert await client.recv() == "cut"
            await served.task
        assert application.ended
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", "answers cut off that did not end by themselves: 2")
    ]


async def test_a_second_signal_ends_everything_at_once() -> None:
    application = Application()
    async with serving(application, drain_timeout=3600) as served:
        asking = await served.connect()
        await begun(asking)
        served.stop()
        assert application.draining is not None
        await application.draining.wait()
        served.stop()
        assert await asking.rest() == b"3\r\ncut\r\n0\r\n\r\n"
        await served.task
        assert application.ended


async def test_a_websocket_that_the_application_holds_is_closed_by_the_server() -> None:
    async with (
        serving(Application(), drain_timeout=0) as served,
        connect(f"ws://127.0.0.1:{served.port}/") as client,
    ):
        await client.send("go")
        assert await client.recv() == "begin 2"
        served.stop()
        assert await client.recv() == "cut"
        with pytest.raises(ConnectionClosed):
            await client.recv()
        assert client.close_code == CloseCode.SERVICE_RESTART
        await served.task


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_signals_stop_it(number: int) -> None:
    async with serving(Application()) as served:
        os.kill(os.getpid(), number)
        await served.task


async def test_a_client_that_does_not_read_to_the_end_is_cut_off() -> None:
    application = Application()
    async with serving(application, client_timeout=SOON) as served:
        client = await served.connect()
        client.writer.write(b"GET /flood HTTP/1.1\r\nconnection: close\r\n\r\n")
        await application.begun.wait()
        await asyncio.sleep(0)
        await served.server.on_tick(0)  # sees that the connection is closing,
        assert served.server.server_state.connections
        await asyncio.sleep(SOON)
        await served.server.on_tick(0)  # and that it still is
        await asyncio.sleep(0)
        assert not served.server.server_state.connections


def test_it_runs_in_a_loop_of_its_own_and_in_any_thread() -> None:
    application = Application()
    ready = threading.Event()
    server = GatewayServer(GatewayConfiguration((UPSTREAM,), port=0), application, on_ready=ready.set)
    thread = threading.Thread(target=server.run)
    thread.start()
    assert ready.wait(10)
    server.should_exit = True
    thread.join()
    assert application.ended


@pytest.mark.parametrize("answer", ["lifespan.startup.failed", None])
async def test_an_application_that_does_not_start_is_one_sentence(answer: str | None) -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        if answer is None:
            raise RuntimeError
        await send({"type": answer, "message": "no"})

    server = GatewayServer(GatewayConfiguration((UPSTREAM,), port=0), application)
    with pytest.raises(CannotServe) as caught:
        await server.serve()
    assert str(caught.value) == "the gateway's application did not start; the log says why"


async def test_why_an_application_refuses_to_start_is_passed_on() -> None:
    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        raise ConfigurationError("no")
        yield

    server = GatewayServer(GatewayConfiguration((UPSTREAM,), port=0), Starlette(lifespan=lifespan))
    with pytest.raises(ConfigurationError) as caught:
        await server.serve()
    assert str(caught.value) == "no"


async def test_under_another_server_there_is_no_end_to_see() -> None:
    assert not draining({"type": "http"}).is_set()
    scope: dict[str, Any] = {"type": "http", "state": {}}
    assert draining(scope) is draining(scope)


# Addresses.


def test_a_port_that_is_taken_is_one_sentence() -> None:
    (taken,) = listen("127.0.0.1", 0)
    with taken:
        port = taken.getsockname()[1]
        with pytest.raises(CannotServe) as caught:
            listen("127.0.0.1", port)
    assert str(caught.value) == f"can't listen on 127.0.0.1 port {port}: address already in use"


@pytest.mark.parametrize(
    ("host", "reason"),
    [("192.0.2.1", "cannot assign requested address"), ("a" * 64, "it is not a host name")],
)
def test_a_host_that_is_not_here_is_one_sentence(host: str, reason: str) -> None:
    with pytest.raises(CannotServe) as caught:
        listen(host, 0)
    assert str(caught.value) == f"can't listen on {host} port 0: {reason}"


def test_a_host_that_is_unknown_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr("socket.getaddrinfo", unknown)
    with pytest.raises(CannotServe) as caught:
        listen("nowhere", 0)
    assert str(caught.value) == "can't listen on nowhere port 0: name or service not known"


def found(*hosts: str) -> Any:
    kinds = [socket.AF_INET6 if ":" in host else socket.AF_INET for host in hosts]
    return lambda *_, **__: [
        (kind, socket.SOCK_STREAM, 6, "", (host, 0)) for kind, host in zip(kinds, hosts, strict=True)
    ]


def test_all_addresses_of_a_name_are_listened_on_at_one_port(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.getaddrinfo", found("127.0.0.1", "127.0.0.2"))
    sockets = listen("localhost", 0)
    port = sockets[0].getsockname()[1]
    assert [url_of(bound) for bound in sockets] == [f"http://127.0.0.1:{port}", f"http://127.0.0.2:{port}"]
    for bound in sockets:
        bound.close()


def test_an_address_that_the_machine_has_not_is_left_out_if_there_is_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.getaddrinfo", found("192.0.2.1", "127.0.0.1"))
    (bound,) = listen("localhost", 0)
    bound.close()
    monkeypatch.setattr("socket.getaddrinfo", found("127.0.0.1", "127.0.0.1"))
    with pytest.raises(CannotServe):
        listen("localhost", 0)


def test_an_ipv6_address_stands_in_brackets() -> None:
    class Bound:
        def getsockname(self) -> tuple[str, int, int, int]:
            return ("::1", 8088, 0, 0)

    bound: Any = Bound()
    assert url_of(bound) == "http://[::1]:8088"
