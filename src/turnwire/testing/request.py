"""HTTP/1.1 requests, read strictly and within bounds: a client's sloppiness is to show in its tests."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

import msgspec
from msgspec import Struct

from turnwire.client.turn_state import TURN_STATE_HEADER

__all__ = ["MAX_BODY", "MAX_HEAD", "BadRequest", "RecordedRequest", "Wire", "read_request"]

Wire: TypeAlias = Literal["chat", "responses", "websocket"]
"""What a request came over: Chat Completions, Responses by HTTP, Responses by WebSocket."""

MAX_HEAD = 64 * 1024
"""Bytes that a request's head may take, and a line of a chunked body."""
MAX_BODY = 64 * 1024 * 1024
"""Bytes that a request's body may take."""

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_REQUEST_LINE = re.compile(rb"(%b) (/[!-~]*) HTTP/1\.1" % _TOKEN)
_FIELD = re.compile(rb"(%b):[ \t]*([ \t!-~\x80-\xff]*)" % _TOKEN)
_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,16})[ \t]*(?:;[ \t!-~]*)?\r\n")


class RecordedRequest(Struct, frozen=True, kw_only=True):
    """One request as it came, over HTTP or in a message of a WebSocket, which has its handshake's path and headers."""

    method: str
    path: str
    """Without its query."""
    query: str = ""
    headers: Mapping[str, str] = {}
    """Names in lower case; a field that came more than once has its values joined by a comma."""
    body: bytes = b""
    connection: int
    """Which of the server's connections it came on, counted from 0."""
    wire: Wire | None = None
    """None for what asks for no answer of a model."""
    input: Sequence[Any] = ()
    """What the model is given, as JSON: over Chat ``messages``; over Responses the request's ``input`` behind input and
    output of the responses that it goes on from."""

    @property
    def json(self) -> Any:
        """The body, decoded; `msgspec.DecodeError` where it is not JSON."""
        return msgspec.json.decode(self.body)

    @property
    def token(self) -> str | None:
        """The routing token it carries, None where there is none: a header, over WebSocket in ``client_metadata``."""
        if self.wire != "websocket":
            return self.headers.get(TURN_STATE_HEADER)
        match self.json:
            case {"client_metadata": {"x-codex-turn-state": str(token)}}:
                return token
        return None


class BadRequest(Exception):
    """What came is not a request that the server reads; ``status`` says what to answer."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


async def read_request(reader: asyncio.StreamReader, connection: int) -> RecordedRequest | None:
    """The next request of a connection, None where the client has closed it; else raises `BadRequest`.

    The reader's own limit bounds the head.
    """
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.LimitOverrunError:
        raise BadRequest(431, f"the request's head takes more than {MAX_HEAD} bytes") from None
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise BadRequest(400, f"the request's head ends after {len(error.partial)} bytes") from None
        return None
    request_line, *fields = head[:-4].split(b"\r\n")
    request = _REQUEST_LINE.fullmatch(request_line)
    if request is None:
        raise BadRequest(400, f"{request_line!r} is not a request line of HTTP/1.1")
    headers = _headers(fields)
    try:
        body = await _body(reader, headers)
    except asyncio.IncompleteReadError:
        raise BadRequest(400, "the request's body ends before it is whole") from None
    except asyncio.LimitOverrunError:
        raise BadRequest(400, f"a line of the chunked body takes more than {MAX_HEAD} bytes") from None
    path, _, query = request[2].decode("ascii").partition("?")
    return RecordedRequest(
        method=request[1].decode("ascii"), path=path, query=query, headers=headers, body=body, connection=connection
    )


def _headers(fields: list[bytes]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for line in fields:
        field = _FIELD.fullmatch(line)
        if field is None:
            raise BadRequest(400, f"{line!r} is not a header field")
        name, value = field[1].decode("ascii").lower(), field[2].decode("latin-1").rstrip(" \t")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


async def _body(reader: asyncio.StreamReader, headers: Mapping[str, str]) -> bytes:
    """The body as RFC 9112, section 6.3, finds its length."""
    length, coding = headers.get("content-length"), headers.get("transfer-encoding")
    if coding is not None:
        if length is not None:
            raise BadRequest(400, "the request has both content-length and transfer-encoding")
        if coding.lower() != "chunked":
            raise BadRequest(501, f"transfer-encoding {coding!r} is not known, only chunked is")
        return await _chunked_body(reader)
    if length is None:
        return b""
    if re.fullmatch(r"[0-9]{1,18}", length) is None:
        raise BadRequest(400, f"content-length {length!r} is not a number of bytes")
    return await reader.readexactly(_bounded(int(length)))


async def _chunked_body(reader: asyncio.StreamReader) -> bytes:
    body = bytearray()
    while True:
        line = await reader.readuntil(b"\r\n")
        chunk = _CHUNK_LINE.fullmatch(line)
        if chunk is None:
            raise BadRequest(400, f"{line!r} is not the size of a chunk")
        size = int(chunk[1], 16)
        if size == 0:
            break
        _bounded(len(body) + size)
        data = await reader.readexactly(size + 2)
        if not data.endswith(b"\r\n"):
            raise BadRequest(400, f"a chunk of {size} bytes does not end where it should")
        body += data[:-2]
    while await reader.readuntil(b"\r\n") != b"\r\n":
        pass  # trailer fields, which nobody needs
    return bytes(body)


def _bounded(size: int) -> int:
    if size > MAX_BODY:
        raise BadRequest(413, f"the request's body takes {size} bytes, at most {MAX_BODY} are read")
    return size
