"""What the simulation finds, as text: for the terminal, and for docs/routing.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from msgspec import Struct

__all__ = ["Findings", "Table", "put_into", "to_text"]


class Table(Struct, frozen=True):
    """Figures for the place of this name in the document."""

    name: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]


class Findings(Struct, frozen=True):
    """What one part of the simulation found: tables, and charts by the names of their files."""

    tables: Sequence[Table] = ()
    charts: Mapping[str, str] = {}


def to_text(table: Table) -> str:
    """A table for the terminal."""
    rows = [table.head, *table.rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
    return "\n".join((table.name, *lines, ""))


def put_into(document: Path, findings: Findings) -> None:
    """Puts each table between its marks, and the charts into the folder ``images`` beside the document."""
    text = document.read_text(encoding="utf-8")
    for table in findings.tables:
        rows = [table.head, ["---"] * len(table.head), *table.rows]
        lines = "\n".join(f"| {' | '.join(row)} |" for row in rows)
        begin, end = f"<!-- simulated: {table.name} -->\n", "<!-- end -->"
        before, found, behind = text.partition(begin)
        _, closed, after = behind.partition(end)
        if not (found and closed):
            raise SystemExit(
                f"{document} has no place for a table: write {begin.strip()} and {end} where it shall stand"
            )
        text = f"{before}{begin}\n{lines}\n\n{end}{after}"
    document.write_text(text, encoding="utf-8")
    images = document.parent / "images"
    images.mkdir(exist_ok=True)
    for name, drawn in findings.charts.items():
        (images / name).write_text(drawn, encoding="utf-8")
