"""A small fleet: two real llama.cpp servers, three gateway processes that share but a secret, clients in front of them.

Each server and the row of gateways stand behind a `Balancer`, so that what is killed comes back at its old address.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Self, TypeAlias

import aiohttp
from msgspec import Struct
from prometheus_client.parser import text_string_to_metric_families

from turnwire.client import ModelClient, Provider, Tool, run_turn
from turnwire.event import Completed, ResponseEvent, TokenUsage
from turnwire.item import InputText, Message, ResponseItem
from turnwire.prompt import Prompt
from turnwire.testing import LlamaServer
from turnwire.wire.chat import ChatDialect

__all__ = ["NAMES", "Balancer", "Fleet", "GatewayProcess", "Replica", "Request", "converse", "fleet", "scattered"]

_MODEL = "scripted"
NAMES = ("a", "b")
"""The replicas, as the gateways' configuration calls them."""
_ANSWER = "It is 21 °C in Zürich with a little rain 🌦, so take an umbrella."
"""What the model says once it has a tool's output."""

Address: TypeAlias = tuple[str, int]

_READ = 64 * 1024
_PATIENCE = 30.0
"""Seconds that anything gets to start, to end or to come true."""
_ADDRESS = re.compile(r"http://(127\.0\.0\.1):(\d+)")
_SECRET = "TURN_TOKEN_SECRET"
_LEFT_OUT = re.compile(r"upstream (\w+) is (left out|back)")

_GREETING = "You are the concierge of house number {number}. These are its rules. "
_RULE = "Whatever is borrowed is back by noon, and written down. "

_CONFIGURATION = """\
[gateway]
port = 0
token_secrets_env = ["{secret}"]
probe_interval = {probe_interval}
"""
_UPSTREAM = """
[[upstreams]]
name = "{name}"
base_url = "http://{address}/v1"
wire_api = "chat"
dialect = "llama.cpp"
models = ["{model}"]
idle_timeout = {idle_timeout}
"""


class Balancer:
    """Passes each connection on to one of ``addresses``: to the next, unless ``choose`` says to which.

    Who can't be reached is passed over. An async context manager; listens on a free port of the loopback.
    """

    def __init__(self, addresses: Sequence[Address], choose: Callable[[int], int] | None = None) -> None:
        self.addresses = list(addresses)
        self._choose = choose
        self._count = 0
        self._ways: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.close()
        for way in self._ways:
            way.cancel()
        await asyncio.gather(*self._ways, return_exceptions=True)

    @property
    def address(self) -> str:
        """Host and port, as they stand in a URL."""
        host, port = self._server.sockets[0].getsockname()
        return f"{host}:{port}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._ways.add(task)
        try:
            await self._pass_on(reader, writer)
        except asyncio.CancelledError:
            pass  # this is the end, and nobody waits for it
        finally:
            writer.transport.abort()
            self._ways.discard(task)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far = await self._reach()
        if far is None:
            return
        far_reader, far_writer = far
        ways = [asyncio.create_task(_copy(reader, far_writer)), asyncio.create_task(_copy(far_reader, writer))]
        try:
            # Neither side half-closes: where one has left, the other is to know at once.
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            with suppress(ConnectionError):
                await writer.drain()
        finally:
            for way in ways:
                way.cancel()
            await asyncio.wait(ways)
            far_writer.transport.abort()
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    async def _reach(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        """A connection to whose turn it is, or to the next who is there; None where nobody is."""
        first = self._count if self._choose is None else self._choose(len(self.addresses))
        self._count += 1
        for place in range(first, first + len(self.addresses)):
            with suppress(OSError):
                return await asyncio.open_connection(*self.addresses[place % len(self.addresses)])
        return None


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(_READ):
            writer.write(data)
            await writer.drain()


class Replica(LlamaServer):
    """A llama.cpp server that can fall silent, too: it takes connections and says nothing."""

    def stall(self) -> None:
        """Stops the process (SIGSTOP)."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Lets it go on."""
        self._signal(signal.SIGCONT)

    @property
    def address(self) -> Address:
        """Where it listens."""
        host, _, port = self.base_url.removeprefix("http://").removesuffix("/v1").partition(":")
        return host, int(port)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)


