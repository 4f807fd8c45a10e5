"""The scripted server over real sockets: what it says, what it records, and that nothing of it is left behind."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest

from turnwire.event import Completed, OutputItemDone, TokenUsage
from turnwire.item import FunctionCall, Message, OutputText, Reasoning, ReasoningText, Refusal
from turnwire.testing import (
    CutCleanly,
    DropBeforeHead,
    EmptyBody,
    ErrorEvent,
    Fault,
    Garbage,
    HangAfterFinish,
    HugeEvent,
    NoSentinel,
    NotHttp,
    RecordedRequest,
    ResetAfter,
    ScriptedServer,
    Stall,
    Status,
    Trickle,
    Truncate,
    Turn,
    WrongType,
)
from turnwire.wire.chat.decoder import ChatDecoder
from turnwire.wire.chat.dialect import PRESETS, ChatDialect

STREAMED = {"model": "m", "stream": True, "stream_options": {"include_usage": True}, "messages": []}
HELLO = Turn(text=["Grüezi", " mitenand"])
HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\nx-request-id: request-1\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)


def event(delta: dict[str, Any], finish_reason: str | None = None) -> bytes:
    chunk = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 0,
        "model": "m",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}],
    }
    return b"data: " + json.dumps(chunk, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"


START, ONE, TWO = (
    event({"role": "assistant", "content": ""}),
    event({"content": "Grüezi"}),
    event({"content": " mitenand"}),
)
SERVED = "POST /v1/chat/completions, POST /v1/responses, POST /v1/responses/compact, GET /v1/responses, GET /v1/models"
FINISH, DONE = event({}, "stop"), b"data: [DONE]\n\n"


def chunked(*pieces: bytes) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)


LAST = b"0\r\n\r\n"


@asynccontextmanager
async def connected(server: ScriptedServer) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    address = urlsplit(server.base_url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    try:
        yield reader, writer
    finally:
        writer.close()
        await asyncio.gather(writer.wait_closed(), return_exceptions=True)


def post(body: Any, headers: str = "") -> bytes:
    data = json.dumps(body).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: model\r\n{headers}content-length: {len(data)}\r\n\r\n"
    return head.encode() + data


async def everything(reader: asyncio.StreamReader) -> tuple[bytes, str]:
    """All bytes up to the connection's end, and what kind of end it was."""
    received = bytearray()
    try:
        while data := await reader.read(65536):
            received += data
    except ConnectionResetError:
        return bytes(received), "reset"
    return bytes(received), "closed"


@pytest.mark.parametrize(
    ("fault", "received", "end"),
    [
        (None, HEAD + chunked(START, ONE, TWO, FINISH, DONE) + LAST, "closed"),
        (DropBeforeHead(), b"", "closed"),
        (NotHttp(b"220 mail ready\r\n"), b"220 mail ready\r\n", "closed"),
        (EmptyBody(), HEAD + LAST, "closed"),
        (ResetAfter(), HEAD, "reset"),
        (ResetAfter(len(START) + 3), HEAD + chunked(START, ONE[:3]), "reset"),
        (Truncate(len(START)), HEAD + chunked(START), "closed"),
        (CutCleanly(len(START) + 3), HEAD + chunked(START, ONE[:3]) + LAST, "closed"),
        (
            Garbage(b"?\xff?", after=4),
            HEAD + chunked(START[:4], b"?\xff?", START[4:], ONE, TWO, FINISH, DONE) + LAST,
            "closed",
        ),
        (NoSentinel(), HEAD + chunked(START, ONE, TWO, FINISH) + LAST, "closed"),
        (
            WrongType("text/html", b"<p>"),
            b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ntransfer-encoding: chunked\r\n\r\n"
            + chunked(b"<p>")
            + LAST,
            "closed",
        ),
        (
            Status(503, body=b"{}", headers={"retry-after": "2"}),
            b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: 2\r\n"
            b"transfer-encoding: chunked\r\n\r\n" + chunked(b"{}") + LAST,
            "closed",
        ),
    ],
    ids=str,
)
async def test_what_is_on_the_wire(fault: Fault | None, received: bytes, end: str) -> None:
    turn = Turn(text=HELLO.text, fault=fault)
    async with ScriptedServer([turn]) as server, connected(server) as (reader, writer):
        writer.write(post(STREAMED, "connection: close\r\n"))
        assert await everything(reader) == (received, end)
        await server.wait_idle()
        assert (server.abandoned, server.errors) == ([], [])


