"""A request and its response, whoever carries them.

Two transports do: that of `turnwire.transport.http` anywhere, through proxies too, and that of
`turnwire.transport.direct` where nothing stands between and every microsecond of a request is somebody's waiting.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Protocol, Self

from msgspec import Struct

from turnwire.errors import Disconnected, ProtocolError

__all__ = ["MAX_HEAD", "MAX_READ", "Body", "HttpRequest", "HttpResponse", "Transport", "bound_reads", "read_whole"]

MAX_HEAD = 64 * 1024
"""Bytes of a response's head, or of one header of it."""
MAX_READ = 64 * 1024
"""Bytes that are taken in one go, more or less."""
_DRAIN_TIMEOUT = 0.05
"""Seconds that a body which says no more of interest gets to end."""


class HttpRequest(Struct, frozen=True):
    """One request with all of its body; ``repr`` shows neither headers nor body, which hold keys and prompts."""

    url: str
    headers: Mapping[str, str]
    body: bytes
    method: str = "POST"

    def __repr__(self) -> str:
        return f"<HttpRequest {self.method} {self.where}, {len(self.body)} bytes>"

    @property
    def where(self) -> str:
        """The address as it may be shown: without its query, which may hold a key."""
        return self.url.partition("?")[0]


class Body(Protocol):
    """Bytes that come read by read."""

    async def read(self) -> bytes:
        """The next bytes, at least one; b"" at the proper end."""


class HttpResponse(ABC):
    """A response whose head has come and whose body is read with `read`, as fast as the caller asks for it."""

    def __init__(self, status: int, headers: Mapping[str, str], where: str) -> None:
        self.status = status
        self.headers = headers
        """Names in lower case; of a repeated header the first one."""
        self.where = where
        """The address that it came from, as it may be shown."""

    def __repr__(self) -> str:
        return f"<HttpResponse {self.status} from {self.where}>"

    @property
    def content_type(self) -> str:
        """The media type in lower case, without parameters; empty where the server gave none."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    @property
    @abstractmethod
    def over(self) -> bool:
        """The body was read to its proper end, or has none."""

    @abstractmethod
    async def read(self) -> bytes:
        """All bytes that have come since the last read, at least one; b"" at the proper end of the body.

        Raises `Disconnected` where the connection was lost first, a truncated chunked body is one, and
        `ProtocolError` for what is no proper HTTP.
        """

    async def read_into(self, take: Callable[[bytes], bool]) -> None:
        """Gives each read to ``take``, b"" at the proper end of the body, until it returns False.

        Where the transport can, it does so as the bytes come in, and wakes nobody for them. Raises as `read` does, and
        what ``take`` raises.
        """
        while take(await self.read()):
            pass

    @abstractmethod
    def close(self) -> None:
        """Closes the connection at once, unless the body was read to its end; may be called at any time."""

    async def read_at_most(self, size: int) -> bytes:
        """The beginning of the body, up to ``size`` bytes, for errors; what can't be read is left out.

        A body that must be whole is read with `read_whole`.
        """
        body = b""
        try:
            while len(body) < size and (data := await self.read()):
                body += data
        except (Disconnected, ProtocolError):
            pass
        return body[:size]

    async def finish(self) -> None:
        """Gives a body that says no more of interest a moment to end, so that its connection can be used again.

        A server that does not end it loses the connection, nothing else.
        """
        if self.over:
            return
        try:
            async with asyncio.timeout(_DRAIN_TIMEOUT):
                while await self.read():
                    pass
        except (TimeoutError, Disconnected, ProtocolError):
            self.close()


class Transport(ABC):
    """A pool of connections, and a context manager that closes it."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    @abstractmethod
    async def send(self, request: HttpRequest) -> HttpResponse:
        """Sends a request and waits for the response's head; redirects are not followed, for they'd take keys along.

        A kept connection that the server closes instead of answering is replaced by another, as often as there are
        kept ones: llama.cpp closes after each stream without saying so, just when the next request goes out.

        Raises `ConnectError`, `TlsError`, `ConnectTimeout`, `Disconnected`, `ProtocolError`, or `ConfigurationError`
        for a request that can't be sent.
        """

    @abstractmethod
    async def close(self) -> None:
        """Closes all connections."""


def bound_reads(transport: asyncio.BaseTransport) -> None:
    """Has the standard library's event loop read 64 KiB at a time.

    It offers 256 KiB to each `recv`, which malloc on Linux maps anew and gives back every time: for a small read that
    costs as much as all else that happens to it. Other event loops, and TLS, have no such number.
    """
    if hasattr(transport, "max_size"):
        transport.max_size = MAX_READ


async def read_whole(body: Body, max_size: int) -> bytes:
    """All of a body, to its proper end; how long that may take is the caller's to say.

    Raises `ProtocolError` once it takes more than ``max_size`` bytes, and what its `read` raises.
    """
    whole = bytearray()
    while data := await body.read():
        whole += data
        if len(whole) > max_size:
            raise ProtocolError(f"the answer takes more than {max_size} bytes")
    return bytes(whole)
