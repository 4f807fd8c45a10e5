"""One request, carried from the client to an upstream and back: the waiting.

What the bytes mean is the exchange's business, and where they go the sink's. This file keeps the time:

* nothing is written before the upstream's answer begins, so that a refusal is an HTTP status; unless that takes long,
  for a client takes silence for a broken stream. Then the stream begins, and signs of life keep it up;
* an upstream that stays silent for its idle timeout has failed;
* a client that leaves takes its upstream request along, and so does one that does not read for too long. Meanwhile
  it holds up its own upstream request alone, for nothing is read that was not written.

Two tasks write, the one that carries the answer and the one that keeps the time; a lock keeps them apart.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Literal, TypeAlias

from msgspec import Struct

from turnwire.client.turn_state import TURN_STATE_HEADER
from turnwire.errors import ApiError, Disconnected, IdleTimeout, RetryableError, ServerOverloaded
from turnwire.gateway.exchange.exchange import Exchange, Outcome
from turnwire.gateway.sink import Sink
from turnwire.gateway.upstream import Upstream
from turnwire.transport.http import HttpResponse, read_whole

__all__ = ["Patience", "Relay", "RelayEnd"]

_log = logging.getLogger("turnwire.gateway")

RelayEnd: TypeAlias = Literal["completed", "failed", "left"]
"""How an answer ended for its client; ``left``: the client did not wait for it."""

_FINISH_GRACE = 1.0
"""Seconds that an upstream which has said all gets to end its body."""
_LAST_WORDS = 1.0
"""Seconds that a client gets to take its answer's failure when the gateway ends."""
_MAX_WHOLE_BODY = 64 * 1024 * 1024
"""Bytes of an answer that is not streamed."""


class Patience(Struct, frozen=True):
    """How long is waited for what, in seconds."""

    keepalive_interval: float = 15.0
    """Silence after which a client gets a sign of life."""
    client_timeout: float = 60.0
    """How long a client may leave what was written to it unread."""


