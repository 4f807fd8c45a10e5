"""What a gateway costs: turnwire's, LiteLLM's proxy, nginx and the floor, before one model server, for one client."""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Literal, TypeAlias

import uvloop

from measurement import Absent, Comparison, Effort, Section, Target
from relay_client import Api, Stream
from relay_gateway import Gateway, Missing, Name, Starter, floor, litellm, nginx, turnwire
from relay_upstream import PACE, TEXTS, Manner

__all__ = ["measure_gateways"]

_TRANSLATED = "Responses over Chat Completions"
_PASSED_ON = "Chat Completions as they are"
_APIS: Mapping[str, Api] = {_TRANSLATED: "responses", _PASSED_ON: "chat"}
_OTHERS: tuple[Name, ...] = ("LiteLLM", "nginx", "floor")
_SATURATING_STREAMS = 4
_WARM_UP = 5
_LEAVING = 0.1
"""Seconds that a gateway gets to notice that its clients left."""
_MEBIBYTE = 1024 * 1024

_Task: TypeAlias = Callable[[Gateway, Api], Coroutine[Any, Any, float]]
_Samples: TypeAlias = dict[tuple[str, Name], list[float]]
"""Figures by what is done and who does it."""
_Targets: TypeAlias = Mapping[tuple[str, Name], Target]


def measure_gateways(effort: Effort, peers: Path) -> Iterator[Section]:
    """CPU time per chunk and per request, added time to the first text, memory.

    ``peers`` is the environment with LiteLLM's proxy. nginx gets Chat Completions, whatever the others get: it passes
    on what it is given. The floor translates, and does nothing else.
    """
    with _model_server() as port:
        gateways = _Gateways(f"http://127.0.0.1:{port}/v1", peers, effort)
        with gateways.running():
            yield from gateways.compare(
                "Gateway saturated, CPU time per chunk",
                "µs",
                gateways.saturated,
                {(_TRANSLATED, "LiteLLM"): Target(60, "times less"), (_TRANSLATED, "nginx"): Target(2, "times")},
            )
            yield from gateways.compare(
                f"Gateway at {effort.gateway_streams} streams x {1 / PACE:g} chunks/s, CPU time per chunk",
                "µs",
                gateways.paced,
                {(_TRANSLATED, "LiteLLM"): Target(8, "times less"), (_TRANSLATED, "nginx"): Target(2, "times")},
                with_floor=True,
            )
            yield from gateways.compare(
                "Gateway, CPU time per request of one token", "µs", gateways.one_token, {}, with_floor=True
            )
            yield from gateways.compare(
                "Gateway, added time to the first text",
                "ms",
                lambda gateway, api: gateways.first_text(gateway, api, port),
                {(_TRANSLATED, "LiteLLM"): Target(40, "times less"), (_TRANSLATED, "nginx"): Target(0.4, "value")},
                with_floor=True,
            )
        yield from gateways.compare_memory()


