"""Whether a replica is to be asked: what its failures and successes make of it. Pure; times are given in seconds.

======== ==================================== ==========================================================
state    on                                   becomes
======== ==================================== ==========================================================
well     a success                            well, with no failures counted
well     `EJECT_AFTER` failures in a row      ejected, for the first pause
well     a refused connection                 ejected: nobody is there to fail twice
ejected  the pause is over                    on trial: a probe may try it, and requests where nobody is well
on trial an answer to a probe                 well, and one failure away from being ejected again
on trial a success                            well
on trial a failure                            ejected, for twice the last pause
======== ==================================== ==========================================================
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from turnwire.errors import (
    ApiError,
    HttpStatusError,
    ProtocolError,
    RateLimited,
    RetryableError,
    ServerOverloaded,
    StreamError,
    TransportError,
)

__all__ = ["EJECT_AFTER", "FIRST_PAUSE", "LONGEST_PAUSE", "Health", "HealthState", "blames_replica", "may_move"]

HealthState: TypeAlias = Literal["well", "ejected", "trial"]

EJECT_AFTER = 3
"""Failures in a row that eject a replica which still takes connections."""
FIRST_PAUSE = 1.0
LONGEST_PAUSE = 60.0


class Health:
    """One replica's health."""

    def __init__(self) -> None:
        self._failures = 0
        self._pause = 0.0
        self._ejected_until: float | None = None
        self.ejections = 0
        """How often it was ejected."""

    def __repr__(self) -> str:
        return f"<Health: {self._failures} failures in a row, {self.ejections} ejections>"

    def state(self, now: float) -> HealthState:
        """What it is at this time."""
        if self._ejected_until is None:
            return "well"
        return "ejected" if now < self._ejected_until else "trial"

    @property
    def back_at(self) -> float | None:
        """When an ejected replica may be tried; None where it is well."""
        return self._ejected_until

    def succeeded(self) -> None:
        """It answered."""
        self._failures, self._pause, self._ejected_until = 0, 0.0, None

    def probed(self) -> None:
        """It answered a probe: it is there, which is less than to answer requests.

        One that hangs at those would come back each time, had the probe the last word on its failures and its pause.
        """
        if self._ejected_until is not None:
            self._ejected_until = None
            self._failures = EJECT_AFTER - 1

    def failed(self, now: float, *, absent: bool = False) -> bool:
        """It failed; ``absent``: nobody was there. Whether that ejected it just now.

        What fails while it is ejected was asked before, and tells nothing new.
        """
        state = self.state(now)
        if state == "ejected":
            return False
        self._failures += 1
        if state == "well" and self._failures < EJECT_AFTER and not absent:
            return False
        self._pause = min(max(FIRST_PAUSE, 2 * self._pause), LONGEST_PAUSE)
        self._ejected_until = now + self._pause
        self.ejections += 1
        return True


def blames_replica(error: ApiError) -> bool:
    """Whether a failure is the replica's, so that another one may do better; a request's own faults go with it."""
    if isinstance(error, HttpStatusError):
        return error.status >= 500
    return isinstance(error, TransportError | StreamError | RetryableError | ProtocolError | ServerOverloaded)


def may_move(error: ApiError) -> bool:
    """Whether another replica may be asked instead: its failure is not the request's, and nothing was given yet."""
    return blames_replica(error) or isinstance(error, RateLimited)
