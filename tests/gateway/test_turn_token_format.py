"""The token as docs/turn-token.md describes it, made by hand."""

from __future__ import annotations

import base64
import hmac
import re
from pathlib import Path

import msgspec

from turnwire.gateway.turn_token import TurnTicket, TurnTokens

DOCUMENT = (Path(__file__).parents[2] / "docs" / "turn-token.md").read_text(encoding="utf-8")
SECRET = "x" * 64
TENANT = "local"
ISSUED = 1795386000
TICKET = TurnTicket("0123456789abcdef", "gpu-1", None, bytes(range(8)))


def _encoded(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def test_the_document_s_token_is_made_as_it_says() -> None:
    payload = b"\x01" + msgspec.msgpack.encode(["0123456789abcdef", "gpu-1", None, bytes(range(8))])
    signed = _encoded(payload) + b"." + _encoded(ISSUED.to_bytes(4, "big"))
    key = hmac.digest(SECRET.encode(), b"turnwire turn token of " + TENANT.encode(), "sha256")
    token = (signed + b"." + _encoded(hmac.digest(key, signed, "sha256"))).decode()
    tokens = TurnTokens([SECRET], max_age=60, clock=lambda: ISSUED)
    assert tokens.issue(TICKET, TENANT) == token
    assert tokens.read(token, TENANT) == TICKET
    assert re.findall(r"^```\n(\S+)\n", DOCUMENT, re.MULTILINE) == [token]
    assert f"{len(token)} here" in DOCUMENT


def test_the_document_s_sizes_are_right() -> None:
    tokens = TurnTokens([SECRET], max_age=60, clock=lambda: ISSUED)
    nameless = tokens.issue(TurnTicket("0123456789abcdef", "", None, bytes(range(8))), TENANT)
    assert f"{len(nameless)} characters" in DOCUMENT
    carried = [
        size
        for size in range(1400, 1500)
        if (ticket := TurnTicket("0123456789abcdef", "gpu-1", "u" * size, bytes(range(8))))
        == tokens.read(tokens.issue(ticket, TENANT), TENANT)
    ]
    assert 1450 <= carried[-1] < 1500
