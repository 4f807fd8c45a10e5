"""How a process of the demo ends."""

from __future__ import annotations

import asyncio
from asyncio.subprocess import Process

__all__ = ["end"]

_PATIENCE = 5.0
"""Seconds that a process gets to end by itself."""


async def end(process: Process) -> None:
    """Ends a process, orderly if it is willing; nothing where it has ended already."""
    if process.returncode is not None:
        return
    process.terminate()
    try:
        async with asyncio.timeout(_PATIENCE):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
