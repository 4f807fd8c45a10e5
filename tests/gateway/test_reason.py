"""What the log may say of a failure."""

import pytest

from turnwire.errors import Disconnected, ErrorResponse, HttpStatusError, IdleTimeout, RetryableError, ServerOverloaded
from turnwire.gateway.reason import reason


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (Disconnected("it broke off"), "Disconnected: it broke off"),
        (IdleTimeout("it said nothing"), "IdleTimeout: it said nothing"),
        (RetryableError("the prompt was: hello"), "RetryableError"),
        (HttpStatusError("the prompt was: hello", response=ErrorResponse(418)), "HttpStatusError 418"),
    ],
)
def test_an_upstreams_own_words_are_not_for_the_log(error, told):
    assert reason(error) == told


def test_our_own_are():
    assert reason(ServerOverloaded("all are busy"), own=True) == "ServerOverloaded: all are busy"