@pytest.mark.parametrize(
    ("fault", "received"),
    [
        (Stall(), HEAD),
        (Stall(len(START)), HEAD + chunked(START)),
        (HangAfterFinish(), HEAD + chunked(START, ONE, TWO, FINISH)),
    ],
    ids=str,
)
async def test_silence_lasts_until_the_client_leaves(fault: Fault, received: bytes) -> None:
    async with ScriptedServer([Turn(text=HELLO.text, fault=fault)]) as server:
        async with connected(server) as (reader, writer):
            writer.write(post(STREAMED))
            assert await reader.readexactly(len(received)) == received
            assert (server.open_streams, server.abandoned) == (1, [])
        await server.wait_idle()
        assert (server.open_streams, server.abandoned) == (0, server.requests)


async def test_a_stall_can_be_kept_warm_with_comments() -> None:
    async with ScriptedServer([Turn(fault=Stall(comments_every=0.001))]) as server:
        async with connected(server) as (reader, writer):
            writer.write(post(STREAMED))
            expected = HEAD + chunked(*[b": keep-alive\n\n"] * 3)
            assert await reader.readexactly(len(expected)) == expected
        await server.wait_idle()


async def test_a_client_that_leaves_a_flood_is_noticed() -> None:
    async with ScriptedServer([Turn(fault=HugeEvent())]) as server:
        async with connected(server) as (reader, writer):
            writer.write(post(STREAMED))
            assert await reader.readexactly(len(HEAD)) == HEAD
        await server.wait_idle()
        assert server.abandoned == server.requests


@pytest.mark.parametrize("fault", [Stall(3), HangAfterFinish(), HugeEvent(), Stall(comments_every=0.001)], ids=str)
async def test_nothing_is_left_after_the_exit(fault: Fault) -> None:
    before = asyncio.all_tasks()
    async with AsyncExitStack() as clients:
        async with ScriptedServer([Turn(fault=fault)]) as server:
            address = urlsplit(server.base_url)
            await clients.enter_async_context(connected(server))
            reader, writer = await clients.enter_async_context(connected(server))
            writer.write(post(STREAMED))
            assert await reader.readexactly(len(HEAD)) == HEAD
            assert server.open_streams == 1
        assert (server.open_streams, server.abandoned, asyncio.all_tasks()) == (0, [], before)
        await everything(reader)
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(address.hostname, address.port)


@pytest.mark.parametrize("turns_of_the_loop", range(4))
async def test_a_connection_that_has_only_just_come_is_closed_on_exit(turns_of_the_loop: int) -> None:
    async with AsyncExitStack() as clients:
        async with ScriptedServer() as server:
            reader, _ = await clients.enter_async_context(connected(server))
            for _ in range(turns_of_the_loop):
                await asyncio.sleep(0)
        assert await everything(reader) == (b"", "closed")


async def test_a_closed_server_says_that_it_is_closed() -> None:
    server = ScriptedServer()
    assert repr(server) == "<ScriptedServer: closed, 0 requests, 0 open streams>"
    with pytest.raises(RuntimeError, match="the server is closed: open it with 'async with' first"):
        _ = server.base_url


@asynccontextmanager
async def asking(server: ScriptedServer, **headers: str) -> AsyncIterator[Callable[..., Any]]:
    """A client that asks for a completion, or for another path, and gives status, headers and body."""
    async with aiohttp.ClientSession(headers=headers) as session:

        async def ask(
            body: Any = STREAMED, path: str = "/chat/completions", method: str = "POST", **more: Any
        ) -> tuple[int, Any, bytes]:
            data = None if body is None else json.dumps(body)
            async with session.request(method, server.base_url + path, data=data, **more) as response:
                return response.status, response.headers, await response.read()

        yield ask


async def test_the_script_is_played_in_order_and_then_it_is_over() -> None:
    async with ScriptedServer([Turn(text="one"), Turn(text="two")]) as server, asking(server) as ask:
        bodies = [json.loads((await ask({"model": "m"}))[2]) for _ in range(2)]
        assert [body["choices"][0]["message"]["content"] for body in bodies] == ["one", "two"]
        status, _, body = await ask()
        assert (status, json.loads(body)["error"]) == (
            500,
            {
                "message": "the script is over: it has no turn for request 3",
                "type": "server_error",
                "param": None,
                "code": None,
            },
        )
        assert server.errors == ["the script is over: it has no turn for request 3"]


