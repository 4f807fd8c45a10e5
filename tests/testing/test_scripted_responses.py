"""The scripted server's Responses over HTTP, as any client of the API sees them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from turnwire.event import TokenUsage
from turnwire.item import FunctionCall
from turnwire.testing import (
    Close,
    ConnectionLimit,
    EmptyBody,
    ErrorEvent,
    Failed,
    Fault,
    NoSentinel,
    RecordedRequest,
    ScriptedServer,
    Status,
    Turn,
)

HELLO = Turn(text=["Grüezi", " mitenand"], usage=TokenUsage(4, 1, 2, 0, 6))
STREAMED = {"model": "m", "stream": True, "input": "Hello"}


@asynccontextmanager
async def asking(server: ScriptedServer, **headers: str) -> AsyncIterator[Callable[..., Any]]:
    """A client that posts a request, and gives status, headers and body."""
    async with aiohttp.ClientSession(headers=headers) as session:

        async def ask(body: Any = STREAMED, path: str = "/responses", **more: Any) -> tuple[int, Any, bytes]:
            async with session.post(server.base_url + path, data=json.dumps(body), **more) as response:
                return response.status, response.headers, await response.read()

        yield ask


def events(body: bytes) -> list[dict[str, Any]]:
    """The events of a stream; that each is named as its data say is checked on the way."""
    found = []
    for block in body.decode().split("\n\n")[:-1]:
        name, data = block.split("\n")
        event = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        found.append(event)
    return found


async def test_a_stream_is_openai_s_whole_sequence() -> None:
    turn = Turn(
        summary=["Short ", "thought."],
        reasoning="Long thought.",
        text=["Grüezi", "!"],
        refusal="No.",
        calls=[FunctionCall("get_weather", '{"city":"Zürich"}', "call_1")],
    )
    async with ScriptedServer([turn]) as server, asking(server) as ask:
        status, headers, body = await ask()
    stream = events(body)
    assert (status, headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
    assert [event["type"].removeprefix("response.") for event in stream] == [
        "created",
        "in_progress",
        "output_item.added",
        "reasoning_summary_part.added",
        "reasoning_summary_text.delta",
        "reasoning_summary_text.delta",
        "content_part.added",
        "reasoning_text.delta",
        "reasoning_summary_text.done",
        "reasoning_summary_part.done",
        "reasoning_text.done",
        "content_part.done",
        "output_item.done",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "content_part.added",
        "refusal.delta",
        "refusal.done",
        "content_part.done",
        "output_item.done",
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
        "completed",
    ]
    assert [event["sequence_number"] for event in stream] == list(range(len(stream)))
    assert [item["id"] for item in stream[-1]["response"]["output"]] == ["rs_1_0", "msg_1_1", "fc_1_2"]


async def test_an_answer_without_a_stream_is_the_same_response() -> None:
    async with ScriptedServer([HELLO, HELLO]) as server, asking(server) as ask:
        _, _, streamed = await ask()
        _, headers, whole = await ask({**STREAMED, "stream": False})
    completed, response = events(streamed)[-1]["response"], json.loads(whole)
    assert headers["content-type"] == "application/json"
    assert response["id"] == "resp_2"
    assert response["usage"] == completed["usage"]
    assert response == {**json.loads(json.dumps(completed).replace("msg_1_", "msg_2_")), "id": "resp_2"}


async def test_the_same_script_is_played_over_chat_and_responses() -> None:
    async with ScriptedServer([HELLO, HELLO], token="replica-7") as server, asking(server) as ask:
        _, chat_headers, chat = await ask({"model": "m", "messages": []}, "/chat/completions")
        _, headers, response = await ask({"model": "m", "input": []})
        assert json.loads(chat)["choices"][0]["message"]["content"] == "Grüezi mitenand"
        assert json.loads(response)["output"][0]["content"][0]["text"] == "Grüezi mitenand"
        assert chat_headers["x-codex-turn-state"] == headers["x-codex-turn-state"] == "replica-7"
        assert [request.wire for request in server.requests] == ["chat", "responses"]


async def test_a_request_is_recorded_with_what_the_model_is_given() -> None:
    async with ScriptedServer([HELLO]) as server, asking(server) as ask:
        await ask(headers={"x-codex-turn-state": "replica-7"})
        (request,) = server.requests
        assert (request.wire, request.token, request.json) == ("responses", "replica-7", STREAMED)
        assert request.input == (
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hello"}]},
        )


async def test_a_script_of_functions_sees_what_the_model_is_given() -> None:
    def echo(request: RecordedRequest) -> Turn:
        return Turn(text=f"{len(request.input)} items over {request.wire}")

    async with ScriptedServer(echo) as server, asking(server) as ask:
        _, _, first = await ask({"input": "a"})
        _, _, second = await ask({"input": [{"role": "user", "content": "b"}], "previous_response_id": "resp_1"})
        assert json.loads(first)["output"][0]["content"][0]["text"] == "1 items over responses"
        assert json.loads(second)["output"][0]["content"][0]["text"] == "3 items over responses"
        assert json.loads(second)["previous_response_id"] == "resp_1"


@pytest.mark.parametrize("first", [{"input": "a", "store": False}, None], ids=["not-stored", "never-given"])
async def test_a_response_that_is_not_stored_is_not_found(first: Any) -> None:
    async with ScriptedServer([HELLO]) as server, asking(server) as ask:
        if first is not None:
            await ask(first)
        status, _, body = await ask({"input": "b", "previous_response_id": "resp_1"})
        assert (status, json.loads(body)["error"]) == (
            400,
            {
                "message": "the previous response 'resp_1' is not found",
                "type": "invalid_request_error",
                "param": None,
                "code": "previous_response_not_found",
            },
        )
        assert server.errors == []


async def test_a_compaction_gives_the_turn_s_items() -> None:
    async with ScriptedServer([HELLO], token="replica-7") as server, asking(server) as ask:
        status, headers, body = await ask({"model": "m", "input": []}, "/responses/compact")
        compacted = json.loads(body)
        assert (status, headers["x-codex-turn-state"]) == (200, "replica-7")
        assert (compacted["object"], compacted["id"]) == ("response.compaction", "resp_1")
        assert [item["content"][0]["text"] for item in compacted["output"]] == ["Grüezi mitenand"]


async def test_a_response_can_fail_and_can_err() -> None:
    script = [
        Turn(text=["one", "two"], fault=Failed("server_is_overloaded", "busy", after=1)),
        Turn(text=["one", "two"], fault=ErrorEvent(1, "dead", "engine_dead")),
        Turn(text=["one", "two"], finish_reason="length"),
    ]
    async with ScriptedServer(script) as server, asking(server) as ask:
        failed, erred, cut_short = [events((await ask())[2]) for _ in script]
    assert [event["type"].removeprefix("response.") for event in failed][-2:] == ["output_text.delta", "failed"]
    assert failed[-1]["response"]["error"] == {"code": "server_is_overloaded", "message": "busy"}
    assert erred[-1] == {"type": "error", "code": "engine_dead", "message": "dead", "param": None}
    assert cut_short[-1]["type"] == "response.incomplete"
    assert cut_short[-1]["response"]["incomplete_details"] == {"reason": "max_output_tokens"}


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        (Close(), "can't be played over Responses by HTTP"),
        (ConnectionLimit(), "can't be played over Responses by HTTP"),
        (NoSentinel(), "can't be played over Responses by HTTP"),
        (Failed(), "can only be played in a stream, and the request does not ask for one"),
    ],
    ids=repr,
)
async def test_a_fault_that_does_not_fit_is_the_test_s_mistake(fault: Fault, sentence: str) -> None:
    async with ScriptedServer([Turn(fault=fault)]) as server, asking(server) as ask:
        assert (await ask({"input": "Hello"}))[0] == 500
        assert sentence in server.errors[0]


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ([], "the request is not one of Responses: Expected `object`, got `array`"),
        ({"input": 5}, "input is 5; expected a string or a list of items"),
        ({"model": "m", "input": "a", "messages": []}, "the request has unknown fields: messages"),
        ({"model": "m", "input": "a", "type": "response.create"}, "the request has unknown fields: type"),
        ({"input": "a"}, "the request has no model"),
        ({"model": "m"}, "the request has no input"),
    ],
)
async def test_a_strict_server_insists_on_the_api(body: Any, sentence: str) -> None:
    async with ScriptedServer([HELLO], strict=True) as server, asking(server) as ask:
        assert (await ask(body))[0] == 400
        assert server.errors == [sentence]


async def test_a_lenient_server_takes_what_it_can() -> None:
    async with ScriptedServer([HELLO]) as server, asking(server) as ask:
        assert (await ask({"messages": [], "type": 7}))[0] == 200
        assert server.errors == []


async def test_key_and_model_are_checked() -> None:
    async with ScriptedServer([HELLO], api_key="k", models=["m"]) as server:
        async with asking(server) as ask:
            assert (await ask())[0] == 401
        async with asking(server, authorization="Bearer k") as ask:
            assert (await ask({"model": "n", "input": "a"}))[0] == 404
            assert (await ask())[0] == 200
        assert server.errors == []


async def test_a_status_and_an_empty_body_are_those_of_http() -> None:
    script = [Turn(fault=Status(503, headers={"retry-after": "2"})), Turn(fault=EmptyBody())]
    async with ScriptedServer(script) as server, asking(server) as ask:
        status, headers, _ = await ask()
        assert (status, headers["retry-after"]) == (503, "2")
        assert (await ask())[::2] == (200, b"")
