"""What the demo shows: lines that stay, so that it reads the same in a terminal, in a pipe and in a log."""

from __future__ import annotations

import functools
import time
from collections.abc import Awaitable, Callable, Sequence

from msgspec import Struct
from rich.table import Table
from rich.text import Text

from turnwire.cli.console import Output, duration, percent, visible
from turnwire.cli.demo_forwarder import Forwarding
from turnwire.event import Completed, OutputItemDone, OutputTextDelta, ReasoningContentDelta, ResponseEvent, TokenUsage
from turnwire.item import FunctionCall

__all__ = ["Screen"]

_INDENT = "   "


class _Measured(Struct, frozen=True):
    """One request as it was measured."""

    turn: int
    request: int
    token: str | None
    replica: int
    usage: TokenUsage
    first_token: float
    """Seconds from the request to its first event."""
    compared: bool = False
    """It was sent where its token would not have taken it."""


class Screen:
    """Tells turns while they happen, and sums them up; ``log`` is the forwarder's."""

    def __init__(self, log: Sequence[Forwarding]) -> None:
        self._log = log
        self._console = Output(highlight=False, markup=False, emoji=False)
        self._turn = 0
        self._request = 0
        self._first: float | None = None  # when the open answer's first event came
        self._mid_line = False
        self._style = ""
        self._measured: list[_Measured] = []

    def line(self, *parts: str | tuple[str, str]) -> None:
        """A line of its own; a part may come with its style."""
        self._end_line()
        self._console.print(Text.assemble(*parts), soft_wrap=True)

    def opening(self, text: str, replicas: Sequence[str], forwarder: str) -> None:
        """What will happen, and where."""
        self.line(text)
        for number, base_url in enumerate(replicas):
            self.line(_INDENT, (_replica(number), "bold green"), f"  {base_url}")
        self.line(_INDENT, ("forwarder", "bold"), f"  {forwarder}")

    def begin_turn(self, title: str, question: str) -> None:
        """A turn's heading."""
        self._turn += 1
        self._request = 0
        self.line()
        self.line((f"Turn {self._turn}, {title}: ", "bold"), question)

    def on_event(self, event: ResponseEvent) -> None:
        """Shows what an event adds; the first one of an answer also shows where its request went."""
        if self._first is None:
            self._first = time.perf_counter()
            self._begin_answer(self._log[-1])
        match event:
            case ReasoningContentDelta(delta):
                self._stream(delta, "dim italic")
            case OutputTextDelta(delta):
                self._stream(delta, "")
            case OutputItemDone(FunctionCall(name, arguments)):
                self.line(_INDENT, "call ", (name, "bold"), f" {visible(arguments)}")
            case OutputItemDone():
                self._end_line()
            case Completed(_, usage):
                self._end_answer(self._log[-1], usage or TokenUsage())

    def shown(self, function: Callable[..., str]) -> Callable[..., Awaitable[str]]:
        """The function as a tool whose output is shown."""

        @functools.wraps(function)
        async def call(**arguments: str) -> str:
            output = function(**arguments)
            self.line(_INDENT, (function.__name__, "bold"), " gives: ", output)
            return output

        return call

    def compared(self, replica: int, usage: TokenUsage, first_token: float) -> None:
        """What the last request cost on the other replica."""
        self.line()
        self.line(f"The same request {self._request} sent to {_replica(replica)}, for comparison:")
        self._count(usage, first_token)
        self._measured.append(_Measured(self._turn, self._request, None, replica, usage, first_token, compared=True))

    def summary(self) -> None:
        """The table of all requests, and what follows from it."""
        table = Table(box=None, pad_edge=False, header_style="bold")
        table.add_column("turn")
        table.add_column("request")
        table.add_column("token it carries")
        table.add_column("goes to")
        table.add_column("prompt", justify="right")
        table.add_column("cached", justify="right")
        table.add_column("first token", justify="right")
        for row in self._measured:
            table.add_row(
                str(row.turn),
                f"{row.request} elsewhere" if row.compared else f"{row.request}",
                "none" if row.token is None else _short(row.token),
                _replica(row.replica),
                f"{row.usage.input_tokens:,}",
                percent(row.usage.cached_share),
                duration(row.first_token),
                style="dim" if row.compared else "",
            )
        self.line()
        self._console.print(table)
        self.line()
        self.line(f"Where its token took it, a follow-up read {self._shares(compared=False)} of its prompt from the")
        self.line(f"cache. Sent elsewhere, the same ones read {self._shares(compared=True)}.")

    def _shares(self, *, compared: bool) -> str:
        """The cached shares of all follow-ups, with their token or elsewhere."""
        rows = [row for row in self._measured if row.compared == compared and (compared or row.token is not None)]
        return " and ".join(percent(row.usage.cached_share) for row in rows)

    def _begin_answer(self, forwarding: Forwarding) -> None:
        self._request += 1
        self.line()
        carried = ("no token", "") if forwarding.token is None else (_short(forwarding.token), "bold cyan")
        self.line(
            (f"Request {self._request}", "bold"),
            " carries ",
            carried,
            ", goes to ",
            (_replica(forwarding.replica), "bold green"),
            *((", and is handed ", (_short(forwarding.handed_out), "bold cyan")) if forwarding.handed_out else ()),
        )

    def _end_answer(self, forwarding: Forwarding, usage: TokenUsage) -> None:
        assert self._first is not None  # noqa: S101 - Completed is an event too
        first_token = self._first - forwarding.arrived
        self._first = None
        self._count(usage, first_token)
        self._measured.append(
            _Measured(self._turn, self._request, forwarding.token, forwarding.replica, usage, first_token)
        )

    def _count(self, usage: TokenUsage, first_token: float) -> None:
        self.line(
            _INDENT,
            f"prompt of {usage.input_tokens:,} tokens, ",
            (f"{percent(usage.cached_share)} from cache", "bold yellow"),
            f", first token after {duration(first_token)}",
        )

    def _stream(self, delta: str, style: str) -> None:
        """Text as it comes, indented; each delta is written at once, another style begins another line."""
        if style != self._style:
            self._end_line()
            self._style = style
        for line in visible(delta).splitlines(keepends=True):
            if not self._mid_line:
                self._console.print(_INDENT, end="")
            self._console.print(Text(line.removesuffix("\n"), style), end="", soft_wrap=True)
            self._mid_line = True
            if line.endswith("\n"):
                self._end_line()

    def _end_line(self) -> None:
        if self._mid_line:
            self._console.print()
            self._mid_line = False


def _replica(number: int) -> str:
    """Replica A, B, …"""
    return f"replica {chr(ord('A') + number)}"


def _short(token: str) -> str:
    return f"{token[:6]}…"
