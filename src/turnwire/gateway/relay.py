"""One request, carried from the client to an upstream and back: the waiting.

What the bytes mean is the exchange's business, and where they go the sink's. This file keeps the time:

* nothing is written before there is something of an answer, so that a refusal is an HTTP status, and so that another
  upstream may be asked instead of one that fails; unless it takes long, for a client takes silence for a broken stream.
  Then the stream begins, and signs of life keep it up;
* an upstream that stays silent for its idle timeout has failed;
* a client that leaves takes its upstream request along, and so does one that does not read for too long. Meanwhile
  it holds up its own upstream request alone, for nothing is read that was not written.

Two tasks write, the one that carries the answer and the one that keeps the time; a lock keeps them apart.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Literal, Protocol, TypeAlias

from msgspec import Struct

from turnwire.client.turn_state import TURN_STATE_HEADER
from turnwire.errors import ApiError, Disconnected, IdleTimeout, ProtocolError, RetryableError, ServerOverloaded
from turnwire.gateway.exchange.exchange import Exchange, Outcome
from turnwire.gateway.health import may_move
from turnwire.gateway.pool import Lease
from turnwire.gateway.sink import Sink
from turnwire.gateway.upstream import Upstream
from turnwire.transport.http import HttpResponse, read_whole

__all__ = ["Attempt", "Patience", "Relay", "RelayEnd", "Route"]

_log = logging.getLogger("turnwire.gateway")

RelayEnd: TypeAlias = Literal["completed", "failed", "left"]
"""How an answer ended for its client; ``left``: the client did not wait for it."""

_FINISH_GRACE = 1.0
"""Seconds that an upstream which has said all gets to end its body."""
_LAST_WORDS = 1.0
"""Seconds that a client gets to take its answer's failure when the gateway ends."""
_MAX_ANSWER = 64 * 1024 * 1024
"""Bytes of an answer, streamed or not: what is kept of one that never ends would fill the memory."""


class Patience(Struct, frozen=True):
    """How long is waited for what, in seconds."""

    keepalive_interval: float = 15.0
    """Silence after which a client gets a sign of life."""
    client_timeout: float = 60.0
    """How long a client may leave what was written to it unread."""


class Attempt(Struct, frozen=True, eq=False):
    """One upstream, asked for an answer."""

    exchange: Exchange
    lease: Lease
    token: str | None = None
    """The upstream's own turn state."""
    headers: Mapping[str, str] = {}
    """What the client is to be told of this attempt."""

    @property
    def upstream(self) -> Upstream:
        """The upstream."""
        return self.lease.served.upstream


class Route(Protocol):
    """Where a request may go: one upstream after the other, each once."""

    async def next(self, position: int = 0) -> Attempt:
        """The next attempt; raises the `ApiError` that says why there is none.

        ``position`` is that of the last attempt's exchange, where the client's stream has begun.
        """

    def has_other(self) -> bool:
        """Whether `next` would give one that is well."""

    def token(self, lease: Lease, upstream_token: str | None) -> str | None:
        """A token for the turn, given the upstream's own where it has one; None where the client has a token."""


