"""The gateways' CPU time per chunk as a chart: a dot for each on a logarithmic axis, for it spans three decades."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Iterator, Mapping

from measurement import Comparison, Samples, Section
from plot import BLUE, GREEN, ORANGE

__all__ = ["relay_plot"]

_PARTS = {"saturated": "Gateway saturated", "20 chunks/s per stream": "Gateway at "}
"""Each part of the chart, and what the titles of its sections begin with."""
_COLOURS = {"LiteLLM": ORANGE, "turnwire": BLUE, "nginx": GREEN, "floor": "#8b949e"}
_TICKS = (1, 10, 100, 1000)
_LEFT, _RIGHT, _WIDTH = 100, 670, 760
_TOP, _ROW, _GAP = 44, 26, 34
_INK, _FAINT, _GRID = "#24292f", "#57606a", "#e7e9ec"
_FONT = "system-ui, 'Segoe UI', 'Helvetica Neue', 'DejaVu Sans', sans-serif"


def relay_plot(sections: Iterable[Section]) -> str:
    """An SVG document, of the first comparison, the translated one, in each section on CPU time per chunk."""
    parts = {part: figures for part, begin in _PARTS.items() if (figures := _figures(sections, begin))}
    body: list[str] = []
    y = _TOP
    for part, figures in parts.items():
        y += _GAP
        body.append(_text(14, y - 8, part, weight="600"))
        for name, figure in figures.items():
            y += _ROW
            x, colour = _across(figure), _COLOURS[name]
            body.append(_text(_LEFT - 14, y - 6, name, colour=colour, anchor="end"))
            body.append(f'<path d="M{_LEFT} {y - 10}H{x:.1f}" stroke="{colour}" stroke-opacity=".35"/>')
            body.append(f'<circle cx="{x:.1f}" cy="{y - 10}" r="5" fill="{colour}"/>')
            body.append(_text(x + 11, y - 6, f"{figure:{',.0f' if figure >= 100 else '.3g'}} µs", colour=colour))
    floor = y + 8
    return "\n".join((*_frame(floor), *body, "</svg>", ""))


def _figures(sections: Iterable[Section], begin: str) -> Mapping[str, float]:
    """The medians by gateway, from the most to the least."""
    samples: dict[str, Samples] = {}
    for section in sections:
        first = section.comparisons[0]
        if section.title.startswith(begin) and isinstance(first, Comparison):
            samples |= {section.other: first.theirs, "turnwire": first.ours}
    medians = {name: statistics.median(figures) for name, figures in samples.items()}
    return dict(sorted(medians.items(), key=lambda entry: -entry[1]))


def _frame(floor: int) -> Iterator[str]:
    height = floor + 46
    title = "CPU time per chunk: turnwire and LiteLLM translate, the floor does nothing else, nginx passes on"
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img" font-size="13"'
        f' font-family="{_FONT}" fill="{_INK}">'
    )
    yield f"<title>{title}</title>"
    yield f'<rect width="{_WIDTH}" height="{height}" fill="#fff"/>'
    yield _text(14, 26, title, weight="600", size=15)
    for tick in _TICKS:
        x = _across(tick)
        yield f'<path d="M{x:.1f} {_TOP}V{floor}" stroke="{_GRID}"/>'
        yield _text(x, floor + 18, f"{tick:,}", colour=_FAINT, anchor="middle")
    yield f'<path d="M{_LEFT} {floor}H{_RIGHT}" stroke="{_FAINT}"/>'
    yield _text((_LEFT + _RIGHT) / 2, floor + 38, "µs, logarithmic", anchor="middle")


def _across(figure: float) -> float:
    """How far to the right a figure lies; what is below the axis lies at its beginning."""
    decades = math.log10(max(figure, _TICKS[0])) / math.log10(3 * _TICKS[-1])
    return _LEFT + decades * (_RIGHT - _LEFT)


def _text(
    x: float, y: float, text: str, *, colour: str = _INK, anchor: str = "start", weight: str = "", size: int = 0
) -> str:
    more = (f' font-weight="{weight}"' if weight else "") + (f' font-size="{size}"' if size else "")
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}" text-anchor="{anchor}"{more}>{text}</text>'
