from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from typing import TypeAlias

import pytest

from e2e.codex import BINARY
from e2e.rig import Rig, Wire, rig

RigMaker: TypeAlias = Callable[..., AbstractAsyncContextManager[Rig]]


@pytest.fixture(scope="session", autouse=True)
def _codex_is_installed() -> None:
    if not BINARY.exists():
        pytest.exit(f"{BINARY} is missing: make e2e installs it", returncode=2)


@pytest.fixture(params=["http", "websocket"])
def wire(request: pytest.FixtureRequest) -> Wire:
    """What Codex speaks to the gateway over."""
    wire: Wire = request.param
    return wire


@pytest.fixture
def over(tmp_path: Path, wire: Wire) -> RigMaker:
    """A rig over each wire; takes the model's steps."""
    return partial(rig, tmp_path, wire)
