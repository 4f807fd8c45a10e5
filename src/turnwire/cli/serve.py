"""``turnwire serve``: the gateway, started or examined."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import socket
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing, suppress
from enum import StrEnum
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer
from rich.text import Text

from turnwire.cli.console import ExitCode, Output, visible
from turnwire.errors import ConfigurationError
from turnwire.gateway.configuration import (
    GatewayConfiguration,
    UpstreamConfiguration,
    load_gateway_configuration,
    upstream_at,
)
from turnwire.gateway.secret import token_secrets
from turnwire.gateway.store_choice import open_store
from turnwire.wire.chat.dialect import PRESETS

if TYPE_CHECKING:
    from turnwire.gateway.discovery import Found

__all__ = ["LogLevel", "Screen", "begin_log", "serve", "serve_until_told"]

_PACKAGES = frozenset({"backports", "httptools", "itsdangerous", "prometheus_client", "starlette", "uvicorn", "uvloop"})
"""What the gateway needs beyond the command line."""
_WHAT = 11
"""Columns of the left."""
_MAX_MODELS = 8


class LogLevel(StrEnum):
    """What is logged: this, and what is worse."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


def serve(
    upstream: Annotated[
        list[str] | None,
        typer.Option("--upstream", "-u", metavar="URL", help="A model server, up to before /chat/completions."),
    ] = None,
    dialect: Annotated[
        str | None, typer.Option(metavar="NAME", help="How --upstream speaks; by default as it is recognised.")
    ] = None,
    api_key_env: Annotated[
        str | None, typer.Option(metavar="NAME", help="The environment variable with the key of --upstream.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The configuration, instead of a turnwire.toml that is found.")
    ] = None,
    host: Annotated[str | None, typer.Option(metavar="NAME", help="Where to listen.")] = None,
    port: Annotated[int | None, typer.Option(metavar="N", help="0 for one that is free.")] = None,
    workers: Annotated[int | None, typer.Option(metavar="N", help="How many processes serve.")] = None,
    check: Annotated[bool, typer.Option("--check", help="Say what is wrong with it all, and serve nothing.")] = False,
    log_level: Annotated[LogLevel, typer.Option(help="What is logged, on standard error.")] = LogLevel.INFO,
    access_log: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where each answer becomes a line of JSON; - is standard error.")
    ] = None,
) -> None:
    """Start the gateway: Responses and Chat Completions for clients, in front of model servers.

    What no option says is taken from turnwire.toml; what that does not say either is found out, or has a default.
    SIGHUP has it read again.
    """
    changes = {"host": host, "port": port, "workers": workers, "access_log": access_log}
    load = partial(_configuration, upstream or [], dialect, api_key_env, config, **changes)
    configuration = load()
    try:
        if check:
            raise typer.Exit(asyncio.run(_check(configuration)))
        _begin(log_level)
        if configuration.workers > 1:
            raise typer.Exit(_serve_by_workers(configuration, load, log_level))
        _serve(configuration, load)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _PACKAGES:
            raise
        raise ConfigurationError('the gateway is an extra of turnwire: pip install "turnwire[gateway]"') from None


def _configuration(
    urls: Sequence[str],
    dialect: str | None,
    api_key_env: str | None,
    file: Path | None,
    **changes: str | int | Path | None,
) -> GatewayConfiguration:
    for option, value in (("--dialect", dialect), ("--api-key-env", api_key_env)):
        if value is not None and not urls:
            raise ConfigurationError(f"{option} is for a server given with --upstream; in a file each has its own")
    return load_gateway_configuration(
        None if file is None else [file],
        upstreams=[upstream_at(url, dialect=dialect, api_key_env=api_key_env) for url in urls],
        **{name: value for name, value in changes.items() if value is not None},
    )


def begin_log(log_level: LogLevel, *, who: str = "") -> None:
    """Logs on standard error; ``who`` stands in every line."""
    logging.basicConfig(format=f"%(asctime)s %(levelname)s {who}%(message)s", level=logging.WARNING)
    logging.getLogger("turnwire").setLevel(log_level.upper())


def serve_until_told(
    configuration: GatewayConfiguration,
    configurations: AsyncGenerator[GatewayConfiguration, None],
    screen: Screen | None,
    sockets: list[socket.socket] | None = None,
) -> None:
    """Serves in this process, by one configuration after the other; their end is that of the gateway."""
    import uvloop

    from turnwire.gateway.application import create_application
    from turnwire.gateway.reload import keep_reloading
    from turnwire.gateway.server import GatewayServer

    found = _nowhere if screen is None else screen.found
    application = create_application(configuration, on_found=found)

    started = asyncio.Event()

    def ready() -> None:
        started.set()
        _spare_the_collector()
        if screen is not None:
            screen.gateway(server.url, configuration)

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


