"""One client's connection to the scripted server: requests in, answers out, and the client's leaving noticed."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable

from turnwire.testing.answer import Answer
from turnwire.testing.request import MAX_HEAD, RecordedRequest, read_request

__all__ = ["ClientLeft", "Connection", "ConnectionProtocol"]

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER: on, 0 seconds


class ClientLeft(Exception):
    """The client closed its end before it was given all."""


class ConnectionProtocol(asyncio.StreamReaderProtocol):
    """asyncio's streams, and two futures that tell of the client without reading what it may have sent.

    After an upgrade, whoever speaks the new protocol sets ``on_data``, and gets the bytes at once.
    """

    def __init__(self, connected: Callable[[Connection], None]) -> None:
        super().__init__(asyncio.StreamReader(limit=MAX_HEAD), self._streams_made)
        self._connected = connected
        loop = asyncio.get_running_loop()
        self.left: asyncio.Future[None] = loop.create_future()
        """Done when the client has closed its end; one that closes only its sending side counts as gone, too."""
        self.lost: asyncio.Future[None] = loop.create_future()
        """Done when the connection is no more, whoever closed it."""
        self.on_data: Callable[[bytes], None] | None = None

    def _streams_made(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connected(Connection(reader, writer, self))

    def data_received(self, data: bytes) -> None:
        """More from the client."""
        if self.on_data is None:
            super().data_received(data)
        else:
            self.on_data(data)

    def eof_received(self) -> bool | None:
        """The client will send no more."""
        self.leave()
        return super().eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is no more."""
        self.lost.set_result(None)
        self.leave()
        super().connection_lost(exc)

    def leave(self) -> None:
        """The client has taken its leave, in whatever way."""
        if not self.left.done():
            self.left.set_result(None)


class Connection:
    """Reads requests and plays answers, one at a time."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, protocol: ConnectionProtocol
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._protocol = protocol
        # With no room in the transport's buffer, drain() returns when the kernel has everything. What is closed or
        # reset after that has exactly the bytes in front of it that it should have.
        writer.transport.set_write_buffer_limits(high=0)

    async def read_request(self, number: int) -> RecordedRequest | None:
        """The next request, as `turnwire.testing.request.read_request` gives it; ``number`` is the connection's."""
        return await read_request(self._reader, number)

    async def play(self, answer: Answer) -> None:
        """Write an answer, its pauses and its ending included; raises `ClientLeft` if the client does not stay."""
        for pause, data in answer.writes():
            await self.pause(pause)
            await self.write(data)
        match answer.ending:
            case "silence":
                while answer.heartbeat is not None:
                    await self.pause(answer.heartbeat.pause)
                    await self.write(answer.framed(answer.heartbeat))
                await self.pause(None)
            case "reset":
                await self.reset()
            case "close":
                await self.close()
            case "whole":
                pass

    async def close(self) -> None:
        """Close the connection at once; returns when it is no more."""
        self._writer.transport.abort()
        await asyncio.wait((self._protocol.lost,))

    async def reset(self) -> None:
        """Close the connection with a reset (RST)."""
        connection: socket.socket = self._writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        await self.close()

    def divert(self, on_data: Callable[[bytes], None]) -> None:
        """Hand what comes from here on to a function: the connection is no longer one of requests."""
        self._protocol.on_data = on_data

    def leave(self) -> None:
        """Say that the client has taken its leave, where it does so in the words of another protocol than TCP."""
        self._protocol.leave()

    @property
    def left(self) -> asyncio.Future[None]:
        """Done when the client has left."""
        return self._protocol.left

    async def pause(self, seconds: float | None) -> None:
        """Wait so many seconds, None for ever; each pause, even of 0, lets the client's side run.

        Raises `ClientLeft` where the client does not wait as long.
        """
        await asyncio.wait((self._protocol.left,), timeout=seconds)
        if self._protocol.left.done():
            raise ClientLeft

    def write_soon(self, data: bytes) -> None:
        """Write without waiting until it is gone."""
        self._writer.write(data)

    async def write(self, data: bytes) -> None:
        """Write, and wait until the kernel has all of it; raises `ClientLeft` where the client is gone."""
        self._writer.write(data)
        try:
            await self._writer.drain()
        except ConnectionError:
            raise ClientLeft from None
