"""The Agents SDK as a client of the scripted server: whole runs with a tool, over SSE and over WebSocket."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from agents import Agent, Model, Runner, function_tool, set_tracing_disabled
from agents.models.openai_responses import OpenAIResponsesModel, OpenAIResponsesWSModel
from openai import AsyncOpenAI

from turnwire.event import TokenUsage
from turnwire.item import FunctionCall
from turnwire.testing import ScriptedServer, Turn

USAGE = TokenUsage(4, 1, 2, 1, 6)
TURNS = [
    Turn(summary="A thought.", calls=[FunctionCall("get_weather", '{"city":"Zürich"}', "call_1")], usage=USAGE),
    Turn(text=["21 ", "degrees"], usage=USAGE),
]


@function_tool
def get_weather(city: str) -> str:
    """The weather in a city."""
    return f"21 degrees in {city}"


@pytest.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    set_tracing_disabled(True)
    async with ScriptedServer(TURNS, token="replica-7") as server:
        yield server


async def run(model: Model) -> tuple[str, list[str]]:
    agent = Agent(name="test", instructions="Be brief.", model=model, tools=[get_weather])
    result = Runner.run_streamed(agent, "How is the weather in Zürich?")
    types = [event.data.type async for event in result.stream_events() if event.type == "raw_response_event"]
    return str(result.final_output), types


async def test_the_agents_sdk_runs_a_turn_over_sse(server: ScriptedServer) -> None:
    async with AsyncOpenAI(base_url=server.base_url, api_key="k", max_retries=0) as client:
        output, types = await run(OpenAIResponsesModel(model="m", openai_client=client))
    assert output == "21 degrees"
    assert types.count("response.completed") == 2
    assert [request.wire for request in server.requests] == ["responses", "responses"]
    assert server.errors == []


async def test_the_agents_sdk_runs_a_turn_over_a_websocket(server: ScriptedServer) -> None:
    async with AsyncOpenAI(base_url=server.base_url, api_key="k", max_retries=0) as client:
        model = OpenAIResponsesWSModel(model="m", openai_client=client)
        try:
            output, types = await run(model)
        finally:
            await model.close()
    assert output == "21 degrees"
    assert types.count("response.completed") == 2
    assert [request.wire for request in server.requests] == ["websocket", "websocket"]
    assert server.errors == []
