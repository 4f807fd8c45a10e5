"""The gateway of the soak, in a process of its own: its memory, files and tasks are nobody else's.

The arguments are a folder for its store and the addresses of its upstreams. Its first line of output is its address;
each line that it reads is answered by one with what it holds, as JSON. It stops where standard input ends.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import logging
import sys
from pathlib import Path

import msgspec
import uvloop

from turnwire.gateway.application import create_application
from turnwire.gateway.configuration import GatewayConfiguration, UpstreamConfiguration
from turnwire.gateway.server import GatewayServer

__all__ = ["MODEL", "Holding"]

MODEL = "soaked"
_IDLE_TIMEOUT = 2.0
"""Seconds of an upstream's silence, after which it has failed."""
_OPEN_FILES = Path("/proc/self/fd")
_STATUS = Path("/proc/self/status")
_TRIM = getattr(ctypes.CDLL(None), "malloc_trim", None)


class Holding(msgspec.Struct, frozen=True):
    """What a process holds at one moment."""

    tasks: int
    files: int
    """Open files, sockets among them."""
    blocks: int
    """Of memory, as Python counts them."""
    resident: int
    """KiB of memory, as Linux counts it."""


def _holding() -> Holding:
    gc.collect()
    if _TRIM is not None:
        _TRIM(0)  # what malloc keeps for later is nobody's
    resident = next(line for line in _STATUS.read_text().splitlines() if line.startswith("VmRSS"))
    return Holding(
        tasks=len(asyncio.all_tasks()) - 1,  # without the one that looks
        files=len(list(_OPEN_FILES.iterdir())),
        blocks=sys.getallocatedblocks(),
        resident=int(resident.split()[1]),
    )


async def _serve(folder: str, *addresses: str) -> None:
    upstreams = tuple(
        UpstreamConfiguration(
            f"upstream-{number}", address, wire_api="chat", models={MODEL: MODEL}, idle_timeout=_IDLE_TIMEOUT
        )
        for number, address in enumerate(addresses)
    )
    configuration = GatewayConfiguration(
        upstreams, port=0, store_path=Path(folder) / "responses.sqlite", keepalive_interval=0.5, drain_timeout=1.0
    )
    loop = asyncio.get_running_loop()
    orders = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    ready = asyncio.Event()
    server = GatewayServer(configuration, create_application(configuration), on_ready=ready.set)
    serving = asyncio.create_task(server.serve())
    await ready.wait()
    print(server.url, flush=True)
    while await orders.readline():
        print(msgspec.json.encode(_holding()).decode(), flush=True)
    server.should_exit = True
    await serving


if __name__ == "__main__":
    logging.basicConfig(level=logging.ERROR, stream=sys.stderr)
    uvloop.run(_serve(*sys.argv[1:]))
