"""``turnwire serve``: the gateway, started or examined."""

from __future__ import annotations

import asyncio
import os
import signal
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from turnwire.cli.ending import ExitCode
from turnwire.cli.serve_log import LogLevel
from turnwire.cli.serve_options import ServeOptions
from turnwire.cli.serve_process import command_line
from turnwire.cli.serve_screen import Screen
from turnwire.errors import ConfigurationError
from turnwire.gateway.configuration import GatewayConfiguration, UpstreamConfiguration
from turnwire.gateway.secret import token_secrets
from turnwire.gateway.store_choice import open_store

if TYPE_CHECKING:
    from turnwire.gateway.discovery import Found

__all__ = ["serve"]

_PACKAGES = ("httptools", "itsdangerous", "prometheus_client", "starlette", "uvicorn", "uvloop")
"""What the gateway needs beyond the command line, whatever the version of Python."""


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
    options = ServeOptions(
        upstream=tuple(upstream or ()),
        dialect=dialect,
        api_key_env=api_key_env,
        config=None if config is None else str(config),
        host=host,
        port=port,
        workers=workers,
        log_level=log_level,
        access_log=None if access_log is None else str(access_log),
    )
    configuration = options.configuration()
    if not all(map(find_spec, _PACKAGES)):
        raise ConfigurationError('the gateway is an extra of turnwire: pip install "turnwire[gateway]"')
    if check:
        raise typer.Exit(asyncio.run(_check(configuration)))
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until something is served, there is nothing to reload
    command = command_line(options)
    os.execv(command[0], command)  # noqa: S606 - this same program, without what only its command line needs


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
