"""The gateway's HTTP server: uvicorn, with the patience and the end that long answers need.

uvicorn alone waits forever for a request's head, and when it is told to stop it closes each WebSocket at once, in
mid-answer too. Here it stops in steps:

1. nothing new is accepted, idle connections close, and `turnwire.gateway.drain` tells the application;
2. answers under way have ``drain_timeout`` seconds to end by themselves;
3. those that have not are cancelled, and may say so to their clients within `LAST_WORDS` seconds;
4. uvicorn closes what is left.

A second signal goes straight to the last step.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeAlias

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import HANDLED_SIGNALS
from websockets.frames import CloseCode

from turnwire.errors import ApiError
from turnwire.gateway.configuration import GatewayConfiguration
from turnwire.gateway.drain import STATE_NAME
from turnwire.gateway.http_protocol import BoundedConfig

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["LAST_WORDS", "CannotServe", "GatewayServer", "listen", "url_of"]

_log = logging.getLogger("turnwire.gateway")

LAST_WORDS = 2.0
"""Seconds that an answer which must end gets to tell its client."""
_KEEP_ALIVE = 75
"""Seconds that an idle connection is kept: longer than clients keep theirs, so that it is seldom we who close it just
as a request comes in."""
_CLOSE_TIMEOUT = 1
"""Seconds that connections get to close."""
_STEP = 0.05
"""Seconds between two looks at what is still under way."""
_BACKLOG = 2048
_ABSENT = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})

_Connection: TypeAlias = Any
"""One of uvicorn's protocols; they share no type."""


class CannotServe(ApiError):
    """The gateway can't start: its address is taken, or the application said no."""


def listen(host: str, port: int, *, shared: bool = False) -> list[socket.socket]:
    """Sockets that listen on every address of a host, all at one port; `CannotServe` says why there are none.

    With ``shared`` there may be any number of them at the same port, and the system spreads connections over all.
    """
    sockets: list[socket.socket] = []
    missing: OSError | None = None
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, *_, address in found:
            # The first one's port is for all, where any is welcome.
            chosen = sockets[0].getsockname()[1] if sockets else port
            try:
                sockets.append(_listener((address[0], chosen), family, shared))
            except OSError as error:
                if error.errno not in _ABSENT:
                    raise
                missing = error  # `localhost` has an address that a machine without IPv6 has not
        if missing is not None and not sockets:
            raise missing
    except (OSError, UnicodeError) as error:
        for bound in sockets:
            bound.close()
        raise CannotServe(f"can't listen on {host} port {port}: {_reason(error)}") from None
    return sockets


def _listener(address: tuple[Any, int], family: int, shared: bool) -> socket.socket:
    bound = socket.create_server(address, family=family, backlog=_BACKLOG, reuse_port=shared)
    # For the connections, which inherit it; asyncio's own sockets have it, but not those it is given.
    bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return bound


