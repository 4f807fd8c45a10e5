"""Whom one might ask in the place of the replica that the gateway chooses: what it is compared with."""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection

import numpy as np

from gateway_process import Chooser, Process, by_route
from traffic import Turn
from turnwire.gateway import routing

__all__ = ["at_random", "by_modulo", "by_relative_bound", "in_rotation", "remainder"]

_RELATIVE_BOUND = 1.25


def at_random(seed: int = 1) -> Chooser:
    """Any replica, as a load balancer may."""
    generator = np.random.default_rng(seed)

    def choose(process: Process, turn: Turn, tried: Collection[str]) -> str | None:
        names = [replica.name for replica in process.candidates(tried)]
        return names[int(generator.random() * len(names))] if names else None

    return choose


def in_rotation() -> Chooser:
    """One replica after the other."""
    places = itertools.count()

    def choose(process: Process, turn: Turn, tried: Collection[str]) -> str | None:
        names = [replica.name for replica in process.candidates(tried)]
        return names[next(places) % len(names)] if names else None

    return choose


def by_modulo(process: Process, turn: Turn, tried: Collection[str]) -> str | None:
    """The replica in the place that is the key's remainder."""
    names = sorted(replica.name for replica in process.candidates(tried))
    return names[remainder(turn.conversation.key, len(names))] if names else None


def by_relative_bound(process: Process, turn: Turn, tried: Collection[str]) -> str | None:
    """As the gateway chooses, but for the bound: a multiple of the share, as usual; for replicas of equal weight."""
    loads = {replica.name: replica.load for replica in process.candidates(tried)}
    if turn.held_by is not None or not loads:
        return by_route(process, turn, tried)
    most = math.ceil(_RELATIVE_BOUND * (sum(loads.values()) + 1) / len(loads))
    names = routing.order(turn.conversation.key, dict.fromkeys(loads, 1.0))
    return next(name for name in names if loads[name] + 1 <= most)


def remainder(key: bytes, number: int) -> int:
    """A key's place among a number of them."""
    return int.from_bytes(key, "big") % number
