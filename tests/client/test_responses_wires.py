"""One scripted turn over all three wires: the same items, the same texts, the same events, but for a list."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.client.hearing import hear, session_with
from tests.client.wires import WIRES, Conversation, tokens
from turnwire import (
    Completed,
    Created,
    FunctionCall,
    FunctionCallOutput,
    Message,
    Prompt,
    Reasoning,
    ResponseEvent,
    ResponseItem,
    TokenUsage,
)
from turnwire.testing import ScriptedServer, Turn

pytestmark = pytest.mark.usefixtures("nothing_left")

USAGE = TokenUsage(input_tokens=40, cached_input_tokens=32, output_tokens=9, reasoning_output_tokens=4, total_tokens=49)
SCRIPT = [
    Turn(
        summary=["Two cities, ", "two calls."],
        reasoning=["Zürich first, ", "then Genève."],
        text=["Let me ", "look."],
        calls=[
            FunctionCall("get_weather", '{"city":"Zürich","unit":"celsius"}', "call_1"),
            FunctionCall("get_weather", '{"city":"Genève","unit":"celsius"}', "call_2"),
        ],
        usage=USAGE,
    ),
    Turn(text=["21 °C in both", "."], usage=USAGE),
]

DIFFERENCES: dict[str, str] = {
    "Created": "Chat Completions have no event of their own for the beginning",
    "ReasoningSummaryPartAdded": "Chat Completions know no summary of the reasoning",
    "ReasoningSummaryDelta": "likewise",
}
"""The kinds of events that Responses give and Chat does not, and why. What else differs, `as_over_chat` takes away:

* over Chat, items carry no ids and no status, and a text has one part per delta;
* over Chat, reasoning is done when the finish reason comes, and the message behind the calls: until then, neither the
  reference nor anybody else can know that there is no more of them;
* over Chat, ``content_index`` counts deltas, and a finish reason is ``stop`` or ``tool_calls``.
"""


def bare(item: ResponseItem) -> Any:
    """What an item says, without ids and without the parts that its text came in."""
    match item:
        case Message(role=role):
            return ("message", role, item.text)
        case Reasoning(content=content):
            return ("reasoning", "".join(part.text for part in content or ()))
        case FunctionCall(name=name, arguments=arguments, call_id=call_id):
            return ("call", name, arguments, call_id)
        case FunctionCallOutput(call_id=call_id, output=output):
            return ("output", call_id, output)
    return item


def kind(event: ResponseEvent) -> str:
    return type(event).__name__


def as_over_chat(events: list[ResponseEvent]) -> list[str]:
    """The kinds of a Responses stream in the order in which Chat gives them: items are done when all is said."""
    kept = [event for event in events if kind(event) not in DIFFERENCES]
    done = [event for event in kept if kind(event) == "OutputItemDone"]
    return [
        *(kind(event) for event in kept if kind(event) not in ("OutputItemDone", "Completed")),
        *("OutputItemDone" for _ in done),
        "Completed",
    ]


async def turn_over(wire: str, *, watch_calls: bool) -> tuple[list[list[ResponseEvent]], list[ResponseItem], list[Any]]:
    events: list[list[ResponseEvent]] = []
    async with ScriptedServer(SCRIPT, token="replica-7", strict=True) as server:
        async with session_with(server, **WIRES[wire]) as session:
            turn = Conversation(session)
            for _ in SCRIPT:
                stream = session.stream(Prompt(turn.history), watch_calls=watch_calls)
                events.append((await hear(stream)).events)
                turn.history += stream.items
                turn.history += [
                    FunctionCallOutput(item.call_id, "21 °C") for item in stream.items if isinstance(item, FunctionCall)
                ]
        return events, turn.history, tokens(server)


@pytest.mark.parametrize("watch_calls", [False, True], ids=["unwatched", "watched"])
async def test_a_turn_is_the_same_over_each_wire(watch_calls: bool) -> None:
    over = {wire: await turn_over(wire, watch_calls=watch_calls) for wire in WIRES}
    chat, sse, socket = (over[wire] for wire in ("chat", "responses", "websocket"))

    # Over Responses nothing differs at all, be it over HTTP or over WebSocket.
    assert sse == socket

    # Each wire says the same, and the token goes with each.
    for wire in WIRES:
        assert over[wire][2] == [None, "replica-7"]
    assert sorted(map(str, map(bare, chat[1]))) == sorted(map(str, map(bare, sse[1])))
    assert [bare(item) for item in sse[1]] == [
        ("message", "user", "Hello"),
        ("reasoning", "Zürich first, then Genève."),
        ("message", "assistant", "Let me look."),
        ("call", "get_weather", '{"city":"Zürich","unit":"celsius"}', "call_1"),
        ("call", "get_weather", '{"city":"Genève","unit":"celsius"}', "call_2"),
        ("output", "call_1", "21 °C"),
        ("output", "call_2", "21 °C"),
        ("message", "assistant", "21 °C in both."),
    ]

    # The events are of the same kinds in the same order, but for the list.
    for of_chat, of_responses in zip(chat[0], sse[0], strict=True):
        assert [kind(event) for event in of_chat] == as_over_chat(of_responses)
        ends = [events[-1] for events in (of_chat, of_responses)]
        assert all(isinstance(end, Completed) and end.token_usage == USAGE for end in ends)
    missing = {kind(event) for events in sse[0] for event in events} - {
        kind(event) for events in chat[0] for event in events
    }
    assert missing == set(DIFFERENCES)


async def test_the_summary_is_told_in_parts_and_deltas() -> None:
    (first, _), history, _ = await turn_over("responses", watch_calls=False)
    assert [kind(event) for event in first][:7] == [
        "Created",
        "OutputItemAdded",
        "ReasoningSummaryPartAdded",
        "ReasoningSummaryDelta",
        "ReasoningSummaryDelta",
        "ReasoningContentDelta",
        "ReasoningContentDelta",
    ]
    assert first[0] == Created("resp_1")
    assert isinstance(history[1], Reasoning)
    assert [part.text for part in history[1].summary] == ["Two cities, two calls."]


@pytest.mark.parametrize("wire", WIRES)
async def test_many_turns_at_once_are_each_their_own(wire: str) -> None:
    def script(request: Any) -> Turn:
        asked = str(request.input[0]["content"])
        name = next(name for name in "abcdefgh" if f"<{name}>" in asked)
        return Turn(text=[f"{name}{number} " for number in range(30)], token=f"replica-{name}")

    async with ScriptedServer(script) as server, session_with(server, **WIRES[wire]) as session:

        async def one(name: str) -> str:
            stream = session.stream(f"<{name}>")
            assert (await hear(stream)).error is None
            return stream.text

        texts = await asyncio.gather(*map(one, "abcdefgh"))
        assert texts == ["".join(f"{name}{number} " for number in range(30)) for name in "abcdefgh"]
