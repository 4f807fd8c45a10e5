"""Simulates the gateway's routing over a million turns, for docs/routing.md. Options: ``--help``.

All that is random has a seed: the figures are the same at every run.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Container, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from msgspec.structs import fields, replace

from chooser import at_random, by_modulo, by_relative_bound, in_rotation, remainder
from findings import Findings, Table, put_into, to_text
from fleet import Fleet, Kind, Sample
from gateway_process import by_route, remember_orders
from plot import BLUE, GREEN, GREY, ORANGE, Axis, Band, Line, chart
from token_life import ROTATIONS, ages, rotate
from traffic import Traffic
from turnwire.gateway.configuration import GatewayConfiguration
from turnwire.gateway.routing import conversation_key, order

_FLEETS = {3: 250_000, 10: 250_000, 30: 250_000, 100: 150_000, 300: 100_000}
"""How many turns a number of replicas gets: a million in all."""
_FAULTS: Sequence[Kind] = ("crash", "join", "stall", "leave")
_REASONS = {"crash": "down", "stall": "stalled", "leave": "left"}
_SAMPLE_EVERY = 5.0
_BEFORE, _AFTER = 120.0, 960.0
"""Seconds around a fault that are looked at."""
_EVEN = 0.9
"""The part of an even load at which a replica counts as back."""


def find_moves(replicas: int, turns: int) -> Findings:
    """What becomes of turns while replicas crash, join, stall and leave."""
    fleet = Fleet(_weights(replicas), turns, Traffic(), faults=_FAULTS * 5)
    fleet.run()
    counts = fleet.counts
    summary = (
        str(replicas),
        f"{counts['turns']:,}",
        f"{counts['turns'] - counts['answered']:,}",
        f"{counts['follow-ups']:,}",
        _percent(counts["follow-ups"] - fleet.moves.total(), counts["follow-ups"], 3),
        _percent(counts["later turns at their replica"], counts["later turns"], 1),
    )
    share = statistics.mean(1 / fault.replicas for fault in fleet.faults if fault.kind in _REASONS)
    moved = [str(replicas), _percent(share, 1)]
    for kind, reason in _REASONS.items():
        faults = [fault for fault in fleet.faults if fault.kind == kind]
        moved.append(_percent(fleet.moved_turns[reason], sum(fault.turns for fault in faults)))
    moved += [f"{fleet.moved_turns['back']:,}", f"{fleet.moved_turns['needless']:,}"]
    return Findings(
        [
            Table(
                "fleets",
                (
                    "replicas",
                    "turns",
                    "without an answer",
                    "follow-ups",
                    "… at their turn's replica",
                    "later turns at their conversation's",
                ),
                [summary],
            ),
            Table(
                "moves",
                (
                    "replicas",
                    "one replica's share",
                    *(f"moved by a {kind}" for kind in _REASONS),
                    "moved back, turns in all",
                    "moved without need",
                ),
                [moved],
            ),
        ]
    )


def find_balance(scale: float) -> Findings:
    """How even the load is, and what it costs the cache, beside other ways to choose."""
    traffic = Traffic()
    forgetful = Traffic(repeats_token=False)
    ways: Sequence[tuple[str, Traffic, Callable[..., Fleet]]] = (
        ("turnwire", traffic, Fleet),
        ("turnwire, client without token", forgetful, Fleet),
        ("turnwire, load not bounded", traffic, partial(Fleet, sees_load=False)),
        ("turnwire, bound of 1.25 x the share", traffic, partial(Fleet, choose=by_relative_bound)),
        ("modulo", forgetful, partial(Fleet, choose=by_modulo)),
        ("round robin", forgetful, partial(Fleet, choose=in_rotation())),
        ("random", forgetful, partial(Fleet, choose=at_random())),
    )
    rows = []
    for name, kind, make in ways:
        fleet = _sampled(make, 30, round(50_000 * scale), kind)
        crowded = _sampled(make, 30, round(25_000 * scale), replace(kind, in_one=0.1))
        stayed, met = _kept(fleet)
        peaks, crowded_peaks = _peaks(fleet.samples), _peaks(crowded.samples)
        rows.append(
            (
                name,
                f"{stayed:.1%}",
                f"{met:.1%}",
                *(f"{np.quantile(peaks, part):.2f}" for part in (0.5, 0.99)),
                f"{np.quantile(crowded_peaks, 0.5):.2f}",
            )
        )
    head = (
        "",
        "follow-ups at their turn's replica",
        "later turns at their conversation's",
        "peak load, median",
        "p99",
        "with one key for a tenth",
    )
    return Findings([Table("balance", head, rows)])


def find_peaks(scale: float) -> Findings:
    """How busy the busiest of many replicas is."""
    lines = []
    for name, colour, shift, make in (
        ("random", GREY, -9, partial(Fleet, choose=at_random())),
        ("turnwire", BLUE, 9, Fleet),
        ("round robin", ORANGE, 0, partial(Fleet, choose=in_rotation())),
    ):
        traffic = Traffic(repeats_token=make is Fleet)
        points = []
        for replicas in _FLEETS:
            fleet = _sampled(make, replicas, round(25_000 * scale), traffic)
            points.append((float(replicas), float(np.median(_peaks(fleet.samples)))))
        lines.append(Line(name, points, colour, dots=True, shift=shift))
    drawn = chart(
        "How busy the busiest replica is",
        Axis("replicas, with 8 requests each on average", list(_FLEETS), log=True),
        Axis("its requests, in shares of an even load", [0, 0.5, 1, 1.5, 2, 2.5], form="{:.1f}"),
        lines=lines,
    )
    return Findings(charts={"routing-peak.svg": drawn})


def find_bounds(scale: float) -> Findings:
    """What the bound on a replica's load costs the cache, by how many requests a process sees there."""
    loads = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0)
    processes = 4
    turns = round(20_000 * scale)
    met: dict[str, list[float]] = {"ours": [], "theirs": []}
    for load in loads:
        for name, choose in (("ours", by_route), ("theirs", by_relative_bound)):
            fleet = Fleet(_weights(20), turns, Traffic(load=load), processes=processes, choose=choose)
            fleet.run()
            met[name].append(_kept(fleet)[1])
    points = {name: [(load / processes, part) for load, part in zip(loads, met[name], strict=True)] for name in met}
    drawn = chart(
        "Later turns that meet their conversation's replica",
        Axis(
            "requests that one gateway process has at a replica, on average", [0.25, 0.5, 1, 2, 4, 8, 16, 32], log=True
        ),
        Axis("share of later turns", [0, 0.25, 0.5, 0.75, 1], form="{:.0%}"),
        lines=[
            Line("bound by chance", points["ours"], BLUE, dots=True),
            Line("bound of 1.25 x share", points["theirs"], ORANGE, dots=True),
        ],
    )
    return Findings(charts={"routing-bound.svg": drawn})


