"""How much of a conversation's prompts two llama.cpp servers have in their caches: behind gateways, and at random.

Twelve conversations at a time, each of turns with a call of a tool. Behind the gateways each request reaches another of
three processes, which share but a secret; at random each request goes to either server, with no gateway between. The
figures are llama.cpp's own counts.
"""

from __future__ import annotations

import asyncio
import random
import statistics
from collections.abc import Iterable, Iterator

from llama_fleet import NAMES, Replica, Request, converse, fleet, scattered
from measurement import Comparison, Effort, Section, Target
from plot import BLUE, ORANGE, Axis, Line, chart
from turnwire.client import ModelClient

__all__ = ["cached_share_plot", "measure_cached_share"]

_CONVERSATIONS = 12
_TITLE = f"Cached share of prompts, {_CONVERSATIONS} conversations on {len(NAMES)} llama.cpp servers"
_ALL = "all follow-ups in a turn"
_REQUEST = "request "
_SEED = 5


def measure_cached_share(effort: Effort) -> Iterator[Section]:
    """The cached share of all follow-ups, and that of each request of a conversation but its first."""
    kept, strewn = asyncio.run(_measure(effort))
    comparisons = [
        Comparison(
            _ALL,
            [_share(request for request in kept if request.follows_up)],
            [_share(request for request in strewn if request.follows_up)],
            Target(0.9, "at least"),
        )
    ]
    for number in range(1, 2 * effort.fleet_turns):
        ours, theirs = ([_share(request for request in side if request.number == number)] for side in (kept, strewn))
        comparisons.append(Comparison(f"{_REQUEST}{number + 1}", ours, theirs))
    yield Section(_TITLE, "share", "random routing", comparisons)


def cached_share_plot(sections: Iterable[Section]) -> str:
    """An SVG document: the share at each request of a conversation."""
    rows = [row for section in sections if section.title == _TITLE for row in section.comparisons]
    kept, strewn = [(1.0, 0.0)], [(1.0, 0.0)]
    for row in rows:
        if isinstance(row, Comparison) and row.name.startswith(_REQUEST):
            number = float(row.name.removeprefix(_REQUEST))
            kept.append((number, statistics.median(row.ours)))
            strewn.append((number, statistics.median(row.theirs)))
    return chart(
        _TITLE,
        Axis("request of a conversation; the even ones bring what a tool gave", range(1, len(kept) + 1)),
        Axis("cached share of the prompt", (0, 0.2, 0.4, 0.6, 0.8, 1)),
        lines=[
            Line("turn kept", kept, BLUE, dots=True, shift=-6),
            Line("random routing", strewn, ORANGE, dots=True, shift=10),
        ],
    )


async def _measure(effort: Effort) -> tuple[list[Request], list[Request]]:
    """All requests, with turns kept and at random."""
    async with fleet() as running, running.client() as client:
        kept = await _interleaved(client, effort, named=True)
        replicas = running.replicas
        for replica in replicas:
            await _forget(replica)
        async with scattered(replicas, random.Random(_SEED).randrange) as client:
            return kept, await _interleaved(client, effort, named=False)


async def _forget(replica: Replica) -> None:
    """Empties a server's caches, by which it gets another address."""
    await replica.stop()
    await replica.start()


async def _interleaved(client: ModelClient, effort: Effort, *, named: bool) -> list[Request]:
    conversations = [
        converse(
            client,
            number,
            turns=effort.fleet_turns,
            rules=effort.fleet_rules,
            key=f"conversation {number}" if named else None,
        )
        for number in range(_CONVERSATIONS)
    ]
    return [request for requests in await asyncio.gather(*conversations) for request in requests]


def _share(requests: Iterable[Request]) -> float:
    """The part of their prompts' tokens that was read from a cache."""
    usages = [request.usage for request in requests]
    return sum(usage.cached_input_tokens for usage in usages) / sum(usage.input_tokens for usage in usages)
