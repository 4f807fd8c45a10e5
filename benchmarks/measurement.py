"""Sides measured in turn, and what their figures say about each other."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, TypeAlias

from msgspec import Struct

__all__ = ["Absent", "Comparison", "Effort", "Section", "Target", "alternate", "timed"]

Samples: TypeAlias = Sequence[float]


class Effort(Struct, frozen=True):
    """How much is measured. Times are in seconds."""

    decoder_rounds: int
    decoder_repeats: int
    """How often a round decodes the answer by turnwire and by the floor; the SDK, so much slower, does it once."""
    client_rounds: int
    client_time: float
    """How long a client is measured in one round."""
    settle_time: float
    """How long many streams have to begin before that."""
    paced_streams: int
    first_requests: int
    idle_streams: int
    gateway_rounds: int
    gateway_time: float
    """How long a gateway is measured in one round."""
    gateway_settle_time: float
    """How long its streams have to begin before that."""
    gateway_streams: int
    gateway_first_requests: int
    memory_rounds: int
    fleet_turns: int
    """Of each conversation on a fleet of replicas."""
    fleet_rules: int
    """How long its instructions are; each rule takes some 56 tokens."""


class Target(Struct, frozen=True):
    """What a comparison shall reach: our figure (``value``, ``at least``), or its ratio, ours over theirs (``times``)
    or theirs over ours (``times less``).
    """

    limit: float
    rule: Literal["times", "times less", "value", "at least"]

    def __str__(self) -> str:
        match self.rule:
            case "times":
                return f"at most {self.limit:g} x"
            case "times less":
                return f"at least {self.limit:g} x less"
            case "at least":
                return f"at least {self.limit:g}"
        return f"at most {self.limit:g}"


class Comparison(Struct, frozen=True):
    """What turnwire and another side came to in the same rounds, in the section's unit."""

    name: str
    ours: Samples
    theirs: Samples
    target: Target | None = None
    multiple: Literal["times", "times less"] = "times"

    @property
    def ratios(self) -> Samples:
        """The rounds' own ratios: what slowed one side down slowed the other, too."""
        pairs = zip(self.ours, self.theirs, strict=True)
        if self.multiple == "times":
            return [ours / theirs for ours, theirs in pairs]
        return [theirs / ours for ours, theirs in pairs]

    @property
    def met(self) -> bool | None:
        """Whether the median reaches the target, None where there is none."""
        match self.target:
            case None:
                return None
            case Target(limit=limit, rule="value"):
                return statistics.median(self.ours) <= limit
            case Target(limit=limit, rule="at least"):
                return statistics.median(self.ours) >= limit
            case Target(limit=limit, rule="times"):
                return statistics.median(self.ratios) <= limit
            case Target(limit=limit):
                return statistics.median(self.ratios) >= limit

    def cells(self) -> tuple[str, ...]:
        """Name, ours, theirs, ratio, target, whether it is met."""
        met = {True: "yes", False: "NO", None: ""}[self.met]
        target = "" if self.target is None else str(self.target)
        return self.name, spread(self.ours), spread(self.theirs), f"{spread(self.ratios)} x", target, met


class Absent(Struct, frozen=True):
    """A comparison with a side that can't be had here."""

    name: str
    ours: Samples
    reason: str

    def cells(self) -> tuple[str, ...]:
        """Name, ours, and why there is no more."""
        return self.name, spread(self.ours), self.reason, "", "", ""


class Section(Struct, frozen=True):
    """Comparisons of one kind against one other side; ``unit`` is that of both sides' figures."""

    title: str
    unit: str
    other: str
    comparisons: Sequence[Comparison | Absent]


def timed(decode: Callable[[], float], repeats: int, count: int) -> Callable[[], float]:
    """Microseconds per chunk or event, for what gives the seconds that it took to decode ``count`` of them once."""

    def measure() -> float:
        decode()  # the side before has left the caches to itself
        return sum(decode() for _ in range(repeats)) / repeats / count * 1e6

    return measure


def alternate(sides: Mapping[str, Callable[[], float]], rounds: int, *, warm_up: int = 1) -> dict[str, list[float]]:
    """Each side's figures, taken in turn (A B A B …), after as many rounds to warm up that don't count."""
    for _ in range(warm_up):
        for measure in sides.values():
            measure()
    samples: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, measure in sides.items():
            samples[name].append(measure())
    return samples


def spread(samples: Samples) -> str:
    """The median and, in brackets, between what the middle half of the samples lies."""
    median = statistics.median(samples)
    digits = 2 if median < 10 else 1 if median < 100 else 0
    if len(samples) == 1:
        return f"{median:.{digits}f}"
    low, _, high = statistics.quantiles(samples, n=4, method="inclusive")
    return f"{median:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"
