"""What `turnwire top` shows, worked out from what gateways count: pure.

A gateway's counters only grow, so that rates and shares are the difference between two scrapes of it. Those of several
gateways are added up.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from math import inf

from msgspec import Struct
from prometheus_client.parser import text_string_to_metric_families

__all__ = ["MEMORY", "Figures", "History", "Scrape", "UpstreamFigures", "figures_of", "read_scrape"]

MEMORY = 60.0
"""Seconds that shares and times are taken over: enough answers to mean something."""
_RECENT = 10.0
"""Seconds that rates are taken over: tokens are counted when an answer is over, which a shorter time would show as
jumps."""
_PACE = 24
"""Steps of `UpstreamFigures.pace`."""
_FIRST_OUTPUT = "turnwire_first_output_seconds_bucket"


class _Sample(Struct, frozen=True):
    labels: Mapping[str, str]
    value: float


class Scrape(Struct, frozen=True):
    """What a gateway had counted at a time, in seconds of any clock that only grows."""

    time: float
    samples: Mapping[str, Sequence[_Sample]]

    def select(self, name: str, **labels: str) -> Iterator[_Sample]:
        """A series' samples with these labels."""
        for sample in self.samples.get(name, ()):
            if labels.items() <= sample.labels.items():
                yield sample

    def sum(self, name: str, **labels: str) -> float:
        """All of them together."""
        return sum(sample.value for sample in self.select(name, **labels))


def read_scrape(text: str, time: float) -> Scrape | None:
    """What a gateway's ``/metrics`` says; None for what is not a gateway's."""
    samples: dict[str, list[_Sample]] = {}
    try:
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                samples.setdefault(sample.name, []).append(_Sample(sample.labels, sample.value))
    except ValueError:
        return None
    return Scrape(time, samples) if "turnwire_requests_waiting" in samples else None


class History:
    """The scrapes of one gateway, as far back as anything is taken over them."""

    def __init__(self) -> None:
        self.scrapes: list[Scrape] = []

    def __repr__(self) -> str:
        return f"<History of {len(self.scrapes)} scrapes>"

    def add(self, scrape: Scrape) -> None:
        """The next scrape; forgets those that are too old."""
        self.scrapes = [kept for kept in self.scrapes if kept.time >= scrape.time - MEMORY]
        self.scrapes.append(scrape)

    def forget(self) -> None:
        """The gateway is gone: what it said last is not so any more."""
        self.scrapes.clear()

    def sum(self, name: str, **labels: str) -> float:
        """What a gauge says now."""
        return self.scrapes[-1].sum(name, **labels) if self.scrapes else 0.0

    def grown(self, name: str, within: float, /, **labels: str) -> float:
        """How much a counter has grown within so many seconds."""
        if not self.scrapes:
            return 0.0
        return _growth(self._before(within).sum(name, **labels), self.sum(name, **labels))

    def rate(self, name: str, **labels: str) -> float:
        """How fast a counter grows, a second."""
        grown = self.grown(name, _RECENT, **labels)
        return grown / (self.scrapes[-1].time - self._before(_RECENT).time) if grown else 0.0

    def steps(self, name: str, **labels: str) -> list[float]:
        """How fast a counter grew between any two scrapes, the last `_PACE` of them."""
        return [
            _growth(earlier.sum(name, **labels), later.sum(name, **labels)) / (later.time - earlier.time)
            for earlier, later in pairwise(self.scrapes[-_PACE - 1 :])
        ]

    def _before(self, seconds: float) -> Scrape:
        since = self.scrapes[-1].time - seconds
        return next(scrape for scrape in self.scrapes if scrape.time >= since)


class UpstreamFigures(Struct, frozen=True):
    """One upstream."""

    name: str
    well: bool
    open: int
    answers: float
    """A second."""
    output_tokens: float
    """A second."""
    pace: Sequence[float]
    """Output tokens a second, from scrape to scrape."""
    cached_share: float | None
    """Of the input tokens within `MEMORY`; None where there were none."""
    first_output: tuple[float, float] | None
    """Seconds within which half of the answers began, and 95% of them; None where none did within `MEMORY`."""
    failed: int
    """Answers within `MEMORY`."""
    ejections: int
    """Since the gateways began."""
    failovers: int
    """Since the gateways began."""


class Figures(Struct, frozen=True):
    """All gateways together."""

    open: int
    waiting: int
    callers: int
    """How many have an answer under way."""
    answers: float
    input_tokens: float
    output_tokens: float
    """A second, all three."""
    cached_share: float | None
    dropped: int
    """Features that could not be carried over, since the gateways began."""
    refused_tokens: int
    upstreams: Sequence[UpstreamFigures]


