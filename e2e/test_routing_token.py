"""The rule that all scenarios are held against, on conversations that keep it and on some that do not."""

import pytest

from e2e.conversation import Answered, Asked, Said, TokenGiven
from e2e.routing_token import check_tokens


def asked(turn: str | None, token: str | None = None, connection: int = 0) -> Asked:
    return Asked(connection, "http", token, turn, {})


@pytest.mark.parametrize(
    ("said", "tokens"),
    [
        pytest.param([], {}, id="silence"),
        pytest.param([asked("a"), asked("a")], {}, id="no token"),
        pytest.param(
            [asked("a"), TokenGiven(0, "x"), asked("a", "x"), TokenGiven(0, "y"), asked("a", "x")],
            {"a": "x"},
            id="the first is repeated",
        ),
        pytest.param([asked("a"), asked("a"), TokenGiven(0, "x"), asked("a", "x")], {"a": "x"}, id="a late one"),
        pytest.param(
            [asked("a"), TokenGiven(0, "x"), asked("b", connection=1), TokenGiven(1, "y"), asked("b", "y")],
            {"a": "x", "b": "y"},
            id="two turns",
        ),
        pytest.param(
            [Answered(0, 101, {}), asked(None), TokenGiven(0, "x"), asked("a", "x"), asked("b")],
            {"a": "x"},
            id="a warm-up's is the first turn's",
        ),
    ],
)
def test_a_conversation_that_keeps_the_rule_gives_its_tokens(said: list[Said], tokens: dict[str, str]) -> None:
    assert check_tokens(said) == tokens


@pytest.mark.parametrize(
    "said",
    [
        pytest.param([asked("a"), TokenGiven(0, "x"), asked("a")], id="forgotten"),
        pytest.param([asked("a"), TokenGiven(0, "x"), TokenGiven(0, "y"), asked("a", "y")], id="replaced"),
        pytest.param([asked("a"), TokenGiven(0, "x"), asked("b", "x")], id="carried over"),
        pytest.param([asked("a", "x")], id="out of nowhere"),
        pytest.param([asked(None, "x")], id="in a warm-up"),
    ],
)
def test_a_conversation_that_breaks_the_rule_is_found_out(said: list[Said]) -> None:
    with pytest.raises(AssertionError):
        check_tokens(said)
