"""A client's WebSocket: its messages one by one, its leaving, and the sink that each of its requests is answered to."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from starlette.types import Message, Receive, Scope, Send

from turnwire.errors import ApiError
from turnwire.gateway.at_once import put_of
from turnwire.gateway.refusal import refusal_frame

__all__ = ["SocketConnection", "SocketSink"]


class SocketConnection:
    """An accepted WebSocket. One task reads it, so that a client which leaves in mid-answer is noticed."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self.put = put_of(scope, send)
        """Sends text messages at once, as a `turnwire.gateway.at_once.Put` does."""
        # One message waits while another is answered; the rest waits in the client.
        self._messages: asyncio.Queue[str | bytes] = asyncio.Queue(maxsize=1)
        self._gone = asyncio.Event()
        self._reader = asyncio.create_task(self._read())

    @property
    def gone(self) -> bool:
        """The client has closed the connection, or lost it."""
        return self._gone.is_set()

    async def next_message(self, stop: asyncio.Event) -> str | bytes | None:
        """The client's next message; None when it has gone, or when ``stop`` is set."""
        waits: list[asyncio.Task[Any]] = [
            asyncio.create_task(wait) for wait in (self._messages.get(), self._gone.wait(), stop.wait())
        ]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            return waits[0].result() if waits[0].done() else None
        finally:
            for wait in waits:
                wait.cancel()

    async def left(self) -> None:
        """Returns when the client has gone."""
        await self._gone.wait()

    async def send(self, message: bytes) -> None:
        """Sends one text message; nothing once the client has gone. Waits while the client does not read."""
        if not self._gone.is_set():
            try:
                await self._send({"type": "websocket.send", "text": message.decode()})
            except OSError:
                self._gone.set()

    async def close(self, code: int) -> None:
        """Closes the connection, and stops reading it."""
        is_open = not self._gone.is_set()
        self._reader.cancel()
        await asyncio.wait((self._reader,))  # after which it counts as gone
        if is_open:
            with suppress(OSError):
                await self._send({"type": "websocket.close", "code": code})

    async def _read(self) -> None:
        try:
            while (message := await self._receive())["type"] == "websocket.receive":
                await self._messages.put(_content(message))
        finally:
            self._gone.set()


class SocketSink:
    """One request's share of a connection; it ends, the connection goes on."""

    shows_headers = False

    def __init__(self, connection: SocketConnection) -> None:
        self._connection = connection
        self.left, self.put = connection.left, connection.put

    async def begin(self, headers: Mapping[str, str]) -> None:
        """Nothing: a WebSocket has had its head."""

    async def write(self, events: Sequence[bytes]) -> None:
        """Sends each event as a message."""
        for event in events:
            await self._connection.send(event)

    async def end(self) -> None:
        """Nothing: the terminal event says it."""

    async def answer(self, document: bytes, headers: Mapping[str, str]) -> None:
        """Sends the document as one message."""
        await self._connection.send(document)

    async def refuse(self, error: ApiError, headers: Mapping[str, str]) -> None:
        """Sends an error frame with the status and the headers that HTTP would have had."""
        await self._connection.send(refusal_frame(error))


def _content(message: Message) -> str | bytes:
    text = message.get("text")
    return text if text is not None else message.get("bytes") or b""
