"""Charts as SVG: lines that are named where they end, on axes with units."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from msgspec import Struct

__all__ = ["BLUE", "GREEN", "GREY", "ORANGE", "Axis", "Band", "Line", "chart"]

BLUE, ORANGE, GREEN, GREY = "#2166a5", "#d95f2b", "#3c8d5a", "#7a808a"

_INK, _FAINT, _GRID = "#24292f", "#57606a", "#e7e9ec"
_LEFT, _TOP, _BOTTOM = 76, 46, 52
_RIGHT, _NAMES = 28, 150
_WIDTH, _HEIGHT = 760, 380
_FONT = "system-ui, 'Segoe UI', 'Helvetica Neue', 'DejaVu Sans', sans-serif"


class Axis(Struct, frozen=True):
    """One direction of a chart: from its first tick to its last, or as far as ``low`` and ``high`` say."""

    label: str
    ticks: Sequence[float]
    log: bool = False
    form: str = "{:g}"
    low: float | None = None
    high: float | None = None
    names: Sequence[str] = ()
    """What stands at the ticks in the place of numbers."""

    def part(self, value: float) -> float:
        """How far along the axis a value lies, from 0 to 1; what is beyond its ends lies at them."""
        ends = [self.ticks[0] if self.low is None else self.low, self.ticks[-1] if self.high is None else self.high]
        if self.log:
            value, *ends = (math.log(max(number, 1e-12)) for number in (value, *ends))
        return min(1.0, max(0.0, (value - ends[0]) / (ends[1] - ends[0])))

    def text(self, place: int) -> str:
        return self.names[place] if self.names else self.form.format(self.ticks[place])


class Line(Struct, frozen=True):
    """Points in a row; its name stands at its end, ``shift`` pixels lower."""

    name: str
    points: Sequence[tuple[float, float]]
    colour: str = BLUE
    dashed: bool = False
    dots: bool = False
    shift: float = 0.0


class Band(Struct, frozen=True):
    """A stretch of the horizontal axis in which something goes on."""

    name: str
    begin: float
    end: float


def chart(title: str, x: Axis, y: Axis, *, lines: Sequence[Line] = (), bands: Sequence[Band] = ()) -> str:
    """An SVG document."""
    end = _WIDTH - _RIGHT - (_NAMES if any(line.name for line in lines) else 0)
    floor = _HEIGHT - _BOTTOM

    def at_x(value: float) -> float:
        return _LEFT + x.part(value) * (end - _LEFT)

    def at_y(value: float) -> float:
        return floor - y.part(value) * (floor - _TOP)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" font-size="13"'
        f' font-family="{_FONT}" fill="{_INK}">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#fff"/>',
        _text(_LEFT, 24, title, weight="600", size=15),
    ]
    for band in bands:
        begin, width = at_x(band.begin), at_x(band.end) - at_x(band.begin)
        parts.append(f'<rect x="{begin:.1f}" y="{_TOP}" width="{width:.1f}" height="{floor - _TOP}" fill="#f3f0ea"/>')
        parts.append(_text(begin + 6, _TOP + 16, band.name, colour=_FAINT))
    for place, tick in enumerate(y.ticks):
        parts.append(f'<path d="M{_LEFT} {at_y(tick):.1f}H{end}" stroke="{_GRID}"/>')
        parts.append(_text(_LEFT - 8, at_y(tick) + 4, y.text(place), colour=_FAINT, anchor="end"))
    for place, tick in enumerate(x.ticks):
        parts.append(f'<path d="M{at_x(tick):.1f} {floor}v5" stroke="{_FAINT}"/>')
        parts.append(_text(at_x(tick), floor + 20, x.text(place), colour=_FAINT, anchor="middle"))
    parts.append(f'<path d="M{_LEFT} {floor}H{end}" stroke="{_FAINT}"/>')
    parts.append(_text((_LEFT + end) / 2, _HEIGHT - 10, x.label, anchor="middle"))
    middle = (_TOP + floor) / 2
    parts.append(f'<g transform="translate(18 {middle:.0f}) rotate(-90)">{_text(0, 0, y.label, anchor="middle")}</g>')
    for line in lines:
        places = [(at_x(across), at_y(up)) for across, up in line.points]
        path = "L".join(f"{across:.1f} {up:.1f}" for across, up in places)
        dash = ' stroke-dasharray="5 4"' if line.dashed else ""
        parts.append(
            f'<path d="M{path}" fill="none" stroke="{line.colour}" stroke-width="2" stroke-linejoin="round"{dash}/>'
        )
        if line.dots:
            parts.extend(
                f'<circle cx="{across:.1f}" cy="{up:.1f}" r="3.5" fill="{line.colour}"/>' for across, up in places
            )
        across, up = places[-1]
        parts.append(_text(across + 9, up + 4 + line.shift, line.name, colour=line.colour))
    return "\n".join((*parts, "</svg>", ""))


def _text(
    across: float, up: float, text: str, *, colour: str = _INK, anchor: str = "start", weight: str = "", size: int = 0
) -> str:
    more = (f' font-weight="{weight}"' if weight else "") + (f' font-size="{size}"' if size else "")
    return f'<text x="{across:.1f}" y="{up:.1f}" fill="{colour}" text-anchor="{anchor}"{more}>{escape(text)}</text>'
