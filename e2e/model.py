"""What the scripted model does, step by step."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import msgspec

from turnwire.event import TokenUsage
from turnwire.item import FunctionCall
from turnwire.testing import RecordedRequest, Turn

__all__ = ["USAGE", "Step", "announced", "calls", "in_order", "says", "tool_names"]

USAGE = TokenUsage(1000, 800, 20, 0, 1020)

Step: TypeAlias = Turn | Callable[[RecordedRequest], Turn]


def in_order(*steps: Step) -> Callable[[RecordedRequest], Turn]:
    """A script: one step per request."""
    rest = iter(steps)

    def next_turn(request: RecordedRequest) -> Turn:
        step = next(rest, None)
        if step is None:
            raise LookupError("the script is over")
        return step(request) if callable(step) else step

    return next_turn


def says(text: str) -> Turn:
    """An answer in words."""
    return Turn(text=[text[:3], text[3:]], usage=USAGE)


def calls(*wanted: tuple[str, Mapping[str, Any]]) -> Step:
    """Calls of tools by what their names end with, for a tool of a namespace has that in front of it."""

    def turn(request: RecordedRequest) -> Turn:
        number = len(request.json["messages"])
        return Turn(
            calls=[
                FunctionCall(
                    _full_name(request, name), msgspec.json.encode(arguments).decode(), f"call_{number}_{place}"
                )
                for place, (name, arguments) in enumerate(wanted)
            ],
            usage=USAGE,
        )

    return turn


def announced(turn: Turn, asked: asyncio.Event) -> Step:
    """The turn, and word that it was asked for."""

    def step(_: RecordedRequest) -> Turn:
        asked.set()
        return turn

    return step


def tool_names(request: RecordedRequest) -> list[str]:
    """The tools that the model is offered."""
    return [tool["function"]["name"] for tool in request.json.get("tools", [])]


def _full_name(request: RecordedRequest, name: str) -> str:
    found = [known for known in tool_names(request) if known.endswith(name)]
    assert len(found) == 1, f"{name} is {found} among {tool_names(request)}"
    return found[0]
