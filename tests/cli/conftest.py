from pathlib import Path

import pytest

from tests.cli.command import Command


@pytest.fixture
def turnwire(tmp_path: Path) -> Command:
    """The real command, far from the user's own configuration and keys."""
    return Command(tmp_path)
