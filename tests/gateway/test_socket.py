"""Responses over WebSocket: frames, the memory of a connection, and its end."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.gateway.asking import ask_socket, body_for
from tests.gateway.serving import MODEL, answered, serving, upstream_at
from turnwire.gateway.caller import CallerKey, key_hash
from turnwire.gateway.socket_connection import SocketConnection
from turnwire.item import FunctionCall
from turnwire.testing import CutCleanly, ScriptedServer, Turn

pytestmark = pytest.mark.usefixtures("nothing_left")

CALL = FunctionCall("f", '{"a": 1}', "c1")
FUNCTION = {"type": "function", "name": "f", "parameters": {"type": "object"}}


def asking(**fields: Any) -> dict[str, Any]:
    return body_for("websocket", store=False, **fields)


def user(text: str) -> dict[str, Any]:
    return {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}


def kinds(told: Any) -> list[str]:
    return [payload["type"].removeprefix("response.") for payload in told.payloads]


def ended(told: Any) -> dict[str, Any]:
    assert told.verdict == "completed"
    response: dict[str, Any] = told.payloads[-1]["response"]
    return response


@pytest.mark.parametrize("wire", ["chat", "responses"])
async def test_a_turn_goes_on_with_no_more_than_what_is_new(wire: str) -> None:
    async with (
        ScriptedServer([Turn(calls=[CALL]), Turn(text="done")], models=[MODEL]) as upstream,
        serving(upstream_at(upstream.base_url, wire_api=wire)) as gateway,
        connect(gateway.socket_url, proxy=None) as client,
    ):
        warm = await ask_socket(client, **asking(generate=False, tools=[FUNCTION], input=[user("hi")]))
        assert kinds(warm) == ["created", "metadata", "in_progress", "completed"]
        assert (ended(warm)["output"], answered(upstream)) == ([], [])

        first = await ask_socket(client, **asking(previous_response_id=ended(warm)["id"], input=[], tools=[FUNCTION]))
        assert [item["type"] for item in ended(first)["output"]] == ["function_call"]
        assert first.payloads[-1]["response"]["previous_response_id"] == ended(warm)["id"] or wire == "responses"
        output = {"type": "function_call_output", "call_id": "c1", "output": "42"}
        last = await ask_socket(client, **asking(previous_response_id=ended(first)["id"], input=[output]))
        assert last.text == "done"
        sent = [request.json for request in answered(upstream)]
        if wire == "chat":
            roles = [[message["role"] for message in body["messages"]] for body in sent]
            assert roles == [["user"], ["user", "assistant", "tool"]]
        else:
            assert [[item["type"] for item in body["input"]] for body in sent] == [
                ["message"],
                ["message", "function_call", "function_call_output"],
            ]
            assert all("previous_response_id" not in body for body in sent)


async def test_a_continuation_that_fails_is_forgotten_and_the_connection_goes_on() -> None:
    turns = [Turn(text="one"), Turn(text="two", fault=CutCleanly(0)), Turn(text="three")]
    async with (
        ScriptedServer(turns, models=[MODEL]) as upstream,
        serving(upstream.base_url) as gateway,
        connect(gateway.socket_url, proxy=None) as client,
    ):
        first = ended(await ask_socket(client, **asking()))["id"]
        told = [await ask_socket(client, **asking(previous_response_id=first)) for _ in range(2)]
        assert [answer.verdict for answer in told] == ["502 upstream_failed", "400 previous_response_not_found"]
        assert (await ask_socket(client, **asking())).text == "three"


async def test_what_was_not_to_be_stored_is_known_to_its_connection_alone() -> None:
    async with (
        ScriptedServer([Turn(text="one")] * 2, models=[MODEL]) as upstream,
        serving(upstream.base_url) as gateway,
        connect(gateway.socket_url, proxy=None) as one,
        connect(gateway.socket_url, proxy=None) as other,
    ):
        first = ended(await ask_socket(one, **asking()))["id"]
        told = await ask_socket(other, **asking(previous_response_id=first))
        assert told.verdict == "400 previous_response_not_found"
        assert (await ask_socket(one, **asking(previous_response_id=first))).verdict == "completed"


FRAMES = {
    "no JSON": "hello",
    "no object": "[1]",
    "no type": '{"model": "m"}',
    "another type": '{"type": "response.cancel"}',
    "no model": '{"type": "response.create", "input": "hi"}',
    "no input": '{"type": "response.create", "model": "m"}',
    "an unknown model": '{"type": "response.create", "model": "nobody", "input": "hi"}',
    "bytes": b"\xff\xfe",
}


async def test_a_frame_that_makes_no_sense_is_refused_and_the_connection_goes_on() -> None:
    async with (
        ScriptedServer([Turn(text="one")], models=[MODEL]) as upstream,
        serving(upstream.base_url) as gateway,
        connect(gateway.socket_url, proxy=None) as client,
    ):
        refused = {}
        for case, frame in FRAMES.items():
            await client.send(frame)
            payload = json.loads(await client.recv())
            refused[case] = (payload["type"], payload["status"], payload["error"]["code"])
        expected = dict.fromkeys(FRAMES, ("error", 400, "invalid_prompt"))
        assert refused == {**expected, "an unknown model": ("error", 400, "model_not_found")}
        assert (await ask_socket(client, **asking())).text == "one"


async def test_a_frame_of_bytes_is_as_good_as_one_of_text() -> None:
    async with (
        ScriptedServer([Turn(text="one")], models=[MODEL]) as upstream,
        serving(upstream.base_url) as gateway,
        connect(gateway.socket_url, proxy=None) as client,
    ):
        await client.send(json.dumps({"type": "response.create", **asking()}).encode())
        assert json.loads(await client.recv())["type"] == "response.created"
        while json.loads(await client.recv())["type"] != "response.completed":
            pass


async def test_requests_are_answered_one_after_the_other() -> None:
    async with (
        ScriptedServer([Turn(text=text) for text in "abcd"], models=[MODEL]) as upstream,
        serving(upstream.base_url) as gateway,
        connect(gateway.socket_url, proxy=None) as client,
    ):
        for _ in range(4):
            await client.send(json.dumps({"type": "response.create", **asking()}))
        heard: list[list[str]] = [[]]
        while len(heard) < 5:
            payload = json.loads(await client.recv())
            heard[-1].append(payload.get("delta") or payload["type"])
            if payload["type"] == "response.completed":
                heard.append([])
    assert [[delta for delta in one if len(delta) == 1] for one in heard[:4]] == [["a"], ["b"], ["c"], ["d"]]
    assert {one[0] for one in heard[:4]} == {"response.created"}


async def test_a_connection_that_is_too_old_says_so_and_closes() -> None:
    async with (
        ScriptedServer([], models=[MODEL]) as upstream,
        serving(upstream.base_url, socket_max_age=0.001) as gateway,
        connect(gateway.socket_url, proxy=None) as client,
    ):
        await asyncio.sleep(0.005)
        told = await ask_socket(client, **asking())
        assert told.verdict == "400 websocket_connection_limit_reached"
        with pytest.raises(ConnectionClosed):
            await client.recv()
        assert client.close_code == 1000


async def test_a_message_over_the_bound_closes_the_connection() -> None:
    async with (
        serving("http://127.0.0.1:1/v1", max_body=1000) as gateway,
        connect(gateway.socket_url, proxy=None) as client,
    ):
        await client.send("x" * 2000)
        with pytest.raises(ConnectionClosed):
            await client.recv()
        assert client.close_code == 1009


async def test_who_has_no_key_gets_no_connection() -> None:
    keys = (CallerKey("laptop", key_hash("k")),)
    async with serving("http://127.0.0.1:1/v1", callers=keys) as gateway:
        with pytest.raises(InvalidStatus) as refused:
            async with connect(gateway.socket_url, proxy=None):
                pass
        response = refused.value.response
        assert (response.status_code, response.headers["www-authenticate"]) == (401, "Bearer")
        assert json.loads(response.body or b"")["error"]["code"] == "invalid_api_key"
        async with connect(gateway.socket_url, proxy=None, additional_headers={"authorization": "Bearer k"}):
            pass


async def test_a_get_that_is_no_handshake_is_told_to_upgrade() -> None:
    async with (
        serving("http://127.0.0.1:1/v1") as gateway,
        aiohttp.ClientSession() as session,
        session.get(f"{gateway.base_url}/responses") as response,
    ):
        assert (response.status, response.headers["upgrade"]) == (426, "websocket")
        assert "POST" in (await response.json())["error"]["message"]


class Peer:
    """An ASGI server's end of a WebSocket."""

    def __init__(self, *messages: dict[str, Any], broken: bool = False) -> None:
        self._messages = [*messages]
        self._broken = broken
        self.sent: list[Any] = []

    async def receive(self) -> Any:
        if self._messages:
            return self._messages.pop(0)
        return await asyncio.get_running_loop().create_future()

    async def send(self, message: Any) -> None:
        if self._broken:
            raise OSError("the client has left")
        self.sent.append(message)


async def test_a_connection_that_breaks_while_it_is_written_to_has_gone() -> None:
    connection = SocketConnection({}, (peer := Peer(broken=True)).receive, peer.send)
    await connection.send(b"{}")
    assert connection.gone
    assert await connection.next_message(asyncio.Event()) is None
    await connection.send(b"{}")
    await connection.close(1000)
    assert peer.sent == []


async def test_a_connection_is_closed_once_and_read_no_more() -> None:
    peer = Peer({"type": "websocket.receive", "text": "a"}, {"type": "websocket.receive", "bytes": b"b"})
    connection = SocketConnection({}, peer.receive, peer.send)
    stop = asyncio.Event()
    assert [await connection.next_message(stop) for _ in range(2)] == ["a", b"b"]
    stop.set()
    assert await connection.next_message(stop) is None
    await connection.close(1012)
    await connection.close(1000)
    assert peer.sent == [{"type": "websocket.close", "code": 1012}]
