"""The openai SDK as a client of the scripted server's Responses: an outsider that checks every event's shape."""

from __future__ import annotations

import pytest
from openai import AsyncOpenAI, RateLimitError

from turnwire.event import TokenUsage
from turnwire.item import FunctionCall
from turnwire.testing import ScriptedServer, Status, Turn

pytestmark = pytest.mark.usefixtures("nothing_left")

TURN = Turn(
    summary="A thought.",
    text=["Grü", "ezi"],
    calls=[FunctionCall("get_weather", '{"city":"Zürich"}', "call_1")],
    usage=TokenUsage(4, 1, 2, 1, 6),
)


def sdk(server: ScriptedServer) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=server.base_url, api_key="k", max_retries=0)


async def test_the_sdk_reads_a_response() -> None:
    async with ScriptedServer([TURN], strict=True) as server, sdk(server) as client:
        response = await client.responses.create(model="m", input="Hello")
        assert (response.output_text, [item.type for item in response.output]) == (
            "Grüezi",
            ["reasoning", "message", "function_call"],
        )
        assert response.usage is not None
        assert response.usage.total_tokens == 6
        assert server.errors == []


async def test_the_sdk_accumulates_a_stream() -> None:
    async with ScriptedServer([TURN], strict=True, token="replica-7") as server, sdk(server) as client:
        text = ""
        async with client.responses.stream(model="m", input="Hello") as stream:
            async for event in stream:
                if event.type == "response.output_text.delta":
                    text += event.delta
            response = await stream.get_final_response()
        assert text == response.output_text == "Grüezi"
        assert server.errors == []


async def test_the_sdk_reads_events_from_a_websocket() -> None:
    async with ScriptedServer([TURN], token="replica-7") as server, sdk(server) as client:
        types: list[str] = []
        async with client.responses.connect() as connection:
            await connection.response.create(model="m", input="Hello")
            async for event in connection:
                types.append(event.type)
                if event.type == "response.completed":
                    assert event.response.output_text == "Grüezi"
                    break
        assert types[0] == "response.created"
        assert server.errors == []


async def test_the_sdk_raises_a_refusal() -> None:
    async with ScriptedServer([Turn(fault=Status(429))]) as server, sdk(server) as client:
        with pytest.raises(RateLimitError):
            await client.responses.create(model="m", input="Hello")
