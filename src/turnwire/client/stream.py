"""One streamed answer: opens it, reads it, and obeys what is decided elsewhere.

Reading, timing and decoding are three things: the transport gives bytes, the decoder makes events of them, and this
file does the waiting. All of it happens in the caller's own task: a caller who does not read holds the server up, and
one who leaves takes everything along.
"""

from __future__ import annotations

import asyncio
import logging
import random
import weakref
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Protocol, Self, TypeAlias

from msgspec import Struct

from turnwire.client.provider import Provider
from turnwire.client.retry import stream_delay
from turnwire.client.watch import StreamWatch
from turnwire.errors import ApiError, Disconnected, IdleTimeout, ProtocolError, StreamError
from turnwire.event import Completed, Created, ModelsEtag, RateLimits, ResponseEvent, ServerModel, StreamRestarted
from turnwire.item import ResponseItem
from turnwire.telemetry import PollOutcome
from turnwire.transport.message import read_whole
from turnwire.wire.answer_decoder import AnswerDecoder, Ending

__all__ = ["AnswerBody", "Asked", "ResponseStream", "read_whole_answer"]

_log = logging.getLogger("turnwire.client")

_CLOSED = "the stream was closed while somebody read it"
_MAX_WHOLE_BODY = 64 * 1024 * 1024
"""Bytes of an answer that came whole instead of streamed."""


OnPoll: TypeAlias = Callable[[PollOutcome, float, int], None]

_PRELUDE = (Created, RateLimits, ServerModel, ModelsEtag)
"""Events that give nothing of the answer: they may come again without harm."""


class AnswerBody(Protocol):
    """What an answer is read from: an HTTP response, or a WebSocket for as long as it carries this answer."""

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers it came with, names in lower case."""

    @property
    def content_type(self) -> str:
        """The media type, empty where there is none."""

    async def read(self) -> bytes:
        """The next bytes, for the decoder to take as they are; b"" at the proper end."""

    async def finish(self) -> None:
        """The answer is complete: makes the connection ready for another, or closes it."""

    def close(self) -> None:
        """Closes the connection at once; does nothing after `finish`."""


class Asked(Struct, frozen=True):
    """A request that was accepted: where its answer comes from, what reads it, and what is known already."""

    body: AnswerBody
    decoder: AnswerDecoder
    events: Sequence[ResponseEvent] = ()
    """What the response's head says."""
    on_poll: OnPoll | None = None
    """Is told of every wait: what it brought, how many seconds it took, how many events came of it."""


