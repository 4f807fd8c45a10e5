"""Every object and event that the gateway makes is one of the Open Responses specification."""

from __future__ import annotations

import json
from typing import Any

import openresponses_types.types as open_responses
import pytest
from pydantic import TypeAdapter

from tests.gateway.sdk.llama_answers import TOOLS
from tests.gateway.sdk.speaking import speaking, talking, validate_response
from tests.gateway.serving import MODEL, ServedGateway, answered, serving
from turnwire.event import TokenUsage
from turnwire.item import FunctionCall
from turnwire.testing import CutCleanly, ErrorEvent, Fault, ScriptedServer, Turn

CALLS = [
    FunctionCall("get_weather", '{"city": "Zürich"}', "call_1"),
    FunctionCall("get_time", '{"zone": "CET"}', "call_2"),
]
EVERYTHING = Turn(
    reasoning=["A ", "thought."],
    text=["Grü", "ezi"],
    refusal=["But ", "no."],
    calls=CALLS,
    usage=TokenUsage(20, 16, 5, 2, 25),
)
TURNS = {
    "all at once": EVERYTHING,
    "nothing": Turn(),
    "text": Turn(text="Grüezi"),
    "calls": Turn(calls=CALLS),
    "a refusal": Turn(refusal="No."),
    "cut by its limit": Turn(text=["Grü"], finish_reason="length"),
    "filtered": Turn(text=["Grü"], finish_reason="content_filter"),
}
REQUESTS: dict[str, dict[str, Any]] = {
    "bare": {"input": "Hello"},
    "with everything": {
        "input": [
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": [{"type": "input_text", "text": "Hello"}]},
        ],
        "instructions": "Be kind.",
        "tools": TOOLS,
        "tool_choice": {"type": "function", "name": "get_weather"},
        "parallel_tool_calls": False,
        "reasoning": {"effort": "low", "summary": "auto"},
        "include": ["reasoning.encrypted_content"],
        "text": {"format": {"type": "json_schema", "name": "answer", "schema": {"type": "object"}, "strict": True}},
        "temperature": 0.5,
        "top_p": 0.9,
        "presence_penalty": 0.1,
        "frequency_penalty": 0.1,
        "max_output_tokens": 100,
        "metadata": {"user": "me"},
        "prompt_cache_key": "conversation-1",
        "safety_identifier": "user-1",
        "service_tier": "auto",
        "store": False,
        "truncation": "disabled",
    },
    "of an agent": {
        "input": [
            {"role": "user", "content": "Hello"},
            {"type": "function_call", "call_id": "call_0", "name": "shell", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "call_0", "output": "done"},
        ],
        "tools": [
            {
                "type": "custom",
                "name": "apply_patch",
                "format": {"type": "grammar", "syntax": "lark", "definition": ""},
            },
            {"type": "namespace", "name": "ns", "description": "", "tools": TOOLS},
            {"type": "web_search"},
        ],
        "tool_choice": "auto",
    },
}


@pytest.mark.usefixtures("nothing_left")
@pytest.mark.parametrize("request_name", REQUESTS)
@pytest.mark.parametrize("turn_name", TURNS)
async def test_answers_to_all_kinds_of_requests_over_all_transports(turn_name: str, request_name: str) -> None:
    turn, fields = TURNS[turn_name], {"max_output_tokens": 50, **REQUESTS[request_name]}
    async with (
        ScriptedServer([turn] * 3, models=[MODEL]) as upstream,
        serving(upstream.base_url) as gateway,
        speaking(gateway) as speaker,
        talking(gateway) as socket,
    ):
        whole = await speaker.ask(**fields)
        streamed = (await speaker.stream(**fields))[-1]["response"]
        framed = await socket.ask(**fields)
        assert shape(whole) == shape(streamed) == shape(framed)
        if fields.get("store") is not False:
            for response in (whole, streamed, framed):
                kept = await speaker.request("GET", f"responses/{response['id']}")
                validate_response(kept)
                assert shape(kept) == shape(response)
        assert upstream.errors == []


