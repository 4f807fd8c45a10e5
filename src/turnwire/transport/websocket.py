"""WebSocket connections, frame by frame, over the websockets library.

Like `turnwire.transport.http` it knows no events, and maps the errors of the library below once.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from pathlib import Path

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import (
    ConnectionClosed,
    InvalidHandshake,
    InvalidMessage,
    InvalidProxyStatus,
    InvalidStatus,
    InvalidURI,
    WebSocketException,
)

from turnwire.errors import (
    ApiError,
    ConfigurationError,
    ConnectError,
    Disconnected,
    ErrorResponse,
    HttpStatusError,
    ProtocolError,
)
from turnwire.transport.failure import not_opened
from turnwire.transport.tls import reason, tls_context

__all__ = ["WebSocketConnection", "open_websocket"]

_CLOSE_TOO_BIG = 1009
_CLOSE_NAMES = {
    1001: "going away",
    1002: "protocol error",
    1006: "no close frame",
    1008: "policy violation",
    1009: "message too big",
    1011: "internal error",
    1012: "service restart",
    1013: "try again later",
}
_MAX_REFUSAL = 16 * 1024
_PING_INTERVAL = 20.0


class WebSocketConnection:
    """An open connection: whole messages out and in. One reader at a time."""

    def __init__(self, connection: ClientConnection, where: str) -> None:
        self._connection = connection
        self._where = where
        self._opened = asyncio.get_running_loop().time()
        response = connection.response
        self.headers: Mapping[str, str] = (
            {} if response is None else {name.lower(): value for name, value in response.headers.raw_items()}
        )
        """The headers of the handshake's 101 response, names in lower case."""

    def __repr__(self) -> str:
        return f"<WebSocketConnection to {self._where}, {'closed' if self.closed else 'open'}>"

    @property
    def age(self) -> float:
        """Seconds since it was opened."""
        return asyncio.get_running_loop().time() - self._opened

    @property
    def closed(self) -> bool:
        """It can't be used any more."""
        return self._connection.close_code is not None or self._connection.transport.is_closing()

    async def send(self, message: bytes) -> None:
        """Sends a text message, given as UTF-8; raises `Disconnected` where the connection is gone."""
        try:
            await self._connection.send(message, text=True)
        except (ConnectionClosed, OSError) as error:
            raise self._lost(error) from None

    async def receive(self) -> bytes:
        """The next message, a text as UTF-8.

        Raises `Disconnected` once the connection is gone, however properly it was closed. A message over ``max_size``
        is a `ProtocolError`.
        """
        try:
            return await self._connection.recv(decode=False)
        except (ConnectionClosed, OSError) as error:
            raise self._lost(error) from None

    def close(self) -> None:
        """Ends the connection at once, without a closing handshake, for nothing more will be read from it."""
        self._connection.transport.abort()

    async def aclose(self) -> None:
        """Ends the connection as the protocol has it; waits for the other side only as long as the library does."""
        await self._connection.close()

    def _lost(self, error: Exception) -> ApiError:
        if not isinstance(error, ConnectionClosed):
            return Disconnected(f"the connection to {self._where} was lost")
        told, said = error.rcvd, error.sent
        # A close frame is echoed with its code: only one that was not told first is our own complaint.
        if said is not None and said.code == _CLOSE_TOO_BIG and not error.rcvd_then_sent:
            return ProtocolError(f"{self._where} sent a message over the size bound")
        if told is None:
            return Disconnected(f"the connection to {self._where} was lost")
        name = _CLOSE_NAMES.get(told.code)
        return Disconnected(f"{self._where} closed the connection: {told.code}{f' ({name})' if name else ''}")


async def open_websocket(
    url: str, headers: Mapping[str, str], *, open_timeout: float, max_size: int, ca_file: Path | None = None
) -> WebSocketConnection:
    """Opens a connection to an ``http`` or ``https`` URL's WebSocket twin; permessage-deflate is offered.

    ``max_size`` bounds a message in bytes. Proxies come from the environment. Raises `ConnectError`, `TlsError`,
    `ConnectTimeout`, and `HttpStatusError` for a handshake that was refused.
    """
    where = url.partition("?")[0]
    secure = url.startswith("https:")
    address = "ws" + url.removeprefix("http")
    agent = headers.get("user-agent")
    try:
        connection = await connect(
            address,
            additional_headers={name: value for name, value in headers.items() if name != "user-agent"},
            user_agent_header=agent,
            open_timeout=open_timeout,
            close_timeout=1,
            ping_interval=_PING_INTERVAL,
            max_size=max_size,
            ssl=(tls_context(ca_file) or True) if secure else None,
            process_exception=lambda error: error,  # no attempts of its own: when to try again is decided elsewhere
        )
    except (WebSocketException, OSError, ValueError) as error:
        raise _mapped(error, where) from None
    return WebSocketConnection(connection, where)


def _mapped(error: Exception, where: str) -> ApiError:
    match error:
        case TimeoutError():
            return not_opened(TimeoutError(), where)
        case ssl.SSLError():
            return not_opened(error, where)
        case InvalidProxyStatus(response=response):
            return ConnectError(f"the proxy in front of {where} answered {response.status_code}")
        case InvalidStatus(response=response) if response.status_code < 300:
            return ProtocolError(f"{where} does not speak WebSocket: it answered {response.status_code}")
        case InvalidStatus(response=response):
            headers = {
                name.lower(): value for name, value in response.headers.raw_items() if name.lower() != "set-cookie"
            }
            body = bytes(response.body or b"")[:_MAX_REFUSAL].decode("utf-8", "replace")
            told = ErrorResponse(response.status_code, headers, body)
            return HttpStatusError(
                f"{where} refused the WebSocket handshake with {response.status_code}", response=told
            )
        case InvalidURI():
            return ConfigurationError(f"{where} is not a URL to connect to")
        case InvalidMessage(__cause__=EOFError() | ConnectionError()):
            return Disconnected(f"the connection to {where} was lost before the handshake was whole")
        case InvalidHandshake():
            return ProtocolError(f"{where} does not speak WebSocket: {error}")
        case OSError():
            return ConnectError(f"can't connect to {where}: {reason(error)}")
    return ProtocolError(f"{where} does not speak WebSocket: {error}")
