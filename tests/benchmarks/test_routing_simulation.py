"""The simulation of the routing runs, and fills its document; what it finds is no test's business."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.benchmarks.environment import uncovered

ROOT = Path(__file__).parents[2]
TABLES = ["fleets", "moves", "balance", "recovery", "homes", "ages", "rotation"]


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """docs/routing.md with the tables and charts of a run that is too small to mean anything."""
    document = Path(shutil.copy(ROOT / "docs" / "routing.md", tmp_path_factory.mktemp("docs")))
    command = [sys.executable, ROOT / "benchmarks" / "routing_simulation.py", "--quick", "--markdown", document]
    output = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300, env=uncovered()).stdout
    assert [table.splitlines()[0] for table in output.strip().split("\n\n")] == TABLES
    return document


def test_the_document_gets_the_tables_and_keeps_its_words(document: Path) -> None:
    written, kept = (path.read_text(encoding="utf-8") for path in (document, ROOT / "docs" / "routing.md"))
    assert sorted(re.findall(r"<!-- simulated: (.*) -->", kept)) == sorted(TABLES)
    assert _without_tables(written) == _without_tables(kept)
    assert [_head(table) for table in _tables(written)] == [_head(table) for table in _tables(kept)]
    assert _tables(written) != _tables(kept)


def test_each_chart_that_the_document_shows_is_drawn(document: Path) -> None:
    shown = re.findall(r"\]\((images/routing-[^)]*)\)", document.read_text(encoding="utf-8"))
    assert sorted(shown) == sorted(f"images/{path.name}" for path in (document.parent / "images").iterdir())
    for name in shown:
        drawn = ElementTree.parse(document.parent / name).getroot()
        kept = ElementTree.parse(ROOT / "docs" / name).getroot()
        assert _words(drawn) == _words(kept)


def _tables(text: str) -> list[str]:
    return re.findall(r"(?s)<!-- simulated: .*?<!-- end -->", text)


def _without_tables(text: str) -> str:
    return re.sub(r"(?s)(<!-- simulated: .*? -->).*?(<!-- end -->)", r"\1\2", text)


def _head(table: str) -> str:
    return table.splitlines()[2]


def _words(drawn: ElementTree.Element) -> list[str | None]:
    return [element.text for element in drawn.iter("{http://www.w3.org/2000/svg}text")]
