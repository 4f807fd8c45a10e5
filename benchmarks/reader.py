"""One side of a loopback benchmark, in a fresh process: reads from the pump by one client and prints one figure.

Its one argument is a `Job` as JSON. Both sides run the same tasks; they differ in how a stream is opened and what in it
is a text, and in nothing else. Neither side's process imports the other's library.
"""

from __future__ import annotations

import asyncio
import gc
import os
import statistics
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from pathlib import Path
from typing import Any, Literal

import msgspec
import uvloop
from msgspec import Struct

__all__ = ["Job", "Task"]

_WARM_UP = 5
_TRIES = 5
_NO_MORE_THAN_DUE = 1.02
_PROMPT = "hello"

Task = Literal["flooded", "paced", "first", "idle"]


class Job(Struct, frozen=True):
    """What a reader shall do."""

    side: Literal["turnwire", "openai"]
    task: Task
    base_url: str
    loop: Literal["asyncio", "uvloop"] = "asyncio"
    chunks: int = 0
    """How many chunks one answer has."""
    count: int = 0
    """How many streams or requests."""
    seconds: float = 0.0
    """For how long to measure."""
    settle: float = 0.0
    """How long many streams have to begin before that."""
    rate: float = 0.0
    """How many chunks a second the pump sends on each of them."""


class Side(ABC):
    """A client, as a context manager to be entered before the first request."""

    client: Any

    @abstractmethod
    async def stream(self) -> AbstractAsyncContextManager[AsyncIterable[Any]]:
        """A request's answer, to be entered, iterated and left."""

    @abstractmethod
    def is_text(self, item: Any) -> bool:
        """Whether this brought some of the answer's text."""


class TurnwireSide(Side):
    """turnwire's client, with a session for each request."""

    def __init__(self, base_url: str) -> None:
        from turnwire import ModelClient, OutputTextDelta, Provider

        self.client = ModelClient(Provider("pump", base_url), model="bench")
        self._text = OutputTextDelta

    async def stream(self) -> AbstractAsyncContextManager[AsyncIterable[Any]]:
        stream: AbstractAsyncContextManager[AsyncIterable[Any]] = self.client.new_session().stream(_PROMPT)
        return stream

    def is_text(self, item: Any) -> bool:
        return type(item) is self._text


class OpenaiSide(Side):
    """The openai SDK's async client, as it comes."""

    def __init__(self, base_url: str) -> None:
        from openai import AsyncOpenAI

        self.client = AsyncOpenAI(base_url=base_url, api_key="none")

    async def stream(self) -> AbstractAsyncContextManager[AsyncIterable[Any]]:
        stream: AbstractAsyncContextManager[AsyncIterable[Any]] = await self.client.chat.completions.create(
            model="bench",
            messages=[{"role": "user", "content": _PROMPT}],
            stream=True,
            stream_options={"include_usage": True},
        )
        return stream

    def is_text(self, item: Any) -> bool:
        return bool(item.choices and item.choices[0].delta.content)


async def flooded(side: Side, job: Job) -> float:
    """Microseconds of this process's CPU time per chunk, requests included, one stream after the other."""

    async def read_one() -> None:
        async with await side.stream() as stream:
            async for _ in stream:
                pass

    for _ in range(_WARM_UP):
        await read_one()
    streams = 0
    end = time.perf_counter() + job.seconds
    started = time.process_time()
    while time.perf_counter() < end:
        await read_one()
        streams += 1
    return (time.process_time() - started) / (streams * job.chunks) * 1e6


async def paced(side: Side, job: Job) -> float:
    """Microseconds of this process's CPU time per chunk, over streams that have all begun."""
    received = 0

    async def read_on() -> None:
        nonlocal received
        async with await side.stream() as stream:
            async for _ in stream:
                received += 1

    readers = [asyncio.create_task(read_on()) for _ in range(job.count)]
    await asyncio.sleep(job.settle)
    due = job.rate * job.count * job.seconds
    for _ in range(_TRIES):
        before, started = received, time.process_time()
        await asyncio.sleep(job.seconds)
        elapsed, chunks = time.process_time() - started, received - before
        if chunks <= due * _NO_MORE_THAN_DUE:
            break  # else the reader was behind, and found several chunks in one read
    for reader in readers:
        reader.cancel()
    await asyncio.gather(*readers, return_exceptions=True)
    return elapsed / chunks * 1e6


async def first(side: Side, job: Job) -> float:
    """Milliseconds from before the request to the first text, the median; the connection is used again."""

    async def wait_for_text() -> float:
        started = time.perf_counter()
        elapsed = 0.0
        async with await side.stream() as stream:
            async for item in stream:
                if not elapsed and side.is_text(item):
                    elapsed = time.perf_counter() - started
        return elapsed * 1e3

    for _ in range(_WARM_UP):
        await wait_for_text()
    return statistics.median([await wait_for_text() for _ in range(job.count)])


async def idle(side: Side, job: Job) -> float:
    """KiB of this process's memory per stream that has begun and is silent."""
    begun = []

    async def begin(stack: AsyncExitStack) -> None:
        stream = aiter(await stack.enter_async_context(await side.stream()))
        while not side.is_text(await anext(stream)):
            pass
        begun.append(stream)

    async with AsyncExitStack() as stack:
        for _ in range(_WARM_UP):
            await begin(stack)
        gc.collect()
        before = _resident()
        for _ in range(job.count):
            await begin(stack)
        gc.collect()
        return (_resident() - before) / job.count / 1024


def _resident() -> int:
    """Bytes of memory that this process has now, as Linux counts them."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def _run(job: Job) -> float:
    side = _SIDES[job.side](job.base_url)
    async with side.client:
        return await _TASKS[job.task](side, job)


_SIDES: dict[str, Callable[[str], Side]] = {"turnwire": TurnwireSide, "openai": OpenaiSide}
_TASKS = {"flooded": flooded, "paced": paced, "first": first, "idle": idle}


if __name__ == "__main__":
    job = msgspec.json.decode(sys.argv[1], type=Job)
    print(uvloop.run(_run(job)) if job.loop == "uvloop" else asyncio.run(_run(job)))
