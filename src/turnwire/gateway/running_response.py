"""One response that runs on without its client: it is written to like a client, and read by any number of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any, Literal

import msgspec
from msgspec.structs import replace

from turnwire.errors import ApiError, ProtocolError
from turnwire.gateway.event_log import EventLog
from turnwire.gateway.refusal import stream_failure
from turnwire.gateway.store import StoredResponse
from turnwire.wire.responses.failure import encode_failure

__all__ = ["BATCH", "RunningResponse", "ending"]

BATCH = 256
"""Events that a reader is given in one go at most."""


class RunningResponse:
    """A `turnwire.gateway.sink.Sink` that keeps what is written to it, until a terminal event ends it.

    The first end counts: what is written behind it is left out. Readers get the terminal event when the response is
    settled, so that what they ask for next finds it in the store.
    """

    shows_headers = True  # no token need be told in an event: nobody goes on with a turn from here

    def __init__(self, tenant: str, record: StoredResponse, max_size: int) -> None:
        self.tenant = tenant
        self._record = record
        self._max_size = max_size
        self._log = EventLog()
        self._released = 0
        self._news = asyncio.Event()
        self._settled = asyncio.Event()
        self.ended = asyncio.get_running_loop().create_future()
        """Done once nothing more is taken; its result says whether that was the answer's own end."""

    def __repr__(self) -> str:
        return f"<RunningResponse {self.response_id}: {self._log!r}>"

    @property
    def response_id(self) -> str:
        """The response's id."""
        return self._record.response_id

    @property
    def record(self) -> StoredResponse:
        """The response as it is now."""
        running_until = None if self._settled.is_set() else self._record.running_until
        return replace(self._record, document=self._document, running_until=running_until)

    @property
    def final(self) -> tuple[StoredResponse, bytes]:
        """The response as it ended, and its events: what is to be kept."""
        return replace(self._record, document=self._document, running_until=None), b"".join(self._log.events)

    @property
    def _document(self) -> bytes:
        return self._log.response or self._record.document

    # What writes to it.

    async def begin(self, headers: Mapping[str, str]) -> None:
        """Nothing: the client has been answered."""

    async def write(self, events: Sequence[bytes]) -> None:
        """Keeps events."""
        self.put(events)

    def put(self, events: Sequence[bytes]) -> Literal[True]:
        """Keeps events."""
        if not self.ended.done():
            self._keep(events)
        return True

    def _keep(self, events: Sequence[bytes]) -> None:
        try:
            self._log.feed(b"".join(events))
        except ProtocolError as error:
            if not self._log.over:
                self.fail(error)
                return
        if self._log.over:
            self._end(own=True)
        elif self._log.size > self._max_size:
            self.fail(ProtocolError(f"the answer's events take more than {self._max_size} bytes"))
        else:
            self._release(len(self._log.events))

    async def end(self) -> None:
        """Nothing: the terminal event has said it."""

    async def answer(self, document: bytes, headers: Mapping[str, str]) -> None:
        """A whole answer, as if its stream consisted of the end."""
        response = msgspec.json.decode(document)
        self._finish(f"response.{response.get('status', 'completed')}", response, own=True)

    async def refuse(self, error: ApiError, headers: Mapping[str, str]) -> None:
        """There is no answer."""
        self._finish(*_failed(self._document, error), own=True)

    async def left(self) -> None:
        """Never returns: nobody needs to wait for this answer."""
        await asyncio.Event().wait()

    # What ends it from outside.

    def fail(self, error: ApiError) -> None:
        """Ends it as failed; nothing where it has ended."""
        self._finish(*_failed(self._document, error), own=False)

    def cancel(self) -> None:
        """Ends it as cancelled; nothing where it has ended."""
        self._finish(*ending(self._document, status="cancelled"), own=False)

    def settle(self) -> None:
        """All that was to be done for it is done."""
        self._settled.set()
        self._release(len(self._log.events))

    # What reads it.

    async def settled(self) -> None:
        """Returns once it is settled."""
        await self._settled.wait()

    async def follow(self, starting_after: int | None = None) -> AsyncGenerator[Sequence[bytes], None]:
        """Its events behind the one of this number, those that are there and those to come, to the end."""
        place = self._log.place_behind(starting_after)
        while True:
            news = self._news
            batch = self._log.events[place : min(place + BATCH, self._released)]
            if batch:
                place += len(batch)
                yield batch
            elif self._settled.is_set():
                return
            else:
                await news.wait()

    def _finish(self, kind: str, response: dict[str, Any], *, own: bool) -> None:
        if not self.ended.done():
            self._log.append(kind, response)
            self._end(own=own)

    def _end(self, *, own: bool) -> None:
        self._release(len(self._log.events) - 1)
        self.ended.set_result(own)

    def _release(self, number: int) -> None:
        """Lets readers have so many events."""
        self._released = number
        self._news.set()
        self._news = asyncio.Event()


def ending(document: bytes, **fields: Any) -> tuple[str, dict[str, Any]]:
    """The event that ends a response from outside: its type, and the response with the fields that say why.

    The API has no event for a cancelled response. A stream that just stopped might pass for an answer, so it ends as
    a failed one does, with the response's own status in it.
    """
    return "response.failed", {**msgspec.json.decode(document), **fields}


def _failed(document: bytes, error: ApiError) -> tuple[str, dict[str, Any]]:
    return ending(document, status="failed", error=encode_failure(stream_failure(error)))
