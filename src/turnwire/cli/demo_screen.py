"""What the demo shows: lines that stay, so that it reads the same in a terminal, in a pipe and in a log."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct
from rich.table import Table
from rich.text import Text

from turnwire.cli.console import Output, duration, percent, visible
from turnwire.cli.demo_codex import CODEX_SWITCH, CODEX_VERSION
from turnwire.cli.demo_gateway import Answered
from turnwire.event import OutputItemDone, OutputTextDelta, ReasoningContentDelta, ResponseEvent, TokenUsage
from turnwire.item import FunctionCall

__all__ = ["Screen"]

_INDENT = "   "


class _Measured(Struct, frozen=True):
    """One request as it was measured."""

    turn: int
    client: str
    request: str
    token: str
    """What it carried, in a word."""
    gateway: int | None
    """None: it went past them."""
    replica: int
    usage: TokenUsage
    first_token: float
    """Seconds from the request to the first of its answer."""
    follow_up: bool
    """It was not the first of its turn, so that some replica had computed most of its prompt."""
    compared: bool = False
    """It was sent where its token would not have taken it."""


class Screen:
    """Tells turns while they happen, and sums them up."""

    def __init__(self) -> None:
        self._console = Output(highlight=False, markup=False, emoji=False)
        self._turn = 0
        self._client = ""
        self._requests = 0
        self._mid_line = False
        self._style = ""
        self._measured: list[_Measured] = []

    @property
    def last_replica(self) -> int:
        """Where the last request went."""
        return self._measured[-1].replica

    def line(self, *parts: str | tuple[str, str]) -> None:
        """A line of its own; a part may come with its style."""
        self._end_line()
        self._console.print(Text.assemble(*parts), soft_wrap=True)

    def addresses(self, replicas: Sequence[str], gateways: Sequence[str]) -> None:
        """What runs where."""
        for number, base_url in enumerate(replicas):
            self.line(_INDENT, (_replica(number), "bold green"), f"  {base_url}")
        upstreams = " ".join(f"-u {_letter(number)}" for number in range(len(replicas)))
        for number, base_url in enumerate(gateways):
            self.line(_INDENT, (_gateway(number), "bold"), f"  {base_url}, which is turnwire serve {upstreams}")

    def begin_turn(self, client: str, question: str, *, version: str = "") -> None:
        """A turn's heading."""
        self._turn += 1
        self._client = client
        self._requests = 0
        self.line()
        self.line((f"Turn {self._turn}, {' '.join(filter(None, (client, version)))}: ", "bold"), question)

    def on_event(self, event: ResponseEvent) -> None:
        """Shows what an event adds."""
        match event:
            case ReasoningContentDelta(delta):
                self._stream(delta, "dim italic")
            case OutputTextDelta(delta):
                self._stream(delta, "")
            case OutputItemDone(FunctionCall(name, arguments)):
                self.call(name, arguments)
            case OutputItemDone():
                self._end_line()

    def say(self, text: str) -> None:
        """A message that came whole."""
        self._stream(text, "")
        self._end_line()

    def call(self, name: str, arguments: str) -> None:
        """A call of a tool."""
        self.line(_INDENT, "call ", (name, "bold"), f" {visible(arguments)}")

    def gives(self, name: str, output: str) -> None:
        """What a tool gave."""
        self.line(_INDENT, (name, "bold"), f" gives {visible(output.strip())}")

    def answered(self, gateway: int, answered: Sequence[Answered], token: str) -> None:
        """Where the turn's next request went and what it cost; ``token`` is what it carried, in a word."""
        for what in answered:
            first, self._requests = self._requests + 1, self._requests + what.answers
            request = f"{first}" if what.answers == 1 else f"{first} to {self._requests}"
            self._add(request, token, gateway, what.replica, what.usage, what.first_token, follow_up=first > 1)
            self._count(f"request {request}", gateway, what.replica, what.usage)

    def compared(self, replica: int, usage: TokenUsage, first_token: float) -> None:
        """What the last request cost on another replica."""
        request = f"{self._requests} elsewhere"
        self._add(request, "none", None, replica, usage, first_token, follow_up=self._requests > 1, compared=True)
        self._count("the same elsewhere", None, replica, usage)

    def installing(self, folder: Path) -> None:
        """What is fetched before Codex can take its turn."""
        self.line()
        self.line(
            (
                f"npm fetches Codex {CODEX_VERSION} into {folder}: 170 MB, once,\n"
                f"and 400 MB on disk. {CODEX_SWITCH}=no leaves it out.",
                "dim",
            )
        )

    def left_out(self, client: str, reason: str) -> None:
        """Why a client has no turn, or no more of it."""
        self.line()
        self.line((f"{client} is left out: {visible(reason)}", "yellow"))

    def summary(self) -> None:
        """The table of all requests, and what follows from it."""
        table = Table(box=None, pad_edge=False, header_style="bold")
        for name in ("turn", "client", "request", "token", "way"):
            table.add_column(name)
        for name in ("prompt", "cached", "first token"):
            table.add_column(name, justify="right")
        for row in self._measured:
            table.add_row(
                f"{row.turn}",
                row.client,
                row.request,
                row.token,
                f"{'' if row.gateway is None else row.gateway + 1:1} → {_letter(row.replica)}",
                f"{row.usage.input_tokens:,}",
                percent(row.usage.cached_share),
                duration(row.first_token),
                style="dim" if row.compared else "",
            )
        self.line()
        self._console.print(table)
        self.line()
        self.line(f"With its turn's token, a follow-up read {self._shares(compared=False)} of its prompt from the")
        self.line(f"cache. Those that were sent elsewhere as well read {self._shares(compared=True)} there.")
        self.line()

    def _shares(self, *, compared: bool) -> str:
        """The cached shares of all follow-ups, with their token or elsewhere."""
        rows = [row for row in self._measured if row.follow_up and row.compared == compared]
        *most, last = [percent(row.usage.cached_share) for row in rows]
        return f"{', '.join(most)} and {last}" if most else last

    def _add(
        self,
        request: str,
        token: str,
        gateway: int | None,
        replica: int,
        usage: TokenUsage,
        first_token: float,
        *,
        follow_up: bool,
        compared: bool = False,
    ) -> None:
        self._measured.append(
            _Measured(
                self._turn, self._client, request, token, gateway, replica, usage, first_token, follow_up, compared
            )
        )

    def _count(self, what: str, gateway: int | None, replica: int, usage: TokenUsage) -> None:
        self.line(
            f"→  {what}: ",
            "" if gateway is None else f"{_gateway(gateway)}, ",
            (_replica(replica), "bold green"),
            f", prompt of {usage.input_tokens:,} tokens, ",
            (f"{percent(usage.cached_share)} from cache", "bold yellow"),
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


def _letter(number: int) -> str:
    """A, B, …"""
    return chr(ord("A") + number)


def _gateway(number: int) -> str:
    return f"gateway {number + 1}"


def _replica(number: int) -> str:
    return f"replica {_letter(number)}"
