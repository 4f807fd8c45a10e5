"""The token by itself: what is taken, and that the first one stays."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnwire import TurnState

VISIBLE = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=64)


def test_a_new_state_has_no_token() -> None:
    assert TurnState().get() is None


@pytest.mark.parametrize("value", ["a", "replica-7", "!~", "{}|\\\"',;=", "x" * 8192], ids=lambda value: value[:12])
def test_a_token_of_visible_ascii_is_taken_as_it_is(value: str) -> None:
    state = TurnState()
    assert state.set(value)
    assert state.get() == value


@pytest.mark.parametrize(
    "value",
    [
        "",
        " ",
        "a b",
        " a",
        "a\t",
        "a\nb",
        "a\r\n",
        "a\x00",
        "\x1b[0m",
        "a\x7f",
        "é",
        "a\xa0",
        "🌦",
        "\udcff",
        "x" * 8193,
    ],
    ids=lambda value: ascii(value)[:12],
)
def test_what_cannot_travel_unchanged_is_not_taken(value: str) -> None:
    state = TurnState()
    assert not state.set(value)
    assert state.get() is None


def test_of_two_values_the_first_stays() -> None:
    state = TurnState()
    assert [state.set("first"), state.set("second"), state.set("first")] == [True, False, False]
    assert state.get() == "first"


def test_a_refused_value_does_not_stand_in_the_way_of_the_next() -> None:
    state = TurnState()
    assert [state.set(""), state.set("a b"), state.set("taken")] == [False, False, True]
    assert state.get() == "taken"


@given(st.lists(st.one_of(st.text(max_size=20), VISIBLE)))
def test_the_token_is_the_first_value_that_can_be_taken(values: list[str]) -> None:
    state = TurnState()
    for value in values:
        state.set(value)
    takeable = [value for value in values if value and all(0x21 <= ord(character) <= 0x7E for character in value)]
    assert state.get() == (takeable[0] if takeable else None)


def test_its_repr_says_whether_there_is_a_token_and_not_which() -> None:
    state = TurnState()
    assert repr(state) == "<TurnState unset>"
    state.set("secret")
    assert repr(state) == "<TurnState of 6 characters>"
