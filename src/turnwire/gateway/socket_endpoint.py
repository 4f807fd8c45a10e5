"""Responses over WebSocket: one connection, one request after the other.

Each frame is ``{"type": "response.create", …}`` with the fields of the HTTP body. The connection remembers its
responses, so that a frame need only bring what is new. A frame that is refused is answered by an error frame, and the
connection goes on.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any

from msgspec import Struct
from starlette.types import Receive, Scope, Send
from websockets.frames import CloseCode

from turnwire.client.turn_state import TURN_STATE_HEADER
from turnwire.errors import ApiError, ConnectionExpired, InvalidPrompt
from turnwire.gateway.body import decode_object
from turnwire.gateway.caller import Callers
from turnwire.gateway.configuration import GatewayConfiguration
from turnwire.gateway.drain import draining
from turnwire.gateway.http_endpoint import caller_host
from turnwire.gateway.inquiry import Inquiry, plain_headers
from turnwire.gateway.memory import ConnectionMemory
from turnwire.gateway.refusal import refusal
from turnwire.gateway.responses_service import ResponsesService
from turnwire.gateway.socket_connection import SocketConnection, SocketSink

__all__ = ["SocketEndpoint", "SocketService"]

_log = logging.getLogger("turnwire.gateway")

_CREATE = "response.create"


class SocketService(Struct, frozen=True):
    """What serves WebSockets under one configuration."""

    configuration: GatewayConfiguration
    callers: Callers
    responses: ResponsesService


class SocketEndpoint:
    """An ASGI application for ``websocket`` scopes.

    A connection outlasts a configuration: ``current`` gives what serves its next request. So a caller whose key is gone
    is refused on an open connection, too.
    """

    def __init__(self, current: Callable[[], SocketService]) -> None:
        self._current = current

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one connection, from its handshake to its end."""
        headers = plain_headers(scope["headers"])
        await receive()  # the handshake
        try:
            service = self._current()
            caller = service.callers.identify(headers, caller_host(scope))
        except ApiError as error:
            await _refuse_handshake(error, send)
            return
        token = service.responses.handshake_token(caller, headers)
        handed_out = [] if token is None else [(TURN_STATE_HEADER.encode(), token.encode())]
        await send({"type": "websocket.accept", "headers": handed_out})
        connection = SocketConnection(scope, receive, send)
        stop = draining(scope)
        code = CloseCode.INTERNAL_ERROR
        try:
            await self._serve(connection, caller_host(scope), headers, stop)
            code = CloseCode.NORMAL_CLOSURE
        except Exception:  # noqa: BLE001 - it is logged, and the client hears of it by the code
            _log.exception("a WebSocket's request failed in the gateway")
        finally:
            await connection.close(CloseCode.SERVICE_RESTART if stop.is_set() else code)

    async def _serve(
        self, connection: SocketConnection, host: str | None, headers: Mapping[str, str], stop: asyncio.Event
    ) -> None:
        """Answers the connection's requests, until it is closed, or too old, or the gateway stops."""
        time = asyncio.get_running_loop().time
        opened = time()
        memory = ConnectionMemory()
        while (message := await connection.next_message(stop)) is not None:
            service, sink = self._current(), SocketSink(connection)
            max_age = service.configuration.socket_max_age
            try:
                caller = service.callers.identify(headers, host)
                if time() > opened + max_age:
                    raise ConnectionExpired(f"this connection is older than {max_age:g} s: open another")
                fields = _request(message)
            except ApiError as error:
                await sink.refuse(error, {})
                if isinstance(error, ConnectionExpired):
                    return
                continue
            inquiry = Inquiry.of(caller, headers, fields.get("client_metadata"))
            await service.responses.answer(fields, inquiry, sink, framing="websocket", memory=memory)


def _request(message: str | bytes) -> dict[str, Any]:
    """A frame's request, as HTTP would have it; raises `InvalidPrompt`."""
    frame = decode_object(message)
    kind = frame.pop("type", None)
    if kind != _CREATE:
        raise InvalidPrompt(f"a frame's type is {kind!r}; expected {_CREATE!r}")
    return {**frame, "stream": True}


async def _refuse_handshake(error: ApiError, send: Send) -> None:
    refused = refusal(error)
    raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in refused.headers.items()]
    await send({"type": "websocket.http.response.start", "status": refused.status, "headers": raw})
    await send({"type": "websocket.http.response.body", "body": refused.body})