class Relay:
    """Carries one answer over: `run` returns when the client has it, was told why not, or has left.

    ``keep`` is called with the answer before the client is told of its end: what it asks for next finds it kept.
    ``headers`` go to the client with the answer, ``forwarded`` to the upstream, and ``returned`` says which of an
    upstream's go back.
    """

    def __init__(
        self,
        route: Route,
        sink: Sink,
        patience: Patience,
        *,
        streams: bool,
        headers: Mapping[str, str] = {},
        forwarded: Mapping[str, str] = {},
        returned: Callable[[Mapping[str, str]], Mapping[str, str]] | None = None,
        keep: Callable[[Outcome], Awaitable[None]] | None = None,
    ) -> None:
        self._route = route
        self._sink = sink
        self._patience = patience
        self._streams = streams
        self._own_headers = headers
        self._headers = dict(headers)
        self._forwarded = forwarded
        self._returned = returned
        self._keep = keep
        self._time = asyncio.get_running_loop().time
        self._response: HttpResponse | None = None
        self._writing = asyncio.Lock()
        self._opening: list[bytes] | None = None  # the stream's first events, once they are made
        self._held: list[bytes] = []  # events that came, and are nothing of an answer yet
        self._size = 0  # bytes of the attempt's answer so far
        self._asking = False  # the attempt is under way, and was not given up
        self._begun = False  # the stream's head was sent
        self._told = False  # the client has all that it will get
        self._turned: asyncio.Future[None] = asyncio.get_running_loop().create_future()  # done at the next attempt
        self._started = self._heard_at = self._wrote_at = self._time()
        self.attempt: Attempt | None = None
        """The last attempt; None as long as the request waits for an upstream."""
        self.error: ApiError | None = None
        """Why there was no answer, or no whole one."""
        self.first_output_after: float | None = None
        """Seconds until something of the answer was there."""
        self.signs = 0
        """How many signs of life the client was given."""

    async def run(self) -> RelayEnd:
        """Carries the answer over."""
        self._carrying = asyncio.create_task(self._carry())
        left = asyncio.create_task(self._sink.left())
        try:
            while not self._carrying.done():
                if self._told:
                    await asyncio.wait((self._carrying,))
                elif left.done() or not await self._look_after(left):
                    return "left"
            if not self._carrying.cancelled():
                self._carrying.result()
        except asyncio.CancelledError:
            # The gateway ends before the answer does: whoever waits for it hears so.
            await _cancelled(self._carrying)
            if not self._told:
                await self._in_time(self._fail(ServerOverloaded("the gateway is shutting down", 1.0)), _LAST_WORDS)
            raise
        finally:
            await _cancelled(self._carrying)
            await _cancelled(left)
            self._leave_upstream()
        return "completed" if self.error is None else "failed"

    async def _look_after(self, left: asyncio.Task[None]) -> bool:
        """Waits until something happens, or something is due; whether the client is still of interest."""
        patience, attempt, now = self._patience, self.attempt, self._time()
        awaited: list[asyncio.Future[None]] = [self._carrying, left, self._turned]
        due = now + min(patience.keepalive_interval, patience.client_timeout)
        if self._writing.locked():
            unread_until = self._wrote_at + patience.client_timeout
            if unread_until <= now:
                return self._lost_patience()
            due = min(due, unread_until)
        elif attempt is not None and self._asking and not attempt.exchange.over:
            if not attempt.exchange.committed:
                if not attempt.lease.lost.done():
                    awaited.append(attempt.lease.lost)
                elif self._route.has_other():  # else it is better waited for than given up
                    await self._abandon(Disconnected("it was left out while it was asked"))
                    return True
            idle_timeout = attempt.upstream.idle_timeout
            silent_until = self._heard_at + idle_timeout
            if silent_until <= now:
                await self._abandon(IdleTimeout(f"it said nothing for idle_timeout, {idle_timeout:g} s"))
                return True
            due = min(due, silent_until)
            if self._streams:
                if self._wrote_at + patience.keepalive_interval <= now:
                    if not await self._in_time(self._give_sign(attempt), patience.client_timeout):
                        return self._lost_patience()
                    now = self._time()
                due = min(due, self._wrote_at + patience.keepalive_interval)
        await asyncio.wait(awaited, timeout=due - now, return_when=asyncio.FIRST_COMPLETED)
        return True

    async def _abandon(self, error: ApiError) -> None:
        """Gives up on the upstream that is being asked."""
        self._asking = False
        await _cancelled(self._carrying)
        assert self.attempt is not None  # noqa: S101 - somebody is being asked
        self._carrying = asyncio.create_task(self._carry(self.attempt.upstream.blamed(error)))

    def _leave_upstream(self) -> None:
        if self._response is not None:
            self._response.close()
            self._response = None
        if self.attempt is not None:
            self.attempt.lease.end()

    async def _in_time(self, writing: Awaitable[None], seconds: float) -> bool:
        """Whether the client took what was written within so many seconds."""
        try:
            async with asyncio.timeout(seconds):
                await writing
        except TimeoutError:
            return False
        return True

    def _lost_patience(self) -> Literal[False]:
        _log.warning("a client did not read for %g s and was left", self._patience.client_timeout)
        return False

    async def _carry(self, failure: ApiError | None = None) -> None:
        """Asks one upstream after the other, to the end of an answer, or until none may be asked any more.

        ``failure`` is that of the last one, where it was given up.
        """
        events: Sequence[bytes] = ()
        try:
            attempt = await (self._route.next() if failure is None else self._elsewhere(failure))
            while attempt is not None:
                self._turn_to(attempt)
                try:
                    events = await self._try(attempt)
                    failure = None
                except ApiError as error:
                    failure = attempt.upstream.blamed(error)
                failed = failure or attempt.exchange.error
                if failed is None:
                    break
                attempt = await self._elsewhere(failed)
            if failure is not None:
                await self._fail(failure)
            elif self.attempt is not None:
                await self._conclude(self.attempt.exchange, events)
                if self._response is not None:
                    await self._response.finish()
        except ApiError as error:
            await self._fail(error)
        except Exception:  # noqa: BLE001 - it is logged, and told
            # Ours to repair, and the client's to know: a stream that just stopped might pass for an answer.
            _log.exception("an answer failed in the gateway")
            await self._fail(RetryableError("the gateway failed on this answer; its log says more"))

    def _turn_to(self, attempt: Attempt) -> None:
        """Makes an attempt the current one."""
        self.attempt = attempt
        self._heard_at = self._time()
        self._asking = True
        self._size = 0
        self._turned.set_result(None)
        self._turned = asyncio.get_running_loop().create_future()
        if not self._begun:
            self._headers = {**self._own_headers, **attempt.headers}
            self._opening = None
            self._held.clear()

    async def _elsewhere(self, error: ApiError) -> Attempt | None:
        """The attempt to make after the current one has failed; None where there must or can be none."""
        assert self.attempt is not None  # noqa: S101 - it has failed
        exchange, lease = self.attempt.exchange, self.attempt.lease
        lease.failed(error)
        position = exchange.position if self._begun else 0
        if exchange.committed or position is None or not may_move(error):
            return None
        self._leave_upstream()
        try:
            return await self._route.next(position)
        except ApiError:
            return None  # what this one said is more to the point

    async def _try(self, attempt: Attempt) -> Sequence[bytes]:
        """Asks an upstream and hands on what it says; gives the events at the end of its answer, not told yet."""
        exchange = attempt.exchange
        response = await self._ask(attempt)
        if response.content_type == "text/html":
            raise ProtocolError("it answered with a web page instead of an event stream: check its base_url")
        whole = response.content_type == "application/json"
        events: Sequence[bytes] = ()
        while not exchange.over:
            if events and self._streams:
                if exchange.committed or self._begun:
                    await self._write(events)
                else:
                    self._held += events
            if whole:
                events = exchange.feed_whole(await read_whole(response, _MAX_ANSWER))
            else:
                events = await self._next(exchange, response)
            if self.first_output_after is None and exchange.committed:
                self.first_output_after = self._time() - self._started
                attempt.lease.succeeded()
        if exchange.error is None:
            attempt.lease.succeeded()
        return events

    async def _conclude(self, exchange: Exchange, events: Sequence[bytes]) -> None:
        """Tells the client the end of an exchange that is over; ``events`` are the last."""
        self.error = exchange.error
        if self._keep is not None and exchange.outcome is not None:
            try:
                await self._keep(exchange.outcome)
            except Exception:  # noqa: BLE001 - it is logged
                _log.exception("an answer could not be kept")  # and is an answer all the same
        if exchange.error is not None and self._can_refuse(exchange, exchange.error):
            await self._refuse(exchange.error)
        elif self._streams:
            await self._write(events, last=True)
        else:
            async with self._writing:
                self._wrote_at = self._time()
                await self._sink.answer(exchange.document(), self._headers)
                self._told = True

    async def _ask(self, attempt: Attempt) -> HttpResponse:
        """The upstream's response, with all that is known once it is there."""
        exchange = attempt.exchange
        response = await attempt.upstream.post(
            exchange.path, exchange.body, headers=self._forwarded, token=attempt.token
        )
        self._response = response
        self._heard_at = self._time()
        if self._returned is not None:
            self._headers |= self._returned(response.headers)
        self._open(attempt, response.headers.get(TURN_STATE_HEADER))
        return response

    async def _next(self, exchange: Exchange, response: HttpResponse) -> list[bytes]:
        """What the next read becomes."""
        ending = exchange.ending
        if ending == "open":
            data = await response.read()
        elif ending == "settled":
            return exchange.feed_eof()
        else:
            try:
                async with asyncio.timeout(_FINISH_GRACE):
                    data = await response.read()
            except (TimeoutError, Disconnected):
                data = b""  # all was said
        if not data:
            return exchange.feed_eof()
        self._size += len(data)
        if self._size > _MAX_ANSWER:
            raise ProtocolError(f"the answer takes more than {_MAX_ANSWER} bytes")
        events = exchange.feed(data)
        if data.startswith(b":") and b"\ndata" not in data:
            # A comment is no more than silence, and nothing to begin an answer with.
            return events if self._begun else []
        self._heard_at = self._time()
        return events

    def _open(self, attempt: Attempt, upstream_token: str | None = None) -> None:
        """Makes the turn's token and the stream's first events, which come before any other, if not done yet."""
        if self._opening is None:
            token = self._route.token(attempt.lease, upstream_token)
            if token is not None:
                self._headers[TURN_STATE_HEADER] = token
            self._opening = attempt.exchange.start({} if self._sink.shows_headers else self._headers)

    async def _write(self, events: Sequence[bytes], *, last: bool = False) -> None:
        """Writes more of the stream, behind its beginning."""
        async with self._writing:
            self._wrote_at = began = self._time()
            if not self._begun:
                events = [*await self._begin(), *events]
            await self._sink.write(events)
            if last:
                await self._sink.end()
                self._told = True
            self._heard_at += self._time() - began  # meanwhile nobody listened

    async def _give_sign(self, attempt: Attempt) -> None:
        """Writes that the answer is still to come."""
        async with self._writing:
            self._wrote_at = self._time()
            self._open(attempt)
            events = [] if self._begun else await self._begin()
            await self._sink.write([*events, *attempt.exchange.keepalive()])
            self.signs += 1

    async def _begin(self) -> list[bytes]:
        """Sends the head of the stream; gives its first events."""
        self._begun = True
        await self._sink.begin(self._headers)
        held, self._held = self._held, []
        return [*(self._opening or ()), *held]

    def _can_refuse(self, exchange: Exchange, error: ApiError) -> bool:
        """Whether an error can be, and is best, told by an HTTP status."""
        if self._begun:
            return False
        return not (self._streams and isinstance(error, exchange.told_in_stream))

    async def _fail(self, error: ApiError) -> None:
        """Tells the client that there is no answer, or no more of it.

        An answer that was over, but not told, can only be cut off, which its client notices.
        """
        self.error = error
        attempt = self.attempt
        if attempt is None:
            await self._refuse(error)
        elif self._can_refuse(attempt.exchange, error):
            attempt.exchange.fail(error)
            await self._refuse(error)
        else:
            self._open(attempt)
            if events := attempt.exchange.fail(error):
                await self._write(events, last=True)

    async def _refuse(self, error: ApiError) -> None:
        """Says no by an HTTP status. A turn begins with an answer, so there is no token."""
        headers = {name: value for name, value in self._headers.items() if name != TURN_STATE_HEADER}
        async with self._writing:
            self._wrote_at = self._time()
            await self._sink.refuse(error, headers)
            self._told = True


async def _cancelled(task: asyncio.Task[None]) -> None:
    """Ends a task and waits for its end, whatever that is."""
    if not task.done():
        task.cancel()
        await asyncio.wait((task,))
    if not task.cancelled():
        task.exception()
