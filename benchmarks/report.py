"""Conditions and figures as text: for the terminal, and for docs/performance.md."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterable, Sequence
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from measurement import Section

__all__ = ["conditions", "put_into", "to_markdown", "to_text"]

_BEGIN = "<!-- figures of make bench -->"
_END = "<!-- end of the figures -->"


def conditions(effort: str) -> list[tuple[str, str]]:
    """What the figures hold for, as names and values."""
    packages = ("turnwire", "msgspec", "aiohttp", "openai", "httpx2", "uvloop")
    return [
        ("date", date.today().isoformat()),
        ("run", effort),
        ("CPU", f"{_cpu()}, {os.cpu_count()} cores"),
        ("OS", platform.platform()),
        ("load when it began", "{:.2f}, {:.2f}, {:.2f} (1, 5, 15 min)".format(*os.getloadavg())),
        ("Python", f"{platform.python_implementation()} {sys.version.split()[0]}"),
        ("packages", ", ".join(f"{name} {version(name)}" for name in packages)),
    ]


def to_text(section: Section) -> str:
    """A section as a table for the terminal."""
    rows = [_head(section), *(comparison.cells() for comparison in section.comparisons)]
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
    return "\n".join((section.title, *lines, ""))


def to_markdown(facts: Iterable[tuple[str, str]], sections: Iterable[Section]) -> str:
    """All of a run."""
    parts = ["\n".join(f"* {name}: {value}" for name, value in facts)]
    for section in sections:
        head = _head(section)
        rows = [head, ["---"] * len(head), *(comparison.cells() for comparison in section.comparisons)]
        parts.append("\n".join((f"### {section.title}", "", *(f"| {' | '.join(row)} |" for row in rows))))
    return "\n\n".join(parts)


def put_into(document: Path, figures: str) -> None:
    """Puts the figures between the document's marks, in the place of those of an earlier run."""
    text = document.read_text(encoding="utf-8")
    before, begin, behind = text.partition(_BEGIN)
    _, end, after = behind.partition(_END)
    if not (begin and end):
        raise SystemExit(f"{document} has no place for figures: write {_BEGIN} and {_END} where they shall stand")
    document.write_text(f"{before}{begin}\n\n{figures}\n\n{end}{after}", encoding="utf-8")


def _head(section: Section) -> Sequence[str]:
    return "", f"turnwire, {section.unit}", f"{section.other}, {section.unit}", "ratio", "target", "met"


def _cpu() -> str:
    """The processor's name; Linux keeps it where `platform` does not look."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
