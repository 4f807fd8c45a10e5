"""The commands together, and the one place where a command's failure becomes a sentence and an exit code."""

from __future__ import annotations

import io
import logging
import os
import sys
from importlib.metadata import version
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from turnwire.cli.ask import ask
from turnwire.cli.codex import codex
from turnwire.cli.codex_config import codex_config
from turnwire.cli.console import ExitCode, note, tell_error
from turnwire.cli.demo import demo
from turnwire.cli.doctor import doctor
from turnwire.cli.key import key
from turnwire.cli.providers import providers
from turnwire.cli.replay import replay
from turnwire.cli.serve import serve
from turnwire.cli.top import top
from turnwire.errors import ApiError, ConfigurationError

__all__ = ["application"]


class _Commands(TyperGroup):
    """Runs a command; whatever ends it early is told in a line on standard error."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except ConfigurationError as error:
            tell_error(str(error))
            raise typer.Exit(ExitCode.USAGE) from None
        except ApiError as error:
            tell_error(str(error))
            raise typer.Exit(ExitCode.FAILED) from None
        except KeyboardInterrupt:
            note("interrupted")
            raise typer.Exit(ExitCode.INTERRUPTED) from None
        except BrokenPipeError:
            # Whoever read our output has what they wanted. The interpreter must not try to write the rest at its end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(ExitCode.BROKEN_PIPE) from None


application = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    # Tracebacks with local variables would show keys.
    pretty_exceptions_enable=False,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"turnwire {version('turnwire')}")
        raise typer.Exit


@application.callback()
def _prepare(
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """The streaming layer of an agent's model turn, from the command line."""
    # What the library logs as warnings, the commands say in their own words.
    logging.getLogger("turnwire").addHandler(logging.NullHandler())
    # A locale that can't show a character must not end an answer.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")


for command in (ask, doctor, replay, providers, serve, top, key, codex_config, demo):
    application.command()(command)
# From its first argument on, all is Codex's own, options too, with or without ``--``.
application.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})(codex)
