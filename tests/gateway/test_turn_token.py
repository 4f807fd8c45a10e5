"""The token of a turn: whose it is, how old it may become, and that nobody else can make one."""

from __future__ import annotations

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnwire.errors import ConfigurationError
from turnwire.gateway.turn_token import TurnTicket, TurnTokens

NEW, OLD = "a secret of 32 characters or more", b"an older secret, as bytes"
TICKET = TurnTicket("0123456789abcdef", "gpu", None)
MAX_AGE = 3600.0


class Clock:
    """Seconds since 1970, as the test sets them."""

    def __init__(self, now: float = 1_790_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def tokens(*secrets: str | bytes, clock: Clock | None = None) -> TurnTokens:
    return TurnTokens(secrets or (NEW,), max_age=MAX_AGE, clock=clock or Clock())


@given(
    ticket=st.builds(
        TurnTicket,
        st.text(max_size=20),
        st.text(max_size=20),
        st.none() | st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=1_000),
    ),
    tenant=st.text(max_size=20),
)
def test_what_was_issued_is_read_back_and_travels_anywhere(ticket: TurnTicket, tenant: str) -> None:
    token = tokens().issue(ticket, tenant)
    assert tokens().read(token, tenant) == ticket
    assert all("!" <= character <= "~" for character in token)
    assert len(token) < 2048


def test_a_token_is_short() -> None:
    assert len(tokens().issue(TICKET, "tenant")) < 110


def test_an_upstreams_token_of_1400_characters_is_carried() -> None:
    ticket = TurnTicket(TICKET.turn, "u" * 50, "t" * 1_400)
    assert tokens().read(tokens().issue(ticket, "tenant"), "tenant") == ticket


@pytest.mark.parametrize(
    "upstream_token",
    ["t" * 1_600, "t" * 100_000, "Zürich", "two\nlines", "\udcff", ""],
    ids=lambda value: repr(value)[:12],
)
def test_an_upstreams_token_that_cant_be_carried_is_left_out_and_told_by_its_length(
    upstream_token: str, caplog: pytest.LogCaptureFixture
) -> None:
    ticket = TurnTicket(TICKET.turn, TICKET.upstream, upstream_token)
    with caplog.at_level(logging.WARNING, "turnwire.gateway"):
        assert tokens().read(tokens().issue(ticket, "tenant"), "tenant") == TICKET
    assert caplog.messages == [f"the turn token of upstream gpu can't be carried: {len(upstream_token)} characters"]


def test_another_tenants_token_is_forged() -> None:
    assert tokens().read(tokens().issue(TICKET, "tenant"), "another") == "forged"


def test_a_token_of_an_unknown_secret_is_forged() -> None:
    assert tokens(NEW).read(tokens(OLD).issue(TICKET, "tenant"), "tenant") == "forged"


def test_the_first_secret_signs_and_all_of_them_are_read() -> None:
    rotating = tokens(NEW, OLD)
    assert rotating.read(tokens(OLD).issue(TICKET, "tenant"), "tenant") == TICKET
    assert tokens(NEW).read(rotating.issue(TICKET, "tenant"), "tenant") == TICKET
    assert tokens(OLD).read(rotating.issue(TICKET, "tenant"), "tenant") == "forged"


def test_a_gateway_without_a_secret_makes_no_tokens() -> None:
    with pytest.raises(ConfigurationError, match="need a secret"):
        TurnTokens((), max_age=MAX_AGE)


@pytest.mark.parametrize(
    ("age", "expected"),
    [(0, TICKET), (MAX_AGE, TICKET), (MAX_AGE + 1, "expired"), (-600, TICKET)],
    ids=["new", "as old as it may be", "too old", "from a clock that goes before ours"],
)
def test_a_token_counts_for_its_lifetime(age: float, expected: object) -> None:
    clock = Clock()
    token = tokens(clock=clock).issue(TICKET, "tenant")
    clock.now += age
    assert tokens(clock=clock).read(token, "tenant") == expected


@pytest.mark.parametrize(
    "token",
    ["", "x", "a.b", "a.b.c.d", "ü.b.c", "\udcff.b.c", "a" * 2_046 + "..", "a" * 10_000],
    ids=lambda token: repr(token)[:12],
)
def test_what_does_not_look_like_a_token_is_malformed(token: str) -> None:
    assert tokens().read(token, "tenant") == "malformed"


@pytest.mark.parametrize("token", ["..", "a.b.c", "a." + "_" * 1_500 + ".c", "\n.\n.\n"])
def test_what_looks_like_a_token_and_is_not_signed_is_forged(token: str) -> None:
    assert tokens().read(token, "tenant") == "forged"


@pytest.mark.parametrize("payload", [b"", b"Ag", b"AQ", b"AZE", b"!", b"AYGhYQ"])
def test_a_signed_token_of_another_version_is_malformed(payload: bytes) -> None:
    made = tokens()
    signed = made._signer("tenant").sign(payload).decode()
    assert made.read(signed, "tenant") == "malformed"


@given(token=st.text() | st.from_regex(r"[!-~]{0,80}\.[!-~]{0,80}\.[!-~]{0,80}", fullmatch=True))
def test_no_text_is_a_token_and_none_raises(token: str) -> None:
    assert tokens().read(token, "tenant") in ("malformed", "forged")


@given(data=st.data())
def test_a_token_with_another_character_is_none(data: st.DataObject) -> None:
    token = tokens().issue(TICKET, "tenant")
    place = data.draw(st.integers(0, len(token) - 2))  # the last one has bits that mean nothing
    other = data.draw(st.characters(min_codepoint=0x21, max_codepoint=0x7E).filter(lambda value: value != token[place]))
    changed = token[:place] + other + token[place + 1 :]
    assert tokens().read(changed, "tenant") in ("malformed", "forged")


def test_a_ticket_does_not_show_the_upstreams_token() -> None:
    assert repr(TurnTicket("1", "gpu", "secret")) == "<TurnTicket of 1 at gpu>"
