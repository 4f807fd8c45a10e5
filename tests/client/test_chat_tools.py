"""Tools of every kind over Chat Completions: the caller gets calls of the tools that it gave."""

from __future__ import annotations

from typing import Any

import pytest

from tests.client.hearing import hear, impatient
from turnwire import CustomToolCall, CustomToolCallOutput, FunctionCall, InputText, Message, ModelClient, Prompt
from turnwire.event import OutputItemDone
from turnwire.item import ResponseItem
from turnwire.testing import ScriptedServer, Turn

pytestmark = pytest.mark.usefixtures("nothing_left")


async def test_a_call_is_that_of_the_tool_that_the_caller_gave() -> None:
    question: ResponseItem = Message("user", [InputText("Fix it.")])
    asked = [
        FunctionCall("patch", '{"input":"*** Begin Patch"}', "call_1"),
        FunctionCall("mail__read", "{}", "call_2"),
    ]
    meant: list[ResponseItem] = [
        CustomToolCall("patch", "*** Begin Patch", "call_1"),
        FunctionCall("read", "{}", "call_2", namespace="mail"),
    ]
    tools: list[dict[str, Any]] = [
        {"type": "custom", "name": "patch"},
        {"type": "namespace", "name": "mail", "tools": [{"type": "function", "name": "read"}]},
    ]
    script = [Turn(calls=asked), Turn(calls=[asked[0]])]
    async with (
        ScriptedServer(script) as server,
        ModelClient(impatient(server.base_url)) as client,
        client.new_session() as turn,
    ):
        first = await hear(turn.stream(Prompt([question], tools=tools)))
        history = [question, *meant, CustomToolCallOutput("call_1", "done")]
        second = await hear(turn.stream(Prompt(history, tools=tools)))
    assert [event.item for event in first.events if isinstance(event, OutputItemDone)] == meant
    # The server repeats an id that the conversation has used.
    assert [event.item for event in second.events if isinstance(event, OutputItemDone)] == [
        CustomToolCall("patch", "*** Begin Patch", "call_1-2")
    ]
    assert server.errors == []
