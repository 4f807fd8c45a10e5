"""How `turnwire top` looks: a line of totals, and a row for each upstream."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from msgspec import Struct
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from turnwire.cli.console import duration, percent, visible
from turnwire.cli.top_figures import Figures, UpstreamFigures

__all__ = ["screen"]

_BARS = "▁▂▃▄▅▆▇█"
_NONE = "-"
_MIDDLE = 100
_WIDE = 130
"""Terminal columns from which on there is room for more."""


def screen(figures: Figures, gateways: Sequence[str], complaints: Sequence[str], *, width: int) -> RenderableType:
    """All of it; ``complaints`` say why gateways do not answer."""
    lines: list[RenderableType] = [_heading(gateways), _totals(figures)]
    lines += [Text(visible(complaint), "red") for complaint in complaints]
    if figures.upstreams:
        lines += [Text(), _table(figures.upstreams, width=width)]
    return Group(*lines)


def _heading(gateways: Sequence[str]) -> Text:
    return Text.assemble(("turnwire top", "bold"), ("  " + "  ".join(gateways), "dim"))


def _totals(figures: Figures) -> Text:
    parts = [
        _count(figures.open, "open", "bold"),
        _count(figures.waiting, "waiting", "yellow"),
        _count(figures.callers, "caller" if figures.callers == 1 else "callers"),
        Text(f"{_rate(figures.answers)} answers/s"),
        Text(f"{_rate(figures.input_tokens)} tokens/s in, {_rate(figures.output_tokens)} out"),
        Text(f"{_share(figures.cached_share)} cached"),
    ]
    if figures.dropped:
        parts.append(_count(figures.dropped, "features dropped"))
    if figures.refused_tokens:
        parts.append(_count(figures.refused_tokens, "turn tokens refused", "yellow"))
    return Text("  ").join(parts)


def _count(number: int, what: str, style: str = "") -> Text:
    return Text.assemble((f"{number:,}", style if number else ""), f" {what}")


def _table(upstreams: Sequence[UpstreamFigures], *, width: int) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    columns = [column for column in _COLUMNS if width >= column.from_width]
    for column in columns:
        table.add_column(column.title, justify=column.justify, no_wrap=True)
    top = max((step for upstream in upstreams for step in upstream.pace), default=0.0)
    for upstream in upstreams:
        table.add_row(*(column.cell(upstream, top) for column in columns))
    return table


def _number(text: str, style: str = "") -> Text:
    """A figure, which does not stand out where there is nothing to see."""
    return Text(text, "dim" if text in ("0", _NONE) else style)


def _rate(value: float) -> str:
    """A rate with as many places as mean something."""
    if value == 0:
        return "0"
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def _share(share: float | None) -> str:
    return _NONE if share is None else percent(share)


def _bars(steps: Sequence[float], top: float) -> str:
    """A bar for each step; the highest of all upstreams is a full one, and nothing is none at all."""
    return "".join(" " if not step else _BARS[min(int(step / top * len(_BARS)), len(_BARS) - 1)] for step in steps)


def _state(upstream: UpstreamFigures) -> Text:
    return Text("● well", "green") if upstream.well else Text("○ left out", "red")


def _first_output(upstream: UpstreamFigures, place: Literal[0, 1]) -> Text:
    return _number(_NONE if upstream.first_output is None else duration(upstream.first_output[place]))


class _Column(Struct, frozen=True):
    title: str
    cell: Callable[[UpstreamFigures, float], Text]
    """Of an upstream, and the highest pace of all."""
    from_width: int = 0
    justify: Literal["left", "right"] = "right"


_COLUMNS = (
    _Column("upstream", lambda one, _: Text(visible(one.name), "bold"), justify="left"),
    _Column("", lambda one, _: _state(one), justify="left"),
    _Column("open", lambda one, _: _number(f"{one.open:,}")),
    _Column("answers/s", lambda one, _: _number(_rate(one.answers)), _MIDDLE),
    _Column("tokens/s", lambda one, _: _number(_rate(one.output_tokens))),
    _Column("cached", lambda one, _: _number(_share(one.cached_share))),
    _Column("first output", lambda one, _: _first_output(one, 0)),
    _Column("95%", lambda one, _: _first_output(one, 1)),
    _Column("failed", lambda one, _: _number(f"{one.failed:,}", "red")),
    _Column("left out", lambda one, _: _number(f"{one.ejections:,}", "yellow"), _MIDDLE),
    _Column("moved on", lambda one, _: _number(f"{one.failovers:,}", "yellow"), _MIDDLE),
    _Column("pace", lambda one, top: Text(_bars(one.pace, top), "cyan"), _WIDE, "left"),
)
