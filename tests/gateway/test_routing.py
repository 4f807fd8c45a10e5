import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnwire.gateway.routing import KEY_SIZE, LOAD_BOUND, Replica, conversation_key, order, route

_KEYS = st.binary(min_size=KEY_SIZE, max_size=KEY_SIZE)
_NAMES = st.lists(st.text(min_size=1, max_size=12), min_size=1, max_size=12, unique=True)


def _keys(number: int) -> list[bytes]:
    return [conversation_key("test", str(place)) for place in range(number)]


def _first(keys: list[bytes], weights: dict[str, float]) -> dict[bytes, str]:
    return {key: order(key, weights)[0] for key in keys}


def test_values_of_different_kinds_are_different_conversations() -> None:
    assert conversation_key("thread", "a") != conversation_key("session", "a")
    assert len(conversation_key("thread", "a")) == KEY_SIZE


@given(_KEYS, _NAMES)
def test_the_order_holds_each_replica_once_and_does_not_depend_on_how_they_are_listed(
    key: bytes, names: list[str]
) -> None:
    ordered = order(key, dict.fromkeys(names, 1.0))
    assert sorted(ordered) == sorted(names)
    assert order(key, dict.fromkeys(reversed(names), 1.0)) == ordered


@given(_KEYS, _NAMES, st.data())
def test_a_replica_that_leaves_moves_nobody_else(key: bytes, names: list[str], data: st.DataObject) -> None:
    ordered = order(key, dict.fromkeys(names, 1.0))
    gone = data.draw(st.sampled_from(names))
    stayed = order(key, {name: 1.0 for name in names if name != gone})
    assert stayed == [name for name in ordered if name != gone]


def test_keys_are_spread_by_weight() -> None:
    weights = {"a": 1.0, "b": 1.0, "c": 2.0}
    counts = Counter(_first(_keys(20_000), weights).values())
    shares = {name: count / 20_000 for name, count in counts.items()}
    assert shares == {
        "a": pytest.approx(0.25, abs=0.02),
        "b": pytest.approx(0.25, abs=0.02),
        "c": pytest.approx(0.5, abs=0.02),
    }


def test_a_replica_that_joins_takes_its_share_and_from_all_alike() -> None:
    keys = _keys(20_000)
    before = _first(keys, dict.fromkeys("abcd", 1.0))
    after = _first(keys, dict.fromkeys("abcde", 1.0))
    moved = Counter(before[key] for key in keys if before[key] != after[key])
    assert all(after[key] == "e" for key in keys if before[key] != after[key])
    assert abs(sum(moved.values()) / 20_000 - 1 / 5) < 0.01
    assert max(moved.values()) < 1.2 * min(moved.values())


def test_a_turn_goes_to_no_other_replica_than_the_one_that_holds_it_however_busy() -> None:
    replicas = [Replica("a", load=1000), Replica("b"), Replica("c")]
    key = conversation_key("test", "1")
    assert route(key, replicas, held_by="a") == ["a"]


@given(_KEYS)
def test_a_turn_whose_replica_is_gone_goes_to_the_same_next_one_wherever_it_is_asked(key: bytes) -> None:
    quiet = route(key, [Replica("b"), Replica("c"), Replica("d")], held_by="a")
    busy = route(key, [Replica("d", load=3), Replica("c", load=90), Replica("b")], held_by="a")
    assert quiet == busy == order(key, {"b": 1.0, "c": 1.0, "d": 1.0})


def _most(all_load: int, part: float) -> float:
    """The load that a replica has at most once it was given another request."""
    return all_load * part + LOAD_BOUND * math.sqrt(all_load * part * (1 - part)) + 1


@pytest.mark.parametrize("loads", [(40, 0, 0), (90, 1, 2), (0, 0, 0)])
def test_a_new_turn_passes_over_replicas_that_are_busier_than_chance_makes_them(loads: tuple[int, ...]) -> None:
    replicas = [Replica(name, load=load) for name, load in zip("abc", loads, strict=True)]
    for key in _keys(50):
        first, *others = route(key, replicas)
        assert loads["abc".index(first)] + 1 <= _most(sum(loads) + 1, 1 / 3)
        assert sorted([first, *others]) == ["a", "b", "c"]


@pytest.mark.parametrize("loads", [(2, 0, 1), (5, 2, 3), (12, 4, 7), (130, 90, 100)])
def test_a_new_turn_goes_to_its_conversation_s_replica_where_chance_makes_that_busy(loads: tuple[int, ...]) -> None:
    replicas = [Replica(name, load=load) for name, load in zip("abc", loads, strict=True)]
    for key in _keys(50):
        assert route(key, replicas) == order(key, dict.fromkeys("abc", 1.0))


def test_bounded_load_keeps_all_replicas_within_their_bound_whatever_is_asked_for() -> None:
    weights = {"a": 1.0, "b": 2.0, "c": 1.0}
    loads = dict.fromkeys(weights, 0)
    for key in [*_keys(100), *[_keys(1)[0]] * 300]:
        first = route(key, [Replica(name, weight, loads[name]) for name, weight in weights.items()])[0]
        loads[first] += 1
    assert all(load <= _most(400, weights[name] / 4) for name, load in loads.items())
