"""Responses that run without their client, ``background: true``, and those that are over: whatever has an id.

A background response runs in the process that was asked for it, which says so in the store every few seconds. So
any process of the gateway can answer for it:

* its state is in the store, as it was at its beginning; the process that runs it knows better;
* who wants its events gets them live from that process, and from any other at the end, with signs of life until then;
* it may be cancelled or deleted anywhere; the process that runs it notices when it next says that it does;
* one whose process has not said so for too long is lost, and whoever sees it first stores it as failed.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeAlias

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from turnwire.errors import ApiError, InvalidPrompt, RateLimited, RetryableError, ServerOverloaded, StreamError
from turnwire.gateway.event_log import EventLog
from turnwire.gateway.refusal import NotServed
from turnwire.gateway.running_response import BATCH, RunningResponse, ending
from turnwire.gateway.sink import Sink
from turnwire.gateway.store import ResponseStore, StoredResponse
from turnwire.wire.responses.failure import encode_failure
from turnwire.wire.sse import encode_event

__all__ = ["Background", "BackgroundLimits", "Run", "require_store"]

_log = logging.getLogger("turnwire.gateway")

Run: TypeAlias = Callable[[Sink], Awaitable[None]]
"""Runs one request to its end: writes its events as server-sent events, or one whole answer, or a refusal."""

_GRACE = 5.0
"""Seconds that a run gets to return by itself once its answer has ended."""
_KEEPALIVE = encode_event(b'{"type":"keepalive"}', "keepalive")


class BackgroundLimits(Struct, frozen=True):
    """How many background responses there may be, how large, and how often what is looked at (seconds)."""

    running_per_tenant: int = 32
    max_size: int = 64 * 1024 * 1024
    """Bytes of one response's events."""
    renewal_interval: float = 2.0
    """How often a running one is renewed, and at most how long it takes to hear that it was cancelled elsewhere."""
    lost_after: float = 30.0
    """When one that was not renewed is lost."""
    poll_interval: float = 1.0
    """How often another process's response is looked at for a client that waits for its events."""