def find_recovery(scale: float) -> Findings:
    """How busy a replica and the others are around its faults, and whom these cost what."""
    charts, rows = {}, []
    count = max(2, round(30 * scale))
    faults: Sequence[tuple[Kind, float, str, str]] = (
        ("crash", 60.0, "down", "The load of 10 replicas around a crash and a restart"),
        ("stall", 600.0, "silent", "The load of 10 replicas around a stall"),
        ("hang", 600.0, "silent, but for probes", "The load of 10 replicas around a hang"),
    )
    for kind, lasts, word, title in faults:
        fleet = Fleet(
            _weights(10),
            3500 * count,
            Traffic(),
            faults=[kind] * count,
            outage=lasts,
            stall=lasts,
            sample_every=_SAMPLE_EVERY,
        )
        fleet.run()
        times, own, others, busiest = _around(fleet)
        ends = _AFTER if kind == "stall" else 480.0
        shown = [time for time in times if time <= ends]
        if kind != "hang":
            charts[f"routing-{kind}.svg"] = chart(
                title,
                Axis("seconds since it began", range(-120, int(ends) + 1, 60 if ends < _AFTER else 120)),
                Axis("requests, in shares of an even load", [0, 0.5, 1, 1.5, 2, 2.5], form="{:.1f}"),
                lines=[
                    Line("the busiest other", list(zip(shown, busiest, strict=False)), GREY),
                    Line("the others' mean", list(zip(shown, others, strict=False)), GREEN, shift=-7),
                    Line("the replica itself", list(zip(shown, own, strict=False)), ORANGE, shift=10),
                ],
                bands=[Band(word, 0.0, lasts)],
            )
        even = (time - lasts for time, load in zip(times, own, strict=True) if time > lasts and load >= _EVEN)
        per_fault = {name: number / count for name, number in fleet.counts.items()}
        back = None if kind == "hang" else next(even, None)
        rows.append(
            (
                f"a {kind} of {lasts:g} s",
                f"{per_fault.get('refused connections', 0):.1f}",
                f"{per_fault.get('cut answers', 0):.1f}",
                f"{per_fault.get('silent answers', 0):.1f}",
                f"{max(others):.2f}",
                f"{max(own):.2f}",
                "-" if back is None else f"{back:.0f} s",
            )
        )
    head = (
        "",
        "connections refused",
        "streams ended",
        "requests silent for 300 s",
        "the others' highest load",
        "its own",
        f"at {_EVEN:g} of its share again after",
    )
    return Findings([Table("recovery", head, rows)], charts)