def _begin(log_level: LogLevel) -> None:
    import turnwire.gateway.server  # noqa: F401 - so that what is not installed is told before anything is changed

    begin_log(log_level)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until something is served, there is nothing to reload


def _serve(configuration: GatewayConfiguration, load: Callable[[], GatewayConfiguration]) -> None:
    from turnwire.gateway.reload import reloads_on_hangup

    serve_until_told(configuration, reloads_on_hangup(load, configuration), Screen())


def _serve_by_workers(
    configuration: GatewayConfiguration, load: Callable[[], GatewayConfiguration], log_level: LogLevel
) -> ExitCode:
    from turnwire.cli.serve_worker import arguments
    from turnwire.gateway.reload import reloads_on_hangup
    from turnwire.gateway.workers import Workers

    async def run() -> bool:
        await (await open_store(configuration)).close()  # what is wrong with it is told once, and here
        workers = Workers(configuration, partial(arguments, log_level=log_level))
        async with aclosing(reloads_on_hangup(load, configuration)) as configurations:
            return await workers.run(configurations)

    token_secrets(configuration.token_secrets_env)
    return ExitCode.OK if asyncio.run(run()) else ExitCode.FAILED


def _spare_the_collector() -> None:
    """Has the garbage collector pass over what was made at the start, which stays for good, and look less often.

    A request makes few cycles and thousands of objects: with Python's own thresholds a tenth of its time is spent on
    looking at modules and classes again.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


def _nowhere(_: UpstreamConfiguration, __: Found) -> None:
    """Shows nothing: another process does."""


async def _check(configuration: GatewayConfiguration) -> ExitCode:
    token_secrets(configuration.token_secrets_env)
    if configuration.store_url_env is not None:  # a file is made only by who serves
        await (await open_store(configuration)).close()
    screen = Screen()
    found = await asyncio.gather(*map(_discovered, configuration.upstreams))
    for upstream, what in zip(configuration.upstreams, found, strict=True):
        screen.upstream(upstream, what)
    return ExitCode.OK if all(what.usable for what in found) else ExitCode.FAILED


async def _discovered(upstream: UpstreamConfiguration) -> Found:
    from turnwire.gateway.discovery import discover
    from turnwire.gateway.upstream import Upstream

    asked = Upstream(upstream)
    try:
        return await discover(asked)
    finally:
        await asked.close()


class Screen:
    """Rows of two columns: what, and what is known of it."""

    def __init__(self) -> None:
        self._console = Output(highlight=False, markup=False, emoji=False, soft_wrap=True)
        self._early: list[tuple[UpstreamConfiguration, Found]] | None = []

    def gateway(self, url: str, configuration: GatewayConfiguration) -> None:
        """Where it is, and how a client gets in."""
        address = urlsplit(url)
        self._row("listening", url)
        if ip_address(address.hostname or "").is_unspecified:
            self._row("base_url", f"http://127.0.0.1:{address.port}/v1 here, by this machine's name elsewhere")
        else:
            self._row("base_url", f"{url}/v1")
        if configuration.callers:
            self._row("API keys", _listed([caller.name for caller in configuration.callers]))
        else:
            self._row("API keys", "none: programs on this machine are served, with any key or without")
        early, self._early = self._early or [], None
        for upstream, found in early:
            self.upstream(upstream, found)

    def found(self, upstream: UpstreamConfiguration, found: Found) -> None:
        """What an upstream is, once it has been told where the gateway itself is."""
        if self._early is None:
            self.upstream(upstream, found)
        else:
            self._early.append((upstream, found))

    def upstream(self, upstream: UpstreamConfiguration, found: Found) -> None:
        """What an upstream is, and what is wrong with it."""
        wire_api = "unknown API" if found.wire_api is None else found.wire_api
        dialect = next(
            (name for name in (found.server, *PRESETS) if PRESETS.get(name or "") == found.dialect), "custom"
        )
        self._row("upstream", f"{upstream.name}, {found.base_url}: {wire_api}, dialect {dialect}")
        self._row("", f"models {_listed(list(found.models))}" if found.models else "no models")
        for problem in found.problems:
            self._row("", problem, style="yellow" if found.usable else "bold red")

    def _row(self, what: str, words: str, style: str = "") -> None:
        self._console.print(Text.assemble((what.ljust(_WHAT), "bold"), (visible(words), style)))


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MAX_MODELS} more" if len(names) > _MAX_MODELS else ""
    return ", ".join(names[:_MAX_MODELS]) + more
