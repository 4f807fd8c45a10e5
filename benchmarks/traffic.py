"""What people, agents and tools do: the traffic of the simulation. All times are in seconds.

A conversation is a row of turns with pauses between them, and a turn a row of requests with the time that tools take
between them.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
from msgspec import Struct

from turnwire.gateway.routing import conversation_key

__all__ = ["Conversation", "Draws", "Traffic", "Turn"]


class Traffic(Struct, frozen=True):
    """How people and agents ask. Times are log-normal, by median and spread; counts are geometric, by their mean."""

    load: float = 8.0
    """Requests under way per weight of 1."""
    answer: tuple[float, float] = (6.0, 0.8)
    tool: tuple[float, float] = (2.0, 1.2)
    pause: tuple[float, float] = (60.0, 1.2)
    requests: float = 4.0
    """Requests of a turn."""
    turns: float = 8.0
    """Turns of a conversation."""
    begins: float = 0.15
    """The part of an answer's time that passes before its first event."""
    retry: float = 0.2
    """When a client comes back whose answer was cut."""
    repeats_token: bool = True
    in_one: float = 0.0
    """The part of all conversations that go by one and the same key."""
    idle_timeout: float = 300.0
    probe_interval: float = 10.0

    @property
    def turn_rate(self) -> float:
        """Turns per second that make the load, per weight of 1."""
        return self.load / (self.requests * _mean(self.answer))

    @property
    def turn_interval(self) -> float:
        """Seconds from one turn of a conversation to its next, on average."""
        return self.requests * _mean(self.answer) + (self.requests - 1) * _mean(self.tool) + _mean(self.pause)


class Conversation:
    """A person's, with an agent."""

    __slots__ = ("key", "place", "turns_left")

    def __init__(self, name: str, turns: int) -> None:
        self.key = conversation_key("thread", name)
        self.turns_left = turns
        self.place: str | None = None
        """The replica that answered last."""


class Turn:
    """One turn, as a client knows it that keeps its first token."""

    __slots__ = ("conversation", "held_by", "moved", "place", "requests_left")

    def __init__(self, conversation: Conversation, requests: int) -> None:
        self.conversation = conversation
        self.requests_left = requests
        self.held_by: str | None = None
        """What its token says."""
        self.place: str | None = None
        """The replica that answered its last request, and so has its prompt."""
        self.moved: list[str] = []
        """Why it met other replicas."""


class Draws:
    """The random numbers of a traffic of so many turns per second."""

    def __init__(self, traffic: Traffic, rate: float, seed: int) -> None:
        generator = np.random.default_rng(seed)
        self.unit = _draw(generator.random)
        """From 0 to 1."""
        self.answer, self.tool, self.pause = (
            _draw(partial(generator.lognormal, math.log(median), spread))
            for median, spread in (traffic.answer, traffic.tool, traffic.pause)
        )
        self.arrival = _draw(partial(generator.exponential, traffic.turns / rate))
        """The time until the next conversation."""
        self.requests = _draw(partial(generator.geometric, 1 / traffic.requests))
        self._turns = _draw(partial(generator.geometric, 1 / traffic.turns))
        self._in_one = traffic.in_one
        self._numbers = itertools.count()

    def conversation(self) -> Conversation:
        """A new one."""
        name = "the one" if next(self.unit) < self._in_one else str(next(self._numbers))
        return Conversation(name, next(self._turns))


def _mean(time: tuple[float, float]) -> float:
    median, spread = time
    return median * math.exp(spread**2 / 2)


def _draw(make: Callable[..., np.ndarray]) -> Iterator[float]:
    """Random numbers, made many at a time."""
    while True:
        yield from make(size=10_000).tolist()
