"""The three wires by name, and a conversation that is the same over each."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tests.client.hearing import hear, session_with
from turnwire import FunctionCall, FunctionCallOutput, Message, ModelClientSession, Prompt, ResponseItem, ResponseStream
from turnwire.item import InputText
from turnwire.testing import ScriptedServer

SSE: dict[str, Any] = {"wire_api": "responses"}
SOCKET: dict[str, Any] = {"wire_api": "responses", "websocket": True}
AUTO: dict[str, Any] = {"wire_api": "responses", "websocket": "auto"}
WIRES: dict[str, dict[str, Any]] = {"chat": {}, "responses": SSE, "websocket": SOCKET}


def user(text: str) -> Message:
    return Message("user", [InputText(text)])


class Conversation:
    """A turn that goes on: each answer, and what its calls gave, is part of the next prompt."""

    def __init__(self, session: ModelClientSession, question: str = "Hello") -> None:
        self.session = session
        self.history: list[ResponseItem] = [user(question)]

    async def ask(self, **options: Any) -> ResponseStream:
        """The next answer, heard to its end; errors are raised."""
        stream = self.session.stream(Prompt(self.history), **options)
        heard = await hear(stream)
        if heard.error is not None:
            raise heard.error
        self.history += stream.items
        calls = [item for item in stream.items if isinstance(item, FunctionCall)]
        self.history += [FunctionCallOutput(call.call_id, "21 °C") for call in calls]
        return stream

    def say(self, text: str) -> None:
        """Another message of the user."""
        self.history.append(user(text))


@asynccontextmanager
async def conversation(server: ScriptedServer, **changes: Any) -> AsyncIterator[Conversation]:
    """One turn of a client of its own; what the script did not foresee fails the test."""
    async with session_with(server, **changes) as session:
        yield Conversation(session)


def tokens(server: ScriptedServer) -> list[str | None]:
    """What each request carried."""
    return [request.token for request in server.requests]


def wires(server: ScriptedServer) -> list[str | None]:
    return [request.wire for request in server.requests]


def connections(server: ScriptedServer) -> list[int]:
    return [request.connection for request in server.requests]


def sent(server: ScriptedServer) -> list[tuple[str | None, int]]:
    """Of each request, the response that it goes on from and how many items it brings."""
    return [
        (request.json.get("previous_response_id"), len(request.json.get("input", ()))) for request in server.requests
    ]


def given(server: ScriptedServer) -> list[int]:
    """How many items the model was given with each request."""
    return [len(request.input) for request in server.requests]
