"""Many streams through the gateway for a while, with cuts on both sides: does it end with what it began with?

    python benchmarks/soak.py --seconds 600 --streams 500

The gateway runs in a process of its own, its clients and its upstreams in this one. Each stream gets a plan by chance:
it comes whole, its upstream cuts it off, falls silent or refuses it, or its client leaves. Then every stream must be
accounted for: it ended properly, failed with a reason, or was left by its client, and the client, the gateway's
counters and the upstream agree which. And once all are over, the gateway must hold no task, no socket and no more
memory than after a short time of the same. The exit status is 1 where anything is amiss.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import re
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, TypeAlias, cast

import aiohttp
import msgspec
import uvloop
from msgspec import Struct
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from soak_gateway import MODEL, Holding
from soak_upstream import Fate, Plan, SoakUpstreams
from turnwire.wire.sse import SseDecoder

_HERE = Path(__file__).parent
_FATES: dict[Fate, int] = {"whole": 60, "cut": 12, "client leaves": 20, "refused": 5, "stalled": 3}
"""Of a hundred streams."""
_APIS: tuple[Api, ...] = ("responses", "chat", "websocket")
_UPSTREAMS = 3
_WARM_UP = 4.0
"""Seconds of the same before the gateway is first looked at; a tenth of the whole where that is more."""
_SETTLE_TIME = 20.0
"""Seconds that the gateway gets to be rid of what it held for its clients."""
_REPORT_INTERVAL = 30.0
_MOST_OVERTAKEN = 0.1
"""The share of the clients that leave whose answers may be whole before that is noticed, on a busy machine."""
_MORE_BLOCKS = 0.05
_MORE_MEMORY = 24 * 1024
"""KiB, and a share of the blocks, that the gateway may hold more at the end: allocators and caches have their moods."""

Api: TypeAlias = Literal["responses", "chat", "websocket"]
ClientEnd: TypeAlias = Literal["completed", "failed", "left"]

_ANSWERS = re.compile(r'turnwire_answers_total\{api="(\w+)",end="(\w+)",.*\} (\S+)')
_OPEN = re.compile(r"turnwire_answers_open\{.*\} (\S+)")


class Stream(Struct, frozen=True):
    """One stream, as its client saw it."""

    plan: Plan
    api: Api
    end: ClientEnd | None
    """None: it just stopped."""
    reason: str = ""


class Gateway:
    """The gateway's process."""

    def __init__(self, process: asyncio.subprocess.Process, url: str) -> None:
        self._process = process
        self.url = url

    async def holding(self) -> Holding:
        """What it holds now."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(b"look\n")
        return msgspec.json.decode(await self._process.stdout.readline(), type=Holding)

    async def counts(self) -> tuple[Counter[tuple[str, str]], int]:
        """How many answers ended how, by API, and how many are open, as the gateway counts them."""
        async with aiohttp.ClientSession() as session, session.get(f"{self.url}/metrics") as response:
            text = await response.text()
        ends: Counter[tuple[str, str]] = Counter()
        for api, end, count in _ANSWERS.findall(text):
            ends[api, end] += int(float(count))
        return ends, sum(int(float(count)) for count in _OPEN.findall(text))


class Crowd:
    """So many clients at once, each with one stream after the other."""

    def __init__(self, gateway: Gateway, chance: random.Random) -> None:
        self._gateway = gateway
        self._chance = chance
        self.streams: list[Stream] = []
        """Those that are over."""
        self._begun = 0

    async def run(self, count: int, seconds: float) -> None:
        """Keeps ``count`` streams open, and waits for the last of them."""
        end = time.monotonic() + seconds
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector) as session, asyncio.TaskGroup() as group:
            for _ in range(count):
                group.create_task(self._go_on(session, end))

    async def _go_on(self, session: aiohttp.ClientSession, end: float) -> None:
        await asyncio.sleep(self._chance.random())
        while time.monotonic() < end:
            plan, api = self._plan(), self._chance.choice(_APIS)
            async with asyncio.timeout(60):
                asking = self._over_socket(plan) if api == "websocket" else self._over_http(plan, api, session)
                self.streams.append(await asking)

    def _plan(self) -> Plan:
        self._begun += 1
        (fate,) = self._chance.choices(list(_FATES), list(_FATES.values()))
        chunks = self._chance.randint(8, 24)
        return Plan(self._begun, fate, chunks, self._chance.randint(1, chunks // 4), self._chance.uniform(0.1, 0.25))

    async def _over_http(self, plan: Plan, api: Api, session: aiohttp.ClientSession) -> Stream:
        path = "chat/completions" if api == "chat" else "responses"
        async with session.post(f"{self._gateway.url}/v1/{path}", json=_request(plan, api)) as response:
            if response.status != 200:
                return Stream(plan, api, "failed", (await response.json())["error"]["code"])
            decoder, reader = SseDecoder(), _Reader(plan)
            with suppress(aiohttp.ClientPayloadError):
                while data := await response.content.readany():
                    for event in decoder.feed(data):
                        if event.data != "[DONE]" and not reader.take(msgspec.json.decode(event.data)):
                            response.close()
                            return Stream(plan, api, "left")
            return Stream(plan, api, reader.end, reader.reason)

    async def _over_socket(self, plan: Plan) -> Stream:
        url = f"{self._gateway.url}/v1/responses".replace("http", "ws", 1)
        reader = _Reader(plan)
        try:
            async with connect(url, proxy=None) as socket:
                await socket.send(msgspec.json.encode(_request(plan, "websocket")).decode())
                async for message in socket:
                    if not reader.take(msgspec.json.decode(message)):
                        socket.transport.abort()
                        return Stream(plan, "websocket", "left")
                    if reader.end is not None:
                        break
        except InvalidStatus as error:
            return Stream(plan, "websocket", "failed", str(error.response.status_code))
        except ConnectionClosed:
            pass
        return Stream(plan, "websocket", reader.end, reader.reason)


class _Reader:
    """What a client makes of its events, whatever it speaks."""

    def __init__(self, plan: Plan) -> None:
        self._leaves_at = plan.turning_point if plan.fate == "client leaves" else None
        self._words = 0
        self.end: ClientEnd | None = None
        self.reason = ""

    def take(self, event: dict[str, Any]) -> bool:
        """Whether the client stays for more."""
        error = event.get("error") or (event.get("response") or {}).get("error")
        choices = event.get("choices") or [{}]
        if error is not None:
            self.end, self.reason = "failed", error["code"]
        elif event.get("type") == "response.completed" or choices[0].get("finish_reason"):
            self.end = "completed"
        elif event.get("type") == "response.output_text.delta" or (choices[0].get("delta") or {}).get("content"):
            self._words += 1
        return self._words != self._leaves_at


class Report(Struct):
    """What came of it."""

    streams: list[Stream]
    before: Holding
    after: Holding
    counted: Counter[tuple[str, str]]
    still_open: int
    complaints: list[str]

    def lines(self) -> Iterator[str]:
        """It in words."""
        yield f"{len(self.streams)} streams"
        for api in _APIS:
            ends = Counter(stream.end or "just stopped" for stream in self.streams if stream.api == api)
            yield f"  {api}: " + ", ".join(f"{count} {end}" for end, count in sorted(ends.items()))
        reasons = Counter(stream.reason for stream in self.streams if stream.end == "failed")
        yield "reasons of failure: " + ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
        before, after = self.before, self.after
        yield f"tasks: {before.tasks} before, {after.tasks} after"
        yield f"open files: {before.files} before, {after.files} after"
        yield f"blocks of memory: {before.blocks} before, {after.blocks} after"
        yield f"resident memory: {before.resident / 1024:.1f} MiB before, {after.resident / 1024:.1f} MiB after"
        yield from (f"AMISS: {complaint}" for complaint in self.complaints)
        yield "every stream is accounted for, and nothing is left" if not self.complaints else "that is not sound"


async def soak(seconds: float, count: int, seed: int) -> Report:
    """Runs it all."""
    chance = random.Random(seed)
    with TemporaryDirectory() as folder:
        async with SoakUpstreams(_UPSTREAMS) as upstreams, _gateway(folder, upstreams) as gateway:
            crowd = Crowd(gateway, chance)
            await crowd.run(count, max(_WARM_UP, seconds / 10))
            before = await _settled(gateway, upstreams, None)
            watching = asyncio.create_task(_watch(gateway, upstreams))
            try:
                await crowd.run(count, seconds)
            finally:
                watching.cancel()
            after = await _settled(gateway, upstreams, before)
            counted, still_open = await gateway.counts()
            report = Report(crowd.streams, before, after, counted, still_open, [])
            report.complaints += [*_unaccounted(report, upstreams), *_left_over(before, after)]
            return report


@asynccontextmanager
async def _gateway(folder: str, upstreams: SoakUpstreams) -> AsyncIterator[Gateway]:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, _HERE / "soak_gateway.py", folder, *upstreams.base_urls, stdin=pipe, stdout=pipe
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield Gateway(process, (await process.stdout.readline()).decode().strip())
    finally:
        process.stdin.close()
        await process.wait()


async def _settled(gateway: Gateway, upstreams: SoakUpstreams, before: Holding | None) -> Holding:
    """What the gateway holds once its clients have gone, and its connections to upstreams are closed.

    It is looked at until that is no more than before, or else as long as it may take.
    """
    deadline = time.monotonic() + _SETTLE_TIME
    last: Holding | None = None
    while True:
        upstreams.close_connections()
        await asyncio.sleep(0.5)
        now = await gateway.holding()
        limit = before or last
        if limit is not None and now.tasks <= limit.tasks and now.files <= limit.files:
            return now
        if time.monotonic() > deadline:
            return now
        last = now


async def _watch(gateway: Gateway, upstreams: SoakUpstreams) -> None:
    """Says now and then how it goes."""
    began = time.monotonic()
    while True:
        await asyncio.sleep(_REPORT_INTERVAL)
        held = await gateway.holding()
        print(
            f"{time.monotonic() - began:4.0f} s: {upstreams.open} streams open upstream, {held.tasks} tasks, "
            f"{held.files} files, {held.resident / 1024:.1f} MiB",
            flush=True,
        )


def _unaccounted(report: Report, upstreams: SoakUpstreams) -> Iterator[str]:
    """Where client, gateway and upstream do not agree what became of a stream."""
    fits: dict[ClientEnd | None, set[str]] = {
        "completed": {"whole"},
        "failed": {"cut", "refused", "left"},
        "left": {"left", "whole"},
        None: set(),
    }
    asked = 0
    overtaken: Counter[Api] = Counter()  # by its answer's end, a client that left
    for stream in report.streams:
        attempts = upstreams.ends.get(stream.plan.number, [])
        asked += bool(attempts)
        ends: set[str] = set(attempts[-1:])
        overtaken[stream.api] += stream.end == "left" and "whole" in ends
        refused_unasked = stream.end == "failed" and not attempts
        if not (ends & fits[stream.end] or refused_unasked):
            yield f"{stream} has {attempts or 'nothing'} upstream"
        if stream.end == "failed" and not stream.reason:
            yield f"{stream} has no reason"
    if report.still_open:
        yield f"the gateway counts {report.still_open} answers as open"
    told = Counter((stream.api, cast(str, stream.end)) for stream in report.streams)
    for api in _APIS:
        completed, left = (report.counted[api, end] - told[api, end] for end in ("completed", "left"))
        if completed != -left or not 0 <= completed <= overtaken[api]:
            yield f"{api}: the gateway counts {completed:+} completed and {left:+} left, next to its clients"
        if overtaken[api] > told[api, "left"] * _MOST_OVERTAKEN:
            yield f"{api}: {overtaken[api]} answers went on to their end though their clients had left"
    if (counted := report.counted.total()) != asked:
        yield f"the gateway counts {counted} answers, and the upstreams were asked for {asked}"


def _left_over(before: Holding, after: Holding) -> Iterator[str]:
    """What the gateway holds, and should not any more."""
    if after.tasks > before.tasks:
        yield f"{after.tasks - before.tasks} tasks are left"
    if after.files > before.files:
        yield f"{after.files - before.files} files or sockets are left"
    if after.blocks > before.blocks * (1 + _MORE_BLOCKS):
        yield f"{after.blocks - before.blocks} blocks of memory are left"
    if after.resident > before.resident + _MORE_MEMORY:
        yield f"resident memory grew by {(after.resident - before.resident) / 1024:.1f} MiB"


def _request(plan: Plan, api: Api) -> dict[str, Any]:
    content = msgspec.json.encode(plan).decode()
    if api == "chat":
        return {"model": MODEL, "messages": [{"role": "user", "content": content}], "stream": True}
    request = {"model": MODEL, "input": content, "stream": True, "store": bool(plan.number % 2)}
    return {"type": "response.create", **request} if api == "websocket" else request


def main() -> None:
    parser = argparse.ArgumentParser(description="Soaks the gateway in streams that are cut off.")
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--streams", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    report = uvloop.run(soak(arguments.seconds, arguments.streams, arguments.seed))
    print("\n".join(report.lines()))
    sys.exit(bool(report.complaints))


if __name__ == "__main__":
    main()
