"""One HTTP/1.1 connection over httptools: a request at a time, and its response as it comes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

import httptools

from turnwire.errors import ApiError, Disconnected, ProtocolError
from turnwire.transport.failure import broken_off, lost, no_http
from turnwire.transport.message import MAX_HEAD, MAX_READ, HttpResponse, bound_reads

__all__ = ["DirectConnection", "DirectResponse", "NotAnswered"]


class NotAnswered(Exception):
    """The connection was closed before a byte of a response came."""


class DirectResponse(HttpResponse):
    """A response on a `DirectConnection`, which feeds it."""

    def __init__(self, connection: DirectConnection, status: int, headers: dict[str, str], where: str) -> None:
        super().__init__(status, headers, where)
        self._connection: DirectConnection | None = connection
        self.pieces: list[bytes] = []
        """What has come of the body and was not read, for the connection to add to; it calls `hand_over` then."""
        self._size = 0
        self._paused = False
        self._ended = False
        self._error: ApiError | None = None
        self._reader: asyncio.Future[bool] | None = None  # done when there is news; whether it is to be read
        self._take: Callable[[bytes], bool] | None = None  # takes what comes, in the reader's place

    @property
    def over(self) -> bool:
        """The body was read to its proper end, or has none."""
        return self._ended and not self.pieces and self._error is None

    async def read(self) -> bytes:
        """All bytes that have come since the last read, as `HttpResponse.read` says."""
        while not self.pieces:
            if self._error is not None:
                raise self._error
            if self._ended:
                return b""
            await self._news()
        return self._collected()

    async def read_into(self, take: Callable[[bytes], bool]) -> None:
        """As `HttpResponse.read_into` says, from within the event loop's own call."""
        goes_on = True
        while goes_on:
            if self.pieces:
                goes_on = take(self._collected())
            elif self._error is not None:
                raise self._error
            elif self._ended:
                goes_on = take(b"")
            else:
                self._take = take
                try:
                    goes_on = await self._news()
                finally:
                    self._take = None

    def close(self) -> None:
        """Closes the connection at once, unless the body was read to its end."""
        if self._connection is not None:
            self._connection.abort()
            self.lost(Disconnected(f"the response from {self.where} was closed"))

    def hand_over(self, size: int) -> None:
        """All of a read was added, which took so many bytes: whoever waits for it gets it."""
        pieces = self.pieces
        if not pieces:
            return
        take, reader = self._take, self._reader
        if take is None or reader is None or reader.done():
            self._size += size
            if self._size > MAX_READ and not self._paused and self._connection is not None:
                self._paused = True
                self._connection.pause()
            self._wake()
            return
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        try:
            if not take(data):
                reader.set_result(False)
        except Exception as error:  # noqa: BLE001 - it is raised where somebody waits
            reader.set_exception(error)

    def end(self) -> None:
        """The body has come to its proper end; the connection is none of its business any more."""
        if self._paused and self._connection is not None:
            self._connection.resume()
        self._connection = None
        self._ended = True
        self._wake()

    def lost(self, error: ApiError) -> None:
        """The connection was lost before that end."""
        self._connection = None
        if self._error is None:
            self._error = error
        self._wake()

    def _collected(self) -> bytes:
        """What has come, which is the reader's from now on."""
        data = b"".join(self.pieces)
        self.pieces.clear()
        self._size = 0
        if self._paused:
            self._paused = False
            if self._connection is not None:
                self._connection.resume()
        return data

    async def _news(self) -> bool:
        """Waits for news of the body; whether that is still to be read."""
        self._reader = asyncio.get_running_loop().create_future()
        return await self._reader

    def _wake(self) -> None:
        reader = self._reader
        if reader is not None and not reader.done():
            reader.set_result(True)