class Relay:
    """Runs one exchange: `run` returns when the client has its answer, was told why not, or has left.

    ``keep`` is called with the answer before the client is told of its end: what it asks for next finds it kept.
    ``issue_token`` makes the turn's token, given the upstream's own where its response has one; it is None where the
    client has a token already. ``headers`` go to the client with the answer, and ``forwarded`` to the upstream.
    """

    def __init__(
        self,
        exchange: Exchange,
        upstream: Upstream,
        sink: Sink,
        patience: Patience,
        *,
        streams: bool,
        upstream_token: str | None = None,
        issue_token: Callable[[str | None], str] | None = None,
        headers: Mapping[str, str] = {},
        forwarded: Mapping[str, str] = {},
        returned: Callable[[Mapping[str, str]], Mapping[str, str]] | None = None,
        keep: Callable[[Outcome], Awaitable[None]] | None = None,
    ) -> None:
        self._exchange = exchange
        self._upstream = upstream
        self._sink = sink
        self._patience = patience
        self._streams = streams
        self._upstream_token = upstream_token
        self._issue_token = issue_token
        self._headers = dict(headers)
        self._forwarded = forwarded
        self._returned = returned
        self._keep = keep
        self._time = asyncio.get_running_loop().time
        self._response: HttpResponse | None = None
        self._writing = asyncio.Lock()
        self._opening: list[bytes] | None = None  # the stream's first events, once they are made
        self._begun = False  # the stream's head was sent
        self._told = False  # the client has all that it will get
        self._failed = False
        self._started = self._heard_at = self._wrote_at = self._time()
        self.first_output_after: float | None = None
        """Seconds until something of the answer was there."""

    async def run(self) -> RelayEnd:
        """Carries the answer over."""
        carry = asyncio.create_task(self._carry())
        left = asyncio.create_task(self._sink.left())
        try:
            while not carry.done():
                if self._told:
                    await asyncio.wait((carry,))
                elif left.done() or not await self._look_after(carry, left):
                    return "left"
            if not carry.cancelled():
                carry.result()
        except asyncio.CancelledError:
            # The gateway ends before the answer does: whoever waits for it hears so.
            await _cancelled(carry)
            if not self._told:
                await self._in_time(self._fail(ServerOverloaded("the gateway is shutting down", 1.0)), _LAST_WORDS)
            raise
        finally:
            await _cancelled(carry)
            await _cancelled(left)
            if self._response is not None:
                self._response.close()
        return "failed" if self._failed else "completed"

    async def _look_after(self, carry: asyncio.Task[None], left: asyncio.Task[None]) -> bool:
        """Waits until something happens, or something is due; whether the client is still of interest."""
        patience, now = self._patience, self._time()
        due = self._wrote_at + patience.client_timeout
        if self._writing.locked():
            if due <= now:
                return self._lost_patience()
            due = min(due, now + patience.keepalive_interval)
        elif self._exchange.over:
            due = now + patience.keepalive_interval  # all has come, and is being kept
        else:
            due = self._heard_at + self._upstream.idle_timeout
            if due <= now:
                await _cancelled(carry)
                silence = IdleTimeout(f"it said nothing for idle_timeout, {self._upstream.idle_timeout:g} s")
                failing = self._fail(self._upstream.blamed(silence))
                return await self._in_time(failing, patience.client_timeout) or self._lost_patience()
            if self._streams:
                if self._wrote_at + patience.keepalive_interval <= now:
                    if not await self._in_time(self._give_sign(), patience.client_timeout):
                        return self._lost_patience()
                    now = self._time()
                due = min(due, self._wrote_at + patience.keepalive_interval)
        await asyncio.wait((carry, left), timeout=due - now, return_when=asyncio.FIRST_COMPLETED)
        return True

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

    async def _carry(self) -> None:
        """Asks the upstream and hands on what it says, to the end."""
        exchange = self._exchange
        try:
            response = await self._ask()
            whole = response.content_type == "application/json"
            events: Sequence[bytes] = ()
            while not exchange.over:
                if events and self._streams:
                    await self._write(events)
                if whole:
                    events = exchange.feed_whole(await read_whole(response, _MAX_WHOLE_BODY))
                else:
                    events = await self._next(response)
                if self.first_output_after is None and exchange.committed:
                    self.first_output_after = self._time() - self._started
            await self._conclude(events)
            await response.finish()
        except ApiError as error:
            await self._fail(self._upstream.blamed(error))
        except Exception:  # noqa: BLE001 - it is logged, and told
            # Ours to repair, and the client's to know: a stream that just stopped might pass for an answer.
            _log.exception("an answer of upstream %s failed in the gateway", self._upstream.name)
            await self._fail(RetryableError("the gateway failed on this answer; its log says more"))

    async def _conclude(self, events: Sequence[bytes]) -> None:
        """Tells the client the end of an exchange that is over; ``events`` are the last."""
        exchange = self._exchange
        self._failed = exchange.error is not None
        if self._keep is not None and exchange.outcome is not None:
            try:
                await self._keep(exchange.outcome)
            except Exception:  # noqa: BLE001 - it is logged
                _log.exception("an answer could not be kept")  # and is an answer all the same
        if exchange.error is not None and self._can_refuse(exchange.error):
            await self._refuse(exchange.error)
        elif self._streams:
            await self._write(events, last=True)
        else:
            async with self._writing:
                self._wrote_at = self._time()
                await self._sink.answer(exchange.document(), self._headers)
                self._told = True

    async def _ask(self) -> HttpResponse:
        """The upstream's response, with all that is known once it is there."""
        exchange = self._exchange
        response = await self._upstream.post(
            exchange.path, exchange.body, headers=self._forwarded, token=self._upstream_token
        )
        self._response = response
        self._heard_at = self._time()
        if self._returned is not None:
            self._headers |= self._returned(response.headers)
        self._open(response.headers.get(TURN_STATE_HEADER))
        return response

    async def _next(self, response: HttpResponse) -> list[bytes]:
        """What the next read becomes."""
        exchange = self._exchange
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
        events = exchange.feed(data)
        if data.startswith(b":") and b"\ndata" not in data:
            # A comment is no more than silence, and nothing to begin an answer with.
            return events if self._begun else []
        self._heard_at = self._time()
        return events

    def _open(self, upstream_token: str | None = None) -> None:
        """Makes the turn's token and the stream's first events, which come before any other, if not done yet."""
        if self._opening is None:
            if self._issue_token is not None:
                self._headers[TURN_STATE_HEADER] = self._issue_token(upstream_token)
            self._opening = self._exchange.start({} if self._sink.shows_headers else self._headers)

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

    async def _give_sign(self) -> None:
        """Writes that the answer is still to come."""
        async with self._writing:
            self._wrote_at = self._time()
            self._open()
            events = [] if self._begun else await self._begin()
            await self._sink.write([*events, *self._exchange.keepalive()])

    async def _begin(self) -> list[bytes]:
        """Sends the head of the stream; gives its first events."""
        self._begun = True
        await self._sink.begin(self._headers)
        return self._opening or []

    def _can_refuse(self, error: ApiError) -> bool:
        """Whether an error can be, and is best, told by an HTTP status."""
        if self._begun:
            return False
        return not (self._streams and isinstance(error, self._exchange.told_in_stream))

    async def _fail(self, error: ApiError) -> None:
        """Tells the client that there is no answer, or no more of it.

        An answer that was over, but not told, can only be cut off, which its client notices.
        """
        self._failed = True
        if self._can_refuse(error):
            self._exchange.fail(error)
            await self._refuse(error)
        else:
            self._open()
            if events := self._exchange.fail(error):
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
