"""What a stranger may send, and an upstream: each bound over real sockets, with a clear error and nothing left."""

from __future__ import annotations

import asyncio
import functools
import gc
import io
import json
import random
import re
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import CloseCode, Frame, Opcode

from tests.decoding import DONE, chunk, sse
from tests.gateway.asking import ask, ask_socket, body_for
from tests.gateway.bare_server import Client
from tests.gateway.raw_upstream import HEAD, RawUpstream
from tests.gateway.serving import MODEL, ServedGateway, serving, upstream_at
from turnwire.gateway import http_protocol, socket_protocol
from turnwire.testing import ScriptedServer, Turn

pytestmark = pytest.mark.usefixtures("nothing_left", "_no_tracebacks")

SOON = 0.03
"""Seconds: a timeout that a test waits for."""
MIB = 1024 * 1024
PATHS = ("responses", "chat/completions", "responses/compact", "responses/input_tokens")


@pytest.fixture
def _no_tracebacks(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """What a stranger does is no defect of the gateway's, and is not logged as one."""
    yield
    assert [record.getMessage() for record in caplog.records if record.exc_info] == []


def hi(_: object) -> Turn:
    return Turn(text="hi")


async def raw_client(gateway: ServedGateway) -> Client:
    return Client(*await asyncio.open_connection("127.0.0.1", int(gateway.server.url.rpartition(":")[2])))


async def post(gateway: ServedGateway, path: str, data: Any, **headers: str) -> tuple[int, str]:
    """The status of a refusal, and its sentence."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with (
        aiohttp.ClientSession() as session,
        session.post(
            f"{gateway.base_url}/{path}",
            data=io.BytesIO(data) if isinstance(data, bytes) else data,
            headers={"content-type": "application/json", **named},
        ) as response,
    ):
        document = await response.json()
        return response.status, (document.get("error") or {}).get("message", "")


@functools.cache
def zipped(size: int, wbits: int = 31) -> bytes:
    """So many zeros, in the gzip format or, of 15 bits, in that of zlib."""
    compressor = zlib.compressobj(wbits=wbits)
    return b"".join(compressor.compress(bytes(MIB)) for _ in range(size // MIB)) + compressor.flush()


# Bodies.


async def in_chunks(size: int) -> Any:
    for _ in range(size // 1000):
        yield b" " * 1000


NESTED = b'{"model": "m", "input": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
TOO_LARGE = "the request's body is over 2000000 bytes, which is all that is taken"
BODIES: dict[str, tuple[Callable[[], Any], dict[str, str], str]] = {
    "declared": (lambda: bytes(2_000_001), {}, TOO_LARGE),
    "chunked": (lambda: in_chunks(3_000_000), {}, TOO_LARGE),
    "gzip bomb": (lambda: zipped(32 * MIB), {"content_encoding": "gzip"}, TOO_LARGE),
    "zlib bomb": (lambda: zipped(32 * MIB, 15), {"content_encoding": "deflate"}, TOO_LARGE),
    "nested": (lambda: NESTED, {}, "the request's body is nested too deep"),
    "integer": (
        lambda: b'{"n": ' + b"1" * 100_000 + b"}",
        {},
        "the request's body is not JSON: integer value out of range",
    ),
    "exponent": (lambda: b'{"n": 1e400}', {}, "the request's body is not JSON: number out of range"),
    "half a character": (
        lambda: rb'{"n": "\ud800"}',
        {},
        "the request's body is not JSON: input data was truncated",
    ),
    "not UTF-8": (lambda: b'{"n": "\xff"}', {}, "the request's body is not UTF-8 (byte 7)"),
}


@pytest.mark.parametrize("path", PATHS)
async def test_a_body_beyond_the_bounds_is_refused_with_what_is_wrong(path: str) -> None:
    async with ScriptedServer() as upstream, serving(upstream.base_url, max_body=2_000_000) as gateway:
        for name, (body, headers, sentence) in BODIES.items():
            assert (name, *await post(gateway, path, body(), **headers)) == (name, 400, sentence)


async def test_a_body_that_is_declared_too_large_is_not_waited_for() -> None:
    async with ScriptedServer() as upstream, serving(upstream.base_url) as gateway:
        client = await raw_client(gateway)
        client.writer.write(b"POST /v1/responses HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 99999999999\r\n\r\n")
        assert (await client.until(b"\r\n")).startswith(b"HTTP/1.1 400 ")
        await client.close()


async def test_a_body_that_comes_byte_by_byte_has_its_time_and_no_more() -> None:
    async with ScriptedServer() as upstream, serving(upstream.base_url, body_timeout=SOON) as gateway:
        client = await raw_client(gateway)
        client.writer.write(b"POST /v1/responses HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 1000\r\n\r\n")
        head = asyncio.create_task(client.until(b"\r\n"))
        while not head.done():
            client.writer.write(b" ")
            await asyncio.sleep(0.001)
        assert head.result() == b"HTTP/1.1 408 Request Timeout\r\n"
        await client.close()


async def test_a_client_that_leaves_in_its_body_leaves_nothing() -> None:
    async with ScriptedServer() as upstream, serving(upstream.base_url) as gateway:
        for _ in range(20):
            client = await raw_client(gateway)
            client.writer.write(b"POST /v1/responses HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 1000\r\n\r\n{")
            await client.writer.drain()
            await client.close()


async def test_of_two_fields_with_one_name_the_last_counts_on_both_sides() -> None:
    body = b'{"model": "other", "input": "first", "input": "last", "model": "m"}'
    async with ScriptedServer(hi) as upstream, serving(upstream.base_url) as gateway:
        assert await post(gateway, "responses", body) == (200, "")
        assert json.loads(upstream.requests[-1].body)["messages"] == [{"role": "user", "content": "last"}]


@pytest.mark.parametrize("depth", [100, 500, 900])
@pytest.mark.parametrize("wire_api", ["chat", "responses"])
@pytest.mark.parametrize("path", PATHS)
async def test_what_can_be_decoded_can_be_sent_on(path: str, wire_api: str, depth: int) -> None:
    nested = b'{"properties":' * depth + b"{}" + b"}" * depth
    tool = b'{"type": "function", "name": "f", "parameters": %b, "function": {"name": "f", "parameters": %b}}'
    body = b'{"model": "m", "input": "x", "messages": [{"role": "user", "content": "x"}], "tools": [%b]}'
    async with (
        ScriptedServer(hi) as upstream,
        serving(upstream_at(upstream.base_url, wire_api=wire_api)) as gateway,
    ):
        status, _ = await post(gateway, path, body % (tool % (nested, nested)))
        assert status < 500


# Heads.


@pytest.mark.parametrize(
    "head",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /v1/models HTTP/9.9\r\n\r\n",
        b"GET  /v1/models\r\n\r\n",
        b"GET /\xff\xfe HTTP/1.1\r\n\r\n",
        b"GET /%ff%00%0d%0ax:y HTTP/1.1\r\n\r\n",
        b"GET /v1/responses/%00?limit=%ff HTTP/1.1\r\n\r\n",
        b"GET //evil.example/v1/models HTTP/1.1\r\n\r\n",
        b"GET http://evil.example/v1/models HTTP/1.1\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET / HTTP/1.1\r\nx: a\x00b\r\n\r\n",
        b"POST /v1/responses HTTP/1.1\r\ncontent-length: -1\r\n\r\n",
        b"POST /v1/responses HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        b"POST /v1/responses HTTP/1.1\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n{}",
        b"POST /v1/responses HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"POST /v1/responses HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
        b"POST /v1/responses HTTP/1.1\r\nauthorization: \xff\r\ncontent-length: 2\r\n\r\n{}",
        b"GET /v1/responses HTTP/1.1\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
        b"GET /v1/responses HTTP/1.1\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n",
    ],
)
async def test_a_head_that_makes_no_sense_is_no_failure_of_the_gateway(head: bytes) -> None:
    async with (
        ScriptedServer() as upstream,
        serving(upstream.base_url, head_timeout=SOON, body_timeout=SOON) as gateway,
    ):
        client = await raw_client(gateway)
        client.writer.write(head)
        client.writer.write_eof()
        try:
            async with asyncio.timeout(1):
                answer = await client.until(b"\r\n")
        except (asyncio.IncompleteReadError, ConnectionError, TimeoutError):
            answer = b""  # it was closed without a word
        assert answer == b"" or re.match(rb"HTTP/1.1 [24]\d\d ", answer)
        await client.close()


# Connections.


async def test_a_connection_over_max_connections_is_told_to_come_back(caplog: pytest.LogCaptureFixture) -> None:
    async with ScriptedServer(hi) as upstream, serving(upstream.base_url, max_connections=2) as gateway:
        kept = [await raw_client(gateway), await raw_client(gateway)]
        extra = await raw_client(gateway)
        extra.get("/healthz")
        head, _, body = (await extra.rest()).partition(b"\r\n\r\n")
        assert head.decode().split("\r\n") == [
            "HTTP/1.1 503 Service Unavailable",
            "content-type: application/json",
            "retry-after: 5",
            f"content-length: {len(body)}",
            "connection: close",
        ]
        assert json.loads(body)["error"] == {
            "message": "the gateway has 2 connections, its max_connections",
            "type": "server_error",
            "param": None,
            "code": "slow_down",
        }
        await gateway.server.on_tick(0)
        await gateway.server.on_tick(0)
        kept[0].get("/healthz")
        assert (await kept[0].until(b"\r\n")).startswith(b"HTTP/1.1 200 ")
        for client in (*kept, extra):
            await client.close()
        assert (await ask(gateway, "chat")).verdict == "completed"
    warnings = [record.getMessage() for record in caplog.records if "max_connections" in record.getMessage()]
    assert warnings == ["connections over max_connections, 2: 1 turned away"]


async def test_a_connection_too_many_that_asks_for_nothing_is_soon_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_protocol, "_TURNED_AWAY_TIMEOUT", SOON)
    async with ScriptedServer() as upstream, serving(upstream.base_url, max_connections=1) as gateway:
        kept, extra = await raw_client(gateway), await raw_client(gateway)
        assert await extra.rest() == b""
        for client in (kept, extra):
            await client.close()


async def test_websockets_count_as_connections() -> None:
    async with ScriptedServer(hi) as upstream, serving(upstream.base_url, max_connections=1) as gateway:
        socket = await connect(gateway.socket_url, proxy=None)
        with pytest.raises(InvalidStatus) as caught:
            await connect(gateway.socket_url, proxy=None)
        assert (caught.value.response.status_code, caught.value.response.headers["retry-after"]) == (503, "5")
        assert (await ask_socket(socket, **body_for("websocket"))).verdict == "completed"
        await socket.close()


async def test_many_idle_connections_and_sockets_hold_nobody_up() -> None:
    async with (
        ScriptedServer(hi) as upstream,
        serving(upstream.base_url) as gateway,
        AsyncExitStack() as stack,
    ):
        clients = await asyncio.gather(*(raw_client(gateway) for _ in range(150)))
        for client in clients:
            stack.push_async_callback(client.close)
        for _ in range(50):
            await stack.enter_async_context(connect(gateway.socket_url, proxy=None))
        assert (await ask(gateway, "responses")).verdict == "completed"
        assert len(gateway.server.server_state.connections) >= 200


# WebSockets.


HANDSHAKE = (
    b"GET /v1/responses HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
    b"sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)


class RawSocket:
    """A WebSocket whose frames are the test's."""

    def __init__(self, client: Client) -> None:
        self.client = client

    @classmethod
    async def open(cls, gateway: ServedGateway) -> RawSocket:
        client = await raw_client(gateway)
        client.writer.write(HANDSHAKE + b"\r\n")
        assert (await client.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
        return cls(client)

    async def send(self, opcode: Opcode, data: bytes, *, fin: bool = True, count: int = 1) -> None:
        self.client.writer.write(Frame(opcode, data, fin=fin).serialize(mask=True) * count)
        await self.client.writer.drain()

    async def close_code(self) -> int | None:
        """What the gateway closes with, after whatever else it says; None where it says nothing."""
        try:
            said = await self.client.rest()
        except ConnectionError:
            return None
        place = said.find(b"\x88")
        return None if place < 0 else int.from_bytes(said[place + 2 : place + 4], "big")


FLOODS: dict[str, tuple[list[tuple[Opcode, bytes, bool, int]], int]] = {
    "a frame over the bound": ([(Opcode.TEXT, bytes(100_001), True, 1)], CloseCode.MESSAGE_TOO_BIG),
    "fragments over the bound": (
        [(Opcode.TEXT, b"x", False, 1), (Opcode.CONT, bytes(10_000), False, 11)],
        CloseCode.MESSAGE_TOO_BIG,
    ),
    "empty fragments without end": (
        [(Opcode.TEXT, b"", False, 1), (Opcode.CONT, b"", False, 200)],
        CloseCode.MESSAGE_TOO_BIG,
    ),
    "a fragment of nothing": ([(Opcode.CONT, b"x", True, 1)], CloseCode.PROTOCOL_ERROR),
    "text that is not UTF-8": ([(Opcode.TEXT, b"\xff", True, 1)], CloseCode.INVALID_DATA),
}


@pytest.mark.parametrize("flood", FLOODS)
async def test_frames_beyond_the_bounds_close_the_websocket(flood: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket_protocol, "_MAX_FRAGMENTS", 100)
    frames, code = FLOODS[flood]
    async with ScriptedServer() as upstream, serving(upstream.base_url, max_body=100_000) as gateway:
        socket = await RawSocket.open(gateway)
        for opcode, data, fin, count in frames:
            await socket.send(opcode, data, fin=fin, count=count)
        assert await socket.close_code() == code
        await socket.client.close()


@pytest.mark.parametrize("headers", [b"x: y\r\n" * 200, b"x: " + b"y" * 10_000 + b"\r\n"])
async def test_a_handshake_that_is_too_large_is_refused(headers: bytes) -> None:
    async with ScriptedServer() as upstream, serving(upstream.base_url) as gateway:
        client = await raw_client(gateway)
        client.writer.write(HANDSHAKE + headers + b"\r\n")
        assert (await client.rest()).startswith(b"HTTP/1.1 400 ")
        await client.close()


async def test_a_handshake_without_a_key_is_refused_and_nothing_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async with ScriptedServer() as upstream, serving(upstream.base_url) as gateway:
        with pytest.raises(InvalidStatus) as caught:
            await connect(gateway.socket_url, proxy=None, additional_headers={"host": "elsewhere"})
        assert caught.value.response.status_code == 401
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


async def test_garbage_in_frames_and_for_frames_is_no_failure_of_the_gateway() -> None:
    chance = random.Random(5)
    async with ScriptedServer() as upstream, serving(upstream.base_url) as gateway:
        for _ in range(20):
            socket = await RawSocket.open(gateway)
            socket.client.writer.write(b"\xf0" + chance.randbytes(200))
            assert await socket.close_code() in (None, CloseCode.PROTOCOL_ERROR)
            await socket.client.close()


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}", '{"type":"response.create"}', "[" * 100_000, "\0"])
async def test_a_message_that_makes_no_sense_is_refused_and_the_websocket_goes_on(text: str) -> None:
    async with (
        ScriptedServer(hi) as upstream,
        serving(upstream.base_url) as gateway,
        connect(gateway.socket_url, proxy=None) as socket,
    ):
        await socket.send(text)
        assert json.loads(await socket.recv())["status"] == 400
        assert (await ask_socket(socket, **body_for("websocket"))).verdict == "completed"


async def test_nothing_is_read_from_a_client_that_pings_and_does_not_read() -> None:
    async with ScriptedServer() as upstream, serving(upstream.base_url) as gateway:
        socket = await RawSocket.open(gateway)
        writer, pings = socket.client.writer, Frame(Opcode.PING, bytes(100)).serialize(mask=True) * 10_000
        sent, stuck = 0, False
        while not stuck:
            writer.write(pings)
            sent += len(pings)
            assert sent < 256 * MIB
            draining = asyncio.create_task(writer.drain())
            _, waiting = await asyncio.wait((draining,), timeout=10 * SOON)
            stuck = bool(waiting)
        (connection,) = gateway.server.server_state.connections
        transport: Any = connection.transport
        assert transport.get_write_buffer_size() < 2 * MIB
        await socket.client.reader.readexactly(102 * (sent // 106))  # all its pongs, once it does read
        await draining
        await socket.client.close()


async def test_a_bomb_in_a_websocket_is_not_expanded() -> None:
    async with (
        ScriptedServer() as upstream,
        serving(upstream.base_url, max_body=MIB) as gateway,
        connect(gateway.socket_url, proxy=None) as socket,
    ):
        await socket.send(" " * (16 * MIB))
        with pytest.raises(ConnectionClosed):
            await socket.recv()
        assert socket.close_code == CloseCode.MESSAGE_TOO_BIG


# Upstreams.


AS_JSON = HEAD.replace(b"text/event-stream", b"application/json")
ZIPPED = HEAD.replace(b"\r\n\r\n", b"\r\ncontent-encoding: gzip\r\n\r\n")
UPSTREAMS: dict[str, Callable[[], list[bytes]]] = {
    "an event over 16 MiB": lambda: [HEAD, b"data: ", *([b"x" * MIB] * 17)],
    "a line without an end": lambda: [HEAD, *([b"x" * MIB] * 17)],
    "a head over 64 KiB": lambda: [b"HTTP/1.1 200 OK\r\nx: ", *([b"x" * MIB] * 2)],
    "headers without an end": lambda: [b"HTTP/1.1 200 OK\r\n", b"x: y\r\n" * 100_000],
    "a bomb": lambda: [ZIPPED, zipped(32 * MIB)],
    "a document over 64 MiB": lambda: [AS_JSON, *([b" " * MIB] * 65)],
    "a document nested deep": lambda: [AS_JSON, b'{"choices":' * 100_000 + b"1" + b"}" * 100_000],
    "an event nested deep": lambda: [HEAD, b"data: " + b'{"choices":' * 100_000 + b"1" + b"}" * 100_000 + b"\n\n"],
    "no HTTP": lambda: [b"\0" * 1000 + b"\r\n\r\n"],
}


@pytest.mark.parametrize("wire_api", ["chat", "responses"])
@pytest.mark.parametrize("case", UPSTREAMS)
async def test_an_upstream_beyond_the_bounds_is_said_to_have_failed(case: str, wire_api: str) -> None:
    async def play(writer: asyncio.StreamWriter) -> None:
        for part in UPSTREAMS[case]():
            writer.write(part)
            await writer.drain()
        writer.write_eof()

    for form in ("responses whole", "chat whole"):
        async with RawUpstream(play) as upstream, serving(upstream_at(upstream.base_url, wire_api=wire_api)) as gateway:
            assert (form, (await ask(gateway, form)).verdict) == (form, "502 upstream_failed")


@pytest.mark.parametrize("form", ["responses", "websocket", "chat"])
async def test_ever_so_many_tiny_events_leave_nothing(form: Any) -> None:
    async def play(writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD)
        for _ in range(100):
            writer.write(sse(chunk(content="x")) * 100 + b":\n\n" * 100)
            await writer.drain()
        writer.write(sse(chunk("stop")) + DONE)
        writer.write_eof()

    async with RawUpstream(play) as upstream, serving(upstream.base_url) as gateway:
        held = []
        for _ in range(3):
            told = await ask(gateway, form)
            assert (told.status, told.cut, len(told.text)) == (200, False, 10_000)
            del told
            gc.collect()
            held.append(sys.getallocatedblocks())
        assert held[-1] - held[1] < 1_000


# What is echoed.

INJECTION = "a\r\nx-evil: 1\r\n\r\n\x00\u2028é"


@pytest.mark.parametrize("form", ["responses", "chat", "responses whole", "chat whole"])
@pytest.mark.parametrize("wire_api", ["chat", "responses"])
async def test_nothing_that_is_sent_becomes_a_header(form: Any, wire_api: str) -> None:
    async with (
        ScriptedServer(hi) as upstream,
        serving(upstream_at(upstream.base_url, wire_api=wire_api)) as gateway,
    ):
        for fields in (
            {"model": INJECTION},
            {INJECTION: 1},
            {"tools": [{"type": INJECTION, "name": INJECTION}]},
            {"include": [INJECTION]},
            {"user": INJECTION, "prompt_cache_key": INJECTION, "service_tier": INJECTION},
            {"client_metadata": {"x-codex-turn-state": INJECTION, INJECTION: INJECTION}},
            {"previous_response_id": INJECTION},
        ):
            told = await ask(gateway, form, **{"model": MODEL, **fields})
            assert told.status in (200, 400)
            assert "x-evil" not in told.headers
            assert all(value.isprintable() and value.isascii() for value in told.headers.values())
