"""Streams heard to their end, and providers that don't wait for long."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import msgspec

from turnwire import (
    ApiError,
    Completed,
    ModelClient,
    ModelClientSession,
    OutputItemAdded,
    OutputItemDone,
    OutputTextDelta,
    Provider,
    ResponseEvent,
    ResponseStream,
)
from turnwire.item import Message, OutputText
from turnwire.testing import ScriptedServer, Turn
from turnwire.testing.script import ChatRequest, answer_turn
from turnwire.wire.chat import ChatDialect
from turnwire.wire.sse import encode_event

HELLO = Turn(text=["Grüezi", " mitenand", "!"])
HELLO_TEXT = "Grüezi mitenand!"
HELLO_ITEM = Message("assistant", [OutputText("Grüezi"), OutputText(" mitenand"), OutputText("!")])


def hello_events(number: int = 1) -> list[ResponseEvent]:
    """The events of `HELLO`, given in answer to a server's request of that number."""
    return [
        OutputItemAdded(Message("assistant", ())),
        OutputTextDelta("Grüezi"),
        OutputTextDelta(" mitenand"),
        OutputTextDelta("!"),
        OutputItemDone(HELLO_ITEM),
        Completed(f"chatcmpl-{number}", None, "stop"),
    ]


def chunk(delta: dict[str, Any] | None = None, finish_reason: str | None = None, **fields: Any) -> bytes:
    """An event of a stream, for answers that a `Turn` can't say."""
    choice = {"index": 0, "delta": delta or {}, "finish_reason": finish_reason}
    return encode_event(msgspec.json.encode({"id": "chatcmpl-1", "choices": [choice], **fields}))


def size_of(turn: Turn, *, parts: int) -> int:
    """Bytes of the body up to the end of so many parts: the start is one, each delta is one."""
    answer = answer_turn(turn, ChatRequest(stream=True), ChatDialect(), headers={}, response_id="chatcmpl-1")
    return sum(len(part.data) for part in answer.parts[:parts])


class Heard(NamedTuple):
    """What a stream gave, and what it raised in the end."""

    events: list[ResponseEvent]
    error: ApiError | None = None


async def hear(stream: ResponseStream) -> Heard:
    """The whole stream; one that neither ends nor fails is a defect."""
    events: list[ResponseEvent] = []
    try:
        async with asyncio.timeout(5), stream:
            async for event in stream:
                events.append(event)  # noqa: PERF401 - those before an error count
    except ApiError as error:
        return Heard(events, error)
    return Heard(events)


def impatient(base_url: str, **changes: Any) -> Provider:
    """A provider that tries once, with timeouts that a test may wait for."""
    defaults = {"model": "scripted", "idle_timeout": 2.0, "request_max_retries": 0, "stream_max_retries": 0}
    return Provider("scripted", **{"base_url": base_url, **defaults, **changes})


@asynccontextmanager
async def session_with(server: ScriptedServer, **changes: Any) -> AsyncIterator[ModelClientSession]:
    """A session of a client of its own; what the script did not foresee fails the test."""
    async with ModelClient(impatient(server.base_url, **changes)) as client, client.new_session() as session:
        yield session
    assert server.errors == []