class Background:
    """The running responses of one process, and the way to all the others; `close` it before its store.

    Whatever takes a ``tenant`` raises `NotServed` (404) where that tenant has no response of the given id.
    """

    def __init__(
        self,
        store: ResponseStore,
        limits: BackgroundLimits | None = None,
        *,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._store = store
        self._limits = limits or BackgroundLimits()
        self._clock = clock
        self._sleep = sleep
        self._running: dict[tuple[str, str], RunningResponse] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = False

    def __repr__(self) -> str:
        return f"<Background with {len(self._running)} running>"

    async def start(self, tenant: str, record: StoredResponse, run: Run) -> RunningResponse:
        """Starts a response; ``record`` has its object as the client is to see it now, queued or in progress.

        Raises `RateLimited` where the tenant has too many running.
        """
        if self._closing:
            raise _shutting_down()
        most = self._limits.running_per_tenant
        if sum(of == tenant for of, _ in self._running) >= most:
            raise RateLimited(
                f"{most} responses run in the background already: wait for one to end, or cancel one", 1.0
            )
        record = replace(record, running_until=self._clock() + self._limits.lost_after)
        running = RunningResponse(tenant, record, self._limits.max_size)
        place = (tenant, record.response_id)
        self._running[place] = running
        try:
            await self._store.put(tenant, record)
        except BaseException:
            del self._running[place]
            raise
        task = asyncio.create_task(self._look_after(running, run))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return running

    async def get(self, tenant: str, response_id: str) -> StoredResponse:
        """A response as it is now, running or over."""
        running = self._running.get((tenant, response_id))
        if running is not None:
            return running.record
        stored = await self._stored(tenant, response_id)
        if stored.running_until is not None and stored.running_until <= self._clock():
            error = RetryableError("the gateway's process that ran this response has ended before it: ask again")
            lost = ending(stored.document, status="failed", error=encode_failure(error))
            return await self._end_elsewhere(tenant, stored, *lost)
        return stored

    async def events(
        self, tenant: str, response_id: str, starting_after: int | None = None
    ) -> AsyncGenerator[Sequence[bytes], None]:
        """A response's events behind the one of this ``sequence_number``, to its end: live, or again.

        Raises `InvalidPrompt` where they were not kept.
        """
        running = self._running.get((tenant, response_id))
        if running is not None:
            return running.follow(starting_after)
        stored = await self.get(tenant, response_id)
        if stored.running_until is not None:
            return self._await_end(tenant, response_id, starting_after)
        kept = await self._store.events(tenant, response_id)
        if not kept:
            raise InvalidPrompt(
                f"the stream of the response {response_id!r} was not kept: only one that was created with "
                "background can be streamed again; get it without stream"
            )
        return _replay(kept, starting_after)

    async def cancel(self, tenant: str, response_id: str) -> StoredResponse:
        """Ends a background response, and its upstream request; one that is over is given as it is.

        Raises `InvalidPrompt` for one that does not run in the background.
        """
        running = self._running.get((tenant, response_id))
        if running is not None:
            running.cancel()
            await running.settled()
            return running.record
        stored = await self.get(tenant, response_id)
        if stored.running_until is not None:
            return await self._end_elsewhere(tenant, stored, *ending(stored.document, status="cancelled"))
        if not msgspec.json.decode(stored.document).get("background"):
            raise InvalidPrompt(
                f"the response {response_id!r} can't be cancelled: only one that was created with background can; "
                "any other ends when its client closes the connection"
            )
        return stored

    async def delete(self, tenant: str, response_id: str) -> None:
        """Forgets a response; one that runs is cancelled."""
        deleted = await self._store.delete(tenant, response_id)
        running = self._running.get((tenant, response_id))
        if running is not None:
            running.cancel()
            await running.settled()
        if not deleted:
            raise _unknown(response_id)

    async def close(self) -> None:
        """Ends all that runs here, as failed, and starts nothing more."""
        self._closing = True
        for running in self._running.values():
            running.fail(_shutting_down())
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _look_after(self, running: RunningResponse, run: Run) -> None:
        """Runs a response, says that it runs, and stores how it ended."""
        work = asyncio.create_task(_run(run, running))
        try:
            while not running.ended.done():
                await asyncio.wait((running.ended,), timeout=self._limits.renewal_interval)
                if not running.ended.done() and not await self._renew(running):
                    running.cancel()  # in another process, or deleted there
            await self._keep(running)
        finally:
            del self._running[running.tenant, running.response_id]
            running.settle()
            if running.ended.done() and running.ended.result():
                await asyncio.wait((work,), timeout=_GRACE)
            work.cancel()
            await asyncio.wait((work,))

    async def _renew(self, running: RunningResponse) -> bool:
        until = self._clock() + self._limits.lost_after
        try:
            return await self._store.renew(running.tenant, running.response_id, until)
        except ApiError as error:
            _log.warning("the response %s could not be renewed: %s", running.response_id, error)
            return True

    async def _keep(self, running: RunningResponse) -> None:
        final, events = running.final
        try:
            await self._store.finish(running.tenant, final, events)
        except ApiError as error:
            _log.error("the response %s could not be stored: %s", running.response_id, error)

    async def _end_elsewhere(
        self, tenant: str, stored: StoredResponse, kind: str, response: dict[str, Any]
    ) -> StoredResponse:
        """Ends a response that another process runs, or ran; gives it as it is now."""
        log = EventLog()
        log.append(kind, response)
        ended = replace(stored, document=msgspec.json.encode(response), running_until=None)
        if await self._store.finish(tenant, ended, b"".join(log.events)):
            return ended
        return await self._stored(tenant, stored.response_id)

    async def _stored(self, tenant: str, response_id: str) -> StoredResponse:
        stored = await self._store.get(tenant, response_id)
        if stored is None:
            raise _unknown(response_id)
        return stored

    async def _await_end(
        self, tenant: str, response_id: str, starting_after: int | None
    ) -> AsyncGenerator[Sequence[bytes], None]:
        """The events of a response that runs in another process, once it is over."""
        while (await self.get(tenant, response_id)).running_until is not None:
            yield [_KEEPALIVE]
            await self._sleep(self._limits.poll_interval)
        async for batch in _replay(await self._store.events(tenant, response_id), starting_after):
            yield batch


def require_store(fields: Mapping[str, Any]) -> None:
    """Refuses a request for a background response that is not to be stored: nobody could ever get it."""
    if fields.get("background") and fields.get("store") is False:
        raise InvalidPrompt("background: a response runs in the background only with store: true")


async def _run(run: Run, running: RunningResponse) -> None:
    try:
        await run(running)
    except ApiError as error:
        running.fail(error)
    except Exception:  # noqa: BLE001 - ours to repair, and the client's to know
        _log.exception("the response %s failed in the gateway", running.response_id)
        running.fail(RetryableError("the gateway failed on this answer; its log says more"))
    else:
        running.fail(StreamError("the answer broke off"))  # which it did only where it has not ended


async def _replay(events: bytes, starting_after: int | None) -> AsyncGenerator[Sequence[bytes], None]:
    log = EventLog()
    log.feed(events)
    for place in range(log.place_behind(starting_after), len(log.events), BATCH):
        yield log.events[place : place + BATCH]


def _unknown(response_id: str) -> NotServed:
    return NotServed(f"no response {response_id!r} is kept here: it was not stored, has expired, or was deleted")


def _shutting_down() -> ServerOverloaded:
    return ServerOverloaded("the gateway is shutting down", 1.0)
