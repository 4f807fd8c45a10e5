"""What ``turnwire serve`` becomes once its command line is understood: the gateway, or the parent of its workers.

``python -m turnwire.cli.serve_process WORD…``, by `ServeOptions.words`. It is the same process, with the same number,
signals and streams, but another program: typer, rich and pydantic, which reading a command line takes, would stay in
memory for as long as the gateway serves, some 10 MB of it.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import aclosing
from functools import partial

from turnwire.cli.ending import ExitCode, ends_told
from turnwire.cli.serve_log import begin_log
from turnwire.cli.serve_options import ServeOptions
from turnwire.cli.serve_screen import Screen
from turnwire.gateway.configuration import GatewayConfiguration
from turnwire.gateway.reload import reloads_on_hangup
from turnwire.gateway.secret import token_secrets
from turnwire.gateway.store_choice import open_store

__all__ = ["command_line", "main"]


def command_line(options: ServeOptions) -> list[str]:
    """What to run. Modules are looked for where they are installed, and not in the working directory."""
    return [sys.executable, "-Pm", "turnwire.cli.serve_process", *options.words()]


def main() -> None:
    """Serves until it is told to stop."""
    with ends_told():
        options = ServeOptions.of(sys.argv[1:])
        begin_log(options.log_level)
        configuration = options.configuration()
        serve = _serve_here if configuration.workers == 1 else _serve_by_workers
        sys.exit(serve(configuration, options))


def _serve_here(configuration: GatewayConfiguration, options: ServeOptions) -> ExitCode:
    from turnwire.cli.serve_gateway import serve_until_told

    serve_until_told(configuration, reloads_on_hangup(options.configuration, configuration), Screen())
    return ExitCode.OK


def _serve_by_workers(configuration: GatewayConfiguration, options: ServeOptions) -> ExitCode:
    from turnwire.cli.serve_worker import arguments
    from turnwire.gateway.workers import Workers

    async def run() -> bool:
        await (await open_store(configuration)).close()  # what is wrong with it is told once, and here
        workers = Workers(configuration, partial(arguments, log_level=options.log_level))
        async with aclosing(reloads_on_hangup(options.configuration, configuration)) as configurations:
            return await workers.run(configurations)

    token_secrets(configuration.token_secrets_env)
    return ExitCode.OK if asyncio.run(run()) else ExitCode.FAILED


if __name__ == "__main__":
    main()
