"""The Responses API of a real llama.cpp, which has no WebSocket."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from turnwire import Completed, FunctionCall, ModelClient, Prompt, Provider, ReasoningContentDelta, run_turn
from turnwire.testing import SCRIPTED_TOOLS, LlamaServer


@pytest.fixture
async def client() -> AsyncIterator[ModelClient]:
    async with LlamaServer() as server:
        provider = Provider("llama.cpp", server.base_url, wire_api="responses", websocket="auto")
        async with ModelClient(provider, model=server.model_name) as client:
            yield client


async def test_a_real_answer_has_its_reasoning_its_text_and_its_usage(client: ModelClient) -> None:
    async with client.new_session().stream("Hello") as stream:
        events = [event async for event in stream]
    assert stream.text == "Hello! Zürich sends you 21 °C and a 🌦 of its own."
    thought = "".join(event.delta for event in events if isinstance(event, ReasoningContentDelta))
    assert thought == "No tool can help here."
    completed = events[-1]
    assert isinstance(completed, Completed)
    assert completed.token_usage is not None
    assert completed.token_usage.input_tokens > 0


async def test_a_real_answer_may_hold_two_calls(client: ModelClient) -> None:
    async with client.new_session().stream(Prompt("What time is it?", tools=SCRIPTED_TOOLS)) as stream:
        async for _ in stream:
            pass
    calls = [(item.name, item.arguments) for item in stream.items if isinstance(item, FunctionCall)]
    assert calls == [
        ("get_weather", '{"city": "Zürich", "unit": "celsius"}'),
        ("get_time", '{"zone": "CET"}'),
    ]


async def test_a_whole_turn_goes_over_real_responses(client: ModelClient) -> None:
    def get_weather(city: str, unit: str) -> str:
        """The weather in a city."""
        return f"21 degrees {unit} in {city}"

    result = await run_turn(client.new_session(), "How is the weather?", [get_weather])
    assert result.text == "It is 21 °C in Zürich with a little rain 🌦, so take an umbrella."
    assert result.rounds == 2
