import pytest

from turnwire.errors import (
    ApiError,
    ConnectError,
    ContextWindowExceeded,
    Disconnected,
    ErrorResponse,
    HttpStatusError,
    IdleTimeout,
    InvalidPrompt,
    ProtocolError,
    RateLimited,
    RetryableError,
    ServerOverloaded,
    StreamError,
)
from turnwire.gateway.health import EJECT_AFTER, FIRST_PAUSE, LONGEST_PAUSE, Health, blames_replica


def test_failures_in_a_row_eject_a_replica() -> None:
    health = Health()
    assert [health.failed(0.0) for _ in range(EJECT_AFTER)] == [False] * (EJECT_AFTER - 1) + [True]
    assert health.state(0.0) == "ejected"
    assert health.ejections == 1


def test_a_success_between_failures_keeps_it_in() -> None:
    health = Health()
    for _ in range(3 * EJECT_AFTER):
        assert not health.failed(0.0)
        health.succeeded()
    assert health.state(0.0) == "well"


def test_one_refused_connection_is_enough() -> None:
    health = Health()
    assert health.failed(0.0, absent=True)
    assert health.state(0.0) == "ejected"


def test_after_its_pause_it_is_on_trial_and_a_success_brings_it_back() -> None:
    health = Health()
    health.failed(10.0, absent=True)
    assert health.back_at == 10.0 + FIRST_PAUSE
    assert health.state(10.0 + FIRST_PAUSE) == "trial"
    health.succeeded()
    assert (health.state(10.0 + FIRST_PAUSE), health.back_at) == ("well", None)


def test_an_answer_to_a_probe_brings_it_back_but_for_one_failure_more() -> None:
    health = Health()
    health.failed(0.0, absent=True)
    health.probed()
    assert (health.state(FIRST_PAUSE), health.back_at) == ("well", None)
    assert health.failed(FIRST_PAUSE)
    assert health.back_at == FIRST_PAUSE + 2 * FIRST_PAUSE  # as if it had not been back


def test_a_probe_does_not_forgive_failures_of_requests() -> None:
    health = Health()
    for _ in range(EJECT_AFTER - 1):
        health.failed(0.0)
        health.probed()
    assert health.failed(0.0)


def test_pauses_grow_to_a_bound_and_begin_anew_after_a_success() -> None:
    health, now, pauses = Health(), 0.0, []
    for _ in range(10):
        assert health.failed(now, absent=True)
        assert health.back_at is not None
        pauses.append(health.back_at - now)
        now = health.back_at
    assert pauses == [min(FIRST_PAUSE * 2**place, LONGEST_PAUSE) for place in range(10)]
    health.succeeded()
    health.failed(now, absent=True)
    assert health.back_at == now + FIRST_PAUSE


def test_what_fails_while_it_is_ejected_tells_nothing_new() -> None:
    health = Health()
    health.failed(0.0, absent=True)
    assert not health.failed(FIRST_PAUSE / 2, absent=True)
    assert (health.back_at, health.ejections) == (FIRST_PAUSE, 1)


@pytest.mark.parametrize(
    ("error", "blamed"),
    [
        (ConnectError("refused"), True),
        (Disconnected("cut"), True),
        (StreamError("no end"), True),
        (IdleTimeout("silent"), True),
        (RetryableError("failed"), True),
        (ServerOverloaded("busy"), True),
        (ProtocolError("a web page"), True),
        (HttpStatusError("500", response=ErrorResponse(500)), True),
        (HttpStatusError("404", response=ErrorResponse(404)), False),
        (RateLimited("slow down"), False),
        (InvalidPrompt("no"), False),
        (ContextWindowExceeded("too long"), False),
        (ApiError("ours"), False),
    ],
)
def test_only_failures_of_the_replica_are_blamed_on_it(error: ApiError, blamed: bool) -> None:
    assert blames_replica(error) is blamed