@pytest.mark.usefixtures("nothing_left")
@pytest.mark.parametrize("fault", [CutCleanly(500), ErrorEvent(after=1)])
async def test_an_answer_that_fails_on_its_way(fault: Fault) -> None:
    turn = Turn(text=["Grü", "ezi", " mitenand"], fault=fault)
    async with (
        ScriptedServer([turn] * 2, models=[MODEL]) as upstream,
        serving(upstream.base_url) as gateway,
        speaking(gateway) as speaker,
        talking(gateway) as socket,
    ):
        for events in (await speaker.stream(input="Hello"), await socket.stream(input="Hello")):
            response = events[-1]["response"]
            assert response["status"] == "failed"
            assert response["error"]["code"] == "server_error"


@pytest.mark.usefixtures("nothing_left")
async def test_a_warm_up_is_a_response_without_output_to_go_on_from_over_all_transports() -> None:
    async with (
        ScriptedServer([Turn(text="Grüezi")] * 3, models=[MODEL]) as upstream,
        serving(upstream.base_url) as gateway,
        speaking(gateway) as speaker,
        talking(gateway) as socket,
    ):
        fields = {"input": "Hello", "tools": TOOLS, "generate": False}
        whole = await speaker.ask(**fields)
        streamed = (await speaker.stream(**fields))[-1]["response"]
        framed = await socket.ask(**fields)
        assert shape(whole) == shape(streamed) == shape(framed)
        assert (whole["status"], whole["output"], whole["usage"]) == ("completed", [], None)
        assert answered(upstream) == []
        for response in (whole, streamed, framed):
            assert await speaker.request("GET", f"responses/{response['id']}") == response
            next_one = await speaker.ask(input="And now?", previous_response_id=response["id"])
            assert [item["type"] for item in next_one["output"]] == ["message"]
        questions = [[message["content"] for message in request.json["messages"]] for request in answered(upstream)]
        assert questions == [["Hello", "And now?"]] * 3


async def test_answers_of_a_real_server(gateway: ServedGateway) -> None:
    async with speaking(gateway) as speaker, talking(gateway) as socket:
        for question in ("Hello", "What is the weather, and the time?"):
            streamed = (await speaker.stream(input=question, tools=TOOLS))[-1]["response"]
            framed = await socket.ask(input=question, tools=TOOLS)
            assert [item["type"] for item in streamed["output"]] == [item["type"] for item in framed["output"]]


@pytest.mark.usefixtures("nothing_left")
async def test_the_items_of_the_input_are_those_of_the_specification() -> None:
    async with (
        ScriptedServer([EVERYTHING, Turn(text="Fine.")], models=[MODEL]) as upstream,
        serving(upstream.base_url) as gateway,
        speaking(gateway) as speaker,
    ):
        first = await speaker.ask(**REQUESTS["of an agent"])
        outputs = [{"type": "function_call_output", "call_id": call.call_id, "output": "done"} for call in CALLS]
        second = await speaker.ask(input=outputs, previous_response_id=first["id"])
        listed = await speaker.request("GET", f"responses/{second['id']}/input_items?order=asc")
        types = [item["type"] for item in listed["data"]]
        assert types == [
            *("message", "function_call", "function_call_output"),
            *("reasoning", "message", "function_call", "function_call"),
            *("function_call_output", "function_call_output"),
        ]
        items = TypeAdapter(open_responses.ResponseResource.model_fields["output"].annotation)
        items.validate_python(listed["data"])


def shape(response: dict[str, Any]) -> Any:
    """A response without what is its own: ids and times."""
    return json.loads(json.dumps(response), object_hook=_without_own)


def _without_own(fields: dict[str, Any]) -> dict[str, Any]:
    own = {"id", "created_at", "completed_at", "encrypted_content"}
    return {name: value for name, value in fields.items() if name not in own}