def figures_of(histories: Sequence[History]) -> Figures:
    """What several gateways have counted."""
    histories = [history for history in histories if history.scrapes]

    def now(name: str, **labels: str) -> int:
        return round(sum(history.sum(name, **labels) for history in histories))

    def rate(name: str, **labels: str) -> float:
        return sum(history.rate(name, **labels) for history in histories)

    callers = {
        sample.labels.get("caller")
        for history in histories
        for sample in history.scrapes[-1].select("turnwire_caller_answers_open")
        if sample.value
    }
    return Figures(
        open=now("turnwire_answers_open"),
        waiting=now("turnwire_requests_waiting"),
        callers=len(callers),
        answers=rate("turnwire_answers_total"),
        input_tokens=rate("turnwire_input_tokens_total"),
        output_tokens=rate("turnwire_output_tokens_total"),
        cached_share=_cached_share(histories),
        dropped=now("turnwire_dropped_features_total"),
        refused_tokens=now("turnwire_refused_tokens_total"),
        upstreams=[_upstream(name, histories) for name in _names(histories)],
    )


def _names(histories: Iterable[History]) -> list[str]:
    """The upstreams, in the order in which the gateways name them."""
    wells = (history.scrapes[-1].select("turnwire_upstream_well") for history in histories)
    return list(dict.fromkeys(sample.labels["upstream"] for samples in wells for sample in samples))


def _upstream(name: str, histories: Sequence[History]) -> UpstreamFigures:
    def total(series: str) -> int:
        return round(sum(history.sum(series, upstream=name) for history in histories))

    def rate(series: str) -> float:
        return sum(history.rate(series, upstream=name) for history in histories)

    wells = (history.scrapes[-1].select("turnwire_upstream_well", upstream=name) for history in histories)
    steps = [history.steps("turnwire_output_tokens_total", upstream=name) for history in histories]
    failed = sum(history.grown("turnwire_answers_total", MEMORY, upstream=name, end="failed") for history in histories)
    return UpstreamFigures(
        name=name,
        well=all(sample.value for samples in wells for sample in samples),
        open=total("turnwire_upstream_requests_open"),
        answers=rate("turnwire_answers_total"),
        output_tokens=rate("turnwire_output_tokens_total"),
        pace=_added_up(steps),
        cached_share=_cached_share(histories, upstream=name),
        first_output=_first_output(name, histories),
        failed=round(failed),
        ejections=total("turnwire_ejections_total"),
        failovers=total("turnwire_failovers_total"),
    )


def _cached_share(histories: Sequence[History], **labels: str) -> float | None:
    tokens = sum(history.grown("turnwire_input_tokens_total", MEMORY, **labels) for history in histories)
    cached = sum(history.grown("turnwire_cached_input_tokens_total", MEMORY, **labels) for history in histories)
    return cached / tokens if tokens else None


def _first_output(name: str, histories: Sequence[History]) -> tuple[float, float] | None:
    """The median and the 95th percentile, as near as the buckets of the histogram tell."""
    bounds = {
        sample.labels["le"]
        for history in histories
        for sample in history.scrapes[-1].select(_FIRST_OUTPUT, upstream=name)
    }
    counts = [
        (float(bound), sum(history.grown(_FIRST_OUTPUT, MEMORY, upstream=name, le=bound) for history in histories))
        for bound in sorted(bounds, key=float)
    ]
    return (_quantile(counts, 0.5), _quantile(counts, 0.95)) if counts and counts[-1][1] else None


def _quantile(counts: Sequence[tuple[float, float]], share: float) -> float:
    """Where so large a share of the values lies below, which are evenly spread within each bucket.

    ``counts`` are how many values lie below each bound, the last of which is infinite; beyond the last finite one
    nothing is known.
    """
    wanted = share * counts[-1][1]
    place = next(at for at, (_, count) in enumerate(counts) if count >= wanted)
    lower, below = counts[place - 1] if place else (0.0, 0.0)
    bound, count = counts[place]
    return lower if bound == inf else lower + (bound - lower) * (wanted - below) / (count - below)


def _added_up(rows: Sequence[Sequence[float]]) -> list[float]:
    """The sums of columns, the last of which stand below each other."""
    length = max(map(len, rows), default=0)
    return [sum(row[at] for row in rows if -at <= len(row)) for at in range(-length, 0)]


def _growth(earlier: float, later: float) -> float:
    """How much a counter has grown; one that is smaller than before began anew with its process."""
    return later - earlier if later >= earlier else later
