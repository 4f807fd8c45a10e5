from __future__ import annotations

import msgspec
import pytest

from tests.gateway.keeping import asked, said
from turnwire.errors import PreviousResponseNotFound
from turnwire.gateway.memory import ConnectionMemory


def size_of(*items: object) -> int:
    return sum(len(msgspec.json.encode(item)) for item in items)


def test_a_response_is_remembered_with_its_input_and_its_output() -> None:
    memory = ConnectionMemory()
    question, answer = asked("?"), said("!")
    memory.remember("resp_1", [question], [answer])
    assert "resp_1" in memory
    assert list(memory.recall("resp_1")) == [question, answer]


def test_what_a_connection_never_saw_it_does_not_remember() -> None:
    memory = ConnectionMemory()
    assert "resp_1" not in memory
    with pytest.raises(PreviousResponseNotFound, match="the response 'resp_1' is not known here"):
        memory.recall("resp_1")


def test_an_evicted_response_is_forgotten_and_those_behind_it_are_not() -> None:
    memory = ConnectionMemory()
    question, answer = asked("?"), said("!")
    memory.remember("resp_1", [question], [answer])
    memory.remember("resp_2", memory.recall("resp_1"), [said("more")])
    memory.evict("resp_1")
    memory.evict("resp_unknown")
    assert "resp_1" not in memory
    assert list(memory.recall("resp_2")) == [question, answer, said("more")]


def test_a_conversation_that_grows_is_held_once() -> None:
    memory = ConnectionMemory()
    items = [asked("?"), said("!"), said("more")]
    memory.remember("resp_1", items[:1], items[1:2])
    memory.remember("resp_2", memory.recall("resp_1"), items[2:])
    assert memory.size == size_of(*items)
    memory.evict("resp_1")
    assert memory.size == size_of(*items)
    memory.evict("resp_2")
    assert memory.size == 0
    assert repr(memory) == f"<ConnectionMemory of 0 responses, 0 of {64 * 1024 * 1024} bytes>"


def test_a_response_may_be_remembered_anew() -> None:
    memory = ConnectionMemory()
    memory.remember("resp_1", [asked("?")], [])
    memory.remember("resp_1", [asked("else?")], [said("!")])
    assert list(memory.recall("resp_1")) == [asked("else?"), said("!")]
    assert memory.size == size_of(asked("else?"), said("!"))


def test_over_its_size_a_connection_forgets_its_oldest_responses() -> None:
    memory = ConnectionMemory(max_size=size_of(asked("x" * 100)) * 2)
    for name in ("resp_1", "resp_2", "resp_3"):
        memory.remember(name, [asked("x" * 100)], [])
    assert [name for name in ("resp_1", "resp_2", "resp_3") if name in memory] == ["resp_2", "resp_3"]


def test_a_conversation_over_the_size_is_not_remembered_at_all() -> None:
    memory = ConnectionMemory(max_size=200)
    memory.remember("resp_1", [asked("small")], [])
    memory.remember("resp_2", memory.recall("resp_1"), [said("x" * 300)])
    assert "resp_1" not in memory
    assert "resp_2" not in memory
    assert memory.size == 0


def test_only_so_many_responses_are_remembered() -> None:
    memory = ConnectionMemory(max_responses=2)
    for name in ("resp_1", "resp_2", "resp_3"):
        memory.remember(name, [asked("?")], [])
    assert [name for name in ("resp_1", "resp_2", "resp_3") if name in memory] == ["resp_2", "resp_3"]
