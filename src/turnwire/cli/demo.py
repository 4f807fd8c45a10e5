"""``turnwire demo``: two turns on two real llama.cpp servers, and what the routing token is good for."""

from __future__ import annotations

import asyncio
import time
from importlib.util import find_spec

import typer
from msgspec import Struct
from msgspec.structs import replace

from turnwire.cli.console import ExitCode, tell_error
from turnwire.cli.demo_forwarder import StickyForwarder
from turnwire.cli.demo_rules import HOTEL, MARINA, House
from turnwire.cli.demo_screen import Screen
from turnwire.client import ModelClient, Provider, Tool, run_turn
from turnwire.errors import ConfigurationError
from turnwire.event import Completed, TokenUsage
from turnwire.item import FunctionCallOutput, ResponseItem
from turnwire.prompt import Prompt
from turnwire.testing import LlamaServer, LlamaServerError
from turnwire.wire.chat import ChatDialect

__all__ = ["demo"]

_OPENING = """\
Two llama.cpp servers run the same small model, and a forwarder stands in front.
A request without a token goes to either of them, and its response hands out a
token (x-codex-turn-state). turnwire repeats it on the later requests of the
turn, so that they go to the server that has their prompt in its cache.
"""


class _Question(Struct, frozen=True):
    """What one turn is about."""

    house: House
    text: str


# Each house has its own rules, so that the turns have nothing to gain from each other's cache.
_QUESTIONS = (
    _Question(HOTEL, "How is the weather in Zürich?"),
    _Question(MARINA, "What time is it, and how is the weather in Zürich?"),
)


def get_weather(city: str, unit: str) -> str:
    """The weather in a city."""
    return f"21 degrees {unit} in {city}, light rain"


def get_time(zone: str) -> str:
    """The time in a zone."""
    return f"14:05 {zone}"


def demo() -> None:
    """Run two turns on two real llama.cpp servers; show streams, tokens and cache."""
    if find_spec("xllamacpp") is None:
        raise ConfigurationError('the demo runs real llama.cpp servers: pip install "turnwire[demo]"')
    try:
        asyncio.run(_demo())
    except LlamaServerError as error:
        tell_error(str(error))
        raise typer.Exit(ExitCode.FAILED) from None


async def _demo() -> None:
    async with (
        LlamaServer() as first,
        LlamaServer() as second,
        StickyForwarder((first.base_url, second.base_url)) as forwarder,
        ModelClient(_provider("the forwarder", forwarder.base_url), model=first.model_name) as client,
    ):
        screen = Screen(forwarder.log)
        replicas = (first, second)
        screen.opening(_OPENING, [server.base_url for server in replicas], forwarder.base_url)
        for question in _QUESTIONS:
            screen.begin_turn(question.house.name, question.text)
            last_request = await _turn(client, question, screen)
            other = 1 - forwarder.log[-1].replica
            usage, first_token = await _measure(replicas[other], last_request)
            screen.compared(other, usage, first_token)
        screen.summary()


async def _turn(client: ModelClient, question: _Question, screen: Screen) -> Prompt:
    """Drives one turn to its end, and gives the prompt of its last request."""
    tools = [Tool.of(screen.shown(function)) for function in (get_weather, get_time)]
    prompt = Prompt(question.text, instructions=question.house.rules())
    async with client.new_session() as session:  # one session, one turn, one token
        result = await run_turn(session, prompt, tools, on_event=screen.on_event)
    sent = (*prompt.items, *_before_last_answer(result.items))
    return replace(prompt, input=sent, tools=[tool.definition for tool in tools])


def _before_last_answer(items: tuple[ResponseItem, ...]) -> tuple[ResponseItem, ...]:
    """What was part of the last request: all up to the last output of a tool."""
    outputs = [place for place, item in enumerate(items, 1) if isinstance(item, FunctionCallOutput)]
    return items[: max(outputs, default=0)]


async def _measure(server: LlamaServer, prompt: Prompt) -> tuple[TokenUsage, float]:
    """What a server counts for a prompt, and the seconds to its first event."""
    async with ModelClient(_provider("a replica", server.base_url), model=server.model_name) as client:
        started = time.perf_counter()
        usage, first_token = TokenUsage(), 0.0
        async with client.new_session().stream(prompt) as stream:
            async for event in stream:
                first_token = first_token or time.perf_counter() - started
                if isinstance(event, Completed):
                    usage = event.token_usage or usage
    return usage, first_token


def _provider(name: str, base_url: str) -> Provider:
    return Provider(name, base_url, dialect=ChatDialect.preset("llama.cpp"))
