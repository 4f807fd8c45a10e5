"""A gateway process in the simulation: what it knows of the replicas, and whom it asks."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TypeAlias

from traffic import Turn
from turnwire.gateway import routing
from turnwire.gateway.health import Health
from turnwire.gateway.routing import Replica, route

__all__ = ["Chooser", "Process", "by_route", "remember_orders"]

_REMEMBERED = 20_000


class Process:
    """A gateway process: the replicas of its configuration, as busy and as well as its own requests tell."""

    def __init__(self, weights: Mapping[str, float], *, sees_load: bool = True) -> None:
        self.replicas = {name: Replica(name, weight) for name, weight in weights.items()}
        self.well = self.replicas.copy()
        self.health = {name: Health() for name in weights}
        self._sees_load = sees_load

    def candidates(self, tried: Collection[str] = ()) -> Collection[Replica]:
        """The replicas that are well, or all where none is, without those that the request has failed at."""
        if not tried:
            return (self.well or self.replicas).values()
        left = [replica for replica in self.replicas.values() if replica.name not in tried]
        return [replica for replica in left if replica.name in self.well] or left

    def join(self, name: str, weight: float) -> None:
        self.replicas[name] = self.well[name] = Replica(name, weight)
        self.health[name] = Health()

    def leave(self, name: str) -> None:
        del self.replicas[name], self.health[name]
        self.well.pop(name, None)

    def count(self, name: str, change: int) -> None:
        """A request has begun (1) or is over (-1)."""
        if self._sees_load and name in self.replicas:
            replica = self.replicas[name]
            self.replicas[name] = replica = Replica(name, replica.weight, replica.load + change)
            if name in self.well:
                self.well[name] = replica

    def succeeded(self, name: str) -> None:
        if name in self.health:
            self.health[name].succeeded()
            self.well[name] = self.replicas[name]

    def probed(self, name: str) -> None:
        if name in self.health:
            self.health[name].probed()
            self.well[name] = self.replicas[name]

    def failed(self, name: str, now: float, *, absent: bool = False) -> bool:
        """Whether that ejects it."""
        ejected = name in self.health and self.health[name].failed(now, absent=absent)
        if ejected:
            self.well.pop(name, None)
        return ejected


Chooser: TypeAlias = Callable[[Process, Turn, Collection[str]], str | None]
"""Which replica a process asks for a request that has failed at some already; None where no other is left."""


def by_route(process: Process, turn: Turn, tried: Collection[str]) -> str | None:
    """As the gateway chooses."""
    candidates = process.candidates(tried)
    return route(turn.conversation.key, candidates, held_by=turn.held_by)[0] if candidates else None


def remember_orders() -> None:
    """Has `route` look up what it has sorted before: the same orders, sooner.

    The order of some replicas is that of all without the others, as the tests of `order` say.
    """
    compute = routing.order
    everybody: dict[str, float] = {}
    known: dict[bytes, tuple[int, list[str]]] = {}

    def order(key: bytes, weights: Mapping[str, float]) -> list[str]:
        everybody.update(weights)
        number, ordered = known.get(key, (0, []))
        if number < len(everybody):
            if len(known) >= _REMEMBERED:
                known.clear()
            number, ordered = known[key] = len(everybody), compute(key, everybody)
        return ordered if number == len(weights) else [name for name in ordered if name in weights]

    routing.order = order
