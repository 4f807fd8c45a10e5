"""The commands together, as one command line."""

from __future__ import annotations

import io
import logging
import sys
from importlib.metadata import version
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from turnwire.cli.ask import ask
from turnwire.cli.codex import codex
from turnwire.cli.codex_config import codex_config
from turnwire.cli.demo import demo
from turnwire.cli.doctor import doctor
from turnwire.cli.ending import ends_told
from turnwire.cli.key import key
from turnwire.cli.providers import providers
from turnwire.cli.replay import replay
from turnwire.cli.serve import serve
from turnwire.cli.top import top

__all__ = ["application"]


class _Commands(TyperGroup):
    """Runs a command; whatever ends it early is told in a line on standard error."""

    def invoke(self, ctx: Any) -> Any:
        with ends_told():
            return super().invoke(ctx)


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
