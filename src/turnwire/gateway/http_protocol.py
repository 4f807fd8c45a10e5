"""uvicorn's HTTP protocol over httptools, with bounds on what comes before a request is one: time and size of its head.

uvicorn's own keeps a connection that never sends a head for as long as the client likes, and all of a head that never
ends. It bounds the number of connections only by refusing requests, also on those that were there before, while idle
ones may come without end; here it is connections that are turned away.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from turnwire.errors import ServerOverloaded
from turnwire.gateway.at_once import extension
from turnwire.gateway.refusal import refusal
from turnwire.gateway.socket_protocol import BoundedSocketProtocol

if TYPE_CHECKING:
    from starlette.types import ASGIApp
    from uvicorn.server import ServerState

__all__ = ["BoundedConfig", "BoundedProtocol"]

_MAX_HEAD = 64 * 1024
"""Bytes of a request's head: ample for the largest token and key."""
_TURNED_AWAY_TIMEOUT = 1.0
"""Seconds that a connection which is one too many has to ask for something, and so to be told."""
_TURNED_AWAY_PAUSE = 5.0
"""Seconds after which its client may come back."""


class BoundedConfig(uvicorn.Config):
    """uvicorn's settings, and two bounds.

    ``head_timeout`` is the seconds in which a request's head must have come, ``max_connections`` how many connections
    there may be, WebSockets among them.
    """

    def __init__(self, application: ASGIApp, *, head_timeout: float, max_connections: int, **settings: Any) -> None:
        super().__init__(application, http=BoundedProtocol, ws=BoundedSocketProtocol, **settings)
        self.head_timeout = head_timeout
        self.max_connections = max_connections
        self.turned_away = 0
        """Connections that were one too many, so far."""


class BoundedProtocol(HttpToolsProtocol):
    """One connection. Its client has ``head_timeout`` for the first head, and for each later one from its first byte.

    What is left of a body whose request was answered already has as long. Between two requests it is uvicorn's
    keep-alive timeout that counts.
    """

    def __init__(
        self,
        config: BoundedConfig,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._bounds = config
        self._head_timer: asyncio.TimerHandle | None = None
        self._head_size = 0
        self._in_body = False
        self._turned_away = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has connected."""
        super().connection_made(transport)
        self._turned_away = len(self.connections) > self._bounds.max_connections
        self._bounds.turned_away += self._turned_away
        self._await_head()

    def data_received(self, data: bytes) -> None:
        """More of a head, or of a body."""
        if self._turned_away:
            self._turn_away()
            return
        latest: RequestResponseCycle | None = self.cycle
        if self._head_timer is None and (latest is None or latest.response_complete):
            self._await_head()
        awaited = None if self._in_body else self._head_timer
        super().data_received(data)
        if awaited is not None and awaited is self._head_timer:
            self._head_size += len(data)
            if self._head_size > _MAX_HEAD and not self.transport.is_closing():
                self.send_400_response(f"The request's head is over {_MAX_HEAD} bytes.")

    def on_headers_complete(self) -> None:
        """The head is whole."""
        self._in_body = True
        self._stop_waiting()
        super().on_headers_complete()
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is not None and cycle.scope is self.scope:  # else it is a WebSocket's handshake
            at_once = _AtOnce(cycle)
            self.scope["extensions"] = extension(cycle.receive, cycle.send, at_once.put, at_once.body)

    def on_message_complete(self) -> None:
        """The body is whole."""
        self._in_body = False
        self._stop_waiting()
        super().on_message_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has gone, or was sent away."""
        self._stop_waiting()
        self._unset_keepalive_if_required()
        super().connection_lost(exc)

    def _await_head(self) -> None:
        self._head_size = 0
        timeout = _TURNED_AWAY_TIMEOUT if self._turned_away else self._bounds.head_timeout
        self._head_timer = self.loop.call_later(timeout, self._give_up)

    def _give_up(self) -> None:
        # Nobody waits for an answer to what was not asked.
        self._head_timer = None
        self.transport.close()

    def _turn_away(self) -> None:
        """Says, whatever is asked, that there are too many already."""
        if self.transport.is_closing():
            return
        most = self._bounds.max_connections
        refused = refusal(
            ServerOverloaded(f"the gateway has {most} connections, its max_connections", _TURNED_AWAY_PAUSE)
        )
        fields = {**refused.headers, "content-length": str(len(refused.body)), "connection": "close"}
        lines = [f"HTTP/1.1 {refused.status} {HTTPStatus(refused.status).phrase}"]
        lines += [f"{name}: {value}" for name, value in fields.items()]
        self.transport.write("\r\n".join((*lines, "", "")).encode("ascii") + refused.body)
        self.transport.close()

    def _stop_waiting(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


class _AtOnce:
    """What an application may have of a request and its response without waiting."""

    __slots__ = ("_cycle",)

    def __init__(self, cycle: RequestResponseCycle) -> None:
        self._cycle = cycle

    def put(self, pieces: Sequence[bytes]) -> bool:
        """Writes more of a chunked body, as one chunk; not while the client does not read, or has left."""
        cycle = self._cycle
        if not cycle.chunked_encoding or cycle.response_complete or cycle.flow.write_paused:
            return False
        if cycle.transport.is_closing():  # which `disconnected` says somewhat later
            return False
        if body := b"".join(pieces):  # an empty chunk would be the end
            cycle.transport.write(b"%x\r\n%b\r\n" % (len(body), body))
        return True

    def body(self) -> bytes | None:
        """All of the request's body, where it has come; what is received of it then is empty."""
        cycle = self._cycle
        if cycle.more_body or cycle.disconnected:
            return None
        body, cycle.body = bytes(cycle.body), bytearray()
        return body
