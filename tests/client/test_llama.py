"""The client against a real llama.cpp: what it says, how it ends, and how it is left."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from msgspec.structs import replace

from tests.client.hearing import hear
from turnwire import (
    Completed,
    ContextWindowExceeded,
    Disconnected,
    FunctionCall,
    FunctionCallOutput,
    HttpStatusError,
    InputText,
    Message,
    ModelClient,
    ModelClientSession,
    OutputItemDone,
    OutputText,
    OutputTextDelta,
    Prompt,
    Provider,
    Reasoning,
    ReasoningContentDelta,
    ResponseStream,
    Tool,
    run_turn,
)
from turnwire.testing import SCRIPTED_TOOLS, LlamaServer

WEATHER = FunctionCall("get_weather", '{"city": "Zürich", "unit": "celsius"}', "call")
TIME = FunctionCall("get_time", '{"zone": "CET"}', "call")
RESULT = "It is 21 °C in Zürich with a little rain 🌦, so take an umbrella."


@pytest.fixture(scope="module")
def server() -> Iterator[LlamaServer]:
    # The server is a process, bound to no event loop: one serves all tests of the file.
    llama = LlamaServer(context_size=2048)
    asyncio.run(llama.start())
    yield llama
    asyncio.run(llama.stop())


def provider_of(server: LlamaServer, **changes: Any) -> Provider:
    changes = {"model": server.model_name, "request_max_retries": 0, "stream_max_retries": 0, **changes}
    return Provider.preset("llama.cpp", base_url=server.base_url, **changes)


@pytest.fixture
async def session(server: LlamaServer, nothing_left: None) -> AsyncIterator[ModelClientSession]:
    async with ModelClient(provider_of(server)) as client, client.new_session() as session:
        yield session


def asked(text: str, **changes: Any) -> Prompt:
    return Prompt(text, **{"tools": SCRIPTED_TOOLS, **changes})


def counting(**changes: Any) -> Prompt:
    """A prompt that is answered until somebody ends it."""
    return asked("Please count.", extra={"chat_template_kwargs": {"enable_thinking": False}}, **changes)


async def answer(stream: ResponseStream) -> tuple[str, str, list[FunctionCall], Completed]:
    """Reasoning, text, calls without their random ids, and the end of a stream that must succeed."""
    events, error = await hear(stream)
    assert error is None
    assert isinstance(events[-1], Completed)
    reasoning, calls = "", []
    for event in events:
        match event:
            case OutputItemDone(item=Reasoning() as item):
                reasoning += item.text
            case OutputItemDone(item=FunctionCall() as item):
                calls.append(replace(item, call_id="call"))
    return reasoning, stream.text, calls, events[-1]


async def test_reasoning_and_text_whose_characters_come_in_pieces(session: ModelClientSession) -> None:
    stream = session.stream("Hello!")
    events, error = await hear(stream)
    assert error is None
    said = "".join(event.delta for event in events if isinstance(event, OutputTextDelta))
    thought = "".join(event.delta for event in events if isinstance(event, ReasoningContentDelta))
    assert said == stream.text == "Hello! Zürich sends you 21 °C and a 🌦 of its own."
    assert thought == "No tool can help here."
    assert [type(item) for item in stream.items] == [Reasoning, Message]


async def test_one_call(session: ModelClientSession) -> None:
    reasoning, text, calls, completed = await answer(session.stream(asked("What is the weather?")))
    assert (reasoning, text) == ("Let me think about it. The weather tool knows.", "I will check:\n")
    assert calls == [WEATHER]
    assert (completed.finish_reason, completed.incomplete_reason) == ("tool_calls", None)


async def test_two_calls(session: ModelClientSession) -> None:
    reasoning, text, calls, _ = await answer(session.stream(asked("What is the weather, and the time?")))
    assert (reasoning, text) == ("Two tools know that, so I ask both at once.", "")
    assert calls == [WEATHER, TIME]


async def test_the_usage_is_the_server_s_own_count(session: ModelClientSession) -> None:
    prompt = asked("What is the weather in a town that nobody asked for before?")
    first = session.stream(prompt)
    *_, completed = await answer(first)
    assert completed.token_usage is not None
    assert completed.token_usage.output_tokens > 0
    outputs = [FunctionCallOutput(item.call_id, "21 °C") for item in first.items if isinstance(item, FunctionCall)]
    *_, completed = await answer(session.stream(replace(prompt, input=[*prompt.items, *first.items, *outputs])))
    assert completed.token_usage is not None
    assert completed.token_usage.cached_share > 0.5


async def test_the_bound_that_the_caller_set_ends_the_answer_as_asked(session: ModelClientSession) -> None:
    _, text, _, completed = await answer(session.stream(counting(max_output_tokens=8)))
    assert text.startswith("one two three")
    assert (completed.finish_reason, completed.incomplete_reason) == ("length", "max_output_tokens")
    assert completed.token_usage is not None
    assert completed.token_usage.output_tokens == 8


async def test_an_answer_that_fills_the_context_is_an_overflow(session: ModelClientSession) -> None:
    stream = session.stream(counting())
    _, error = await hear(stream)
    assert type(error) is ContextWindowExceeded
    assert str(error) == "the answer did not fit the model's context window (finish reason length)"
    assert error.committed
    assert error.text == stream.text
    assert error.text.startswith("one two three")


async def test_a_prompt_that_is_too_long_is_an_overflow(session: ModelClientSession) -> None:
    events, error = await hear(session.stream("x" * 4000))
    assert events == []
    assert type(error) is ContextWindowExceeded
    assert not error.committed
    assert error.response is not None
    assert error.response.status == 400


async def test_a_key_that_the_server_does_not_know(nothing_left: None) -> None:
    async with LlamaServer(api_key="right") as server:
        async with ModelClient(provider_of(server, api_key="wrong")) as client:
            _, error = await hear(client.new_session().stream("Hello"))
            assert type(error) is HttpStatusError
            assert str(error) == (
                f"{server.base_url}/chat/completions answered 401: Invalid API Key (check the api key)"
            )
        async with ModelClient(provider_of(server, api_key=lambda: "right")) as client:
            assert (await hear(client.new_session().stream("Hello"))).error is None


async def until(condition: Callable[[int], bool], server: LlamaServer) -> None:
    async with asyncio.timeout(5):
        while not condition(await server.busy_slots()):  # noqa: ASYNC110 - the server has no event to wait for
            await asyncio.sleep(0.01)


async def test_a_stream_cancelled_in_the_middle_frees_the_server_s_slot(nothing_left: None) -> None:
    async with LlamaServer(context_size=32_768) as server, ModelClient(provider_of(server)) as client:

        async def read() -> None:
            async with client.new_session().stream(counting()) as stream:
                async for event in stream:
                    if isinstance(event, OutputTextDelta):
                        speaking.set()

        speaking = asyncio.Event()
        task = asyncio.create_task(read())
        await speaking.wait()
        assert await server.busy_slots() == 1
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(lambda busy: busy == 0, server)


async def test_a_server_killed_in_the_middle_is_a_lost_connection_with_the_text_so_far(nothing_left: None) -> None:
    async with LlamaServer(context_size=32_768) as server, ModelClient(provider_of(server)) as client:
        stream = client.new_session().stream(counting())
        while len(stream.text) < len("one two three"):
            await anext(stream)
        server.kill()
        _, error = await hear(stream)
    assert type(error) is Disconnected
    assert (error.committed, error.items, error.text) == (True, (), stream.text)
    assert error.text.startswith("one two three")


async def test_a_whole_turn(session: ModelClientSession) -> None:
    called: list[tuple[str, ...]] = []

    def get_weather(city: str, unit: str) -> str:
        called.append((city, unit))
        return "21 °C, rain"

    async def get_time(zone: str) -> str:
        called.append((zone,))
        return "12:00"

    # llama.cpp holds calls to the schemas, and its scripted model knows only its own.
    schemas = {tool["function"]["name"]: tool["function"]["parameters"] for tool in SCRIPTED_TOOLS}
    tools = [Tool.of(tool, parameters=dict(schemas[tool.__name__])) for tool in (get_weather, get_time)]
    result = await run_turn(session, "What is the weather, and the time?", tools)
    assert sorted(called) == [("CET",), ("Zürich", "celsius")]
    assert (result.text, result.rounds, result.incomplete_reason) == (RESULT, 2, None)
    assert [type(item) for item in result.items] == [
        Reasoning,
        FunctionCall,
        FunctionCall,
        FunctionCallOutput,
        FunctionCallOutput,
        Message,
    ]
    assert result.usage.cached_input_tokens > 0


async def test_a_conversation_of_several_turns(server: LlamaServer, nothing_left: None) -> None:
    async with ModelClient(provider_of(server)) as client:
        async with client.new_session() as turn:
            first = await run_turn(turn, "Hello!")
        history = [*Prompt("Hello!").items, *first.items, Message("user", [InputText("And again!")])]
        async with client.new_session() as turn:
            second = await run_turn(turn, Prompt(history))
    assert second.text == first.text
    assert isinstance(first.items[-1], Message)
    assert isinstance(first.items[-1].content[0], OutputText)
