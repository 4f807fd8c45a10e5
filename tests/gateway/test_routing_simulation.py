"""The fleet of benchmarks/routing_simulation.py in small: what holds whatever happens to it."""

import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

from fleet import Fleet, Kind
from gateway_process import Process, by_route
from tests.gateway.serving import MODEL, upstream_at
from traffic import Conversation, Draws, Traffic, Turn
from turnwire.errors import ConnectError, Disconnected
from turnwire.gateway.catalog import Catalog
from turnwire.gateway.pool import Lease, Pool
from turnwire.gateway.upstream import Upstream

TURNS = 120
FORCED = {"down", "stalled", "hanging", "left", "back"}

weights = st.lists(st.sampled_from([1.0, 2.0]), min_size=5, max_size=9).map(
    lambda numbers: {f"replica-{place}": number for place, number in enumerate(numbers)}
)
kinds: st.SearchStrategy[Kind] = st.sampled_from(["join", "leave", "crash", "stall", "hang"])
seeds = st.integers(0, 2**16)
some = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def ran(weights: dict[str, float], faults: list[Kind], *, seed: int, processes: int = 3, load: float = 4.0) -> Fleet:
    fleet = Fleet(weights, TURNS, Traffic(load=load), faults=faults, processes=processes, seed=seed)
    fleet.run()
    return fleet


@some
@given(weights, st.lists(kinds, max_size=4), st.integers(1, 4), seeds)
def test_every_turn_is_answered_whatever_happens(
    weights: dict[str, float], faults: list[Kind], processes: int, seed: int
) -> None:
    fleet = ran(weights, faults, seed=seed, processes=processes)
    assert (fleet.counts["turns"], fleet.counts["answered"]) == (TURNS, TURNS)
    assert len(fleet.faults) == len(faults)


@some
@given(weights, st.integers(0, 3), st.integers(1, 4), seeds)
def test_no_turn_moves_while_nothing_fails_or_leaves_however_many_processes_and_joins_there_are(
    weights: dict[str, float], joins: int, processes: int, seed: int
) -> None:
    fleet = ran(weights, ["join"] * joins, seed=seed, processes=processes)
    assert not fleet.moves
    assert not fleet.counts["cut answers"]


@some
@given(weights, kinds, seeds)
def test_only_turns_that_the_replica_held_move_when_one_fails_or_leaves(
    weights: dict[str, float], kind: Kind, seed: int
) -> None:
    fleet = ran(weights, [kind], seed=seed, processes=1)
    assert set(fleet.moves) <= FORCED
    if kind == "leave":
        (fault,) = fleet.faults
        assert fleet.moved_turns["left"] <= fault.held + _PENDING
        assert not fleet.counts["cut answers"]


_PENDING = 20
"""Turns that begin at a replica between its leave and the time at which the last process knows."""


@some
@given(
    st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from(["ask", "end", "crash", "cut"])), max_size=30), seeds
)
async def test_a_process_of_the_simulation_asks_whom_the_gateway_s_pool_asks(
    events: list[tuple[str, str]], seed: int
) -> None:
    """Told the same, both choose the same, for a new turn and for one that is held."""
    clock = Time()
    catalog = Catalog([Upstream(upstream_at("http://127.0.0.1:9/v1", name=name)) for name in "abcd"])
    pool, process = Pool(catalog, clock=clock), Process(dict.fromkeys("abcd", 1.0))
    leases: dict[str, list[Lease]] = {name: [] for name in "abcd"}
    conversation = Conversation(str(seed), 1)
    try:
        for name, event in events:
            clock.now += 0.01
            if event == "ask":
                leases[name].append(await pool.lease(MODEL, conversation.key, held_by=name))
                process.count(leases[name][-1].name, 1)
            elif leases[name]:
                _finish(leases[name].pop(), event, pool, process, clock.now)
            if not process.well:
                break  # whom to ask then is the pool's affair
            for held_by in (None, *"abcd"):
                turn = Turn(conversation, 1)
                turn.held_by = held_by
                with await pool.lease(MODEL, conversation.key, held_by=held_by) as lease:
                    assert lease.name == by_route(process, turn, ())
    finally:
        await catalog.close()


def _finish(lease: Lease, event: str, pool: Pool, process: Process, now: float) -> None:
    name = lease.name
    if event == "end":
        lease.succeeded()
        process.succeeded(name)
    else:
        error = ConnectError("nobody there") if event == "crash" else Disconnected("cut")
        lease.failed(error)
        process.failed(name, now, absent=event == "crash")
    lease.end()
    process.count(name, -1)


class Time:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_run_is_the_same_each_time() -> None:
    weights = dict.fromkeys("abcde", 1.0)
    first, second = (ran(weights, ["crash", "stall", "leave", "join"], seed=5) for _ in range(2))
    assert (first.counts, first.moves, first.faults) == (second.counts, second.moves, second.faults)


@pytest.mark.parametrize("load", [2.0, 8.0])
def test_load_follows_the_weights(load: float) -> None:
    weights = {"a": 1.0, "b": 1.0, "c": 2.0}
    fleet = Fleet(weights, 4000, Traffic(load=load), sample_every=20.0)
    fleet.run()
    totals = {name: sum(sample.loads[name] for sample in fleet.samples) for name in weights}
    assert totals["c"] / sum(totals.values()) == pytest.approx(0.5, abs=0.1)


def test_a_client_that_repeats_no_token_still_mostly_meets_its_replica() -> None:
    fleet = Fleet(dict.fromkeys("abcdefgh", 1.0), 1000, Traffic(repeats_token=False))
    fleet.run()
    assert fleet.moves.total() / fleet.counts["follow-ups"] < 0.1


def test_a_crowd_in_one_conversation_does_not_all_end_up_at_one_replica() -> None:
    weights = dict.fromkeys("abcdefgh", 1.0)
    bounded, unbounded = (
        Fleet(weights, 3000, Traffic(in_one=0.5), processes=1, sees_load=sees_load, sample_every=10.0)
        for sees_load in (True, False)
    )
    peaks = []
    for fleet in (bounded, unbounded):
        fleet.run()
        peaks.append(sum(max(sample.loads.values()) for sample in fleet.samples))
    assert peaks[0] < 0.7 * peaks[1]


def test_draws_are_those_of_their_seed() -> None:
    names = [
        [draws.conversation().key for _ in range(5)] for draws in (Draws(Traffic(), 1.0, 3), Draws(Traffic(), 1.0, 3))
    ]
    assert names[0] == names[1]