class GatewayProcess:
    """``turnwire serve`` with a home of its own in ``folder``; ``configuration`` is its ``turnwire.toml``."""

    def __init__(self, folder: Path, configuration: str) -> None:
        self._folder = folder
        folder.mkdir()
        (folder / "turnwire.toml").write_text(configuration, encoding="utf-8")
        self.address: Address = ("", 0)
        """Where it listens; another port after each start."""
        self.log = ""
        """What it wrote."""
        self._said = asyncio.Condition()

    async def start(self) -> None:
        """Starts it, and waits until it has its replicas."""
        folders = dict.fromkeys(("HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_DATA_HOME"), str(self._folder))
        kept = {name: value for name, value in os.environ.items() if not name.lower().endswith(("_proxy", "_color"))}
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "turnwire", "serve"),
            cwd=self._folder,
            env=kept | folders | {_SECRET: "the same secret for every gateway of the fleet"},
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=STDOUT,
        )
        async with asyncio.timeout(_PATIENCE):
            self.address = await self._find_address(self._process)
        self._reading = asyncio.create_task(self._read(self._process))

    async def kill(self) -> None:
        """Ends it at once (SIGKILL), streams and all; harmless when repeated."""
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()
        await self._reading

    async def stop(self) -> None:
        """Ends it in order, or at once where it does not care."""
        if self._process.returncode is None:
            self._process.terminate()
            with suppress(TimeoutError):
                async with asyncio.timeout(_PATIENCE):
                    await self._process.wait()
        await self.kill()

    async def says_more(self) -> None:
        """Waits for another line of its log."""
        async with self._said:
            await self._said.wait()

    def leaves_out(self) -> set[str]:
        """The replicas that it does not ask at the moment, by its own log."""
        return {name for name, word in dict(_LEFT_OUT.findall(self.log)).items() if word == "left out"}

    async def answers(self) -> Counter[str]:
        """How many answers it got whole from each replica, as it counts."""
        host, port = self.address
        async with aiohttp.ClientSession() as session, session.get(f"http://{host}:{port}/metrics") as response:
            text = await response.text()
        counted: Counter[str] = Counter()
        for family in text_string_to_metric_families(text):
            for name, labels, value, *_ in family.samples:
                if name == "turnwire_answers_total" and labels["end"] == "completed":
                    counted[labels["upstream"]] += int(value)
        return counted

    async def _find_address(self, process: Process) -> Address:
        assert process.stdout is not None
        while line := (await process.stdout.readline()).decode():
            self.log += line
            if found := _ADDRESS.search(line):
                return found[1], int(found[2])
        raise RuntimeError(f"the gateway did not start: {self.log}")

    async def _read(self, process: Process) -> None:
        assert process.stdout is not None
        while line := await process.stdout.readline():
            async with self._said:
                self.log += line.decode()
                self._said.notify_all()


class Fleet(Struct, frozen=True):
    """Replicas and gateways that run, by their places."""

    replicas: Sequence[Replica]
    doors: Sequence[Balancer]
    """What stands before each replica."""
    gateways: Sequence[GatewayProcess]
    front: Balancer
    """What clients see: a connection goes to the next gateway, whoever asks."""

    def client(self) -> ModelClient:
        """A client whose every request goes to another gateway than the one before."""
        one_by_one = {"connection": "close"}
        base_url = f"http://{self.front.address}/v1"
        return ModelClient(Provider("fleet", base_url, wire_api="responses", headers=one_by_one), model=_MODEL)

    async def answers(self) -> Counter[str]:
        """How many answers each replica has given, as the gateways count that are there now."""
        return sum([await gateway.answers() for gateway in self.gateways], Counter[str]())

    async def restart_replica(self, place: int) -> None:
        """Has a killed replica run again, with nothing in its cache."""
        await self.replicas[place].stop()  # which frees what the process left
        await self.replicas[place].start()
        self.doors[place].addresses = [self.replicas[place].address]

    async def restart_gateway(self, place: int) -> None:
        """Has a killed gateway run again."""
        await self.gateways[place].start()
        self.front.addresses[place] = self.gateways[place].address

    async def healed(self) -> None:
        """Returns once every gateway asks every replica."""
        async with asyncio.timeout(_PATIENCE):
            for gateway in self.gateways:
                while gateway.leaves_out():
                    await gateway.says_more()


