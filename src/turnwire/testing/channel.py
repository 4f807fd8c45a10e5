"""A connection after its WebSocket handshake: messages in, answers out, byte for byte as they were decided.

The websockets library's sans-I/O protocol frames and compresses. What is sent and when, and how it breaks, is ours.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from msgspec import Struct
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory
from websockets.frames import Frame as WireFrame
from websockets.frames import Opcode
from websockets.http11 import Request
from websockets.protocol import State
from websockets.server import ServerProtocol

from turnwire.testing.answer import Answer, Part
from turnwire.testing.connection import Connection
from turnwire.testing.frame import ClosingHandshake, Frame, FrameAnswer
from turnwire.testing.request import MAX_BODY, RecordedRequest

__all__ = ["Channel", "Message"]

_REFUSAL_HEADERS = frozenset({"allow", "content-type", "upgrade"})
"""What the library's refusals say that is not about how their body is framed."""
_MAX_PING = 125
"""Bytes of a control frame's payload (RFC 6455, section 5.5)."""


class Message(Struct, frozen=True):
    """One message of the client, its fragments joined."""

    data: bytes
    is_text: bool
    early: bool
    """It came before another was answered."""


class Channel:
    """Reads messages and plays answers, one at a time. Pings are answered at any time, silence or not."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._protocol = ServerProtocol(extensions=[ServerPerMessageDeflateFactory()], max_size=MAX_BODY)
        self._received: asyncio.Queue[Message | None] = asyncio.Queue()
        self._fragments: list[bytes] = []
        self._is_text = True
        self._unanswered = 0

    @property
    def complaint(self) -> str | None:
        """What the client did that WebSocket does not allow; None where it did nothing of the kind."""
        error = self._protocol.parser_exc
        return (
            None if error is None or isinstance(error, EOFError) else f"the client does not keep to WebSocket: {error}"
        )

    async def open(self, request: RecordedRequest, headers: Mapping[str, str]) -> Answer | None:
        """Accept the handshake, with more headers in the 101 response; where it is not sound, the refusal to play."""
        lines = [f"GET {request.path} HTTP/1.1", *(f"{name}: {value}" for name, value in request.headers.items())]
        self._protocol.receive_data("\r\n".join([*lines, "\r\n"]).encode("latin-1"))
        (handshake,) = self._protocol.events_received()
        assert isinstance(handshake, Request)  # noqa: S101 - it was read as a request before
        response = self._protocol.accept(handshake)
        if response.status_code != 101:
            refused = {name.lower(): value for name, value in response.headers.raw_items()}
            kept = {name: value for name, value in refused.items() if name in _REFUSAL_HEADERS}
            return Answer(status=response.status_code, headers=kept, parts=(Part(bytes(response.body or b"")),))
        del response.headers["date"]  # the same bytes in each run
        for name, value in headers.items():
            response.headers[name] = value
        self._protocol.send_response(response)
        self._connection.divert(self._take)
        self._connection.left.add_done_callback(lambda _: self._received.put_nowait(None))
        await self._connection.write(self._to_send())
        return None

    async def receive(self) -> Message | None:
        """The next message, None where the client has left."""
        return await self._received.get()

    async def play(self, answer: FrameAnswer) -> None:
        """Write an answer, its pauses and its ending included; raises `ClientLeft` if the client does not stay."""
        connection = self._connection
        for frame in answer.frames:
            await connection.pause(frame.pause)
            if frame is answer.frames[-1]:
                self._unanswered -= 1  # who has read it may ask again at once, and is not early
            await connection.write(self._encoded(frame))
        match answer.ending:
            case "silence":
                while answer.heartbeat is not None:
                    await connection.pause(answer.heartbeat.pause)
                    await connection.write(self._encoded(answer.heartbeat))
                await connection.pause(None)
            case "reset":
                await connection.reset()
            case "close":
                await connection.close()
            case ClosingHandshake(code, reason):
                await self._close(code, reason)
            case "whole":
                pass

    async def _close(self, code: int, reason: str) -> None:
        """Close with a close frame, and wait for the client's: else a reset could take what is on its way."""
        await self._connection.pause(0)
        self._protocol.send_close(code, reason)
        await self._connection.write(self._to_send())
        await asyncio.wait((self._connection.left,))
        await self._connection.close()

    def _take(self, data: bytes) -> None:
        """What the client sent, at once: its pings are answered and its leaving noticed, whatever is being played."""
        self._protocol.receive_data(data)
        for event in self._protocol.events_received():
            if isinstance(event, WireFrame) and event.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
                if event.opcode is not Opcode.CONT:
                    self._is_text = event.opcode is Opcode.TEXT
                self._fragments.append(bytes(event.data))
                if event.fin:
                    message = Message(b"".join(self._fragments), self._is_text, early=self._unanswered > 0)
                    self._fragments.clear()
                    self._unanswered += 1
                    self._received.put_nowait(message)
        if reply := self._to_send():
            self._connection.write_soon(reply)
        if self._protocol.state is not State.OPEN:
            self._connection.leave()

    def _encoded(self, frame: Frame) -> bytes:
        protocol, data = self._protocol, frame.data
        if frame.missing:
            # Without compression, for only so the cut falls on the byte that was asked for.
            return WireFrame(Opcode.TEXT, data + bytes(frame.missing)).serialize(mask=False)[: -frame.missing]
        if frame.form == "ping":
            protocol.send_ping(data[:_MAX_PING])
        elif frame.form == "binary":
            protocol.send_binary(data)
        else:
            size = frame.fragment_size or max(1, len(data))
            protocol.send_text(data[:size], fin=size >= len(data))
            for at in range(size, len(data), size):
                protocol.send_continuation(data[at : at + size], fin=at + size >= len(data))
        return self._to_send()

    def _to_send(self) -> bytes:
        return b"".join(self._protocol.data_to_send())
