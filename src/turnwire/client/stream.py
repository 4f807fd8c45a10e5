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
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from types import TracebackType
from typing import Self

from turnwire.client.provider import Provider
from turnwire.client.retry import stream_delay
from turnwire.errors import ApiError, Disconnected, IdleTimeout, ProtocolError, StreamError
from turnwire.event import ResponseEvent, StreamRestarted
from turnwire.item import ResponseItem
from turnwire.telemetry import PollOutcome, SsePollRecord, SseTelemetry
from turnwire.transport.http import HttpResponse
from turnwire.wire.chat import ChatDecoder

__all__ = ["ResponseStream"]

_log = logging.getLogger("turnwire.client")

_DRAIN_TIMEOUT = 0.05
"""Seconds that an answer which is complete gets to end its body, so that the connection can be used again."""
_CLOSED = "the stream was closed while somebody read it"
_MAX_WHOLE_BODY = 64 * 1024 * 1024
"""Bytes of an answer that came whole instead of streamed."""


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
        connect: Callable[[], Awaitable[HttpResponse]],
        new_decoder: Callable[[], ChatDecoder],
        provider: Provider,
        *,
        restart: bool = False,
        telemetry: SseTelemetry | None = None,
        dropped: tuple[str, ...] = (),
        on_end: Callable[[ChatDecoder], None] | None = None,
    ) -> None:
        self._connect = connect
        self._new_decoder = new_decoder
        self._provider = provider
        self._restart = restart
        self._telemetry = telemetry
        self._on_end = on_end
        self._decoder = new_decoder()
        self._response: HttpResponse | None = None
        self._batch: Iterator[ResponseEvent] = iter(())
        self._failure: ApiError | None = None
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
        if self._response is not None:
            self._response.close()

    def __repr__(self) -> str:
        state = "over" if self._over else "open" if self._response else "not begun"
        return f"<ResponseStream {state} from {self._provider.name}, committed={self.committed}>"

    @property
    def items(self) -> tuple[ResponseItem, ...]:
        """The output items that are whole."""
        return self._decoder.items

    @property
    def text(self) -> str:
        """The answer's text as far as it came."""
        return self._decoder.text

    @property
    def decoder(self) -> ChatDecoder:
        """What reads this answer, for whoever wants to know what it skipped or dropped."""
        return self._decoder

    async def __aenter__(self) -> Self:
        try:
            while self._response is None and not self._over:
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
        response = self._response
        try:
            if response is not None and self._decoder.over and self._failure is None and not response.ended:
                async with asyncio.timeout(_DRAIN_TIMEOUT):
                    while await response.read():
                        pass
        except (TimeoutError, Disconnected):
            pass  # a server that does not end its answer loses the connection, nothing else
        finally:
            self.close()

    def close(self) -> None:
        """Ends the stream at once, without waiting for anything; the server sees the connection go."""
        if not self._over and self._on_end is not None:
            self._on_end(self._decoder)
        self._over = True
        self._batch = iter(())
        self._deadline = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._response is not None:
            self._response.close()
            self._response = None

    async def _fill(self) -> bool:
        """Reads until there are events to hand over; whether there are any."""
        try:
            while not self._over:
                if self._failure is not None:
                    await self._recover(self._failure)
                    if self.committed:
                        return True
                elif self._decoder.over:
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
        self.committed = True
        self._batch = iter(events)
        return True

    def _leave(self, error: BaseException) -> None:
        """Cancelled, or failed for good: nothing of this stream stays behind, and nothing that came is lost."""
        if isinstance(error, ApiError):
            error.committed, error.items, error.text = self.committed, self.items, self.text
        self.close()

    async def _recover(self, error: ApiError) -> None:
        """Begins anew after a failure, where that is allowed and promises something; raises it where not."""
        delay = None
        if self._restart or not self.committed:
            delay = stream_delay(self._provider.retry_policy, error, self._attempt, jitter=random.random())  # noqa: S311
        if delay is None:
            raise error
        _log.info("the stream from %s begins anew in %.1f s: %s", self._provider.name, delay, type(error).__name__)
        if self._response is not None:
            self._response.close()
            self._response = None
        self._failure = None
        self._deadline = self._grace_deadline = None
        self._expired = False
        self._attempt += 1
        await asyncio.sleep(delay)
        self._decoder = self._new_decoder()
        if self.committed:
            self._batch = iter([StreamRestarted(self._attempt, str(error))])

    async def _more(self) -> list[ResponseEvent]:
        """The events of the next read, which may be none; what failed behind them is kept until they are given."""
        events: list[ResponseEvent] = []
        try:
            found = await (self._begin() if self._response is None else self._next())
            if isinstance(found, list):
                return found
            for event in found:
                events.append(event)  # noqa: PERF402 - those before an error count
        except ApiError as error:
            if self._over:
                raise StreamError(_CLOSED) from None
            if self._response is None and not isinstance(error, IdleTimeout):
                raise  # the request itself failed, and its retries are used up
            self._failure = error
        return events

    async def _begin(self) -> Iterable[ResponseEvent]:
        """Sends the request; an answer that is not a stream is read whole."""
        response = await self._connect()
        if self._over:
            response.close()
            raise StreamError(_CLOSED)
        self._response = response
        self.response_headers = response.headers
        if response.content_type == "text/html":
            raise ProtocolError(
                f"{self._provider.base_url} answered with a web page instead of an event stream: check the base_url"
            )
        if response.content_type != "application/json":
            return []
        body = bytearray()
        try:
            async with asyncio.timeout(self._provider.idle_timeout):
                while data := await response.read():
                    body += data
                    if len(body) > _MAX_WHOLE_BODY:
                        raise ProtocolError(f"the answer takes more than {_MAX_WHOLE_BODY} bytes")
        except TimeoutError:
            raise IdleTimeout(
                f"no whole answer from {self._provider.name} within idle_timeout, {self._provider.idle_timeout:g} s"
            ) from None
        return self._decoder.feed_completion(bytes(body))

    async def _next(self) -> Iterable[ResponseEvent]:
        """One read, decoded."""
        decoder, telemetry = self._decoder, self._telemetry
        started = 0.0 if telemetry is None else asyncio.get_running_loop().time()
        try:
            data = await (self._read() if decoder.ending == "open" else self._read_rest())
        except BaseException as error:
            if telemetry is not None:
                self._report(telemetry, _outcome(error), started)
            raise
        if not data:
            if telemetry is not None:
                self._report(telemetry, "eof", started)
            return decoder.feed_eof()
        parsed = decoder.parsed
        events = decoder.feed(data)
        came = bool(events) or decoder.parsed != parsed
        if came:
            self._deadline = None  # comments alone do not count
        if telemetry is not None:
            count = len(events) if isinstance(events, list) else 0
            self._report(telemetry, "events" if came else "comment", started, count)
        return events

    def _report(self, telemetry: SseTelemetry, outcome: PollOutcome, started: float, events: int = 0) -> None:
        telemetry.on_sse_poll(SsePollRecord(outcome, asyncio.get_running_loop().time() - started, events))

    async def _read(self) -> bytes:
        """The next bytes, b"" at the end; raises `IdleTimeout` once no event came for too long."""
        assert self._response is not None  # noqa: S101 - _more has seen to it
        loop = asyncio.get_running_loop()
        if self._deadline is None:
            self._deadline = loop.time() + self._provider.idle_timeout
        if self._timer is None:
            self._timer = loop.call_at(self._deadline, _look, weakref.ref(self))
        try:
            return await self._response.read()
        except Disconnected as error:
            if self._expired:
                raise IdleTimeout(
                    f"idle timeout waiting for SSE: no event from {self._provider.name} "
                    f"for {self._provider.idle_timeout:g} s"
                ) from error
            raise

    async def _read_rest(self) -> bytes:
        """What comes after the finish: usage, ``[DONE]``. Waits a little for usage, and not at all once it is there.

        The answer itself is whole, so whatever goes wrong here is its end and no failure.
        """
        assert self._response is not None  # noqa: S101 - _more has seen to it
        if self._decoder.ending == "settled":
            return b""
        if self._grace_deadline is None:
            self._grace_deadline = asyncio.get_running_loop().time() + self._provider.finish_grace
        try:
            async with asyncio.timeout_at(self._grace_deadline):
                return await self._response.read()
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
        elif self._response is not None:
            self._expired = True
            self._response.close()


def _outcome(error: BaseException) -> PollOutcome:
    if isinstance(error, asyncio.CancelledError):
        return "cancelled"
    return "idle_timeout" if isinstance(error, IdleTimeout) else "error"


def _look(stream: weakref.ref[ResponseStream]) -> None:
    """The timer must not keep alive a stream that nobody holds any more."""
    found = stream()
    if found is not None:
        found._too_idle()
