"""Looks after the upstreams while nobody asks them anything: whether they are there, and whether those are back that
were not.

A probe asks for the list of models, which costs a server nothing. Any answer that is no failure of the server's will
do: what it says of its models is for the catalog to know.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable

from turnwire.errors import ApiError, IdleTimeout
from turnwire.gateway.catalog import Catalog
from turnwire.gateway.health import blames_replica
from turnwire.gateway.pool import Pool
from turnwire.gateway.upstream import Upstream

__all__ = ["PROBE_TIMEOUT", "keep_probing", "probe"]

PROBE_TIMEOUT = 5.0
"""Seconds that a probe is waited for, or as long as the time between two where that is less."""
_SPREAD = 0.2
"""How much the times between probes differ, so that many processes don't probe together."""


async def keep_probing(
    catalog: Catalog,
    pool: Pool,
    interval: float,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> None:
    """Probes each upstream every so many seconds, and one that was left out as soon as it may be tried again."""

    async def keep(upstream: Upstream) -> None:
        while True:
            back_at = pool.health(upstream.name).back_at
            pause = interval if back_at is None else min(interval, max(0.0, back_at - clock()))
            await sleep(pause * (1 + _SPREAD * random.random()))  # noqa: S311 - nobody is to guess it
            await probe(upstream, pool, timeout=min(PROBE_TIMEOUT, interval))

    async with asyncio.TaskGroup() as group:
        for upstream in catalog.upstreams:
            group.create_task(keep(upstream))


async def probe(upstream: Upstream, pool: Pool, *, timeout: float) -> None:
    """Asks one upstream whether it is there, and tells the pool."""
    try:
        async with asyncio.timeout(timeout):
            response = await upstream.get("models")
        response.close()
    except TimeoutError as error:
        silence = error if isinstance(error, ApiError) else IdleTimeout(f"no answer to a probe within {timeout:g} s")
        pool.failed(upstream.name, silence)
    except ApiError as error:
        if blames_replica(error):
            pool.failed(upstream.name, error)
        else:
            pool.probed(upstream.name)
    else:
        pool.probed(upstream.name)
