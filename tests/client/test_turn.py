"""Whole turns: what the model is asked, what the tools are, and how it ends."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from msgspec.structs import replace

from tests.client.hearing import HELLO, HELLO_ITEM, HELLO_TEXT, impatient, session_with, size_of
from turnwire import (
    Completed,
    ConfigurationError,
    FunctionCall,
    FunctionCallOutput,
    HttpStatusError,
    InputText,
    Message,
    ModelClient,
    OutputItemDone,
    OutputText,
    OutputTextDelta,
    Prompt,
    ProtocolError,
    Reasoning,
    ReasoningText,
    ResponseEvent,
    StreamRestarted,
    TokenUsage,
    TurnResult,
    run_turn,
)
from turnwire.client import TURN_STATE_HEADER
from turnwire.testing import RecordedRequest, ScriptedServer, Stall, Status, Truncate, Turn

pytestmark = pytest.mark.usefixtures("nothing_left")

QUESTION = Message("user", [InputText("How is the weather?")])


def get_weather(city: str, days: int = 1) -> str:
    """The weather in a city."""
    if not city:
        raise ValueError("which city?")
    return f"rain in {city} for {days}"


def call(arguments: str, number: int = 1, name: str = "get_weather") -> FunctionCall:
    return FunctionCall(name, arguments, f"call_{number}")


def output(text: str, number: int = 1) -> FunctionCallOutput:
    return FunctionCallOutput(f"call_{number}", text)


BERN = call('{"city":"Bern"}')


async def test_a_turn_asks_until_there_is_nothing_to_call() -> None:
    second = call('{"city":"Chur","days":"2"}', 2)
    usage = [TokenUsage(10, 0, 3, 1, 13), None, TokenUsage(30, 20, 5, 0, 35)]
    script = [
        Turn(reasoning="Let me look.", calls=[BERN], usage=usage[0], token="replica-1"),
        Turn(text="And there:", calls=[second], token="replica-2"),
        replace(HELLO, usage=usage[2]),
    ]
    async with ScriptedServer(script) as server, session_with(server) as session:
        result = await run_turn(session, "How is the weather?", [get_weather])
    items = (
        Reasoning(content=[ReasoningText("Let me look.")]),
        BERN,
        output("rain in Bern for 1"),
        second,
        Message("assistant", [OutputText("And there:")]),
        output("rain in Chur for 2", 2),
        HELLO_ITEM,
    )
    assert result == TurnResult(HELLO_TEXT, items, TokenUsage(40, 20, 8, 1, 48), 3)
    assert [request.headers.get(TURN_STATE_HEADER) for request in server.requests] == [None, "replica-1", "replica-1"]
    first, *_, last = server.requests
    (tool,) = first.json["tools"]
    assert tool["function"]["name"] == "get_weather"
    assert [message["role"] for message in last.json["messages"]] == ["user", *["assistant", "tool"] * 2]


async def test_a_turn_without_tools_is_one_answer() -> None:
    async with ScriptedServer([HELLO]) as server, session_with(server) as session:
        assert await run_turn(session, "Hello") == TurnResult(HELLO_TEXT, (HELLO_ITEM,), TokenUsage(), 1)
    assert "tools" not in server.requests[0].json


async def test_a_prompt_s_history_and_own_tools_are_kept() -> None:
    own = {"type": "function", "name": "own", "parameters": {"type": "object", "properties": {}}}
    prompt = Prompt([QUESTION], instructions="Be kind.", tools=[own], temperature=0.5)
    async with ScriptedServer([Turn(calls=[BERN]), HELLO]) as server, session_with(server) as session:
        await run_turn(session, prompt, [get_weather], model="other")
    for request in server.requests:
        assert [tool["function"]["name"] for tool in request.json["tools"]] == ["own", "get_weather"]
        assert (request.json["temperature"], request.json["model"]) == (0.5, "other")
        assert request.json["messages"][:2] == [
            {"role": "system", "content": "Be kind."},
            {"role": "user", "content": "How is the weather?"},
        ]
    assert prompt.tools == (own,)


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (call('{"city":""}'), "error: ValueError: which city?"),
        (call("{}"), "error: ValidationError: Object missing required field `city`"),
        (call('{"city":"Bern","days":"many"}'), "error: ValidationError: Expected `int`, got `str` - at `$.days`"),
        (call('{"city":'), "error: DecodeError: Input data was truncated"),
        (call("{}", name="get_time"), "error: no tool is called 'get_time'; there are: get_weather"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_what_goes_wrong_with_a_call_is_told_to_the_model(asked: FunctionCall, told: str) -> None:
    async with ScriptedServer([Turn(calls=[asked]), HELLO]) as server, session_with(server) as session:
        result = await run_turn(session, "How is the weather?", [get_weather])
    assert result.items[1] == output(told)
    assert server.requests[1].json["messages"][-1] == {"role": "tool", "tool_call_id": "call_1", "content": told}


async def test_a_call_without_any_tool_is_told_so() -> None:
    async with ScriptedServer([Turn(calls=[BERN]), HELLO]) as server, session_with(server) as session:
        result = await run_turn(session, "How is the weather?")
    assert result.items[1] == output("error: no tool is called 'get_weather'; there are: none")


@pytest.mark.parametrize(
    ("parallel", "most"), [(None, 3), (True, 3), (False, 1)], ids=["not said", "allowed", "refused"]
)
async def test_calls_run_at_the_same_time_where_that_is_allowed(parallel: bool | None, most: int) -> None:
    running, seen = 0, 0

    async def look(number: int) -> str:
        nonlocal running, seen
        running += 1
        seen = max(seen, running)
        for _ in range(5):
            await asyncio.sleep(0)
        running -= 1
        return f"looked at {number}"

    calls = [call(f'{{"number":{number}}}', number, "look") for number in range(3)]
    async with ScriptedServer([Turn(calls=calls), HELLO]) as server, session_with(server) as session:
        result = await run_turn(session, Prompt("Look.", parallel_tool_calls=parallel), [look])
    assert result.items[3:6] == tuple(output(f"looked at {number}", number) for number in range(3))
    assert seen == most


async def test_a_model_that_would_not_stop_calling_is_stopped() -> None:
    def script(request: RecordedRequest) -> Turn:
        return Turn(text="Again.", calls=[BERN], usage=TokenUsage(1, 0, 1, 0, 2))

    async with ScriptedServer(script) as server, session_with(server) as session:
        result = await run_turn(session, "How is the weather?", [get_weather], max_rounds=3)
    assert (result.text, result.rounds, result.incomplete_reason) == ("Again.", 3, "max_rounds")
    assert result.usage == TokenUsage(3, 0, 3, 0, 6)
    assert isinstance(result.items[-1], FunctionCallOutput)
    assert len(server.requests) == 3


@pytest.mark.parametrize("rounds", [0, -1])
async def test_a_turn_has_at_least_one_round(rounds: int) -> None:
    async with ScriptedServer() as server, session_with(server) as session:
        with pytest.raises(ConfigurationError, match=rf"^max_rounds must be 1 or more, not {rounds}$"):
            await run_turn(session, "Hello", max_rounds=rounds)


@pytest.mark.parametrize(
    ("finish_reason", "incomplete_reason"),
    [("stop", None), ("length", "max_output_tokens"), ("content_filter", "content_filter"), ("tired", "tired")],
)
async def test_an_answer_that_is_not_whole_ends_the_turn_and_says_why(
    finish_reason: str, incomplete_reason: str | None
) -> None:
    turn = replace(HELLO, finish_reason=finish_reason)
    async with ScriptedServer([turn]) as server, session_with(server) as session:
        result = await run_turn(session, Prompt("Hello", max_output_tokens=3), [get_weather])
    assert (result.text, result.rounds, result.incomplete_reason) == (HELLO_TEXT, 1, incomplete_reason)


async def test_every_event_is_shown_and_an_answer_that_broke_off_is_asked_for_again(pauses: list[float]) -> None:
    broken = replace(HELLO, fault=Truncate(size_of(HELLO, parts=2)))
    calls: list[str] = []

    def note(city: str) -> str:
        calls.append(city)
        return "rain"

    broken_call = Turn(calls=[call('{"city":"Genf"}', name="note")], fault=Truncate(300))
    script = [broken_call, Turn(calls=[call('{"city":"Bern"}', name="note")]), broken, HELLO]
    events: list[ResponseEvent] = []
    async with ScriptedServer(script) as server, session_with(server, stream_max_retries=1) as session:
        result = await run_turn(session, "Hello", [note], on_event=events.append)
    assert (result.text, result.rounds, calls) == (HELLO_TEXT, 2, ["Bern"])
    assert [type(event) for event in events if not isinstance(event, OutputTextDelta)][-5:] == [
        type(events[2]),
        StreamRestarted,
        type(events[2]),
        OutputItemDone,
        Completed,
    ]
    assert pauses == [0.2, 0.2]


async def test_an_error_ends_the_turn() -> None:
    async with ScriptedServer([Turn(calls=[BERN]), Turn(fault=Status(401))]) as server, session_with(server) as session:
        with pytest.raises(HttpStatusError):
            await run_turn(session, "Hello", [get_weather])


async def test_a_listener_that_fails_ends_the_turn_and_its_stream() -> None:
    def fail(event: ResponseEvent) -> None:
        raise ZeroDivisionError

    stalling = replace(HELLO, fault=Stall(size_of(HELLO, parts=2)))
    async with ScriptedServer([stalling]) as server, session_with(server) as session:
        with pytest.raises(ZeroDivisionError):
            await run_turn(session, "Hello", on_event=fail)
        async with asyncio.timeout(5):
            await server.wait_idle()


async def test_a_turn_whose_session_is_closed_is_no_whole_turn() -> None:
    async with ScriptedServer([HELLO]) as server, session_with(server) as session:
        with pytest.raises(ProtocolError, match=r"^the stream ended without Completed$"):
            await run_turn(session, "Hello", on_event=lambda _: session.close())


async def test_cancelling_a_turn_cancels_its_tools() -> None:
    ended: list[str] = []
    started = asyncio.Semaphore(0)

    async def wait(name: str) -> None:
        started.release()
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(name)

    calls = [call(f'{{"name":"{name}"}}', number, "wait") for number, name in enumerate("ab")]
    async with ScriptedServer([Turn(calls=calls)]) as server, session_with(server) as session:
        task = asyncio.create_task(run_turn(session, "Wait.", [wait]))
        for _ in calls:
            await started.acquire()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert sorted(ended) == ["a", "b"]


@pytest.mark.parametrize("failure", [KeyboardInterrupt, SystemExit], ids=lambda kind: kind.__name__)
def test_an_interrupt_in_a_tool_is_no_answer_for_the_model(failure: type[BaseException]) -> None:
    def stop() -> None:
        raise failure

    asked: list[Any] = []

    async def turn() -> None:
        async with ScriptedServer([Turn(calls=[call("{}", name="stop")]), HELLO]) as server:
            asked.append(server.requests)
            async with ModelClient(impatient(server.base_url)) as client:
                await run_turn(client.new_session(), "Stop.", [stop])

    with pytest.raises(failure):
        asyncio.run(turn())
    assert len(asked[0]) == 1
