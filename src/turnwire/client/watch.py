"""What is noted of a stream while it goes on, and told once it is over."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextvars import Context, copy_context
from typing import Literal

from turnwire.client.provider import Provider
from turnwire.errors import ApiError
from turnwire.event import Completed
from turnwire.telemetry import RetryRecord, StreamOutcome, StreamRecord, StreamTelemetry, Wire

__all__ = ["StreamWatch"]

_log = logging.getLogger("turnwire.client")


class StreamWatch:
    """Watches one stream for a hook. It hears of what happens to the stream as a whole, never of a chunk.

    Its hook can't harm the answer: what it raises is logged.
    """

    def __init__(self, telemetry: StreamTelemetry, provider: Provider, model: str) -> None:
        self.wire: Wire = provider.wire_api
        """What the stream is asked for over, at the moment."""
        self._telemetry = telemetry
        self._provider = provider
        self._model = model
        self._context: Context | None = None
        self._time: Callable[[], float] = float
        self._started = 0.0
        self._time_to_first_output: float | None = None
        self._retries: list[RetryRecord] = []

    def begun(self) -> None:
        """A request is about to go out; the first one is the stream's beginning."""
        if self._context is None:
            self._context = copy_context()
            self._time = asyncio.get_running_loop().time
            self._started = self._time()

    def retried(self, what: Literal["handshake", "request", "stream"], error: ApiError, delay: float) -> None:
        """Something failed, and is tried again after so many seconds."""
        self._retries.append(RetryRecord(what, type(error).__name__, self._elapsed(), delay))

    def output_began(self) -> None:
        """The first event of the answer itself is there."""
        self._time_to_first_output = self._elapsed()

    def over(self, completed: Completed | None, error: BaseException | None, *, committed: bool) -> None:
        """The stream is over, in one way or another; one that was never begun is not told."""
        if self._context is None:
            return
        end = completed or Completed()
        record = StreamRecord(
            provider=self._provider.name,
            base_url=self._provider.base_url,
            model=self._model,
            wire=self.wire,
            outcome=_outcome(completed, error),
            duration=self._elapsed(),
            time_to_first_output=self._time_to_first_output,
            response_id=end.response_id,
            token_usage=end.token_usage,
            finish_reason=end.finish_reason,
            incomplete_reason=end.incomplete_reason,
            error=None if error is None else type(error).__name__,
            committed=committed,
            retries=tuple(self._retries),
        )
        try:
            self._context.run(self._telemetry.on_stream, record)
        except Exception:  # noqa: BLE001 - whatever it is, the answer is worth more
            _log.exception("the hook on_stream failed")

    def _elapsed(self) -> float:
        return self._time() - self._started


def _outcome(completed: Completed | None, error: BaseException | None) -> StreamOutcome:
    if error is not None:
        return "failed"
    if completed is None:
        return "abandoned"
    return "completed" if completed.incomplete_reason is None else "incomplete"