def url_of(bound: socket.socket) -> str:
    """The address of a listening socket: ``http://127.0.0.1:8088``."""
    host, port, *_ = bound.getsockname()
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class GatewayServer(uvicorn.Server):
    """Serves one application until SIGINT or SIGTERM: ``run()`` blocks, ``await serve()`` runs in a loop of yours.

    It listens by the time it is made, so that `url` is known, unless it is given ``sockets`` that do; ``on_ready`` is
    called, in the loop, once requests are answered. Making and running it raise `CannotServe`, and the `ApiError` with
    which the application refuses to start.
    """

    def __init__(
        self,
        configuration: GatewayConfiguration,
        application: ASGIApp,
        *,
        sockets: list[socket.socket] | None = None,
        on_ready: Callable[[], None] | None = None,
    ) -> None:
        self._application = _Guarded(application)
        self._settings = _settings(configuration, self._application)
        super().__init__(self._settings)
        self._sockets = sockets or listen(configuration.host, configuration.port)
        self._drain_timeout = configuration.drain_timeout
        self._client_timeout = configuration.client_timeout
        self._on_ready = on_ready
        self._closing: dict[_Connection, float] = {}
        self._turned_away = 0
        self.draining = asyncio.Event()
        """What the application sees by `turnwire.gateway.drain`."""

    @property
    def url(self) -> str:
        """Its address; the first one of several."""
        return url_of(self._sockets[0])

    def adopt(self, configuration: GatewayConfiguration) -> None:
        """Takes over the bounds of another configuration, for connections that are there as well where it can."""
        self._drain_timeout = configuration.drain_timeout
        self._client_timeout = configuration.client_timeout
        settings = self._settings
        settings.head_timeout = configuration.head_timeout
        settings.max_connections = configuration.max_connections
        settings.ws_max_size = configuration.max_body
        settings.ws_ping_interval = configuration.keepalive_interval
        settings.ws_ping_timeout = configuration.client_timeout

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        """Serves until it is told to stop."""
        super().run(sockets or self._sockets)

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Serves until it is told to stop."""
        sockets = sockets or self._sockets
        try:
            await super().serve(sockets)
        finally:
            for bound in sockets:
                bound.close()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Starts the application, then accepts."""
        self.lifespan.state[STATE_NAME] = self.draining
        try:
            await super().startup(sockets)
        except SystemExit:
            if self._application.failure is not None:
                raise self._application.failure from None
            raise CannotServe("the gateway's application did not start; the log says why") from None
        if self._on_ready is not None:
            self._on_ready()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Lets signals stop the server. uvicorn's own raises them again at the end, as if it had not been orderly."""
        if threading.current_thread() is not threading.main_thread():
            yield  # signals are the main thread's
            return
        loop = asyncio.get_running_loop()
        for number in HANDLED_SIGNALS:
            loop.add_signal_handler(number, self.handle_exit, number, None)
        try:
            yield
        finally:
            for number in HANDLED_SIGNALS:
                loop.remove_signal_handler(number)

    def handle_exit(self, sig: int, frame: Any) -> None:
        """The first signal begins the end, any further one makes it a short one."""
        _log.info("stopping%s on %s", " at once" if self.should_exit else "", signal.Signals(sig).name)
        self.force_exit = self.should_exit
        self.should_exit = True

    async def on_tick(self, counter: int) -> bool:
        """Called ten times a second."""
        if counter % 10 == 0:
            self._abort_unread()
            self._log_turned_away()
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stops in the steps that stand at the top of this file."""
        for server in self.servers:
            server.close()
        self.draining.set()
        for connection in list(self.server_state.connections):
            if isinstance(connection, HttpToolsProtocol):
                connection.shutdown()  # at once where it is idle, else once its answer has ended
        if not await self._all_ended(self._drain_timeout):
            tasks = list(self.server_state.tasks)
            if tasks:
                _log.warning("answers cut off that did not end by themselves: %d", len(tasks))
            for task in tasks:
                task.cancel()
            await self._all_ended(LAST_WORDS)
        self.force_exit = False  # all that was to be cut short has been: the application still hears of its end
        await super().shutdown(sockets)

    async def _all_ended(self, timeout: float) -> bool:
        """Waits until no connection is left and no request, for some seconds at most; whether that is so."""
        state, time = self.server_state, asyncio.get_running_loop().time
        deadline = time() + timeout
        while state.connections or state.tasks:
            if self.force_exit or time() >= deadline:
                return False
            await asyncio.sleep(_STEP)
        return True

    def _abort_unread(self) -> None:
        """Aborts connections that were closed long ago, and whose clients do not read the last that was written."""
        now = asyncio.get_running_loop().time()
        closing = (connection for connection in self.server_state.connections if connection.transport.is_closing())
        self._closing = {connection: self._closing.get(connection, now) for connection in closing}
        for connection, since in self._closing.items():
            if now - since >= self._client_timeout:
                connection.transport.abort()

    def _log_turned_away(self) -> None:
        """One line a second at most, however many connections there are too many."""
        before, self._turned_away = self._turned_away, self._settings.turned_away
        if self._turned_away > before:
            most = self._settings.max_connections
            _log.warning("connections over max_connections, %d: %d turned away", most, self._turned_away - before)


def _settings(configuration: GatewayConfiguration, application: ASGIApp) -> BoundedConfig:
    return BoundedConfig(
        application,
        head_timeout=configuration.head_timeout,
        max_connections=configuration.max_connections,
        loop="uvloop",
        ws_max_size=configuration.max_body,
        ws_ping_interval=configuration.keepalive_interval,
        ws_ping_timeout=configuration.client_timeout,
        ws_per_message_deflate=True,
        lifespan="on",
        log_config=None,
        log_level="warning",
        access_log=False,
        # Who the client is decides whether it is served, so nobody else is believed about that.
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE,
        timeout_graceful_shutdown=_CLOSE_TIMEOUT,
    )


class _Guarded:
    """The application, for whose expected ends uvicorn would log a traceback.

    They are an `ApiError` that keeps it from starting, which is kept as ``failure``, and requests that the server
    cancels.
    """

    def __init__(self, application: ASGIApp) -> None:
        self._application = application
        self.failure: ApiError | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(scope, receive, send)
            return
        try:
            await self._application(scope, receive, send)
        except asyncio.CancelledError:
            if scope["type"] == "websocket":
                with suppress(OSError, RuntimeError):  # it has left, or was closed already
                    await send({"type": "websocket.close", "code": CloseCode.SERVICE_RESTART})

    async def _live(self, scope: Scope, receive: Receive, send: Send) -> None:
        failed: Message | None = None

        async def hold_failure(message: Message) -> None:
            nonlocal failed
            if message["type"] == "lifespan.startup.failed":
                failed = message
            else:
                await send(message)

        try:
            await self._application(scope, receive, hold_failure)
        except ApiError as error:
            self.failure = error
            failed = {"type": "lifespan.startup.failed"}
        finally:
            if failed is not None:
                await send(failed)


def _reason(error: OSError | UnicodeError) -> str:
    """A failure in a few words, without the address that Python adds."""
    if isinstance(error, UnicodeError):
        return "it is not a host name"
    if isinstance(error, socket.gaierror):
        return str(error.strerror).lower()
    return os.strerror(error.errno or 0).lower()
