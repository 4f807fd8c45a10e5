"""``turnwire codex``: the installed Codex, pointed at a gateway for this one time."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated

import typer
from msgspec import Struct
from msgspec.structs import replace

from turnwire.cli.codex_config import DEFAULT_GATEWAY, KEY_VARIABLE, CodexConfiguration, overrides
from turnwire.cli.provider_choice import only_model, served_models
from turnwire.client import Provider
from turnwire.errors import ConfigurationError, ConnectError
from turnwire.gateway.configuration import GatewayConfiguration, UpstreamConfiguration, upstream_at

if TYPE_CHECKING:
    from turnwire.gateway.server import GatewayServer

__all__ = ["codex"]

_NO_KEY = "none"
"""Stands for the key where there is none: Codex wants the variable set."""

_REPLACES_ITSELF = os.name == "posix"


class _Wanted(Struct, frozen=True):
    """What is to be started, wherever its gateway may be."""

    program: str
    arguments: list[str]
    model: str | None
    """None: the only one that the gateway serves."""
    websocket: bool
    key: str | None

    async def command(self, gateway: str) -> list[str]:
        """Program and arguments; asks the gateway in any case, so that its absence is told before Codex retries."""
        provider = Provider("the gateway", gateway, api_key=self.key)
        model = self.model
        if model is None:
            model = await only_model(provider)
        else:
            served = await served_models(provider)
            if model not in served:
                raise ConfigurationError(f"the gateway serves no model {model!r}; it serves {', '.join(served)}")
        return [
            self.program,
            *overrides(CodexConfiguration(gateway, model, self.websocket).settings()),
            *self.arguments,
        ]

    @property
    def environment(self) -> dict[str, str]:
        """This process's own, with the key."""
        return {**os.environ, KEY_VARIABLE: self.key or _NO_KEY}


def codex(
    arguments: Annotated[list[str] | None, typer.Argument(metavar="ARGS", help="What Codex is given.")] = None,
    gateway: Annotated[str, typer.Option(metavar="URL", help="Where the gateway is.")] = DEFAULT_GATEWAY,
    upstream: Annotated[
        str | None,
        typer.Option("--upstream", "-u", metavar="URL", help="A model server: start a gateway for it, for this run."),
    ] = None,
    model: Annotated[
        str | None, typer.Option(metavar="NAME", help="The model to use; by default the only one there is.")
    ] = None,
    websocket: Annotated[bool, typer.Option(help="Speak over one WebSocket, or in HTTP requests.")] = True,
) -> None:
    """Start Codex on the gateway, as in: turnwire codex -- exec "Say hello".

    Your own configuration of Codex stays as it is. A key of the gateway is taken from TURNWIRE_API_KEY.
    """
    program = shutil.which("codex")
    if program is None:
        raise ConfigurationError("codex is not on the PATH: install it with npm install -g @openai/codex")
    wanted = _Wanted(program, arguments or [], model, websocket, os.environ.get(KEY_VARIABLE) or None)
    if upstream is None:
        _start(wanted, gateway)
    elif gateway != DEFAULT_GATEWAY:
        raise ConfigurationError("--gateway names one that runs and --upstream starts another: give one of them")
    elif find_spec("uvicorn") is None:
        raise ConfigurationError('the gateway is an extra of turnwire: pip install "turnwire[gateway]"')
    else:
        raise typer.Exit(asyncio.run(_run_with_gateway(wanted, upstream)))


def _start(wanted: _Wanted, gateway: str) -> None:
    """Becomes Codex where the system can do that, so that signals, terminal and exit code are Codex's own."""
    try:
        command = asyncio.run(wanted.command(gateway))
    except ConnectError as error:
        advice = "start a gateway with turnwire serve, or say where it is with --gateway"
        raise ConfigurationError(f"{error}; {advice}") from error
    if _REPLACES_ITSELF:
        os.execve(wanted.program, command, wanted.environment)  # noqa: S606 - the program that was asked for
    sys.exit(subprocess.run(command, env=wanted.environment, check=False).returncode)  # noqa: S603 - the same


async def _run_with_gateway(wanted: _Wanted, upstream: str) -> int:
    """Runs Codex beside a gateway in this process; gives Codex's exit code. A signal that ends the one ends both."""
    from turnwire.gateway.application import create_application
    from turnwire.gateway.server import GatewayServer

    configuration = GatewayConfiguration((await _known(upstream_at(upstream)),), port=0, drain_timeout=0)
    running: list[asyncio.Task[int]] = []

    def begin() -> None:
        running.append(asyncio.create_task(_run(wanted, f"{server.url}/v1", server)))

    server = GatewayServer(configuration, create_application(configuration), on_ready=begin)
    await server.serve()
    return await running[0]


async def _known(upstream: UpstreamConfiguration) -> UpstreamConfiguration:
    """The upstream with what it says of itself, so that the gateway has its models from the start."""
    from turnwire.gateway.discovery import discover
    from turnwire.gateway.upstream import Upstream

    asked = Upstream(upstream)
    try:
        found = await discover(asked)
    finally:
        await asked.close()
    if not found.usable:
        raise ConfigurationError("; ".join(found.problems))
    return replace(
        upstream, base_url=found.base_url, wire_api=found.wire_api, models=found.models, dialect=found.dialect
    )


async def _run(wanted: _Wanted, gateway: str, server: GatewayServer) -> int:
    """Runs Codex, for as long as the gateway is there; the gateway then ends with it."""
    ended = asyncio.create_task(server.draining.wait())
    try:
        process = await asyncio.create_subprocess_exec(*await wanted.command(gateway), env=wanted.environment)
        code = asyncio.create_task(process.wait())
        await asyncio.wait([code, ended], return_when=asyncio.FIRST_COMPLETED)
        if not code.done():
            process.terminate()
        number = await code
        return number if number >= 0 else 128 - number  # a signal, as a shell counts it
    finally:
        ended.cancel()
        server.should_exit = True
