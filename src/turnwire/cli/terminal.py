"""Lines on standard output and standard error, bold and coloured where they can be, without rich.

The commands that draw have rich for that (`turnwire.cli.console`). What is here does for lines, and for processes that
serve for months and have no memory to spare. When there are colours follows rich's rules, so that all commands agree.
"""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from functools import partial
from typing import Final, Literal, TextIO, TypeAlias

__all__ = ["Part", "Style", "leave_unread", "note", "show", "tell_error", "visible"]

Style: TypeAlias = Literal["", "bold", "dim", "yellow", "bold red"]
Part: TypeAlias = tuple[str, Style]
"""A piece of a line, and how it looks."""

_CODES: Final[dict[Style, str]] = {"": "", "bold": "1", "dim": "2", "yellow": "33", "bold red": "1;31"}
_COLOURLESS: Final[dict[Style, str]] = {**_CODES, "yellow": "", "bold red": "1"}

# Of the control characters only these two may reach a terminal: the others move the cursor, or do worse.
_INVISIBLE: dict[int, str | None] = {
    code: "\N{REPLACEMENT CHARACTER}" for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\n\t"
}
_INVISIBLE[ord("\r")] = None
_ERROR = "error: "


def visible(text: str) -> str:
    """A server's text without what could take over the terminal that it is shown on."""
    return text.translate(_INVISIBLE)


def show(stream: TextIO | None, *parts: Part) -> None:
    """Writes a line at once; nothing where the stream was closed by whoever started the process.

    Raises `BrokenPipeError` where nobody reads it any more.
    """
    if stream is None:
        return
    codes = _codes(stream)
    line = "".join(f"\x1b[{codes[style]}m{text}\x1b[0m" if text and codes[style] else text for text, style in parts)
    # A locale that can't show a character must not end anything.
    encoding = stream.encoding or "utf-8"
    stream.write(line.encode(encoding, "replace").decode(encoding) + "\n")
    stream.flush()


def note(text: str) -> None:
    """A line on standard error that is not the answer itself."""
    show(sys.stderr, (_wrapped(visible(text)), "dim"))


def tell_error(sentence: str) -> None:
    """The line on standard error that says why a command failed."""
    show(sys.stderr, (_ERROR, "bold red"), (_wrapped(visible(sentence), _ERROR), ""))


def leave_unread() -> None:
    """Sends all further output nowhere, once its reader has left: the interpreter must not fail on it at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _codes(stream: TextIO) -> dict[Style, str]:
    """What begins each style in this stream; empty where there is none."""
    given = os.environ
    if (compatible := given.get("TTY_COMPATIBLE")) in ("0", "1"):
        is_terminal = compatible == "1"
    elif (forced := given.get("FORCE_COLOR")) is not None:
        is_terminal = forced != ""
    else:
        is_terminal = stream.isatty()
    if not is_terminal or given.get("TERM", "").lower() in ("dumb", "unknown"):
        return dict.fromkeys(_CODES, "")
    return _COLOURLESS if given.get("NO_COLOR") else _CODES


def _wrapped(text: str, before: str = "") -> str:
    """A text for standard error that comes behind ``before``; only a terminal has it wrapped, between words."""
    if sys.stderr is None or not sys.stderr.isatty():
        return text
    width = shutil.get_terminal_size().columns
    wrap = partial(textwrap.fill, width=width, break_long_words=False, break_on_hyphens=False)
    return "\n".join(map(wrap, (before + text).split("\n")))[len(before) :]
