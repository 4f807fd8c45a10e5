"""The scripted server's WebSocket, byte for byte, as a client sees it that knows nothing of turnwire."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidMessage, InvalidStatus

from turnwire.testing import (
    Close,
    Comments,
    ConnectionLimit,
    CutCleanly,
    DropBeforeHead,
    EmptyBody,
    ErrorEvent,
    Failed,
    Fault,
    Garbage,
    HangAfterFinish,
    HugeEvent,
    NotHttp,
    ResetAfter,
    ScriptedServer,
    Stall,
    Status,
    Trickle,
    Truncate,
    Turn,
    WrongType,
)
from turnwire.testing.asked import AskedResponse
from turnwire.testing.fault import HandshakeFault
from turnwire.testing.responses_answer import TokenPlace, answer_frames

pytestmark = pytest.mark.usefixtures("nothing_left")

HELLO = Turn(text=["Grü", "ezi"])
CREATE: dict[str, Any] = {"type": "response.create", "model": "m", "store": False}
BETA = {"openai-beta": "responses_websockets=2026-02-06"}
FRAMES = [
    frame.data
    for frame in answer_frames(
        HELLO, AskedResponse({**CREATE, "input": "Hello"}), token=None, place="after_created", response_id="resp_1"
    ).frames
]
SIZE = sum(map(len, FRAMES))


def url(server: ScriptedServer) -> str:
    return server.base_url.replace("http", "ws", 1) + "/responses"


async def ask(socket: ClientConnection, text: str = "Hello", **fields: Any) -> list[dict[str, Any]]:
    """The events of one response."""
    await socket.send(json.dumps({**CREATE, "input": text, **fields}))
    events: list[dict[str, Any]] = []
    while True:
        events.append(json.loads(await socket.recv()))
        if events[-1]["type"] in ("response.completed", "response.incomplete", "response.failed", "error"):
            return events


def types(events: list[dict[str, Any]]) -> list[str]:
    return [event["type"].removeprefix("response.") for event in events]


def said(events: list[dict[str, Any]]) -> str:
    return "".join(event["delta"] for event in events if event["type"] == "response.output_text.delta")


@pytest.mark.parametrize("compression", ["deflate", None])
async def test_a_connection_serves_one_response_after_the_other(compression: str | None) -> None:
    async with (
        ScriptedServer([HELLO, Turn(text="again")], strict=True) as server,
        connect(url(server), compression=compression, additional_headers=BETA) as socket,
    ):
        assert bool(socket.protocol.extensions) == (compression is not None)
        first, second = await ask(socket), await ask(socket)
        assert (said(first), said(second)) == ("Grüezi", "again")
        assert types(first) == [
            "created",
            "in_progress",
            "output_item.added",
            "content_part.added",
            "output_text.delta",
            "output_text.delta",
            "output_text.done",
            "content_part.done",
            "output_item.done",
            "completed",
        ]
        assert [event["sequence_number"] for event in first] == list(range(10))
        assert [request.connection for request in server.requests] == [0, 0]
        assert server.errors == []


async def test_a_message_is_recorded_with_its_handshake() -> None:
    async with (
        ScriptedServer([HELLO]) as server,
        connect(url(server) + "?client=1", additional_headers={"session-id": "s"}) as socket,
    ):
        await ask(socket, client_metadata={"x-codex-turn-state": "replica-7"})
        (handshake,), (request,) = server.handshakes, server.requests
        assert (request.wire, request.method, request.path, request.query) == (
            "websocket",
            "GET",
            "/v1/responses",
            "client=1",
        )
        assert request.headers == handshake.headers
        assert request.headers["session-id"] == "s"
        assert (request.token, request.json["input"]) == ("replica-7", "Hello")
        assert (handshake.wire, handshake.body) == (None, b"")


@pytest.mark.parametrize(
    ("place", "positions", "value", "handshake"),
    [
        ("after_created", [1], "replica-7", None),
        ("before_created", [0], "replica-7", None),
        ("late", [5], "replica-7", None),
        ("array", [1], ["replica-7", "of no account"], None),
        ("handshake", [], None, "replica-7"),
        ("never", [], None, None),
    ],
)
async def test_the_token_is_handed_out_where_it_shall_be(
    place: TokenPlace, positions: list[int], value: Any, handshake: str | None
) -> None:
    async with (
        ScriptedServer([HELLO], token="replica-7", token_place=place) as server,
        connect(url(server)) as socket,
    ):
        events = await ask(socket)
        found = {at: event["headers"] for at, event in enumerate(events) if event["type"] == "response.metadata"}
        assert found == {at: {"x-codex-turn-state": value} for at in positions}
        assert socket.response is not None
        assert socket.response.headers.get("x-codex-turn-state") == handshake


@pytest.mark.parametrize(
    ("turn", "headers"),
    [
        (Turn(token="other"), [{"x-codex-turn-state": "other"}]),
        (Turn(token=""), []),
        (Turn(headers={"x-models-etag": "v7"}), [{"x-codex-turn-state": "replica-7", "x-models-etag": "v7"}]),
        (Turn(headers={"x-codex-turn-state": ""}), [{"x-codex-turn-state": ""}]),
    ],
)
async def test_a_turn_may_have_a_token_and_headers_of_its_own(turn: Turn, headers: list[dict[str, str]]) -> None:
    async with ScriptedServer([turn], token="replica-7") as server, connect(url(server)) as socket:
        events = await ask(socket)
        assert [event["headers"] for event in events if event["type"] == "response.metadata"] == headers


async def test_a_warm_up_takes_no_turn_and_can_be_gone_on_from() -> None:
    async with ScriptedServer([HELLO], token="replica-7", strict=True) as server:
        async with connect(url(server), additional_headers=BETA) as socket:
            warm = await ask(socket, "Hello", generate=False)
            assert types(warm) == ["created", "metadata", "in_progress", "completed"]
            assert warm[-1]["response"]["output"] == []
            answer = await ask(socket, "More", previous_response_id=warm[0]["response"]["id"])
            assert said(answer) == "Grüezi"
        texts = [item["content"][0]["text"] for item in server.requests[1].input]
        assert texts == ["Hello", "More"]


async def test_a_continuation_is_given_all_that_led_to_it() -> None:
    async with ScriptedServer([HELLO] * 3) as server, connect(url(server)) as socket:
        previous: dict[str, Any] = {}
        for number in range(3):
            events = await ask(socket, f"q{number}", **previous)
            previous = {"previous_response_id": events[-1]["response"]["id"]}
        assert [item["content"][0]["text"] for item in server.requests[2].input] == [
            "q0",
            "Grüezi",
            "q1",
            "Grüezi",
            "q2",
        ]


NOT_FOUND = {
    "type": "error",
    "status": 400,
    "error": {
        "type": "invalid_request_error",
        "code": "previous_response_not_found",
        "message": "the previous response 'resp_1' is not found",
        "param": None,
    },
}


@pytest.mark.parametrize("stored", [False, True])
async def test_another_connection_knows_a_response_only_if_it_is_stored(stored: bool) -> None:
    async with ScriptedServer([HELLO, HELLO]) as server:
        async with connect(url(server)) as socket:
            await ask(socket, store=stored)
        async with connect(url(server)) as socket:
            events = await ask(socket, "More", previous_response_id="resp_1")
        assert (events[-1] == NOT_FOUND) is not stored
        assert server.errors == []


@pytest.mark.parametrize("fault", [Failed(), ErrorEvent(), Status(500)], ids=repr)
async def test_a_continuation_that_fails_takes_along_what_it_went_on_from(fault: Fault) -> None:
    async with ScriptedServer([HELLO, Turn(fault=fault), HELLO]) as server, connect(url(server)) as socket:
        await ask(socket)
        await ask(socket, "More", previous_response_id="resp_1")
        assert await ask(socket, "More", previous_response_id="resp_1") == [NOT_FOUND]
        assert said(await ask(socket, "All of it")) == "Grüezi"


@pytest.mark.parametrize(
    ("fault", "frames", "code"),
    [
        (Close(1011, "engine died"), FRAMES[:2], 1011),
        (Close(1012, after=1), FRAMES[:5], 1012),
        (Close(1000, after=2), FRAMES[:6], 1000),
        (DropBeforeHead(), [], 1006),
        (ResetAfter(), [], 1006),
        (Truncate(len(FRAMES[0]) + 3), FRAMES[:1], 1006),
        (Truncate(SIZE), FRAMES, 1006),
        (CutCleanly(len(FRAMES[0]) + 3), FRAMES[:1], 1000),
        (CutCleanly(SIZE), FRAMES, 1000),
        (Garbage(b"{not json"), [b"{not json"], None),
        (Garbage(b"\xff", after=len(FRAMES[0]) + 1), [FRAMES[0], b"\xff", *FRAMES[1:]], None),
        (Trickle(5), FRAMES, None),
        (Comments(), FRAMES, None),
        (Stall(len(FRAMES[0])), FRAMES[:1], None),
        (Stall(len(FRAMES[0]), comments_every=0.001), FRAMES[:1], None),
        (HangAfterFinish(), FRAMES, None),
    ],
    ids=lambda value: repr(value)[:50],
)
async def test_what_is_on_the_wire(fault: Fault, frames: list[bytes], code: int | None) -> None:
    received: list[bytes] = []
    async with ScriptedServer([Turn(text=HELLO.text, fault=fault)]) as server:
        async with connect(url(server)) as socket:
            await socket.send(json.dumps({**CREATE, "input": "Hello"}))
            with suppress(ConnectionClosed):
                while code is not None or len(received) < len(frames):
                    received.append(await socket.recv(decode=False))
            assert socket.close_code == code
        await server.wait_idle()
        assert received == frames
        silent = isinstance(fault, Stall | HangAfterFinish)
        assert (len(server.abandoned), server.errors) == (int(silent), [])


async def test_a_fragmented_message_is_one_message() -> None:
    async with ScriptedServer([Turn(text="Grüezi", fault=Trickle(100))]) as server, connect(url(server)) as socket:
        await socket.send(json.dumps({**CREATE, "input": "Hello"}))
        fragments = [fragment async for fragment in socket.recv_streaming(decode=False)]
        assert {len(fragment) for fragment in fragments[:-2]} == {100}
        assert b"".join(fragments) == FRAMES[0]


async def test_a_message_over_the_bound_ends_the_connection() -> None:
    async with ScriptedServer([Turn(fault=HugeEvent(200_000))]) as server:
        async with connect(url(server), max_size=100_000) as socket:
            with pytest.raises(ConnectionClosed) as closed:
                await ask(socket)
            assert closed.value.sent is not None
            assert closed.value.sent.code == 1009
        assert server.errors == []


async def test_the_connection_limit_is_an_error_frame_and_a_close_frame() -> None:
    async with ScriptedServer([Turn(fault=ConnectionLimit())]) as server, connect(url(server)) as socket:
        (event,) = await ask(socket)
        assert (event["status"], event["error"]["code"]) == (400, "websocket_connection_limit_reached")
        with pytest.raises(ConnectionClosed):
            await socket.recv()


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (
            Status(429, "slow down", code="rate_limit_exceeded", headers={"retry-after": "7"}),
            {
                "type": "error",
                "status": 429,
                "error": {
                    "type": "invalid_request_error",
                    "code": "rate_limit_exceeded",
                    "message": "slow down",
                    "param": None,
                },
                "headers": {"retry-after": "7"},
            },
        ),
        (Status(500, body=b'{"type":"error","status":500}'), {"type": "error", "status": 500}),
        (
            ErrorEvent(0, "dead", "engine_dead", "server_error"),
            {
                "type": "error",
                "error": {"type": "server_error", "code": "engine_dead", "message": "dead", "param": None},
            },
        ),
    ],
    ids=repr,
)
async def test_an_error_frame_has_a_status_or_none(fault: Fault, expected: dict[str, Any]) -> None:
    async with ScriptedServer([Turn(fault=fault), HELLO]) as server, connect(url(server)) as socket:
        assert (await ask(socket))[-1] == expected
        assert said(await ask(socket)) == "Grüezi"


@pytest.mark.parametrize("status", [426, 401, 404, 405, 500, 400])
async def test_a_handshake_is_refused_as_often_as_it_shall_be(status: int) -> None:
    refusal = Status(status, "not here", headers={"x-why": "because"})
    async with ScriptedServer([HELLO], handshakes=[refusal, None]) as server:
        with pytest.raises(InvalidStatus) as caught:
            await connect(url(server), open_timeout=None)
        response = caught.value.response
        assert (response.status_code, response.headers["x-why"]) == (status, "because")
        assert json.loads(response.body or b"")["error"]["message"] == "not here"
        async with connect(url(server)) as socket:
            assert said(await ask(socket)) == "Grüezi"
        assert len(server.handshakes) == 2
        assert server.errors == []


@pytest.mark.parametrize("fault", [DropBeforeHead(), NotHttp(), WrongType()], ids=repr)
async def test_a_handshake_can_be_answered_with_anything(fault: HandshakeFault) -> None:
    async with ScriptedServer(handshakes=fault) as server:
        for _ in range(2):
            with pytest.raises((InvalidMessage, InvalidStatus)):
                await connect(url(server), process_exception=lambda error: error)


async def test_a_handshake_needs_the_key() -> None:
    async with ScriptedServer([HELLO], api_key="k") as server:
        with pytest.raises(InvalidStatus) as caught:
            await connect(url(server), process_exception=lambda error: error)
        assert caught.value.response.status_code == 401
        async with connect(url(server), additional_headers={"authorization": "Bearer k"}) as socket:
            assert said(await ask(socket)) == "Grüezi"


async def test_a_handshake_that_is_none_is_refused() -> None:
    async with ScriptedServer() as server:
        address = url(server).removeprefix("ws://").partition("/")[0].split(":")
        reader, writer = await asyncio.open_connection(address[0], int(address[1]))
        writer.write(b"GET /v1/responses HTTP/1.1\r\nhost: a\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 400 Bad Request\r\n")
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize(
    ("message", "sentence"),
    [
        ("[]", "the request is not one of Responses: Expected `object`, got `array`"),
        ('{"model":"m","input":"a"}', "the type of a message is None; expected 'response.create'"),
        (
            '{"type":"response.cancel","model":"m","input":"a"}',
            "the type of a message is 'response.cancel'; expected 'response.create'",
        ),
        (
            '{"type":"response.create","model":"m","input":"a","stream":true,"token":"t"}',
            "the request has unknown fields: token",
        ),
        (b'{"type":"response.create","model":"m","input":"a"}', "the message is binary; expected text"),
    ],
)
async def test_a_strict_server_insists_on_the_protocol(message: str | bytes, sentence: str) -> None:
    async with (
        ScriptedServer([HELLO], strict=True) as server,
        connect(url(server), additional_headers=BETA) as socket,
    ):
        await socket.send(message)
        refusal = json.loads(await socket.recv())
        assert (refusal["type"], refusal["status"], refusal["error"]["message"]) == ("error", 400, sentence)
        assert server.errors == [sentence]


async def test_a_strict_server_insists_on_the_beta_header() -> None:
    async with ScriptedServer([HELLO], strict=True) as server:
        with pytest.raises(InvalidStatus):
            await connect(url(server), process_exception=lambda error: error)
        assert server.errors == ["the handshake's openai-beta is ''; expected responses_websockets= and a date"]


@pytest.mark.parametrize("strict", [True, False])
async def test_a_request_has_to_wait_for_the_one_before(strict: bool) -> None:
    async with (
        ScriptedServer([Turn(text=["a", "b"], interval=0.002), HELLO], strict=strict) as server,
        connect(url(server), additional_headers=BETA) as socket,
    ):
        for text in ("one", "two"):
            await socket.send(json.dumps({**CREATE, "input": text}))
        events: list[dict[str, Any]] = []
        while types(events).count("completed") + types(events).count("error") < 2:
            events.append(json.loads(await socket.recv()))
        assert types(events)[-1] == ("error" if strict else "completed")
        assert server.errors == (["the message came before another was answered"] if strict else [])


async def test_pings_are_answered_in_the_midst_of_silence() -> None:
    async with (
        ScriptedServer([Turn(fault=Stall())]) as server,
        connect(url(server), compression=None) as socket,
    ):
        await socket.send(json.dumps({**CREATE, "input": "Hello"}))
        async with asyncio.timeout(5):
            await (await socket.ping())
        assert server.abandoned == []


async def test_a_client_that_breaks_the_protocol_is_noted() -> None:
    async with ScriptedServer() as server:
        socket = await connect(url(server))
        socket.transport.write(b"\x83\x80\x00\x00\x00\x00")  # opcode 3 is reserved
        with pytest.raises(ConnectionClosed):
            await socket.recv()
        await socket.close()
    assert server.errors == ["the client does not keep to WebSocket: invalid opcode"]


@pytest.mark.parametrize("fault", [NotHttp(), WrongType(), EmptyBody()], ids=repr)
async def test_a_fault_that_does_not_fit_is_the_test_s_mistake(fault: Fault) -> None:
    async with ScriptedServer([Turn(fault=fault)]) as server, connect(url(server)) as socket:
        (event,) = await ask(socket)
        assert event["status"] == 500
        assert "can't be played over WebSocket" in server.errors[0]


async def test_more_requests_than_turns_are_noted() -> None:
    async with ScriptedServer() as server, connect(url(server)) as socket:
        (event,) = await ask(socket)
        assert event["error"]["message"] == "the script is over: it has no turn for request 1"
        assert server.errors == [event["error"]["message"]]


async def test_nothing_is_left_after_the_exit() -> None:
    async with ScriptedServer([Turn(fault=Stall())]) as server:
        idle, stalled = await connect(url(server)), await connect(url(server))
        await stalled.send(json.dumps({**CREATE, "input": "Hello"}))
        while not server.open_streams:  # noqa: ASYNC110 - the server's own number is what is tested
            await asyncio.sleep(0)
    for socket in (idle, stalled):
        with pytest.raises(ConnectionClosed):
            await socket.recv()
    assert (server.open_streams, server.abandoned) == (0, [])
