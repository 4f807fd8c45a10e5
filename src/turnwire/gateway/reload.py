"""Another configuration for a gateway that runs: read at SIGHUP, checked, and handed to what serves.

One that can't be used is told in the log, and the one before goes on. So do those fields that a running process can't
change, `FIXED`.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import AsyncGenerator, AsyncIterable, Callable
from typing import TYPE_CHECKING

from msgspec.structs import replace

from turnwire.errors import ConfigurationError
from turnwire.gateway.configuration import GatewayConfiguration

if TYPE_CHECKING:
    from turnwire.gateway.application import GatewayApplication
    from turnwire.gateway.server import GatewayServer

__all__ = ["FIXED", "keep_reloading", "reloaded", "reloads_on_hangup"]

_log = logging.getLogger("turnwire.gateway")

FIXED = (
    "host",
    "port",
    "workers",
    "store_path",
    "store_url_env",
    "store_prefix",
    "store_ttl",
    "store_max_size",
    "token_secrets_env",
    "access_log",
)
"""What holds from a process's start to its end."""


def reloaded(load: Callable[[], GatewayConfiguration], running: GatewayConfiguration) -> GatewayConfiguration | None:
    """The configuration as it is now, as far as it can be changed; None where it can't be used."""
    try:
        wanted = load()
        fixed = {name: getattr(running, name) for name in FIXED}
        configuration = replace(wanted, **fixed)
    except ConfigurationError as error:
        _log.error("the configuration can't be used, and the one before goes on: %s", error)
        return None
    changed = [name for name in FIXED if getattr(wanted, name) != fixed[name]]
    if changed:
        _log.warning("not changed, for that needs a restart: %s", ", ".join(changed))
    return configuration


async def reloads_on_hangup(
    load: Callable[[], GatewayConfiguration], running: GatewayConfiguration
) -> AsyncGenerator[GatewayConfiguration, None]:
    """What is to be served, each time that SIGHUP comes and the configuration can be used."""
    loop, told = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGHUP, told.set)
    try:
        while True:
            await told.wait()
            told.clear()
            configuration = reloaded(load, running)
            if configuration is not None:
                running = configuration
                yield configuration
    finally:
        loop.remove_signal_handler(signal.SIGHUP)


async def keep_reloading(
    server: GatewayServer, application: GatewayApplication, configurations: AsyncIterable[GatewayConfiguration]
) -> None:
    """Serves by one configuration after the other, until there are no more."""
    async for configuration in configurations:
        try:
            await application.reload(configuration)
        except ConfigurationError as error:
            _log.error("the configuration can't be used, and the one before goes on: %s", error)
        else:
            server.adopt(configuration)
            _log.info("the configuration was read again: new requests are served by it")