def find_homes(scale: float) -> Findings:
    """How many conversations a join or a leave sends to another replica."""
    keys = [conversation_key("thread", str(place)) for place in range(max(200, round(20_000 * scale)))]
    rows, moved, modulo = [], [], []
    for number in _FLEETS:
        before, joining = _weights(number), [f"joining-{place}" for place in range(10)]
        weights = before | dict.fromkeys(joining, 1.0)
        joined = statistics.mean(_taken(order(key, weights), before, joining) for key in keys)
        shifted = sum(remainder(key, number) != remainder(key, number + 1) for key in keys) / len(keys)
        moved.append((float(number), joined))
        modulo.append((float(number), shifted))
        rows.append((str(number), f"{1 / (number + 1):.2%}", f"{joined:.2%}", f"{shifted:.1%}"))
    drawn = chart(
        "Conversations whose replica changes when one joins or leaves",
        Axis("replicas", [3, 10, 30, 100, 300], log=True),
        Axis(
            "share of conversations", [0.001, 0.01, 0.1, 1], log=True, form="{:g}", names=["0.1%", "1%", "10%", "100%"]
        ),
        lines=[
            Line("modulo hashing", modulo, ORANGE, dots=True),
            Line("turnwire", moved, BLUE, dots=True, shift=-7),
            Line("the least possible", [(float(n), 1 / (n + 1)) for n in _FLEETS], GREY, dashed=True, shift=9),
        ],
    )
    return Findings(
        [Table("homes", ("replicas", "the least possible", "turnwire", "modulo hashing"), rows)],
        {"routing-homes.svg": drawn},
    )


def find_tokens(scale: float) -> Findings:
    """How old tokens become, and what a new secret does to them."""
    (lifetime,) = (field.default for field in fields(GatewayConfiguration) if field.name == "token_lifetime")
    found = np.sort(ages(round(1_000_000 * scale)))
    shares = np.geomspace(1, max(1e-5, 3 / len(found)), 60)
    curve = [(float(np.quantile(found, 1 - share)), float(share)) for share in shares]
    drawn = chart(
        "How old a turn's token is when it is used last",
        Axis(
            "age of the token",
            [1, 10, 60, 600, 3600, 8 * 3600, 86400],
            log=True,
            high=4 * 86400,
            names=["1 s", "10 s", "1 min", "10 min", "1 h", "8 h", "24 h"],
        ),
        Axis(
            "share of turns with an older one",
            [1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1],
            log=True,
            names=["0.001%", "0.01%", "0.1%", "1%", "10%", "100%"],
        ),
        lines=[Line("", curve, BLUE)],
        bands=[Band("expired", lifetime, 4 * 86400)],
    )
    limits = {"10 min": 600, "1 h": 3600, "8 h": 8 * 3600, "24 h, the default": lifetime}
    outlived = [(name, _percent(float((found > limit).mean()), 1, 4)) for name, limit in limits.items()]
    rotations = []
    for rotation in ROTATIONS:
        met = rotate(rotation, round(20_000 * scale), 4 * 3600.0)
        rotations.append((rotation.name, f"{met.total():,}", f"{met['refused']:,}", f"{met['outlived']:,}"))
    return Findings(
        [
            Table("ages", ("lifetime", "turns whose last request is later"), outlived),
            Table(
                "rotation",
                ("the new secret comes …", "follow-ups", "refused too early", "older than the lifetime"),
                rotations,
            ),
        ],
        {"routing-token-age.svg": drawn},
    )


