"""The Agents SDK through the gateway, on a real llama.cpp: whole runs with tools and handoffs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from agents import Agent, Model, ModelBehaviorError, Runner, function_tool, handoff, set_tracing_disabled
from agents.models.openai_chatcompletions import OpenAIChatCompletionsModel
from agents.models.openai_responses import OpenAIResponsesModel, OpenAIResponsesWSModel
from agents.result import RunResultStreaming
from openai import AsyncOpenAI
from pydantic import BaseModel

from tests.gateway.sdk.llama_answers import CHECK, RESULT
from tests.gateway.serving import MODEL, serving
from turnwire.testing import CutCleanly, ScriptedServer, Turn

BOTH = "How is the weather in Zürich, and what time is it?"


@function_tool
def get_weather(city: str, unit: str) -> str:
    """The weather in a city."""
    return f"21 degrees {unit} in {city}"


@function_tool
def get_time(zone: str) -> str:
    """The time in a zone."""
    return f"noon in {zone}"


@pytest.fixture(autouse=True)
def _no_tracing() -> None:
    set_tracing_disabled(True)


@pytest.fixture(params=[OpenAIResponsesModel, OpenAIResponsesWSModel, OpenAIChatCompletionsModel])
async def model(request: pytest.FixtureRequest, client: AsyncOpenAI) -> AsyncIterator[Model]:
    """The model over each of the SDK's ways to it."""
    model: Model = request.param(model=MODEL, openai_client=client)
    yield model
    await model.close()


async def items_of(result: RunResultStreaming) -> list[str]:
    """What happened in a run, item by item."""
    return [event.item.type async for event in result.stream_events() if event.type == "run_item_stream_event"]


async def test_a_run_calls_its_tools_and_answers(model: Model) -> None:
    agent = Agent(name="weather", instructions="Be brief.", model=model, tools=[get_weather, get_time])
    result = Runner.run_streamed(agent, BOTH)
    items = [item for item in await items_of(result) if item != "reasoning_item"]
    assert sorted(items[:4]) == ["tool_call_item"] * 2 + ["tool_call_output_item"] * 2
    assert items[4:] == ["message_output_item"]
    assert result.final_output == RESULT
    outputs = [item.output for item in result.new_items if item.type == "tool_call_output_item"]
    assert outputs == ["21 degrees celsius in Zürich", "noon in CET"]


async def test_a_run_hands_over_to_another_agent(model: Model) -> None:
    class Asked(BaseModel):
        city: str
        unit: str

    asked: list[Asked] = []

    def note(_: Any, given: Asked) -> None:
        asked.append(given)

    # The scripted model calls this one tool, so the way to the other agent bears its name.
    expert = Agent(name="expert", instructions="You know the weather.", model=model, tools=[get_weather])
    way = handoff(expert, tool_name_override="get_weather", on_handoff=note, input_type=Asked)
    front = Agent(name="front", instructions="Ask the expert.", model=model, handoffs=[way])
    result = Runner.run_streamed(front, "How is the weather in Zürich?")
    items = [item for item in await items_of(result) if item != "reasoning_item"]
    assert items == ["message_output_item", "handoff_call_item", "handoff_output_item", "message_output_item"]
    assert asked == [Asked(city="Zürich", unit="celsius")]
    assert (result.last_agent.name, result.final_output) == ("expert", RESULT)


async def test_a_run_that_is_not_streamed(model: Model) -> None:
    agent = Agent(name="weather", instructions="Be brief.", model=model, tools=[get_weather])
    result = await Runner.run(agent, "How is the weather in Zürich?")
    texts = [item.raw_item.content[0].text for item in result.new_items if item.type == "message_output_item"]
    assert texts == [CHECK, RESULT]


@pytest.mark.usefixtures("nothing_left")
async def test_a_run_whose_model_is_cut_off_fails() -> None:
    cut = Turn(text=["Grü"] * 9, fault=CutCleanly(1000))
    async with (
        ScriptedServer([cut], models=[MODEL]) as upstream,
        serving(upstream.base_url) as gateway,
        AsyncOpenAI(base_url=gateway.base_url, api_key="any", max_retries=0) as client,
    ):
        agent = Agent(name="weather", model=OpenAIResponsesModel(model=MODEL, openai_client=client))
        with pytest.raises(ModelBehaviorError):
            await items_of(Runner.run_streamed(agent, "Hello"))