async def test_a_script_can_be_a_function_of_the_request() -> None:
    def echo(request: RecordedRequest) -> Turn:
        return Turn(text=request.json["messages"][-1]["content"])

    async with ScriptedServer(echo) as server, asking(server) as ask:
        status, _, body = await ask({"messages": [{"role": "user", "content": "marco"}]})
        assert (status, json.loads(body)) == (
            200,
            {
                "id": "chatcmpl-1",
                "object": "chat.completion",
                "created": 0,
                "model": "scripted",
                "choices": [
                    {"index": 0, "message": {"role": "assistant", "content": "marco"}, "finish_reason": "stop"}
                ],
            },
        )
        status, _, _ = await ask({})
        assert (status, server.errors) == (500, ["the script failed on request 2: KeyError('messages')"])


async def test_requests_are_recorded_as_they_came() -> None:
    async with ScriptedServer([HELLO, HELLO]) as server:
        async with connected(server) as (reader, writer):
            for _ in range(2):
                writer.write(post(STREAMED, "X-Codex-Turn-State: abc\r\n"))
                await reader.readuntil(LAST)
        async with connected(server) as (reader, writer):
            writer.write(b"GET /v1/models?a=b HTTP/1.1\r\n\r\n")
            await reader.readuntil(LAST)
        body = json.dumps(STREAMED).encode()
        headers = {"host": "model", "x-codex-turn-state": "abc", "content-length": str(len(body))}
        asked = RecordedRequest(
            method="POST", path="/v1/chat/completions", headers=headers, body=body, connection=0, wire="chat"
        )
        assert server.requests == [
            asked,
            asked,
            RecordedRequest(method="GET", path="/v1/models", query="a=b", connection=1),
        ]
        assert (asked.json, asked.token) == (STREAMED, "abc")


@pytest.mark.parametrize(
    ("turn", "token"),
    [
        (Turn(), "abc"),
        (Turn(token="other"), "other"),
        (Turn(token=""), None),
        (Turn(headers={"x-codex-turn-state": ""}), ""),
        (Turn(fault=Status(500)), None),
        (Turn(fault=Status(500, headers={"x-codex-turn-state": "odd"})), "odd"),
    ],
)
async def test_the_routing_token_is_handed_out_with_an_answer(turn: Turn, token: str | None) -> None:
    async with ScriptedServer([turn], token="abc") as server, asking(server) as ask:
        _, headers, _ = await ask()
        assert headers.get("x-codex-turn-state") == token


@pytest.mark.parametrize(
    ("authorization", "status"),
    [({}, 401), ({"authorization": "Bearer no"}, 401), ({"authorization": "Bearer k"}, 200)],
)
async def test_the_key_is_checked_where_there_is_one(authorization: dict[str, str], status: int) -> None:
    async with ScriptedServer([HELLO], api_key="k") as server, asking(server, **authorization) as ask:
        assert (await ask())[0] == status
        assert server.errors == []


async def test_models_are_listed_and_checked() -> None:
    async with ScriptedServer([HELLO], models=["m"]) as server, asking(server) as ask:
        _, _, listed = await ask(None, "/models", "GET")
        assert json.loads(listed) == {
            "object": "list",
            "data": [{"id": "m", "object": "model", "created": 0, "owned_by": "turnwire"}],
        }
        status, _, refusal = await ask({"model": "n"})
        assert (status, json.loads(refusal)) == (
            404,
            {
                "error": {
                    "message": "the model 'n' does not exist",
                    "type": "invalid_request_error",
                    "param": None,
                    "code": "model_not_found",
                }
            },
        )
        assert (await ask())[0] == 200


@pytest.mark.parametrize(
    ("path", "method", "body", "status", "error"),
    [
        (
            "/chat/completion",
            "POST",
            {},
            404,
            f"POST /v1/chat/completion is not served; served are {SERVED}",
        ),
        (
            "/models",
            "HEAD",
            None,
            404,
            f"HEAD /v1/models is not served; served are {SERVED}",
        ),
        (
            "/chat/completions",
            "POST",
            [],
            400,
            "the request's body is not one of Chat Completions: Expected `object`, got `array`",
        ),
    ],
)
async def test_what_the_script_did_not_foresee_is_noted(
    path: str, method: str, body: Any, status: int, error: str
) -> None:
    async with ScriptedServer([HELLO]) as server, asking(server) as ask:
        assert (await ask(body, path, method))[0] == status
        assert server.errors == [error]


