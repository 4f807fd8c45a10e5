"""uvicorn's WebSocket protocol over websockets' sans-I/O core, with bounds on what a client costs that does not read.

uvicorn answers each ping at once, whether or not anybody takes the pongs, and keeps all fragments of a message, of
which empty ones count nothing towards its size. A handshake that was refused it logs as a defect of the application,
and one that can't be read it leaves without an answer for good.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import CloseCode, Frame
from websockets.http11 import Request
from websockets.protocol import State

from turnwire.gateway.at_once import extension

if TYPE_CHECKING:
    from uvicorn._types import ASGISendEvent

__all__ = ["BoundedSocketProtocol"]

_MAX_FRAGMENTS = 16 * 1024
"""Of one message: those of the largest one may be as small as 4 KiB."""
_BAD_HANDSHAKE = b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
"""For one that websockets does not read: of more than 128 headers, or with one over 8 KiB."""
_LAST_WORD = 1.0
"""Seconds that a client which broke a rule gets to read so. While it still sends, a connection that is closed at once
would take the close frame along."""


class BoundedSocketProtocol(WebSocketsSansIOProtocol):
    """One WebSocket. Nothing is read from a client that does not take what was written to it."""

    def data_received(self, data: bytes) -> None:
        """More frames."""
        super().data_received(data)
        if self.conn.handshake_exc is not None and not self.handshake_initiated:
            self.transport.write(_BAD_HANDSHAKE)
            self.transport.close()
        elif not self.writable.is_set() and not self.transport.is_closing():
            self.transport.pause_reading()

    def resume_writing(self) -> None:
        """The client reads again."""
        super().resume_writing()
        if not self.read_paused and not self.transport.is_closing():
            self.transport.resume_reading()

    def handle_connect(self, event: Request) -> None:
        """A client asks for a WebSocket."""
        super().handle_connect(event)
        if hasattr(self, "scope"):  # else it was refused
            extensions: dict[str, Any] = self.scope["extensions"] or {}
            extensions |= extension(self.receive, self.send, self.put)

    def put(self, messages: Sequence[bytes]) -> bool:
        """Sends text messages at once; not while the client does not read, or where it is leaving."""
        if self.close_sent or self.conn.state is not State.OPEN or not self.writable.is_set():
            return False
        if self.transport.is_closing():  # which `disconnected` says somewhat later
            return False
        for message in messages:
            self.conn.send_text(message)
        self.transport.write(b"".join(self.conn.data_to_send()))
        return True

    def handle_cont(self, event: Frame) -> None:
        """One more fragment of a message."""
        if len(self.frames) < _MAX_FRAGMENTS:
            super().handle_cont(event)
        elif not self.close_sent:
            self.frames = []
            self.conn.fail(CloseCode.MESSAGE_TOO_BIG, f"over {_MAX_FRAGMENTS} fragments")
            self.handle_parser_exception()

    def handle_parser_exception(self) -> None:
        """A rule was broken: the client is told, and what it still sends is passed over."""
        closing = self.conn.close_sent
        if self.close_sent or closing is None:
            return
        self.close_sent = True
        self.stop_keepalive()
        self.queue.put_nowait({"type": "websocket.disconnect", "code": closing.code, "reason": closing.reason})
        self.transport.write(b"".join(self.conn.data_to_send()))
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.close_timer = self.loop.call_later(_LAST_WORD, self.transport.close)

    async def send(self, message: ASGISendEvent) -> None:
        """What the application says."""
        await super().send(message)
        if message["type"] == "websocket.http.response.body" and not message.get("more_body", False):
            self.handshake_complete = True
