"""One request, carried from the client to an upstream and back: the waiting.

What the bytes mean is the exchange's business, and where they go the sink's. This file keeps the time:

* nothing is written before there is something of an answer, so that a refusal is an HTTP status, and so that another
  upstream may be asked instead of one that fails; unless it takes long, for a client takes silence for a broken stream.
  Then the stream begins, and signs of life keep it up;
* an upstream that stays silent for its idle timeout has failed;
* a client that leaves takes its upstream request along, and so does one that does not read for too long. Meanwhile
  it holds up its own upstream request alone, for nothing is read that was not written.

The request's own task carries the answer. What it can't wait for meanwhile (time that passes, a client that leaves, a
replica that is left out) comes as a callback, which cancels the task where it waits and says why, as `asyncio.timeout`
does: for each read of an upstream no other task wakes up. A sign of life is a short task of its own.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Literal, TypeAlias

from turnwire.client.turn_state import TURN_STATE_HEADER
from turnwire.errors import ApiError, Disconnected, IdleTimeout, ProtocolError, RetryableError, ServerOverloaded
from turnwire.gateway.attempt import Attempt, Patience, Route
from turnwire.gateway.exchange.exchange import Exchange, Outcome
from turnwire.gateway.health import may_move
from turnwire.gateway.pool import Lease
from turnwire.gateway.sink import Sink
from turnwire.transport.message import HttpResponse, read_whole

__all__ = ["Relay", "RelayEnd"]

_log = logging.getLogger("turnwire.gateway")

RelayEnd: TypeAlias = Literal["completed", "failed", "left"]
"""How an answer ended for its client; ``left``: the client did not wait for it."""

_FINISH_GRACE = 1.0
"""Seconds that an upstream which has said all gets to end its body."""
_LAST_WORDS = 1.0
"""Seconds that a client gets to take its answer's failure when the gateway ends."""
_MAX_ANSWER = 64 * 1024 * 1024
"""Bytes of an answer, streamed or not: what is kept of one that never ends would fill the memory."""


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
        self._loop = asyncio.get_running_loop()
        self._time = self._loop.time
        self._task: asyncio.Task[object]
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due = 0.0  # by ours, for uvloop's timers do not know it where they are due at once
        self._response: HttpResponse | None = None
        self._writing = False  # the client is being told something
        self._left: asyncio.Task[None] | None = None  # waits for the client to leave
        self._sign: asyncio.Task[None] | None = None  # a sign of life that is being given
        self._given_up: ApiError | None = None  # why the attempt was cancelled
        self._lost = False  # why the relay was: the client has left, or does not read
        self._stand_in: Exchange | None = None  # speaks to the client before an upstream had room
        self._opening: list[bytes] | None = None  # the stream's first events, once they are made
        self._held: list[bytes] = []  # events that came, and are nothing of an answer yet
        self._untold: Sequence[bytes] = ()  # events that the last read became, for which somebody has to wait
        self._size = 0  # bytes of the attempt's answer so far
        self._asking = False  # the attempt is under way, and was not given up
        self._begun = False  # the stream's head was sent
        self._told = False  # the client has all that it will get
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
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine runs in one
        self._task = task
        self._loop.call_soon(self._attend)
        try:
            await self._carry()
        except asyncio.CancelledError:
            if self._lost and not task.uncancel():
                return "left"
            # The gateway ends before the answer does: whoever waits for it hears so.
            if not (self._told or self._lost):
                with suppress(TimeoutError):
                    async with asyncio.timeout(_LAST_WORDS):
                        await self._fail(ServerOverloaded("the gateway is shutting down", 1.0))
            raise
        finally:
            self._told = True  # whatever is still to come comes too late
            if self._timer is not None:
                self._timer.cancel()
            if self._left is not None:
                self._left.cancel()
            if self._sign is not None:
                self._sign.cancel()
                await asyncio.wait((self._sign,))
            self._leave_upstream()
            _forget_stack(self.error)
        return "completed" if self.error is None else "failed"

    def _attend(self) -> None:
        """Begins to look after the client, and makes ready what it will be told first.

        It happens as soon as something has to be waited for. As a rule that is the upstream, which was asked by then
        and takes its own time: nobody waits for any of this.
        """
        if self._told or self._lost:
            return
        self._left = asyncio.create_task(self._sink.left())
        self._left.add_done_callback(self._client_left)
        self._look_at(self._started + min(self._patience.keepalive_interval, self._patience.client_timeout))
        if self.attempt is not None and self._sink.shows_headers:
            self._open(self.attempt.exchange, self.attempt.lease)

    def _client_left(self, left: asyncio.Task[None]) -> None:
        if not self._told:
            self._lose()
        if not left.cancelled():
            left.exception()  # seen: whatever it is, nobody listens

    def _lose(self) -> None:
        """Ends it all: there is nobody to tell anything."""
        if not self._lost:
            self._lost = True
            self._task.cancel()

    def _give_up(self, error: ApiError) -> None:
        """Gives up on the upstream that is being asked."""
        self._asking = False
        self._given_up = error
        self._task.cancel()

    def _replica_lost(self, lost: asyncio.Future[None]) -> None:
        """The replica was left out: what it has not begun to answer may be asked elsewhere, where that helps."""
        attempt = self.attempt
        if attempt is None or attempt.lease.lost is not lost:
            return  # it is another one that is asked by now
        if attempt.exchange.committed or not self._waits(attempt):
            return
        if self._route.has_other():  # else it is better waited for than given up
            self._give_up(Disconnected("it was left out while it was asked"))

    def _waits(self, attempt: Attempt) -> bool:
        """Whether it is the upstream that is waited for."""
        return self._asking and not self._writing and self._sign is None and not attempt.exchange.over

    def _look_at(self, due: float) -> None:
        """Has `_look` look at this time, or before."""
        if self._timer is not None:
            if self._timer_due <= due:
                return
            self._timer.cancel()
        self._timer, self._timer_due = self._loop.call_at(due, self._look), due

    def _look(self) -> None:
        """Does what is due, and sees to it that somebody looks when the next thing is."""
        self._timer = None
        patience, attempt, now = self._patience, self.attempt, self._time()
        due = now + min(patience.keepalive_interval, patience.client_timeout)
        if self._told or self._lost:
            return
        if self._writing or self._sign is not None:
            unread_until = self._wrote_at + patience.client_timeout
            if unread_until <= now:
                _log.warning("a client did not read for %g s and was left", patience.client_timeout)
                self._lose()
                return
            due = min(due, unread_until)
        elif attempt is None:
            due = min(due, self._next_sign(now))
        elif self._waits(attempt):
            idle_timeout = attempt.upstream.idle_timeout
            silent_until = self._heard_at + idle_timeout
            if silent_until <= now:
                self._give_up(IdleTimeout(f"it said nothing for idle_timeout, {idle_timeout:g} s"))
            else:
                due = min(due, silent_until, self._next_sign(now))
        self._look_at(due)

    def _next_sign(self, now: float) -> float:
        """Has a sign of life given where one is due; when the next one will be."""
        if not self._streams:
            return math.inf
        due = self._wrote_at + self._patience.keepalive_interval
        if due > now:
            return due
        self._wrote_at = now
        self._sign = asyncio.create_task(self._give_sign())
        self._sign.add_done_callback(self._sign_given)
        return now + self._patience.keepalive_interval

    def _leave_upstream(self) -> None:
        if self._response is not None:
            self._response.close()
            self._response = None
        if self.attempt is not None:
            lease = self.attempt.lease
            lease.lost.remove_done_callback(self._replica_lost)  # so that all of it goes when its last user does
            lease.end()

    async def _carry(self) -> None:
        """Asks one upstream after the other, to the end of an answer, or until none may be asked any more."""
        events: Sequence[bytes] = ()
        failure: ApiError | None = None
        try:
            attempt: Attempt | None = await self._route.next(self._position)
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
        self._size = 0
        self._look_at(self._heard_at + attempt.upstream.idle_timeout)
        attempt.lease.lost.add_done_callback(self._replica_lost)
        if not self._begun:
            self._headers = {**self._own_headers, **attempt.headers}
            self._opening = None
            self._held.clear()

    async def _elsewhere(self, error: ApiError) -> Attempt | None:
        """The attempt to make after the current one has failed; None where there must or can be none."""
        assert self.attempt is not None  # noqa: S101 - it has failed
        exchange, lease = self.attempt.exchange, self.attempt.lease
        _forget_stack(error)
        lease.failed(error)
        if exchange.committed or (self._begun and exchange.position is None) or not may_move(error):
            return None
        self._leave_upstream()
        try:
            return await self._route.next(self._position)
        except ApiError:
            return None  # what this one said is more to the point

    async def _try(self, attempt: Attempt) -> Sequence[bytes]:
        """Asks an upstream and hands on what it says, unless it is given up; gives the last events, not told yet."""
        exchange = attempt.exchange
        events: Sequence[bytes] = ()
        succeeded = False
        self._asking = True
        try:
            response = await self._ask(attempt)
            content_type = response.content_type
            if content_type == "text/html":
                raise ProtocolError("it answered with a web page instead of an event stream: check its base_url")
            if content_type == "application/json":
                events = exchange.feed_whole(await read_whole(response, _MAX_ANSWER))
                if exchange.committed:
                    self.first_output_after = self._time() - self._started
            while not exchange.over:
                if events and self._streams:
                    if exchange.committed or self._begun:
                        await self._write(events)
                    else:
                        self._held += events
                if exchange.committed and not succeeded:
                    succeeded = True  # not before the client has its first words
                    attempt.lease.succeeded()
                ending = exchange.ending
                if ending == "open":
                    await response.read_into(self._take)
                else:
                    self._take(b"" if ending == "settled" else await _rest_of(response))
                events = self._untold
        except asyncio.CancelledError:
            given_up, self._given_up = self._given_up, None
            if given_up is None or self._task.uncancel():
                raise  # it is all to end
            raise given_up from None
        finally:
            self._asking = False
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
            await self._tell(self._sink.answer(exchange.document(), self._headers))

    async def _ask(self, attempt: Attempt) -> HttpResponse:
        """The upstream's response, with all that is known once it is there."""
        exchange = attempt.exchange
        response = await attempt.upstream.ask(
            exchange.path, exchange.body, headers=self._forwarded, token=attempt.token
        )
        self._response = response
        self._heard_at = self._time()
        if self._returned is not None:
            self._headers |= self._returned(response.headers)
        self._open(exchange, attempt.lease, response.headers.get(TURN_STATE_HEADER))
        return response

    def _take(self, data: bytes) -> bool:
        """Takes a read and tells the client what it became, where that needs no waiting; else that is `_untold`.

        Whether the next one may come is what it returns.
        """
        assert self.attempt is not None  # noqa: S101 - it is what is read
        exchange = self.attempt.exchange
        self._size += len(data)
        if self._size > _MAX_ANSWER:
            raise ProtocolError(f"the answer takes more than {_MAX_ANSWER} bytes")
        events: Sequence[bytes] = exchange.feed(data) if data else exchange.feed_eof()
        now = self._time()
        if data[:1] == b":" and b"\ndata" not in data:
            # A comment is no more than silence, and nothing to begin an answer with.
            events = events if self._begun else ()
        else:
            self._heard_at = now
        at_once = self._begun and not self._writing and self._sign is None
        if self.first_output_after is None and exchange.committed:
            self.first_output_after = now - self._started
            at_once = False  # for there is more to do at the first than to write it
        goes_on = bool(data) and exchange.ending == "open" and not exchange.over
        if at_once and goes_on and events and self._sink.put(events):
            self._wrote_at = now
            events = ()
        self._untold = events
        return goes_on and not events

    @property
    def _exchange(self) -> Exchange | None:
        """Whose events the client's stream consists of, as far as it has come."""
        return self._stand_in if self.attempt is None else self.attempt.exchange

    def _position(self) -> int:
        """How many events the client was given, for an exchange that goes on from there."""
        exchange = self._exchange
        return 0 if exchange is None or not self._begun else exchange.position or 0

    def _open(self, exchange: Exchange, lease: Lease | None, upstream_token: str | None = None) -> None:
        """Makes the turn's token and the stream's first events, which come before any other, if not done yet.

        The token is made anew for that of the upstream, which comes with its head, unless the client has it already.
        """
        if self._opening is None or (upstream_token is not None and not self._begun):
            token = self._route.token(lease, upstream_token)
            if token is not None:
                self._headers[TURN_STATE_HEADER] = token
        if self._opening is None:
            self._opening = exchange.start({} if self._sink.shows_headers else self._headers)

    async def _write(self, events: Sequence[bytes], *, last: bool = False) -> None:
        """Writes more of the stream, behind its beginning."""
        self._writing = True
        try:
            if self._sign is not None:
                await asyncio.wait((self._sign,))
            self._wrote_at = began = self._time()
            if not self._begun:
                events = [*await self._begin(), *events]
            await self._sink.write(events)
            if last:
                await self._sink.end()
                self._told = True
        finally:
            self._writing = False
        self._heard_at += self._time() - began  # meanwhile nobody listened

    async def _tell(self, telling: Awaitable[None]) -> None:
        """Has the client told all that it gets, where that is no stream."""
        self._wrote_at = self._time()
        self._writing = True
        try:
            await telling
            self._told = True
        finally:
            self._writing = False

    async def _give_sign(self) -> None:
        """Writes that the answer is still to come, unless something was told since."""
        if self._writing or self._told:
            return
        if (exchange := self._exchange) is None:
            try:
                stand_in = self._route.stand_in()
            except ApiError:
                return  # whoever waits for an upstream is told why there will be none
            exchange = self._stand_in = stand_in.exchange
            self._headers |= stand_in.headers
        self._open(exchange, None if self.attempt is None else self.attempt.lease)
        events = [] if self._begun else await self._begin()
        await self._sink.write([*events, *exchange.keepalive()])
        self.signs += 1

    def _sign_given(self, sign: asyncio.Task[None]) -> None:
        self._sign = None
        if not sign.cancelled() and (error := sign.exception()) is not None:
            _log.error("a sign of life failed", exc_info=error)
            self._lose()

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
        exchange = self._exchange
        if exchange is None:
            await self._refuse(error)
        elif self._can_refuse(exchange, error):
            exchange.fail(error)
            await self._refuse(error)
        else:
            self._open(exchange, None if self.attempt is None else self.attempt.lease)
            if events := exchange.fail(error):
                await self._write(events, last=True)

    async def _refuse(self, error: ApiError) -> None:
        """Says no by an HTTP status. A turn begins with an answer, so there is no token."""
        headers = {name: value for name, value in self._headers.items() if name != TURN_STATE_HEADER}
        await self._tell(self._sink.refuse(error, headers))


def _forget_stack(error: ApiError | None) -> None:
    """Has a failure that is kept let go of where it was raised: whatever it passed there would be kept with it."""
    if error is not None:
        error.__traceback__ = None


async def _rest_of(response: HttpResponse) -> bytes:
    """What comes behind the end of an answer; nothing, soon, where its server never ends the body."""
    try:
        async with asyncio.timeout(_FINISH_GRACE):
            return await response.read()
    except (TimeoutError, Disconnected):
        return b""  # all was said
