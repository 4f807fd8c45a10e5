"""What a client was told, in numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from turnwire.errors import ApiError
from turnwire.gateway.refusal import refusal
from turnwire.gateway.sink import Sink

__all__ = ["MeteredSink"]


class MeteredSink:
    """A sink that knows what the client was told by it: the status, and how many bytes."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self.status: int | None = None
        """None until the client is told anything."""
        self.bytes = 0
        """Of the body, or of the messages."""

    @property
    def shows_headers(self) -> bool:
        """As the sink's."""
        return self._sink.shows_headers

    async def begin(self, headers: Mapping[str, str]) -> None:
        """A stream begins."""
        self.status = 200
        await self._sink.begin(headers)

    def put(self, events: Sequence[bytes]) -> bool:
        """Writes events at once, where that can be, and counts them then."""
        done = self._sink.put(events)
        if done:
            self.bytes += sum(map(len, events))
        return done

    async def write(self, events: Sequence[bytes]) -> None:
        """Counts events and writes them."""
        self.bytes += sum(map(len, events))
        await self._sink.write(events)

    async def end(self) -> None:
        """The stream is over."""
        await self._sink.end()

    async def answer(self, document: bytes, headers: Mapping[str, str]) -> None:
        """A whole answer."""
        self.status = 200
        self.bytes += len(document)
        await self._sink.answer(document, headers)

    async def refuse(self, error: ApiError, headers: Mapping[str, str]) -> None:
        """A refusal, with the status that goes with the error."""
        refused = refusal(error)
        self.status = refused.status
        self.bytes += len(refused.body)
        await self._sink.refuse(error, headers)

    async def left(self) -> None:
        """Returns when the client has gone."""
        await self._sink.left()
