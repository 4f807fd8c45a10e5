"""A relay in front of the gateway that changes no byte, and keeps a copy of all in the order in which they came.

Where a scenario wants it, the relay is a proxy that lets no WebSocket through, as there are many.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from types import TracebackType
from typing import Literal, Self, TypeAlias

from msgspec import Struct

__all__ = ["Piece", "Sender", "Tap"]

Sender: TypeAlias = Literal["codex", "gateway"]

_READ = 64 * 1024
_HANDSHAKE = b"GET /v1/responses "
_REFUSAL = b"HTTP/1.1 426 Upgrade Required\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class Piece(Struct, frozen=True):
    """What one read brought."""

    connection: int
    """Counted from 0, in the order in which they were opened."""
    sender: Sender
    data: bytes


class Tap:
    """Listens on a port of its own, which stays while the gateway behind it comes and goes.

    `gateway` says where to; a connection that finds nobody there is closed at once. An async context manager.
    """

    def __init__(self, gateway: tuple[str, int]) -> None:
        self.gateway = gateway
        self.pieces: list[Piece] = []
        self.refuses_websockets = False
        self._count = 0
        self._server: asyncio.Server | None = None

    @property
    def address(self) -> str:
        """Host and port, as they stand in a URL."""
        assert self._server is not None
        host, port = self._server.sockets[0].getsockname()
        return f"{host}:{port}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._relay, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number = self._count
        self._count += 1
        try:
            far_reader, far_writer = await asyncio.open_connection(*self.gateway)
        except OSError:
            writer.transport.abort()
            return
        ways = [
            asyncio.create_task(self._copy(number, "codex", reader, far_writer, back=writer)),
            asyncio.create_task(self._copy(number, "gateway", far_reader, writer, back=far_writer)),
        ]
        # Neither client nor gateway half-closes: where one has left, the other is to know at once.
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for way in ways:
            way.cancel()
        for end in (writer, far_writer):
            end.close()

    async def _copy(
        self,
        number: int,
        sender: Sender,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        back: asyncio.StreamWriter,
    ) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(_READ):
                self.pieces.append(Piece(number, sender, data))
                if self.refuses_websockets and data.startswith(_HANDSHAKE):
                    self.pieces.append(Piece(number, "gateway", _REFUSAL))
                    back.write(_REFUSAL)
                    return
                writer.write(data)
                await writer.drain()