@asynccontextmanager
async def fleet(
    *, gateways: int = 3, parallel: int = 12, idle_timeout: float = 30.0, probe_interval: float = 10.0
) -> AsyncIterator[Fleet]:
    """A fleet of the two replicas `NAMES`, each with ``parallel`` slots. Times are in seconds."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="turnwire-fleet-")))
        replicas = [Replica(parallel=parallel, context_size=12_288) for _ in NAMES]
        await asyncio.gather(*(stack.enter_async_context(replica) for replica in replicas))
        doors = [await stack.enter_async_context(Balancer([replica.address])) for replica in replicas]
        configuration = _CONFIGURATION.format(secret=_SECRET, probe_interval=probe_interval) + "".join(
            _UPSTREAM.format(name=name, address=door.address, model=_MODEL, idle_timeout=idle_timeout)
            for name, door in zip(NAMES, doors, strict=True)
        )
        processes = [GatewayProcess(folder / f"gateway-{number}", configuration) for number in range(gateways)]
        for process in processes:
            await process.start()
            stack.push_async_callback(process.stop)
        front = await stack.enter_async_context(Balancer([process.address for process in processes]))
        yield Fleet(replicas, doors, processes, front)


@asynccontextmanager
async def scattered(replicas: Sequence[Replica], choose: Callable[[int], int]) -> AsyncIterator[ModelClient]:
    """A client that asks replicas without a gateway, each request the one that ``choose`` says."""
    async with Balancer([replica.address for replica in replicas], choose) as balancer:
        provider = Provider("replicas", f"http://{balancer.address}/v1", dialect=ChatDialect.preset("llama.cpp"))
        async with ModelClient(provider, model=_MODEL) as client:
            yield client


class Request(Struct, frozen=True):
    """One request of a conversation, and what llama.cpp counted for it."""

    number: int
    """In its conversation, from 0."""
    follows_up: bool
    """It brought the output of a tool that its turn had called for."""
    usage: TokenUsage


def get_weather(city: str, unit: str) -> str:
    """The weather in a city."""
    return f"21 degrees {unit} in {city}, light rain"


async def converse(
    client: ModelClient,
    number: int,
    *,
    turns: int,
    rules: int = 70,
    key: str | None = None,
    on_answer: Callable[[], None] = lambda: None,
) -> list[Request]:
    """A conversation of a few turns, each with a call of a tool.

    ``number`` tells its prompt from others', ``rules`` says how long that is: each takes 56 tokens. ``key`` names the
    conversation to the gateway. Raises the errors of `turnwire.errors`, and `AssertionError` for an answer that is not
    the model's.
    """
    instructions = _GREETING.format(number=number) + _RULE * rules
    made: list[Request] = []
    history: list[ResponseItem] = []
    for turn in range(turns):
        usages: list[TokenUsage] = []

        def on_event(event: ResponseEvent, usages: list[TokenUsage] = usages) -> None:
            if isinstance(event, Completed):
                assert event.token_usage is not None
                usages.append(event.token_usage)
                on_answer()

        question = Message("user", (InputText(f"Question {turn + 1}: how is the weather in Zürich?"),))
        prompt = Prompt((*history, question), instructions, prompt_cache_key=key)
        async with client.new_session() as session:
            result = await run_turn(session, prompt, [Tool.of(get_weather)], on_event=on_event)
        assert (result.text, result.rounds) == (_ANSWER, 2), result
        made += [Request(len(made) + place, place > 0, usage) for place, usage in enumerate(usages)]
        history += [question, *result.items]
    return made