@pytest.mark.parametrize(
    ("sent", "status", "error"),
    [
        (b"HELO model\r\n\r\n", b"400 Bad Request", "b'HELO model' is not a request line of HTTP/1.1"),
        (
            b'POST /v1/chat/completions HTTP/1.1\r\ncontent-length: 13\r\n\r\n{"model":"\xff"}',
            b"400 Bad Request",
            "the request's body is not one of Chat Completions: 'utf-8' codec can't decode byte 0xff in position 0: "
            "invalid start byte",
        ),
    ],
)
async def test_a_malformed_request_is_noted_and_refused(sent: bytes, status: bytes, error: str) -> None:
    async with ScriptedServer() as server, connected(server) as (reader, writer):
        writer.write(sent)
        assert (await reader.readuntil(LAST)).startswith(b"HTTP/1.1 " + status + b"\r\n")
        assert server.errors == [error]


async def test_a_fault_of_streams_needs_one() -> None:
    async with ScriptedServer([Turn(fault=ErrorEvent(3))]) as server, asking(server) as ask:
        assert (await ask({}))[0] == 500
        assert len(server.errors) == 1
        assert "can only be played in a stream, and the request does not ask for one" in server.errors[0]


CALLS = (
    FunctionCall("get_weather", '{"city":"Zürich","unit":"c"}', "call_1"),
    FunctionCall("get_time", "{}", "call_2"),
)
USAGE = TokenUsage(input_tokens=20, cached_input_tokens=16, output_tokens=5, total_tokens=25)


@pytest.mark.parametrize("fault", [None, Trickle(7)], ids=str)
@pytest.mark.parametrize("name", PRESETS)
async def test_every_preset_is_understood_by_the_client(name: str, fault: Fault | None) -> None:
    dialect = ChatDialect.preset(name)
    turn = Turn(reasoning=["Let", " me"], text="So:", refusal="no", calls=CALLS, usage=USAGE, interval=0.0, fault=fault)
    async with ScriptedServer([turn], dialect=dialect) as server, asking(server) as ask:
        _, _, body = await ask()
    decoder = ChatDecoder(dialect)
    events = [*decoder.feed(body), *decoder.feed_eof()]
    said = [OutputItemDone(Message("assistant", [OutputText("So:"), Refusal("no")]))]
    called = [OutputItemDone(call) for call in CALLS]
    assert [event for event in events if isinstance(event, OutputItemDone | Completed)] == [
        OutputItemDone(Reasoning(content=[ReasoningText("Let"), ReasoningText(" me")])),
        *(called + said if dialect.calls_finish == "tool_calls" else said + called),
        Completed("chatcmpl-1", USAGE, dialect.calls_finish),
    ]


async def test_usage_is_left_out_where_nobody_asked_for_it() -> None:
    async with ScriptedServer([Turn(text="hi", usage=USAGE)]) as server, asking(server) as ask:
        _, _, body = await ask({"model": "m", "stream": True})
        assert body == START + event({"content": "hi"}) + FINISH + DONE


async def test_an_interval_is_kept_between_writes() -> None:
    async with ScriptedServer([Turn(text=HELLO.text, interval=0.001)]) as server, asking(server) as ask:
        assert (await ask())[2] == START + ONE + TWO + FINISH + DONE


async def test_what_aiohttp_sees_of_each_broken_end() -> None:
    faults: list[Fault] = [DropBeforeHead(), NotHttp(), ResetAfter(), Truncate(10), CutCleanly(10)]
    seen: list[str] = []
    async with ScriptedServer([Turn(fault=fault) for fault in faults]) as server, asking(server) as ask:
        for _ in faults:
            try:
                seen.append((await ask())[2].decode())
            except aiohttp.ClientError as error:
                seen.append(type(error).__name__)
    assert seen == [
        "ServerDisconnectedError",
        "ClientResponseError",
        "ClientPayloadError",
        "ClientPayloadError",
        'data: {"id',
    ]
