"""Where an answer goes: an HTTP response, or one request's share of a WebSocket.

An answer is a head and a body over HTTP, and a run of messages over a WebSocket; what relays one need not know which.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from starlette.types import Message, Receive, Scope, Send

from turnwire.errors import ApiError
from turnwire.gateway.at_once import put_of
from turnwire.gateway.refusal import refusal

__all__ = ["HttpSink", "Sink"]

_STREAM_HEADERS = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-store",
    "x-accel-buffering": "no",  # nginx in front would hold events back
}
_JSON_HEADERS = {"content-type": "application/json", "cache-control": "no-store"}


class Sink(Protocol):
    """The client's end of one answer. After a client has left, writing does nothing."""

    @property
    def shows_headers(self) -> bool:
        """Whether the client reads `begin`'s headers; where not, it must be told in an event."""

    async def begin(self, headers: Mapping[str, str]) -> None:
        """A stream begins."""

    def put(self, events: Sequence[bytes]) -> bool:
        """Writes events at once; where that can't be, for the client does not read, nothing, and False is returned."""

    async def write(self, events: Sequence[bytes]) -> None:
        """Writes events; waits while the client does not read."""

    async def end(self) -> None:
        """The stream is over."""

    async def answer(self, document: bytes, headers: Mapping[str, str]) -> None:
        """A whole answer, instead of a stream."""

    async def refuse(self, error: ApiError, headers: Mapping[str, str]) -> None:
        """A refusal, instead of a stream."""

    async def left(self) -> None:
        """Returns when the client has gone."""


class HttpSink:
    """One HTTP response, as raw ASGI messages: Starlette's streaming response costs up to half as much again."""

    shows_headers = True

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self.put = put_of(scope, send)
        self.begun = False
        """The client was told something."""

    async def begin(self, headers: Mapping[str, str]) -> None:
        """Sends the head of a stream of events."""
        await self._head(200, {**_STREAM_HEADERS, **headers})

    async def write(self, events: Sequence[bytes]) -> None:
        """Writes events in one go."""
        await self._body(b"".join(events), more=True)

    async def end(self) -> None:
        """Ends the body properly."""
        await self._body(b"", more=False)

    async def answer(self, document: bytes, headers: Mapping[str, str]) -> None:
        """A JSON document."""
        await self._whole(200, {**_JSON_HEADERS, **headers}, document)

    async def refuse(self, error: ApiError, headers: Mapping[str, str]) -> None:
        """The status, headers and body that an error has over HTTP."""
        refused = refusal(error)
        await self._whole(refused.status, {**headers, **refused.headers}, refused.body)

    async def left(self) -> None:
        """Returns when the client has closed its connection, or when the response is complete."""
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def _whole(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        await self._head(status, {**headers, "content-length": str(len(body))})
        await self._body(body, more=False)

    async def _head(self, status: int, headers: Mapping[str, str]) -> None:
        self.begun = True
        raw = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
        await self._tell({"type": "http.response.start", "status": status, "headers": raw})

    async def _body(self, body: bytes, *, more: bool) -> None:
        await self._tell({"type": "http.response.body", "body": body, "more_body": more})

    async def _tell(self, message: Message) -> None:
        try:
            await self._send(message)
        except OSError:
            return  # which some servers raise where the client has left, while others do nothing
