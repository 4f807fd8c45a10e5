"""What Codex and the gateway said to each other, read from the bytes that the tap kept."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal, TypeAlias

import httptools
import msgspec
from msgspec import Struct
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Frame, Opcode
from websockets.protocol import Protocol, Side, State

from e2e.tap import Piece, Sender
from turnwire.client.turn_state import TURN_STATE_HEADER

__all__ = ["Answered", "Asked", "Said", "TokenGiven", "conversation"]


class Asked(Struct, frozen=True):
    """A request for an answer of the model, over HTTP or in a message of a WebSocket."""

    connection: int
    wire: Literal["http", "websocket"]
    token: str | None
    """The routing token it carries, None where there is none or an empty one."""
    turn: str | None
    """Codex's own name of the user turn; the warm-up of a connection is part of none."""
    body: Mapping[str, Any]


class Answered(Struct, frozen=True):
    """The head of an HTTP response, a handshake's included."""

    connection: int
    status: int
    headers: Mapping[str, str]


class TokenGiven(Struct, frozen=True):
    """The routing token, handed out in a response's header or in ``response.metadata``."""

    connection: int
    token: str


Said: TypeAlias = Asked | Answered | TokenGiven


def conversation(pieces: Iterable[Piece]) -> list[Said]:
    """All that was said, in the order in which its last byte came by."""
    connections: dict[int, _Connection] = {}
    said: list[Said] = []
    for piece in pieces:
        connection = connections.setdefault(piece.connection, _Connection(piece.connection))
        said += connection.feed(piece.sender, piece.data)
    return said


class _Connection:
    """One connection: HTTP/1.1, until it becomes a WebSocket."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._http: dict[Sender, _Requests | _Responses] = {"codex": _Requests(), "gateway": _Responses()}
        self._frames: dict[Sender, Protocol] = {}
        self._bodiless = False
        """Whether the next answer is one to HEAD."""

    def feed(self, sender: Sender, data: bytes) -> Iterator[Said]:
        if sender not in self._frames:
            try:
                self._http[sender].parser.feed_data(data)
                rest = b""
            except httptools.HttpParserUpgrade as upgrade:
                rest = data[upgrade.args[0] :]
                self._frames[sender] = _frame_reader(sender)
            yield from self._http_said(sender)
            data = rest
        if data:
            self._frames[sender].receive_data(data)
            yield from self._websocket_said(sender)

    def _http_said(self, sender: Sender) -> Iterator[Said]:
        for start, headers, body in self._http[sender].take():
            if start.startswith("HEAD "):
                self._bodiless = True
            elif sender == "gateway":
                if self._bodiless:  # its content-length is that of a body which does not come
                    self._http[sender], self._bodiless = _Responses(), False
                yield Answered(self._number, int(start), headers)
                # Where a request failed Codex looks at no token, and on a handshake it does neither.
                if start == "200" and (token := headers.get(TURN_STATE_HEADER)):
                    yield TokenGiven(self._number, token)
            elif start == "POST /v1/responses":
                fields = msgspec.json.decode(body)
                yield Asked(self._number, "http", headers.get(TURN_STATE_HEADER) or None, _turn(fields), fields)

    def _websocket_said(self, sender: Sender) -> Iterator[Said]:
        for frame in self._frames[sender].events_received():
            if not isinstance(frame, Frame) or frame.opcode is not Opcode.TEXT:
                continue
            match msgspec.json.decode(bytes(frame.data)):
                case {"type": "response.create"} as fields:
                    token = fields.get("client_metadata", {}).get(TURN_STATE_HEADER)
                    yield Asked(self._number, "websocket", token or None, _turn(fields), fields)
                case {"type": "response.metadata", "headers": {"x-codex-turn-state": str(token)}}:
                    yield TokenGiven(self._number, token)


def _turn(fields: Mapping[str, Any]) -> str | None:
    return fields.get("client_metadata", {}).get("turn_id") or None


def _frame_reader(sender: Sender) -> Protocol:
    """Reads what the sender sends, so it stands at the other side."""
    protocol = Protocol(Side.SERVER if sender == "codex" else Side.CLIENT, state=State.OPEN, max_size=None)
    # The widest window reads what any narrower one wrote, and a frame that is not compressed says so.
    protocol.extensions = [PerMessageDeflate(False, False, 15, 15)]
    return protocol


class _Messages:
    """Callbacks of an HTTP parser; collects (start line, headers, body)."""

    def __init__(self) -> None:
        self._done: list[tuple[str, dict[str, str], bytes]] = []
        self.on_message_begin()

    def on_message_begin(self) -> None:
        self._url, self._headers, self._body = b"", dict[str, str](), bytearray()

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode().lower()] = value.decode("latin-1")

    def take(self) -> list[tuple[str, dict[str, str], bytes]]:
        done, self._done = self._done, []
        return done


class _Requests(_Messages):
    def __init__(self) -> None:
        super().__init__()
        self.parser = httptools.HttpRequestParser(self)

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        start = f"{self.parser.get_method().decode()} {self._url.decode()}"
        self._done.append((start, self._headers, bytes(self._body)))


class _Responses(_Messages):
    """Takes a response for given once its head is: the body of a stream may be long in coming, or be cut."""

    def __init__(self) -> None:
        super().__init__()
        self.parser = httptools.HttpResponseParser(self)

    def on_headers_complete(self) -> None:
        self._done.append((str(self.parser.get_status_code()), self._headers, b""))
