"""How old turn tokens become, and what a change of the secret does to them.

The tokens are the gateway's own, made and read by `turnwire.gateway.turn_token.TurnTokens` on a clock of the
simulation. Each gateway process takes over changed secrets at a time of its own. Times are in seconds.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from msgspec import Struct

from turnwire.gateway.turn_token import TurnTicket, TurnTokens

__all__ = ["ROTATIONS", "Rotation", "ages", "rotate"]

_ANSWER = (6.0, 0.8)
_TOOL = (2.0, 1.2)
_PERSON = (300.0, 1.5)
"""Now and then a person is asked first."""
_ASKED = 0.03
_REQUESTS = 6.0
_PROCESSES = 4
_ROLLOUT = 600.0
"""Within what time all processes take over a change."""


class Rotation(Struct, frozen=True):
    """Which secrets are in force from so many lifetimes after the beginning on; the first signs, all are tried."""

    name: str
    steps: Sequence[tuple[float, tuple[str, ...]]]


ROTATIONS = (
    Rotation("in the place of the old one", [(1.0, ("new",))]),
    Rotation("in front of the old one, which goes a lifetime later", [(1.0, ("new", "old")), (2.2, ("new",))]),
    Rotation(
        "behind the old one, then in front of it, which goes a lifetime later",
        [(0.8, ("old", "new")), (1.0, ("new", "old")), (2.2, ("new",))],
    ),
)


def ages(turns: int, seed: int = 1) -> np.ndarray:
    """How old a turn's token is when it is used last, of turns that use it at all."""
    generator = np.random.default_rng(seed)
    uses = generator.geometric(1 / _REQUESTS, turns) - 1
    waits = _waits(generator, int(uses.sum()))
    ends = np.cumsum(uses)
    sums = np.concatenate(([0.0], np.cumsum(waits)))
    return (sums[ends] - sums[ends - uses])[uses > 0]


def rotate(rotation: Rotation, turns: int, lifetime: float, seed: int = 1) -> Counter[str]:
    """What becomes of the tokens of so many turns' follow-ups, over four lifetimes.

    ``read``, ``outlived`` where one is older than the lifetime, ``refused`` where it is not read all the same.
    """
    generator = np.random.default_rng(seed)
    clock = _Clock()
    tokens: Mapping[tuple[str, ...], TurnTokens] = {
        secrets: TurnTokens([f"{secret} secret of the simulation" for secret in secrets], max_age=lifetime, clock=clock)
        for secrets in (("old",), *(secrets for _, secrets in rotation.steps))
    }
    takes_over = [  # when which process has which secrets
        [(0.0, ("old",)), *((lifetime * begin + delay, secrets) for begin, secrets in rotation.steps)]
        for delay in generator.random(_PROCESSES) * _ROLLOUT
    ]

    def read_by(process: int) -> TurnTokens:
        return tokens[[secrets for begin, secrets in takes_over[process] if begin <= clock.now][-1]]

    met: Counter[str] = Counter()
    for begin in generator.random(turns) * 3 * lifetime:
        clock.now = begin
        token = read_by(int(generator.integers(_PROCESSES))).issue(TurnTicket("0" * 16, "replica-1"), "tenant")
        uses = int(generator.geometric(1 / _REQUESTS)) - 1
        for wait, process in zip(_waits(generator, uses), generator.integers(_PROCESSES, size=uses), strict=True):
            clock.now += wait
            found = read_by(process).read(token, "tenant")
            outlived = clock.now - begin > lifetime
            met["read" if isinstance(found, TurnTicket) else "outlived" if outlived else "refused"] += 1
    return met


class _Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def _waits(generator: np.random.Generator, number: int) -> np.ndarray:
    """The times from one request of a turn to the next."""
    answer, tool, person = (
        generator.lognormal(math.log(median), spread, number) for median, spread in (_ANSWER, _TOOL, _PERSON)
    )
    return answer + np.where(generator.random(number) < _ASKED, person, tool)
