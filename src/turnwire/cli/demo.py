"""``turnwire demo``: user turns on two real llama.cpp servers behind two gateways, and what the turn's token saves."""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Annotated, Any

import typer
from msgspec.structs import replace

from turnwire.cli.codex_config import CodexConfiguration
from turnwire.cli.console import ExitCode, tell_error
from turnwire.cli.demo_codex import CODEX_SWITCH, CodexLeftOut, find_codex
from turnwire.cli.demo_gateway import DemoGateway, GatewayError, demo_gateways
from turnwire.cli.demo_rules import HOTEL, MARINA
from turnwire.cli.demo_screen import Screen
from turnwire.client import ModelClient, Provider, Tool
from turnwire.errors import ConfigurationError
from turnwire.event import Completed, TokenUsage
from turnwire.item import FunctionCall, FunctionCallOutput
from turnwire.prompt import Prompt
from turnwire.testing import LlamaServer, LlamaServerError
from turnwire.wire.chat import ChatDialect

__all__ = ["demo"]

_OPENING = """\
Two llama.cpp servers run the same small model, and two gateways stand in front,
which share a secret and nothing else: to clients they speak Responses, to the
servers Chat Completions. The answer to a turn's first request brings a token
(x-codex-turn-state). Whoever repeats it gets back, through either gateway, to
the server that has the turn's prompt in its cache.
"""
_CLOSING = """\
The same with a model server of your own:  turnwire serve --upstream URL
and then, with Codex as the client:        turnwire codex"""

_CONTEXT_SIZE = 65_536
"""Tokens. Codex begins a turn with some 22,000 bytes, and to this model each of them is one."""

_WEATHER = "21 degrees {unit} in {city}, light rain"


def get_weather(city: str, unit: str) -> str:
    """The weather in a city."""
    return _WEATHER.format(city=city, unit=unit)


def get_time(zone: str) -> str:
    """The time in a zone."""
    return f"14:05 {zone}"


_TOOLS = {tool.name: tool for tool in (Tool.of(get_weather), Tool.of(get_time))}
# Each house has its own rules, so that the turns have nothing to gain from each other's cache.
_QUESTIONS = (
    ("How is the weather in Zürich?", HOTEL),
    ("What time is it, and how is the weather in Zürich?", MARINA),
)
_CODEX_QUESTION = "How is the weather in Zürich? It stands in weather.txt."
_CODEX_FILES = {"weather.txt": _WEATHER.format(city="Zürich", unit="celsius") + "\n"}


def demo(
    codex: Annotated[
        bool, typer.Option(envvar=CODEX_SWITCH, help="Have Codex take a turn, too; npm fetches it if need be.")
    ] = True,
) -> None:
    """Run turns on two real llama.cpp servers behind two gateways; show streams, tokens and cache."""
    if find_spec("xllamacpp") is None:
        raise ConfigurationError('the demo runs real llama.cpp servers: pip install "turnwire[demo]"')
    _reach_loopback_directly()
    try:
        asyncio.run(_demo(with_codex=codex))
    except (LlamaServerError, GatewayError) as error:
        tell_error(str(error))
        raise typer.Exit(ExitCode.FAILED) from None


async def _demo(*, with_codex: bool) -> None:
    screen = Screen()
    screen.line(_OPENING)
    async with (
        LlamaServer(context_size=_CONTEXT_SIZE) as first,
        LlamaServer(context_size=_CONTEXT_SIZE) as second,
        demo_gateways((first.base_url, second.base_url), count=2) as gateways,
    ):
        replicas = (first, second)
        screen.addresses([replica.base_url for replica in replicas], [gateway.base_url for gateway in gateways])
        for question, house in _QUESTIONS:
            screen.begin_turn("turnwire", question)
            tools = [tool.definition for tool in _TOOLS.values()]
            last = await _turn(gateways, first.model_name, Prompt(question, house.rules(), tools), screen)
            other = 1 - screen.last_replica
            screen.compared(other, *await _measure(replicas[other], last))
        if with_codex:
            await _codex_turn(gateways, first.model_name, screen)
        screen.summary()
    screen.line(_CLOSING)


async def _turn(gateways: Sequence[DemoGateway], model: str, prompt: Prompt, screen: Screen) -> Prompt:
    """Drives one turn to its end, each request through the next gateway, and gives the prompt of its last one.

    Whoever has one address, and need not look at the gateways in between, has `run_turn` for this.
    """
    token: str | None = None
    ways = itertools.cycle(enumerate(gateways))
    while True:
        number, gateway = next(ways)
        provider = Provider("the gateway", gateway.base_url, wire_api="responses", websocket=True)
        async with ModelClient(provider, model=model) as client, client.new_session() as session:
            if token is not None:
                session.turn_state.set(token)  # as a session does by itself, that goes on where it began
            async with session.stream(prompt) as stream:
                async for event in stream:
                    screen.on_event(event)
        screen.answered(number, await gateway.answered(), "none" if token is None else f"…{token[-6:]}")
        token = session.turn_state.get()
        calls = [item for item in stream.items if isinstance(item, FunctionCall)]
        if not calls:
            return prompt
        outputs = [FunctionCallOutput(call.call_id, await _TOOLS[call.name].call(call.arguments)) for call in calls]
        for call, output in zip(calls, outputs, strict=True):
            screen.gives(call.name, str(output.output))
        prompt = replace(prompt, input=(*prompt.items, *stream.items, *outputs))


async def _measure(replica: LlamaServer, prompt: Prompt) -> tuple[TokenUsage, float]:
    """What a replica counts for a prompt that it is sent past the gateway, and the seconds to its first event."""
    provider = Provider("a replica", replica.base_url, dialect=ChatDialect.preset("llama.cpp"))
    async with ModelClient(provider, model=replica.model_name) as client:
        started = time.perf_counter()
        usage, first_token = TokenUsage(), 0.0
        async with client.new_session().stream(prompt) as stream:
            async for event in stream:
                first_token = first_token or time.perf_counter() - started
                if isinstance(event, Completed):
                    usage = event.token_usage or usage
    return usage, first_token


async def _codex_turn(gateways: Sequence[DemoGateway], model: str, screen: Screen) -> None:
    """A turn of Codex, as far as there is one, through the last gateway."""
    number, gateway = len(gateways) - 1, gateways[-1]

    async def on_event(event: Any) -> None:
        match event:
            case {"type": "item.started", "item": {"type": "command_execution", "command": command}}:
                screen.call("shell", command)
            case {"type": "item.completed", "item": {"type": "command_execution", "aggregated_output": output}}:
                screen.answered(number, await gateway.answered(), "Codex's")
                screen.gives("shell", output)
            case {"type": "item.completed", "item": {"type": "agent_message", "text": text}}:
                screen.say(text)
            case {"type": "turn.completed"}:
                screen.answered(number, await gateway.answered(), "Codex's")

    try:
        codex = await find_codex(screen.installing)
        screen.begin_turn("Codex", _CODEX_QUESTION, version=codex.version)
        pointed = CodexConfiguration(gateway.base_url, model)
        await codex.exec(_CODEX_QUESTION, pointed, files=_CODEX_FILES, on_event=on_event)
    except (CodexLeftOut, GatewayError) as reason:
        screen.left_out("Codex", str(reason))


def _reach_loopback_directly() -> None:
    """Has a proxy, where the environment names one, stay out of what never leaves this machine."""
    excepted = os.environ.get("no_proxy") or os.environ.get("NO_PROXY")
    os.environ["no_proxy"] = os.environ["NO_PROXY"] = f"{excepted},127.0.0.1" if excepted else "127.0.0.1"
