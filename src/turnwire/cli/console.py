"""What all commands share: the two outputs, how they look, and the words of figures."""

from __future__ import annotations

import sys

from rich.console import Console

from turnwire.cli.ending import ExitCode
from turnwire.cli.terminal import note, tell_error, visible
from turnwire.event import TokenUsage

__all__ = [
    "ExitCode",
    "Output",
    "duration",
    "note",
    "notes",
    "percent",
    "piped",
    "tell_error",
    "usage_words",
    "visible",
    "write",
]


class Output(Console):
    """A console that lets a command know when nobody reads it any more; rich's own ends the process with code 1."""

    def on_broken_pipe(self) -> None:
        """Called by rich while it handles the error."""
        raise BrokenPipeError


notes = Output(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True)
"""Standard error, in colours where it is a terminal; rich is given nothing to interpret, for servers write here too."""


def write(text: str) -> None:
    """Text to standard output at once: unchanged into a file or a pipe, `visible` on a terminal."""
    sys.stdout.write(visible(text) if sys.stdout.isatty() else text)
    sys.stdout.flush()


def piped() -> bytes:
    """All of standard input, nothing where there is none."""
    return b"" if sys.stdin is None else sys.stdin.buffer.read()


def percent(share: float) -> str:
    """A share between 0 and 1 as people read it; only the whole is 100%."""
    return f"{min(round(share * 100), 100 if share >= 1 else 99)}%"


def duration(seconds: float) -> str:
    """A time as people read it."""
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.2f} s"


def usage_words(usage: TokenUsage | None) -> str:
    """What an answer took, in a few words."""
    if usage is None:
        return "no usage reported"
    reasoning = f" ({usage.reasoning_output_tokens:,} reasoning)" if usage.reasoning_output_tokens else ""
    cached = percent(usage.cached_share)
    return f"{usage.input_tokens:,} tokens in ({cached} cached), {usage.output_tokens:,} out{reasoning}"
