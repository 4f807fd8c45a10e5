"""The gateway in this process, until it is told to stop: what `serve_process` and `serve_worker` have in common."""

from __future__ import annotations

import asyncio
import gc
import signal
import socket
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from typing import ParamSpec

import uvloop

from turnwire.cli.serve_screen import Screen
from turnwire.cli.terminal import leave_unread
from turnwire.gateway.application import create_application
from turnwire.gateway.configuration import GatewayConfiguration, UpstreamConfiguration
from turnwire.gateway.discovery import Found
from turnwire.gateway.reload import keep_reloading
from turnwire.gateway.server import GatewayServer

__all__ = ["serve_until_told"]

_Told = ParamSpec("_Told")


def serve_until_told(
    configuration: GatewayConfiguration,
    configurations: AsyncGenerator[GatewayConfiguration, None],
    screen: Screen | None,
    sockets: list[socket.socket] | None = None,
) -> None:
    """Serves by one configuration after the other; their end is that of the gateway."""
    found = _nowhere if screen is None else _while_read(screen.found)
    application = create_application(configuration, on_found=found)

    started = asyncio.Event()

    def ready() -> None:
        started.set()
        _spare_the_collector()
        if screen is not None:
            _while_read(screen.gateway)(server.url, configuration)

    server = GatewayServer(configuration, application, sockets=sockets, on_ready=ready)

    async def obey() -> None:
        await started.wait()
        await keep_reloading(server, application, configurations)
        server.handle_exit(signal.SIGTERM, None)

    async def run() -> None:
        async with aclosing(configurations):
            reloading = asyncio.create_task(obey())
            try:
                await server.serve()
            finally:
                reloading.cancel()
                with suppress(asyncio.CancelledError):
                    await reloading

    uvloop.run(run())


def _spare_the_collector() -> None:
    """Has the garbage collector pass over what was made at the start, which stays for good, and look less often.

    A request makes few cycles and thousands of objects: with Python's own thresholds a tenth of its time is spent on
    looking at modules and classes again.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


def _while_read(tell: Callable[_Told, None]) -> Callable[_Told, None]:
    """The same, which tells nobody once nobody reads the screen: a gateway goes on without."""

    def told(*args: _Told.args, **kwargs: _Told.kwargs) -> None:
        try:
            tell(*args, **kwargs)
        except BrokenPipeError:
            leave_unread()

    return told


def _nowhere(_: UpstreamConfiguration, __: Found) -> None:
    """Shows nothing: another process does."""
