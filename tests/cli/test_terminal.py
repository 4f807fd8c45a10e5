"""Lines that are bold and coloured without rich: as rich would have them."""

from __future__ import annotations

import io
import os
import sys

import pytest
from rich.text import Text

from turnwire.cli.console import Output
from turnwire.cli.ending import ExitCode, ends_told
from turnwire.cli.terminal import Part, leave_unread, note, show, tell_error

PARTS: list[Part] = [("listening  ", "bold"), ("here ü", ""), ("", "dim"), ("odd", "yellow"), ("wrong", "bold red")]
DECIDING = ("FORCE_COLOR", "NO_COLOR", "TERM", "TTY_COMPATIBLE")


class Stream(io.TextIOWrapper):
    """A file, or a terminal, that keeps what is written to it."""

    def __init__(self, *, is_terminal: bool, encoding: str = "utf-8") -> None:
        self.kept = io.BytesIO()
        super().__init__(self.kept, encoding)
        self._is_terminal = is_terminal

    def isatty(self) -> bool:
        return self._is_terminal

    @property
    def text(self) -> str:
        self.flush()
        return self.kept.getvalue().decode()


def by_rich(stream: Stream) -> str:
    output = Output(file=stream, highlight=False, markup=False, emoji=False, soft_wrap=True)
    output.print(Text.assemble(*PARTS))
    return stream.text


@pytest.mark.parametrize("is_terminal", [False, True])
@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"NO_COLOR": "1"},
        {"NO_COLOR": ""},
        {"FORCE_COLOR": "1"},
        {"FORCE_COLOR": ""},
        {"FORCE_COLOR": "1", "NO_COLOR": "1"},
        {"TERM": "dumb"},
        {"TERM": "UNKNOWN", "FORCE_COLOR": "1"},
        {"TTY_COMPATIBLE": "0", "FORCE_COLOR": "1"},
        {"TTY_COMPATIBLE": "1", "FORCE_COLOR": ""},
        {"TTY_COMPATIBLE": "maybe"},
    ],
)
def test_it_looks_as_the_commands_do_that_have_rich(
    environment: dict[str, str], is_terminal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in DECIDING:
        monkeypatch.delenv(name, raising=False)
    for name, value in {"TERM": "xterm", **environment}.items():
        monkeypatch.setenv(name, value)
    stream = Stream(is_terminal=is_terminal)
    show(stream, *PARTS)
    assert stream.text == by_rich(Stream(is_terminal=is_terminal))


def test_a_character_that_the_locale_lacks_ends_nothing() -> None:
    stream = Stream(is_terminal=False, encoding="ascii")
    show(stream, ("ü and \udcff", ""))
    show(None, ("nowhere", ""))
    assert stream.text == "? and ?\n"


def test_only_a_terminal_has_long_lines_wrapped_between_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")
    told = []
    for is_terminal in (False, True):
        stream = Stream(is_terminal=is_terminal)
        monkeypatch.setattr(sys, "stderr", stream)
        tell_error("the server is not there at all\nor is it?")
        tell_error("http://127.0.0.1:8080/v1")
        note("it goes on without it")
        told.append(stream.text)
    assert told == [
        "error: the server is not there at all\nor is it?\nerror: http://127.0.0.1:8080/v1\nit goes on without it\n",
        "error: the server is\nnot there at all\nor is it?\nerror: http://127.0.0.1:8080/v1\nit goes on without\nit\n",
    ]


def test_output_that_nobody_reads_ends_a_command_and_does_not_fail_at_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "w") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        with pytest.raises(SystemExit) as ended, ends_told():
            show(sys.stdout, ("hello", ""))
        assert ended.value.code == ExitCode.BROKEN_PIPE
        show(sys.stdout, ("hello?", ""))
        leave_unread()