class _Gateways:
    """The gateways as sides of a comparison, in front of one model server."""

    def __init__(self, base_url: str, peers: Path, effort: Effort) -> None:
        self._base_url = base_url
        self._starters: Mapping[Name, Starter] = {
            "turnwire": turnwire,
            "LiteLLM": litellm(peers),
            "nginx": nginx,
            "floor": floor,
        }
        self._effort = effort
        self._running: dict[Name, Gateway] = {}
        self._missing: dict[Name, str] = {}

    @contextmanager
    def running(self) -> Iterator[None]:
        """Has all of them run, but for those that can't be had."""
        with ExitStack() as stack:
            for name, start in self._starters.items():
                try:
                    self._running[name] = stack.enter_context(start(self._base_url))
                except Missing as missing:
                    if name == "turnwire":
                        raise
                    self._missing[name] = str(missing)
            yield

    def compare(
        self, title: str, unit: str, task: _Task, targets: _Targets, *, with_floor: bool = False
    ) -> Iterator[Section]:
        """All gateways at one task; with the floor too where chunks come one by one, for it holds nobody up."""
        samples: _Samples = {}
        for what, api in _APIS.items():
            for number in range(self._effort.gateway_rounds):
                for name, gateway in self._running.items():
                    if name == "floor" and not (with_floor and api == "responses"):
                        continue
                    spoken: Api = "chat" if name == "nginx" else api
                    if number == 0:
                        uvloop.run(_warm_up(gateway, spoken))
                    samples.setdefault((what, name), []).append(uvloop.run(task(gateway, spoken)))
        return self._sections(title, unit, samples, targets)

    def compare_memory(self) -> Iterator[Section]:
        """Resident memory of fresh processes: when nothing was asked of them, and with many open streams."""
        streams = self._effort.idle_streams
        idle, busy = "idle", f"with {streams} open streams"
        samples: _Samples = {}
        for _ in range(self._effort.memory_rounds):
            for name, start in self._starters.items():
                if name != "floor" and name not in self._missing:
                    with start(self._base_url) as gateway:
                        time.sleep(self._effort.settle_time)
                        samples.setdefault((idle, name), []).append(gateway.resident / _MEBIBYTE)
                        resident = uvloop.run(
                            _resident_with(gateway, "chat" if name == "nginx" else "responses", streams)
                        )
                        samples.setdefault((busy, name), []).append(resident / _MEBIBYTE)
        targets: _Targets = {(idle, "nginx"): Target(60, "value")}
        return self._sections("Gateway, resident memory", "MiB", samples, targets)

    async def saturated(self, gateway: Gateway, api: Api) -> float:
        """Microseconds of CPU time per chunk, requests included, with some streams as fast as they go."""

        over = False

        async def read_on(stream: Stream) -> None:
            while not over:
                await stream.read()

        streams = [await Stream.open(gateway.port, api, "saturated") for _ in range(_SATURATING_STREAMS)]
        readers = [asyncio.create_task(read_on(stream)) for stream in streams]
        await asyncio.sleep(self._effort.gateway_settle_time)
        cost = await self._per_text(gateway, streams)
        over = True
        await asyncio.gather(*readers)
        await _close(streams)
        return cost

    async def paced(self, gateway: Gateway, api: Api) -> float:
        """Microseconds of CPU time per chunk, with many streams that have begun."""
        streams = [await Stream.open(gateway.port, api, "paced") for _ in range(self._effort.gateway_streams)]
        await asyncio.gather(*(stream.begin() for stream in streams))
        await asyncio.sleep(self._effort.gateway_settle_time)
        cost = await self._per_text(gateway, streams)
        # To its end, for not every gateway notices a client that leaves, and what it does for it counts.
        await asyncio.gather(*(stream.end() for stream in streams))
        await _close(streams)
        return cost

    async def one_token(self, gateway: Gateway, api: Api) -> float:
        """Microseconds of CPU time per request, on one connection."""
        stream = await Stream.open(gateway.port, api, "one-token")
        end = time.perf_counter() + self._effort.gateway_time
        started, requests = gateway.cpu_time, 0
        while time.perf_counter() < end:
            await stream.read()
            requests += 1
        cost = (gateway.cpu_time - started) / requests * 1e6
        await _close([stream])
        return cost

    async def first_text(self, gateway: Gateway, api: Api, server_port: int) -> float:
        """Milliseconds by which the first text comes later than from the model server itself, by medians."""
        through = await Stream.open(gateway.port, api, "first")
        direct = await Stream.open(server_port, "chat", "first")
        waits: dict[Stream, list[float]] = {through: [], direct: []}
        for _ in range(self._effort.gateway_first_requests):
            for stream, times in waits.items():
                times.append(await stream.begin())
                await stream.end()
        await _close([*waits])
        return (statistics.median(waits[through]) - statistics.median(waits[direct])) * 1e3

    async def _per_text(self, gateway: Gateway, streams: list[Stream]) -> float:
        started, before = gateway.cpu_time, sum(stream.texts for stream in streams)
        await asyncio.sleep(self._effort.gateway_time)
        elapsed = gateway.cpu_time - started
        return elapsed / (sum(stream.texts for stream in streams) - before) * 1e6

    def _sections(self, title: str, unit: str, samples: _Samples, targets: _Targets) -> Iterator[Section]:
        for other in _OTHERS:
            rows: list[Comparison | Absent] = []
            for what in dict.fromkeys(what for what, name in samples if name == other or other in self._missing):
                ours, target = samples[what, "turnwire"], targets.get((what, other))
                if other in self._missing:
                    rows.append(Absent(what, ours, self._missing[other]))
                else:
                    multiple: Literal["times", "times less"] = "times less" if other == "LiteLLM" else "times"
                    rows.append(Comparison(what, ours, samples[what, other], target, multiple))
            if rows:
                yield Section(f"{title}, against {'the floor' if other == 'floor' else other}", unit, other, rows)


async def _warm_up(gateway: Gateway, api: Api) -> None:
    """Has a gateway answer, and sees that it does."""
    manners: Mapping[Manner, int] = {"saturated": TEXTS, "one-token": 1}
    for manner, texts in manners.items():
        stream = await Stream.open(gateway.port, api, manner)
        for _ in range(_WARM_UP):
            await stream.check(texts)
        await _close([stream])


async def _resident_with(gateway: Gateway, api: Api, count: int) -> int:
    """Bytes of memory with so many streams that have begun and are silent."""
    streams = []
    for _ in range(count):
        stream = await Stream.open(gateway.port, api, "silent")
        await stream.begin()
        streams.append(stream)
    resident = gateway.resident
    await _close(streams)
    return resident


async def _close(streams: list[Stream]) -> None:
    """Leaves, and gives the gateway a moment to notice."""
    for stream in streams:
        stream.close()
    await asyncio.sleep(_LEAVING)


@contextmanager
def _model_server() -> Iterator[int]:
    """The port of a running model server."""
    command = [sys.executable, str(Path(__file__).with_name("relay_upstream.py"))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        yield int(server.stdout.readline())
