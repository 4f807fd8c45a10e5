"""The rule of the routing token, held against everything that was said."""

from __future__ import annotations

from collections.abc import Iterable

from e2e.conversation import Asked, Said, TokenGiven

__all__ = ["check_tokens"]


def check_tokens(said: Iterable[Said]) -> dict[str, str]:
    """The token of each turn, by the turn's name; `AssertionError` where a request breaks the rule.

    The first token given in a turn is repeated, unchanged, by each later request of that turn, whatever it comes
    over; a request of a turn that has been given none carries none. What a warm-up was given is its next turn's.
    """
    given: dict[str, str] = {}
    from_warm_up: str | None = None
    turn_on: dict[int, str | None] = {}
    for event in said:
        match event:
            case Asked(connection, _, token, turn):
                turn_on[connection] = turn
                if turn is None:
                    assert token is None, "a warm-up carries a token"
                    continue
                if from_warm_up is not None and turn not in given:
                    given[turn], from_warm_up = from_warm_up, None
                assert token == given.get(turn), (
                    f"the turn was given {given.get(turn)}, and its request carries {token}"
                )
            case TokenGiven(connection, token):
                turn = turn_on[connection]
                if turn is None:
                    from_warm_up = from_warm_up or token
                else:
                    given.setdefault(turn, token)
    return given
