"""The openai SDK's Chat Completions through the gateway, whatever the upstream speaks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from openai import AsyncOpenAI
from openai.types.chat import ChatCompletion, ChatCompletionMessage

from tests.gateway.sdk.llama_answers import CHAT_TOOLS, CHECK, HELLO, RESULT, TIME_ARGUMENTS, WEATHER_ARGUMENTS
from tests.gateway.serving import MODEL, answered, serving, upstream_at
from turnwire.event import TokenUsage
from turnwire.item import FunctionCall
from turnwire.testing import ScriptedServer, Turn

BOTH = [("get_weather", WEATHER_ARGUMENTS), ("get_time", TIME_ARGUMENTS)]
QUESTION: Any = {"role": "user", "content": "The weather, and the time?"}

TURN = Turn(
    text=["I will ", "check."],
    calls=[FunctionCall(name, arguments, f"call_{name}") for name, arguments in BOTH],
    usage=TokenUsage(20, 16, 5, 2, 25),
)


def calls_of(message: ChatCompletionMessage) -> list[tuple[str, str]]:
    """Names and arguments."""
    calls: Any = message.tool_calls or []
    return [(call.function.name, call.function.arguments) for call in calls]


async def streamed(client: AsyncOpenAI, **fields: Any) -> ChatCompletion:
    """What the SDK's own stream adds up to."""
    options: Any = {"stream_options": {"include_usage": True}, **fields}
    async with client.chat.completions.stream(model=MODEL, **options) as stream:
        async for _ in stream:
            pass
        return await stream.get_final_completion()


@asynccontextmanager
async def over_responses(*turns: Turn) -> AsyncIterator[tuple[AsyncOpenAI, ScriptedServer]]:
    """The SDK, the gateway, and an upstream that it speaks Responses to."""
    async with (
        ScriptedServer(turns, models=[MODEL], strict=True) as upstream,
        serving(upstream_at(upstream.base_url, wire_api="responses")) as gateway,
        AsyncOpenAI(base_url=gateway.base_url, api_key="any", max_retries=0) as client,
    ):
        yield client, upstream
        assert upstream.errors == []


async def test_a_whole_answer_of_a_chat_upstream(client: AsyncOpenAI) -> None:
    completion = await client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "Hello"}])
    (choice,) = completion.choices
    assert (choice.message.content, choice.finish_reason) == (HELLO, "stop")
    assert completion.usage is not None
    assert completion.usage.completion_tokens > 0


async def test_streamed_calls_of_a_chat_upstream(client: AsyncOpenAI) -> None:
    completion = await streamed(client, messages=[QUESTION], tools=CHAT_TOOLS)
    (choice,) = completion.choices
    assert (calls_of(choice.message), choice.finish_reason) == (BOTH, "tool_calls")
    assert completion.usage is not None


async def test_a_turn_with_a_tool_on_a_chat_upstream(client: AsyncOpenAI) -> None:
    messages: list[Any] = [{"role": "user", "content": "What is the weather?"}]
    first = (await streamed(client, messages=messages, tools=CHAT_TOOLS)).choices[0].message
    assert (first.content, calls_of(first)) == (CHECK, BOTH[:1])
    messages.append(first.to_dict(exclude_unset=True))
    messages += [{"role": "tool", "tool_call_id": call.id, "content": "21 °C"} for call in first.tool_calls or []]
    second = await client.chat.completions.create(model=MODEL, messages=messages, tools=CHAT_TOOLS)
    assert second.choices[0].message.content == RESULT


@pytest.mark.usefixtures("nothing_left")
@pytest.mark.parametrize("streams", [True, False])
async def test_calls_of_a_responses_upstream(streams: bool) -> None:
    async with over_responses(TURN) as (client, upstream):
        if streams:
            completion: ChatCompletion = await streamed(client, messages=[QUESTION], tools=CHAT_TOOLS)
        else:
            completion = await client.chat.completions.create(model=MODEL, messages=[QUESTION], tools=CHAT_TOOLS)
        (choice,) = completion.choices
        assert (choice.message.content, calls_of(choice.message)) == ("I will check.", BOTH)
        assert (choice.finish_reason, completion.model) == ("tool_calls", MODEL)
        assert completion.usage is not None
        assert (completion.usage.prompt_tokens, completion.usage.completion_tokens) == (20, 5)
        (asked,) = answered(upstream)
        assert asked.wire == "responses"
        assert asked.json["store"] is False
        assert [tool["name"] for tool in asked.json["tools"]] == ["get_weather", "get_time"]


@pytest.mark.usefixtures("nothing_left")
async def test_a_turn_with_a_tool_on_a_responses_upstream() -> None:
    async with over_responses(TURN, Turn(text="21 degrees")) as (client, upstream):
        first = (await streamed(client, messages=[QUESTION], tools=CHAT_TOOLS)).choices[0].message
        messages: list[Any] = [QUESTION, first.to_dict(exclude_unset=True)]
        messages += [{"role": "tool", "tool_call_id": call.id, "content": "21"} for call in first.tool_calls or []]
        second = await streamed(client, messages=messages, tools=CHAT_TOOLS)
        assert second.choices[0].message.content == "21 degrees"
        assert [(item["type"], item.get("call_id")) for item in answered(upstream)[1].input] == [
            ("message", None),
            ("message", None),
            ("function_call", "call_get_weather"),
            ("function_call", "call_get_time"),
            ("function_call_output", "call_get_weather"),
            ("function_call_output", "call_get_time"),
        ]