class ResponseStream:
    """One answer, as an async context manager and an async iterator of events.

    Entering it sends the request and waits for the response's head; so does the first event, for whoever iterates
    without entering. Leaving it closes the connection at once, unless the answer was complete. Errors are those of
    `turnwire.errors`, with ``committed``, ``items`` and ``text`` of what came before.

    A stream that breaks before an event was handed over is begun anew, as often as the provider's
    ``stream_max_retries`` says. After that only where ``restart`` was asked for, and with a `StreamRestarted` event
    that takes back what came before it.
    """

    def __init__(
        self,
        ask: Callable[[], Awaitable[Asked]],
        provider: Provider,
        *,
        restart: bool = False,
        dropped: tuple[str, ...] = (),
        on_end: Callable[[AnswerDecoder], None] | None = None,
        watch: StreamWatch | None = None,
    ) -> None:
        self._ask = ask
        self._provider = provider
        self._restart = restart
        self._on_end = on_end
        self._watch = watch
        self._on_poll: OnPoll | None = None
        self._body: AnswerBody | None = None
        self._decoder: AnswerDecoder | None = None
        self._events: Sequence[ResponseEvent] = ()
        self._batch: Iterator[ResponseEvent] = iter(())
        self._failure: ApiError | None = None
        self._error: BaseException | None = None
        self._attempt = 0
        self._over = False
        # The wait for the next event: when it becomes too long, and the timer that looks. One timer serves all waits.
        self._deadline: float | None = None
        self._grace_deadline: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._expired = False

        self.committed = False
        """An output event was handed over, so that nothing is repeated behind the caller's back."""
        self.response_headers: Mapping[str, str] = {}
        """The response's headers with names in lower case; empty before there is one."""
        self.dropped = dropped
        """What the request could not carry over to this server, in words."""

    def __del__(self) -> None:
        # Whoever drops a stream without leaving it leaves no timer and no connection behind.
        if self._timer is not None:
            self._timer.cancel()
        if self._body is not None:
            self._body.close()
        self._tell()

    def __repr__(self) -> str:
        state = "over" if self._over else "open" if self._body else "not begun"
        return f"<ResponseStream {state} from {self._provider.name}, committed={self.committed}>"

    @property
    def items(self) -> tuple[ResponseItem, ...]:
        """The output items that are whole."""
        return () if self._decoder is None else self._decoder.items

    @property
    def text(self) -> str:
        """The answer's text as far as it came."""
        return "" if self._decoder is None else self._decoder.text

    @property
    def decoder(self) -> AnswerDecoder | None:
        """What reads this answer, for whoever wants to know what it skipped; None before the request was accepted."""
        return self._decoder

    async def __aenter__(self) -> Self:
        try:
            while self._body is None and not self._over:
                if self._failure is not None:
                    await self._recover(self._failure)
                self._hand_over(await self._more())
        except BaseException as error:
            self._leave(error)
            raise
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def __aiter__(self) -> ResponseStream:
        return self

    async def __anext__(self) -> ResponseEvent:
        for event in self._batch:
            return event
        if await self._fill():
            for event in self._batch:
                return event
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Ends the stream. A complete answer's connection is kept for the next request, any other is closed."""
        try:
            if self._body is not None and self._complete:
                await self._body.finish()
        finally:
            self.close()

    def close(self) -> None:
        """Ends the stream at once, without waiting for anything; the server sees the connection go."""
        if not self._over and self._on_end is not None and self._decoder is not None:
            self._on_end(self._decoder)
        self._over = True
        self._batch = iter(())
        self._deadline = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._drop_body()
        self._tell()

    @property
    def _complete(self) -> bool:
        return self._failure is None and self._decoder is not None and self._decoder.over

    def _tell(self) -> None:
        """Has the stream told to whoever watches it, once."""
        watch, self._watch = self._watch, None
        if watch is not None:
            last = self._events[-1] if self._events else None
            watch.over(last if isinstance(last, Completed) else None, self._error, committed=self.committed)

    def _drop_body(self) -> None:
        if self._body is not None:
            self._body.close()
            self._body = None

    async def _fill(self) -> bool:
        """Reads until there are events to hand over; whether there are any."""
        try:
            while not self._over:
                if self._failure is not None:
                    await self._recover(self._failure)
                    if self.committed:
                        return True
                elif self._complete:
                    await self.aclose()
                elif self._hand_over(await self._more()):
                    return True
        except BaseException as error:
            self._leave(error)
            raise
        return False

    def _hand_over(self, events: list[ResponseEvent]) -> bool:
        if not events:
            return False
        if not self.committed:
            self.committed = not all(isinstance(event, _PRELUDE) for event in events)
            if self.committed and self._watch is not None:
                self._watch.output_began()
        self._events = events
        self._batch = iter(events)
        return True

    def _leave(self, error: BaseException) -> None:
        """Cancelled, or failed for good: nothing of this stream stays behind, and nothing that came is lost."""
        if isinstance(error, ApiError):
            error.committed, error.items, error.text = self.committed, self.items, self.text
        if isinstance(error, Exception):  # whoever is cancelled leaves
            self._error = error
        self.close()

    async def _recover(self, error: ApiError) -> None:
        """Begins anew after a failure, where that is allowed and promises something; raises it where not."""
        delay = None
        if self._restart or not self.committed:
            delay = stream_delay(self._provider.retry_policy, error, self._attempt, jitter=random.random())  # noqa: S311
        if delay is None:
            raise error
        if self._watch is not None:
            self._watch.retried("stream", error, delay)
        _log.info("the stream from %s begins anew in %.1f s: %s", self._provider.name, delay, type(error).__name__)
        self._drop_body()
        self._failure = None
        self._deadline = self._grace_deadline = None
        self._expired = False
        self._attempt += 1
        await asyncio.sleep(delay)
        self._decoder = None
        if self.committed:
            self._batch = iter([StreamRestarted(self._attempt, str(error))])

    async def _more(self) -> list[ResponseEvent]:
        """The events of the next read, which may be none; what failed behind them is kept until they are given."""
        events: list[ResponseEvent] = []
        try:
            if self._body is None or self._decoder is None:
                found = await self._begin()
            else:
                found = await self._next(self._body, self._decoder)
            if isinstance(found, list):
                return found
            for event in found:
                events.append(event)  # noqa: PERF402 - those before an error count
        except ApiError as error:
            if self._over:
                raise StreamError(_CLOSED) from None
            if self._body is None and not isinstance(error, IdleTimeout):
                raise  # the request itself failed, and its retries are used up
            self._failure = error
        return events

    async def _begin(self) -> Iterable[ResponseEvent]:
        """Sends the request; an answer that is not a stream is read whole."""
        if self._watch is not None:
            self._watch.begun()
        asked = await self._ask()
        body = asked.body
        if self._over:
            body.close()
            raise StreamError(_CLOSED)
        self._body, self._decoder, self._on_poll = body, asked.decoder, asked.on_poll
        self.response_headers = body.headers
        if body.content_type == "text/html":
            raise ProtocolError(
                f"{self._provider.base_url} answered with a web page instead of an event stream: check the base_url"
            )
        if body.content_type == "application/json":
            return [*asked.events, *asked.decoder.feed_completion(await read_whole_answer(body, self._provider))]
        return list(asked.events)

    async def _next(self, body: AnswerBody, decoder: AnswerDecoder) -> Iterable[ResponseEvent]:
        """One read, decoded."""
        on_poll = self._on_poll
        started = 0.0 if on_poll is None else asyncio.get_running_loop().time()
        ending = decoder.ending
        try:
            data = await (self._reading(body) if ending == "open" else self._read_rest(body, ending))
        except BaseException as error:
            failure = self._silence() if self._expired and isinstance(error, Disconnected) else error
            if on_poll is not None:
                on_poll(_outcome(failure), asyncio.get_running_loop().time() - started, 0)
            if failure is error:
                raise
            raise failure from error
        parsed = decoder.parsed
        events = decoder.feed(data) if data else decoder.feed_eof()
        came = bool(events) or decoder.parsed != parsed
        if came:
            self._deadline = None  # comments alone do not count
        if on_poll is not None:
            outcome: PollOutcome = "eof" if not data else "events" if came else "comment"
            count = len(events) if data and isinstance(events, list) else 0
            on_poll(outcome, asyncio.get_running_loop().time() - started, count)
        return events

    def _reading(self, body: AnswerBody) -> Awaitable[bytes]:
        """The next bytes, b"" at the end; `Disconnected`, with `_expired`, once no event came for too long."""
        loop = asyncio.get_running_loop()
        if self._deadline is None:
            self._deadline = loop.time() + self._provider.idle_timeout
        if self._timer is None:
            self._timer = loop.call_at(self._deadline, _look, weakref.ref(self))
        return body.read()

    def _silence(self) -> IdleTimeout:
        name, idle_timeout = self._provider.name, self._provider.idle_timeout
        return IdleTimeout(f"idle timeout waiting for SSE: no event from {name} for {idle_timeout:g} s")

    async def _read_rest(self, body: AnswerBody, ending: Ending) -> bytes:
        """What comes after the finish: usage, ``[DONE]``. Waits a little for usage, and not at all once it is there.

        The answer itself is whole, so whatever goes wrong here is its end and no failure.
        """
        if ending == "settled":
            return b""
        if self._grace_deadline is None:
            self._grace_deadline = asyncio.get_running_loop().time() + self._provider.finish_grace
        try:
            async with asyncio.timeout_at(self._grace_deadline):
                return await body.read()
        except (TimeoutError, Disconnected):
            return b""

    def _too_idle(self) -> None:
        """Called by the timer: ends a wait that takes too long, or looks again when the present one would."""
        self._timer = None
        if self._deadline is None:
            return  # nobody waits
        loop = asyncio.get_running_loop()
        if loop.time() < self._deadline:
            self._timer = loop.call_at(self._deadline, _look, weakref.ref(self))
        elif self._body is not None:
            self._expired = True
            self._body.close()


async def read_whole_answer(body: AnswerBody, provider: Provider) -> bytes:
    """An answer that is no stream, within one idle timeout for all of it.

    Raises `IdleTimeout`, `Disconnected`, or `ProtocolError` for one of more than 64 MiB.
    """
    try:
        async with asyncio.timeout(provider.idle_timeout):
            return await read_whole(body, _MAX_WHOLE_BODY)
    except TimeoutError:
        raise IdleTimeout(
            f"no whole answer from {provider.name} within idle_timeout, {provider.idle_timeout:g} s"
        ) from None


def _outcome(error: BaseException) -> PollOutcome:
    if isinstance(error, asyncio.CancelledError):
        return "cancelled"
    return "idle_timeout" if isinstance(error, IdleTimeout) else "error"


def _look(stream: weakref.ref[ResponseStream]) -> None:
    """The timer must not keep alive a stream that nobody holds any more."""
    found = stream()
    if found is not None:
        found._too_idle()
