"""The openai SDK's Responses through the gateway, on a real llama.cpp that is spoken to in chat."""

from __future__ import annotations

import json
from typing import Any

from openai import AsyncOpenAI
from openai.types.responses import Response, ResponseFunctionToolCall
from pydantic import BaseModel

from tests.gateway.sdk.llama_answers import (
    CHECK,
    HELLO,
    HELLO_REASONING,
    RESULT,
    TIME_ARGUMENTS,
    TOOLS,
    WEATHER_ARGUMENTS,
)
from tests.gateway.serving import MODEL

WEATHER = "What is the weather?"


def calls_of(response: Response) -> list[ResponseFunctionToolCall]:
    return [item for item in response.output if item.type == "function_call"]


def outputs_of(response: Response) -> Any:
    """What the response's calls gave, as the next request's input."""
    return [{"type": "function_call_output", "call_id": call.call_id, "output": "21 °C"} for call in calls_of(response)]


async def test_an_answer_has_its_reasoning_its_text_and_its_usage(client: AsyncOpenAI) -> None:
    response = await client.responses.create(model=MODEL, input="Hello")
    reasoning, message = response.output
    assert (response.status, response.model, response.output_text) == ("completed", MODEL, HELLO)
    assert reasoning.type == "reasoning"
    assert [part.text for part in reasoning.content or ()] == [HELLO_REASONING]
    assert message.type == "message"
    assert response.usage is not None
    assert response.usage.total_tokens == response.usage.input_tokens + response.usage.output_tokens


async def test_a_stream_adds_up_to_its_final_response(client: AsyncOpenAI) -> None:
    grown = {"text": "", "reasoning": "", "arguments": ""}
    ids = set()
    async with client.responses.stream(model=MODEL, input=WEATHER, tools=TOOLS) as stream:
        numbers = []
        async for event in stream:
            numbers.append(event.sequence_number)
            match event.type:
                case "response.created" | "response.in_progress" | "response.completed":
                    ids.add(event.response.id)
                case "response.output_text.delta":
                    grown["text"] += event.delta
                case "response.reasoning_text.delta":
                    grown["reasoning"] += event.delta
                case "response.function_call_arguments.delta":
                    grown["arguments"] += event.delta
        response = await stream.get_final_response()
    assert numbers == list(range(len(numbers)))
    assert ids == {response.id}
    assert grown == {
        "text": CHECK,
        "reasoning": "Let me think about it. The weather tool knows.",
        "arguments": WEATHER_ARGUMENTS,
    }
    (call,) = calls_of(response)
    assert (call.name, call.arguments, call.status) == ("get_weather", WEATHER_ARGUMENTS, "completed")
    assert response.output_text == CHECK


async def test_two_calls_come_in_their_order(client: AsyncOpenAI) -> None:
    response = await client.responses.create(model=MODEL, input="The weather, and the time?", tools=TOOLS)
    assert [(call.name, call.arguments) for call in calls_of(response)] == [
        ("get_weather", WEATHER_ARGUMENTS),
        ("get_time", TIME_ARGUMENTS),
    ]


async def test_a_stored_response_is_gone_on_from(client: AsyncOpenAI) -> None:
    first = await client.responses.create(model=MODEL, input=WEATHER, tools=TOOLS)
    second = await client.responses.create(
        model=MODEL, input=outputs_of(first), tools=TOOLS, previous_response_id=first.id
    )
    assert (second.output_text, second.previous_response_id) == (RESULT, first.id)
    async with client.responses.stream(model=MODEL, input="Hello again", previous_response_id=second.id) as stream:
        third = await stream.get_final_response()
    assert third.output_text == HELLO


async def test_a_client_that_keeps_its_history_itself_sends_the_output_back(client: AsyncOpenAI) -> None:
    options: Any = {"model": MODEL, "tools": TOOLS, "store": False, "include": ["reasoning.encrypted_content"]}
    history: list[Any] = [{"role": "user", "content": WEATHER}]
    first = await client.responses.create(input=history, **options)
    assert all(item.encrypted_content for item in first.output if item.type == "reasoning")
    history += [item.to_dict() for item in first.output]
    second = await client.responses.create(input=[*history, *outputs_of(first)], **options)
    assert second.output_text == RESULT


async def test_a_websocket_serves_a_whole_turn_with_what_is_new_alone(client: AsyncOpenAI) -> None:
    async with client.responses.connect() as connection:

        async def answer(**fields: Any) -> Response:
            await connection.response.create(model=MODEL, tools=TOOLS, store=False, **fields)
            async for event in connection:
                if event.type == "response.completed":
                    return event.response
            raise AssertionError("the connection was closed")

        first = await answer(input=WEATHER)
        second = await answer(input=outputs_of(first), previous_response_id=first.id)
    assert (first.output_text, second.output_text) == (CHECK, RESULT)


async def test_an_answer_fits_the_schema_that_is_asked_for(client: AsyncOpenAI) -> None:
    class Town(BaseModel):
        name: str
        sunny: bool

    response = await client.responses.parse(model=MODEL, input="Which town?", text_format=Town)
    assert isinstance(response.output_parsed, Town)
    assert response.output_parsed == Town.model_validate(json.loads(response.output_text))


async def test_an_answer_cut_by_its_limit_is_incomplete(client: AsyncOpenAI) -> None:
    response = await client.responses.create(model=MODEL, input="Please count.", tools=TOOLS, max_output_tokens=30)
    assert response.status == "incomplete"
    assert response.incomplete_details is not None
    assert response.incomplete_details.reason == "max_output_tokens"


async def test_the_tokens_of_a_prompt_are_those_that_its_answer_counts(client: AsyncOpenAI) -> None:
    counted = await client.responses.input_tokens.count(model=MODEL, input=WEATHER, tools=TOOLS)
    response = await client.responses.create(model=MODEL, input=WEATHER, tools=TOOLS)
    assert response.usage is not None
    assert counted.input_tokens == response.usage.input_tokens


async def test_a_compacted_conversation_is_gone_on_from(client: AsyncOpenAI) -> None:
    first = await client.responses.create(model=MODEL, input="Hello")
    compacted = await client.responses.compact(model=MODEL, previous_response_id=first.id)
    assert compacted.output[-1].type == "compaction"
    history: list[Any] = [
        *(item.to_dict(warnings=False) for item in compacted.output),
        {"role": "user", "content": WEATHER},
    ]
    response = await client.responses.create(model=MODEL, input=history, tools=TOOLS)
    assert response.output_text == CHECK


async def test_the_models_are_listed(client: AsyncOpenAI) -> None:
    assert [model.id async for model in client.models.list()] == [MODEL]
    assert (await client.models.retrieve(MODEL)).id == MODEL
