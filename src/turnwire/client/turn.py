"""A whole user turn, for those who bring Python functions: ask, call, answer, until there is nothing to call."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from turnwire.client.session import ModelClientSession
from turnwire.client.tool import Tool
from turnwire.errors import ConfigurationError, ProtocolError
from turnwire.event import Completed, ResponseEvent, TokenUsage
from turnwire.item import FunctionCall, FunctionCallOutput, ResponseItem, item_text
from turnwire.prompt import Prompt

__all__ = ["TurnResult", "run_turn"]


class TurnResult(Struct, frozen=True):
    """What a turn gave."""

    text: str
    """The last answer."""
    items: tuple[ResponseItem, ...]
    """All that the turn added to the conversation: what the model gave and what the tools gave, in order."""
    usage: TokenUsage
    """The sum over the turn's requests."""
    rounds: int
    """How many answers the turn took."""
    incomplete_reason: str | None = None
    """Why the answer is not whole: the server's reason, or ``max_rounds`` where the model would not stop calling."""


async def run_turn(
    session: ModelClientSession,
    prompt: Prompt | str,
    tools: Iterable[Callable[..., Any] | Tool] = (),
    *,
    model: str | None = None,
    max_rounds: int = 20,
    on_event: Callable[[ResponseEvent], None] | None = None,
) -> TurnResult:
    """Drives one user turn to its end, under the session's one token.

    The calls of an answer run at the same time, unless the prompt says ``parallel_tool_calls=False``. What a tool
    raises is told to the model as the call's output, as is a call that names no tool or brings arguments that do not
    fit. Tools run only once an answer is complete, so an answer that breaks off is asked for again; ``on_event`` sees
    every event, `StreamRestarted` among them. Raises the errors of `turnwire.errors`.
    """
    if max_rounds < 1:
        raise ConfigurationError(f"max_rounds must be 1 or more, not {max_rounds}")
    if isinstance(prompt, str):
        prompt = Prompt(prompt)
    known = {tool.name: tool for tool in map(Tool.of, tools)}
    prompt = replace(prompt, tools=(*prompt.tools, *(tool.definition for tool in known.values())))
    added: list[ResponseItem] = []
    usage = TokenUsage()
    for number in range(1, max_rounds + 1):
        items, completed = await _answer(
            session, replace(prompt, input=(*prompt.items, *added)), model=model, on_event=on_event
        )
        usage = _sum(usage, completed.token_usage)
        added += items
        text = "".join(item_text(item) for item in items)
        calls = [item for item in items if isinstance(item, FunctionCall)]
        if completed.incomplete_reason is not None or not calls:
            return TurnResult(text, tuple(added), usage, number, completed.incomplete_reason)
        if prompt.parallel_tool_calls is False:
            added += [await _output(call, known) for call in calls]
        else:
            added += await asyncio.gather(*(_output(call, known) for call in calls))
    return TurnResult(text, tuple(added), usage, max_rounds, "max_rounds")


async def _answer(
    session: ModelClientSession,
    prompt: Prompt,
    *,
    model: str | None,
    on_event: Callable[[ResponseEvent], None] | None,
) -> tuple[tuple[ResponseItem, ...], Completed]:
    completed: Completed | None = None
    async with session.stream(prompt, model=model, restart=True) as stream:
        async for event in stream:
            if on_event is not None:
                on_event(event)
            if isinstance(event, Completed):
                completed = event
        if completed is None:
            raise ProtocolError("the stream ended without Completed")
        return stream.items, completed


async def _output(call: FunctionCall, known: dict[str, Tool]) -> FunctionCallOutput:
    """The output of one call; what went wrong is told to the model, who may do better next time."""
    tool = known.get(call.name)
    if tool is None:
        names = ", ".join(known) or "none"
        return FunctionCallOutput(call.call_id, f"error: no tool is called {call.name!r}; there are: {names}")
    try:
        return FunctionCallOutput(call.call_id, await tool.call(call.arguments))
    except Exception as error:  # noqa: BLE001 - whatever a tool raises is the model's to know
        return FunctionCallOutput(call.call_id, f"error: {type(error).__name__}: {error}")


def _sum(total: TokenUsage, more: TokenUsage | None) -> TokenUsage:
    if more is None:
        return total
    return TokenUsage(*(getattr(total, name) + getattr(more, name) for name in TokenUsage.__struct_fields__))