class DirectConnection(asyncio.Protocol):
    """A connection to a server. ``on_free`` is called when it can take another request, ``on_lost`` when it is gone."""

    def __init__(
        self, on_free: Callable[[DirectConnection], None], on_lost: Callable[[DirectConnection], None]
    ) -> None:
        self._on_free = on_free
        self._on_lost = on_lost
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport
        self._where = ""
        self._awaited: asyncio.Future[DirectResponse] | None = None  # a response whose head has not come
        self._response: DirectResponse | None = None  # the one whose body comes
        self._headers: dict[str, str] = {}
        self._unframed = 0  # bytes since the last that were of a body
        self._heard = False
        self.free_since = 0.0
        """When it became free, by the loop's clock."""
        self.gone = False
        """It is closed, or about to be."""

    async def ask(self, head: bytes, body: bytes, where: str) -> DirectResponse:
        """The response to a request, once its head has come; ``where`` is what errors call the server.

        Raises `NotAnswered`, `Disconnected` or `ProtocolError`.
        """
        self._where = where
        self._heard = False
        self._unframed = 0
        self._headers = {}
        self._awaited = asyncio.get_running_loop().create_future()
        self._transport.writelines((head, body))
        try:
            return await self._awaited
        except asyncio.CancelledError:
            self.abort()
            raise

    def abort(self) -> None:
        """Closes it at once; whoever waits for something from it hears so."""
        self.gone = True
        self._transport.abort()

    def pause(self) -> None:
        """Has the server wait with more."""
        if not self.gone:
            self._transport.pause_reading()

    def resume(self) -> None:
        """Lets it go on."""
        if not self.gone:
            self._transport.resume_reading()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The server has accepted."""
        self._transport = cast(asyncio.Transport, transport)
        bound_reads(transport)

    def data_received(self, data: bytes) -> None:
        """More of a response; what comes unasked ends the connection."""
        if self._awaited is None and self._response is None:
            self.abort()
            return
        self._heard = True
        self._unframed += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._fail(ProtocolError(f"{self._where} answered with another protocol than HTTP"))
        except httptools.HttpParserError as error:
            self._fail(no_http(self._where, str(error).rstrip(".")))
        else:
            if self._response is not None:
                self._response.hand_over(len(data))
            if self._unframed > MAX_HEAD:
                self._fail(ProtocolError(f"{self._where} sent a head of more than {MAX_HEAD} bytes"))

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is closed, by whichever side."""
        aborted, self.gone = self.gone, True
        response, awaited = self._response, self._awaited
        self._response = self._awaited = None
        if response is not None:
            if exc is None and not aborted and _ends_with_connection(self._headers):
                response.end()
            else:
                response.lost(broken_off(self._where))
        elif awaited is not None and not awaited.done():
            awaited.set_exception(lost(self._where) if self._heard else NotAnswered())
        self._on_lost(self)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or a trailer, which nobody reads."""
        if self._response is None:
            self._headers.setdefault(name.decode("latin-1").lower(), value.decode("latin-1"))

    def on_headers_complete(self) -> None:
        """The head is whole; those of informational responses are only told by the way."""
        status = self._parser.get_status_code()
        if status < 200:
            self._headers = {}
        elif self._awaited is not None:
            response = self._response = DirectResponse(self, status, self._headers, self._where)
            awaited, self._awaited = self._awaited, None
            if not awaited.done():
                awaited.set_result(response)

    def on_body(self, data: bytes) -> None:
        """A piece of the body."""
        self._unframed = 0
        response = self._response
        if response is not None:
            response.pieces.append(data)

    def on_message_complete(self) -> None:
        """The body has come to its end."""
        response = self._response
        if response is None:
            return
        self._response = None
        response.end()
        # An answer before all of the question was sent leaves the rest of that in the way.
        if self._parser.should_keep_alive() and not self._transport.get_write_buffer_size():
            self._on_free(self)
        else:
            self.gone = True
            self._transport.close()

    def _fail(self, error: ProtocolError) -> None:
        if self._response is not None:
            self._response.lost(error)
        elif self._awaited is not None and not self._awaited.done():
            self._awaited.set_exception(error)
        self.abort()


def _ends_with_connection(headers: dict[str, str]) -> bool:
    """Whether a body has no other end (RFC 9112, section 6.3)."""
    return "content-length" not in headers and not headers.get("transfer-encoding", "").lower().endswith("chunked")
