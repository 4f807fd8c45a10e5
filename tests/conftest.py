"""What holds for every test, and what any may ask for: that nothing of what it opened outlives it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

_OPEN_FILES = Path("/proc/self/fd")
_MAX_STEPS = 50
"""How many steps of the loop a closed transport gets to be gone: it hands its socket back in the next one."""


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing stands between a test and its server on loopback, whatever the machine's environment says."""
    for name in ("http_proxy", "https_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
async def nothing_left() -> AsyncIterator[None]:
    """Fails the test that leaves a task, a socket or a timer behind, or an error that nobody looked at."""
    loop = asyncio.get_running_loop()
    complaints: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: complaints.append(context))
    before = _held(loop)
    yield
    for _ in range(_MAX_STEPS):
        if not (left := _held(loop) - before):
            break
        await asyncio.sleep(0)
    assert not left
    assert not complaints


def _held(loop: asyncio.AbstractEventLoop) -> set[object]:
    tasks = asyncio.all_tasks(loop) - {asyncio.current_task(loop)}
    timers = {timer for timer in getattr(loop, "_scheduled", ()) if not timer.cancelled()}
    return {*tasks, *timers, *_sockets()}


def _sockets() -> set[str]:
    """The process's open sockets by their inodes, where the system tells."""
    sockets = set()
    for file in _OPEN_FILES.glob("*"):
        try:
            target = os.readlink(file)
        except FileNotFoundError:
            continue  # that was the folder itself, being read
        if target.startswith("socket:"):
            sockets.add(target)
    return sockets
