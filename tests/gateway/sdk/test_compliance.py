"""The acceptance tests of the Open Responses specification (2026-04-24), restated: seventeen, seven over WebSocket.

They run against an upstream that only knows Chat Completions, and what it was asked is checked too. The comment above
each is its name there. Every object and event is validated on the way, by `tests.gateway.sdk.speaking`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import openresponses_types.types as open_responses
import pytest

from tests.gateway.sdk.speaking import Speaker, TalkingSocket, speaking, talking
from tests.gateway.serving import MODEL, ServedGateway, answered, serving
from turnwire.event import TokenUsage
from turnwire.item import FunctionCall
from turnwire.testing import RecordedRequest, ScriptedServer, Turn

pytestmark = pytest.mark.usefixtures("nothing_left")

USAGE = TokenUsage(20, 0, 5, 0, 25)
IMAGE = (
    "data:image/png;base64,"
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="
)
WEATHER_TOOL = {
    "type": "function",
    "name": "get_weather",
    "description": "The weather at a place.",
    "parameters": {"type": "object", "properties": {"location": {"type": "string"}}, "required": ["location"]},
}


def model(request: RecordedRequest) -> Turn:
    """Says how many messages it was given; calls a tool where it has one."""
    if request.json.get("tools"):
        return Turn(calls=[FunctionCall("get_weather", '{"location":"San Francisco"}', "call_1")], usage=USAGE)
    return Turn(reasoning="I count.", text=["message ", str(len(request.input))], usage=USAGE)


@pytest.fixture
async def upstream() -> AsyncIterator[ScriptedServer]:
    async with ScriptedServer(model, models=[MODEL]) as upstream:
        yield upstream
        assert upstream.errors == []


@pytest.fixture
async def gateway(upstream: ScriptedServer) -> AsyncIterator[ServedGateway]:
    async with serving(upstream.base_url) as gateway:
        yield gateway


@pytest.fixture
async def http(gateway: ServedGateway) -> AsyncIterator[Speaker]:
    async with speaking(gateway) as speaker:
        yield speaker


@pytest.fixture
async def socket(gateway: ServedGateway) -> AsyncIterator[TalkingSocket]:
    async with talking(gateway) as socket:
        yield socket


def message(role: str, content: Any, **fields: Any) -> dict[str, Any]:
    return {"type": "message", "role": role, "content": content, **fields}


def given(upstream: ScriptedServer) -> list[tuple[str, Any]]:
    """The messages that the model was given last: roles and contents."""
    return [(each["role"], each.get("content")) for each in answered(upstream)[-1].input]


def types_of(response: Any) -> list[str]:
    return [item["type"] for item in response["output"]]


def text_of(response: Any) -> str:
    assert response["status"] == "completed"
    return "".join(part["text"] for item in response["output"] if item["type"] == "message" for part in item["content"])


# basic-response
async def test_a_message_is_answered(http: Speaker, upstream: ScriptedServer) -> None:
    response = await http.ask(input=[message("user", "Say hello in exactly 3 words.")])
    assert (text_of(response), types_of(response)) == ("message 1", ["reasoning", "message"])
    assert given(upstream) == [("user", "Say hello in exactly 3 words.")]


# streaming-response
async def test_a_message_is_answered_in_a_stream(http: Speaker) -> None:
    events = await http.stream(input=[message("user", "Count from 1 to 5.")])
    deltas = [event["delta"] for event in events if event["type"] == "response.output_text.delta"]
    assert text_of(events[-1]["response"]) == "".join(deltas) == "message 1"


# system-prompt
async def test_a_system_message_goes_in_front(http: Speaker, upstream: ScriptedServer) -> None:
    response = await http.ask(input=[message("system", "You are a pirate."), message("user", "Say hello.")])
    assert text_of(response) == "message 2"
    assert given(upstream) == [("system", "You are a pirate."), ("user", "Say hello.")]


# tool-calling, streamed as well
async def test_a_function_is_called(http: Speaker, upstream: ScriptedServer) -> None:
    fields: Any = {"input": [message("user", "What is the weather in San Francisco?")], "tools": [WEATHER_TOOL]}
    events = await http.stream(**fields)
    deltas = [event["delta"] for event in events if event["type"] == "response.function_call_arguments.delta"]
    for response in (await http.ask(**fields), events[-1]["response"]):
        (call,) = response["output"]
        assert (call["type"], call["name"], call["call_id"]) == ("function_call", "get_weather", "call_1")
        assert call["arguments"] == "".join(deltas) == '{"location":"San Francisco"}'
    (tool,) = answered(upstream)[-1].json["tools"]
    assert tool == {"type": "function", "function": {k: v for k, v in WEATHER_TOOL.items() if k != "type"}}


# image-input
async def test_an_image_is_shown_to_the_model(http: Speaker, upstream: ScriptedServer) -> None:
    content = [{"type": "input_text", "text": "What is this?"}, {"type": "input_image", "image_url": IMAGE}]
    assert text_of(await http.ask(input=[message("user", content)])) == "message 1"
    image = {"type": "image_url", "image_url": {"url": IMAGE}}
    assert given(upstream) == [("user", [{"type": "text", "text": "What is this?"}, image])]


# multi-turn
async def test_a_conversation_is_shown_as_a_whole(http: Speaker, upstream: ScriptedServer) -> None:
    history = [message("user", "I am Alice."), message("assistant", "Hello Alice!"), message("user", "Who am I?")]
    assert text_of(await http.ask(input=history)) == "message 3"
    assert given(upstream) == [("user", "I am Alice."), ("assistant", "Hello Alice!"), ("user", "Who am I?")]


# assistant-phase
async def test_the_phases_of_an_assistants_messages_are_taken(http: Speaker, upstream: ScriptedServer) -> None:
    history = [
        message("assistant", "I should answer with the saved number.", phase="commentary"),
        message("assistant", "The number is four.", phase="final_answer"),
        message("user", "Repeat only the number."),
    ]
    assert types_of(await http.ask(input=history)) == ["reasoning", "message"]
    roles = [role for role, _ in given(upstream)]
    assert (roles[0], roles[-1]) == ("assistant", "user")


# response-output-phase-schema, which is about the schema alone: here what was kept shows its phase again
async def test_the_phases_of_an_assistants_messages_are_kept(http: Speaker) -> None:
    said = [{"type": "output_text", "text": "Four.", "annotations": []}]
    response = await http.ask(input=[message("assistant", said, phase="final_answer"), message("user", "Again.")])
    listed = await http.request("GET", f"responses/{response['id']}/input_items?order=asc")
    assert [item.get("phase") for item in listed["data"]] == ["final_answer", None]
    assert open_responses.Message.model_validate(listed["data"][0]).phase == "final_answer"


# compact-response
async def test_a_conversation_is_compacted(http: Speaker) -> None:
    history = [message("user", "We launch on Tuesday."), message("assistant", "Understood.")]
    body = {"model": MODEL, "prompt_cache_key": "launch", "input": history}
    compacted = await http.request("POST", "responses/compact", body)
    open_responses.CompactResource.model_validate(compacted)
    assert compacted["object"] == "response.compaction"
    assert "compaction" in types_of(compacted)


# compact-missing-model
async def test_a_compaction_needs_a_model(http: Speaker, upstream: ScriptedServer) -> None:
    await http.request("POST", "responses/compact", {"input": [message("user", "Compact this.")]}, status=400)
    assert answered(upstream) == []


# websocket-response
async def test_a_message_is_answered_over_a_websocket(socket: TalkingSocket) -> None:
    assert text_of(await socket.ask(input=[message("user", "Count from 1 to 3.")])) == "message 1"


# websocket-sequential-responses
async def test_a_websocket_answers_one_request_after_the_other(socket: TalkingSocket) -> None:
    responses = [await socket.ask(input=f"Reply with exactly: {word}", store=False) for word in ("first", "second")]
    assert [text_of(response) for response in responses] == ["message 1", "message 1"]
    assert responses[0]["id"] != responses[1]["id"]


# websocket-continuation
async def test_a_websocket_goes_on_from_what_was_never_stored(socket: TalkingSocket, upstream: ScriptedServer) -> None:
    first = await socket.ask(input="The code word is cobalt.", store=False)
    second = await socket.ask(input="What is it?", store=False, previous_response_id=first["id"])
    assert (text_of(second), second["previous_response_id"]) == ("message 3", first["id"])
    assert given(upstream) == [
        ("user", "The code word is cobalt."),
        ("assistant", "message 1"),
        ("user", "What is it?"),
    ]


# websocket-reconnect-store-false-recovery
async def test_another_websocket_does_not_know_what_was_never_stored(
    gateway: ServedGateway, socket: TalkingSocket
) -> None:
    first = await socket.ask(input="The code word is copper.", store=False)
    async with talking(gateway) as another:
        fields = {"input": "Go on.", "store": False}
        assert await another.refused(previous_response_id=first["id"], **fields) == "previous_response_not_found"
        assert text_of(await another.ask(**fields)) == "message 1"


# websocket-previous-response-not-found
async def test_a_websocket_refuses_to_go_on_from_what_it_does_not_know(
    socket: TalkingSocket, upstream: ScriptedServer
) -> None:
    refused = await socket.refused(input="Go on.", store=False, previous_response_id="resp_missing")
    assert refused == "previous_response_not_found"
    assert answered(upstream) == []


# websocket-failed-continuation-evicts-cache
async def test_a_continuation_that_fails_makes_a_websocket_forget(socket: TalkingSocket) -> None:
    first = await socket.ask(input="The code word is ember.", store=False)
    fields: Any = {"store": False, "previous_response_id": first["id"]}
    output = {"type": "function_call_output", "call_id": "call_missing", "output": "Nobody called."}
    assert await socket.refused(input=[output], **fields) == "invalid_prompt"
    assert await socket.refused(input="Go on.", **fields) == "previous_response_not_found"


# websocket-compact-new-chain
async def test_a_websocket_begins_anew_with_what_was_compacted(
    http: Speaker, socket: TalkingSocket, upstream: ScriptedServer
) -> None:
    history = [
        message("user", [{"type": "input_text", "text": "The code word is slate."}]),
        message("assistant", [{"type": "output_text", "text": "OK."}]),
        message("user", [{"type": "input_text", "text": "Compress this."}]),
    ]
    compacted = await http.request("POST", "responses/compact", {"model": MODEL, "input": history})
    again = [*compacted["output"], message("user", "Go on.")]
    assert text_of(await socket.ask(input=again, store=False, tools=[])).startswith("message ")
    assert given(upstream)[-1] == ("user", "Go on.")
    assert any("message 4" in str(content) for _, content in given(upstream)), "the summary is not there"