# What they have in common


def _taken(names: Sequence[str], before: Container[str], joining: Sequence[str]) -> float:
    """The part of those that may join which would each take a key, with these names in its order."""
    home = next(place for place, name in enumerate(names) if name in before)
    return len(names[:home]) / len(joining)


def _weights(number: int) -> dict[str, float]:
    return {f"replica-{place}": 1.0 for place in range(number)}


def _sampled(make: Callable[..., Fleet], replicas: int, turns: int, traffic: Traffic) -> Fleet:
    """A fleet that has run, looked at 500 times."""
    every = turns / (replicas * traffic.turn_rate) / 500
    fleet = make(_weights(replicas), turns, traffic, sample_every=every)
    fleet.run()
    return fleet


def _percent(part: float, whole: float, digits: int = 2) -> str:
    return f"{part / whole if whole else 0:.{digits}%}"


def _kept(fleet: Fleet) -> tuple[float, float]:
    """The shares of follow-ups and of later turns that met the replica with their prompt."""
    counts = fleet.counts
    stayed = 1 - fleet.moves.total() / max(1, counts["follow-ups"])
    return stayed, counts["later turns at their replica"] / max(1, counts["later turns"])


def _peaks(samples: Sequence[Sample]) -> np.ndarray:
    """How busy the busiest replica was at each time, next to an even load; without the beginning."""
    loads = np.array([list(sample.loads.values()) for sample in samples[len(samples) // 4 :]])
    return loads.max(axis=1) / loads.mean(axis=1).clip(1e-9)


def _around(fleet: Fleet) -> tuple[list[float], list[float], list[float], list[float]]:
    """The times around a fault, and at each the load of the replica, the mean of the others, and the busiest of them.

    Loads are in shares of an even load over all, and means over all faults.
    """
    ticks = np.arange(-_BEFORE, _AFTER + 1, 2 * _SAMPLE_EVERY)
    at = np.array([sample.at for sample in fleet.samples])
    seen: list[list[tuple[float, float, float]]] = []
    for fault in fleet.faults:
        if not at[0] < fault.at - _BEFORE < fault.at + _AFTER < at[-1]:
            continue
        row = []
        for place in np.searchsorted(at, fault.at + ticks):
            loads = fleet.samples[place].loads
            even = sum(loads.values()) / len(loads) or 1.0
            others = [load for name, load in loads.items() if name != fault.name]
            row.append((loads[fault.name] / even, statistics.mean(others) / even, max(others) / even))
        seen.append(row)
    own, others_mean, busiest = np.array(seen).mean(axis=0).T.tolist()
    return ticks.tolist(), own, others_mean, busiest


_FINDERS = (find_balance, find_peaks, find_bounds, find_recovery, find_homes, find_tokens)


def _run(task: Callable[[], Findings]) -> Findings:
    return task()


def find_all(scale: float) -> Findings:
    """All of it, on all cores."""
    tasks = [
        *(partial(find_moves, replicas, max(500, round(turns * scale))) for replicas, turns in _FLEETS.items()),
        *(partial(find, scale) for find in _FINDERS),
    ]
    with ProcessPoolExecutor(initializer=remember_orders) as executor:
        parts = list(executor.map(_run, reversed(tasks)))[::-1]  # the largest fleets first: they take longest
    tables: dict[str, Table] = {}
    for table in (table for part in parts for table in part.tables):
        rows = tables[table.name].rows if table.name in tables else []
        tables[table.name] = replace(table, rows=[*rows, *table.rows])
    return Findings(list(tables.values()), {name: drawn for part in parts for name, drawn in part.charts.items()})


def main() -> None:
    """Simulate, and print the tables."""
    parser = argparse.ArgumentParser(description="the gateway's routing over 3 to 300 replicas and a million turns")
    parser.add_argument("--quick", action="store_true", help="a hundredth of it: only to see that all of it runs")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="also put tables and charts where FILE has them")
    options = parser.parse_args()
    findings = find_all(0.01 if options.quick else 1.0)
    print(*map(to_text, findings.tables), sep="\n")
    if options.markdown is not None:
        put_into(options.markdown, findings)


if __name__ == "__main__":
    main()
