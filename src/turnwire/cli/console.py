"""What all commands share: the two outputs, how they look, and the codes that commands end with."""

from __future__ import annotations

import sys
from enum import IntEnum

from rich.console import Console
from rich.text import Text

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


class ExitCode(IntEnum):
    """What a command's exit code says."""

    OK = 0
    FAILED = 1
    """The turn failed: the server, the connection or the stream."""
    USAGE = 2
    """The command, the configuration or the installation is not right."""
    INCOMPLETE = 3
    """The answer came and is not whole: bounded, filtered, refused, or cut."""
    INTERRUPTED = 130
    """Ctrl-C, as a shell counts it: 128 + SIGINT."""
    BROKEN_PIPE = 141
    """Nobody reads the output any more: 128 + SIGPIPE."""


class Output(Console):
    """A console that lets a command know when nobody reads it any more; rich's own ends the process with code 1."""

    def on_broken_pipe(self) -> None:
        """Called by rich while it handles the error."""
        raise BrokenPipeError


notes = Output(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True)
"""Standard error, in colours where it is a terminal; rich is given nothing to interpret, for servers write here too."""

# Of the control characters only these two may reach a terminal: the others move the cursor, or do worse.
_INVISIBLE: dict[int, str | None] = {
    code: "\N{REPLACEMENT CHARACTER}" for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\n\t"
}
_INVISIBLE[ord("\r")] = None


def visible(text: str) -> str:
    """A server's text without what could take over the terminal that it is shown on."""
    return text.translate(_INVISIBLE)


def write(text: str) -> None:
    """Text to standard output at once: unchanged into a file or a pipe, `visible` on a terminal."""
    sys.stdout.write(visible(text) if sys.stdout.isatty() else text)
    sys.stdout.flush()


def piped() -> bytes:
    """All of standard input, nothing where there is none."""
    return b"" if sys.stdin is None else sys.stdin.buffer.read()


def note(text: str) -> None:
    """A line on standard error that is not the answer itself."""
    _tell(Text(visible(text), style="dim"))


def tell_error(sentence: str) -> None:
    """The line on standard error that says why a command failed."""
    _tell(Text.assemble(("error: ", "bold red"), visible(sentence)))


def _tell(text: Text) -> None:
    """A line, which only a terminal wraps."""
    notes.print(text, soft_wrap=not notes.is_terminal)


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
