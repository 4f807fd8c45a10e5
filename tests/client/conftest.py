from __future__ import annotations

import asyncio
import sys

import pytest


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that the client wanted to wait before it tried again. Nothing is waited, nor spread by chance."""
    wanted: list[float] = []
    sleep = asyncio.sleep

    async def note(delay: float, result: object = None) -> None:
        if not sys._getframe(1).f_globals["__name__"].startswith("turnwire."):
            await sleep(delay)  # the websockets library's own, between two pings
            return
        if delay:
            wanted.append(delay)
        await sleep(0)

    monkeypatch.setattr("asyncio.sleep", note)
    monkeypatch.setattr("random.random", lambda: 0.5)
    return wanted
