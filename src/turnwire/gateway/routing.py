"""Which replica a turn goes to: pure decisions, the same in every process that is told the same.

Each replica has a score for a conversation's key, from a hash of both (weighted rendezvous hashing; Thaler and
Ravishankar 1998, the weights as in Schindelhauer and Schomaker 2005). The order of the scores is the order in which
the replicas are tried. A replica that joins takes over its share of the keys and no other key moves; one that leaves
hands its keys on evenly to those that stay.

The first request of a turn passes over replicas that are too busy (bounded load; Mirrokni, Thorup and Zadimoghaddam
2018). Their bound is a multiple of the share, which fits replicas with hundreds of requests; where each has a few, as
one process of several sees it, chance alone goes beyond it every other time and would send turns away from their cache.
So the bound here is what chance hardly reaches. docs/routing.md has the figures.

A later request passes over none: the replica that its token names has its prompt, and is worth a wait.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct

__all__ = ["KEY_SIZE", "LOAD_BOUND", "Replica", "conversation_key", "order", "route"]

KEY_SIZE = 8
"""Bytes of a conversation's key: enough to spread, too few to tell anything."""

LOAD_BOUND = 3.0
"""How far beyond its share a replica's load may be before new turns pass it over, in standard deviations: those of the
binomial distribution, which loads have that are due to chance."""

_HASHES = 2**64


class Replica(Struct, frozen=True):
    """A replica as routing sees it at one moment."""

    name: str
    weight: float = 1.0
    """Its share of the work, next to the others'."""
    load: int = 0
    """Requests that it is working on or that wait for it."""


def conversation_key(kind: str, value: str) -> bytes:
    """The key of a conversation; ``kind`` keeps values of different origins apart."""
    return hashlib.blake2b(f"{kind}\0{value}".encode("utf-8", "surrogatepass"), digest_size=KEY_SIZE).digest()


def order(key: bytes, weights: Mapping[str, float]) -> list[str]:
    """The names of replicas in the order in which a key prefers them."""
    return sorted(weights, key=lambda name: (-_score(key, name, weights[name]), name))


def route(key: bytes, replicas: Iterable[Replica], *, held_by: str | None = None) -> Sequence[str]:
    """The names of the replicas that a request may go to, in the order in which it is to try them.

    All that are given are well. ``held_by`` is the replica that the turn's token names: where it is one of those given,
    it alone will do, and where it is not, the key's own order says which one replaces it, in whatever process. A turn
    without a token passes over the replicas that are too busy, which come last.
    """
    known = {replica.name: replica for replica in replicas}
    if held_by in known:
        return [held_by]
    if len(known) < 2:
        return list(known)
    names = order(key, {name: replica.weight for name, replica in known.items()})
    if held_by is not None:
        return names
    all_load = sum(replica.load for replica in known.values()) + 1
    all_weight = sum(replica.weight for replica in known.values())

    def too_busy(name: str) -> bool:
        part = known[name].weight / all_weight
        return known[name].load > all_load * part + LOAD_BOUND * math.sqrt(all_load * part * (1 - part))

    return sorted(names, key=too_busy)  # which keeps the order among equals


def _score(key: bytes, name: str, weight: float) -> float:
    digest = hashlib.blake2b(name.encode(), key=key, digest_size=8).digest()
    share = (int.from_bytes(digest, "big") + 0.5) / _HASHES
    return weight / -math.log(share)
