"""What a request brings besides its body."""

import pytest

from turnwire.gateway.caller import Caller
from turnwire.gateway.inquiry import Inquiry, plain_headers

LAPTOP = Caller("laptop", "1a2b")
TOKEN = "x-codex-turn-state"


@pytest.mark.parametrize(
    ("headers", "client_metadata", "token"),
    [
        ({}, None, None),
        ({TOKEN: "h"}, None, "h"),
        ({TOKEN: ""}, {}, None),
        ({}, {TOKEN: "f"}, "f"),
        ({TOKEN: "h"}, {TOKEN: "f"}, "f"),
        ({TOKEN: "h"}, {TOKEN: ""}, "h"),
        ({TOKEN: "h"}, {TOKEN: 7}, "h"),
        ({TOKEN: "h"}, "nonsense", "h"),
        ({}, {TOKEN: ["f"]}, None),
    ],
)
def test_the_frames_token_outranks_the_headers_and_an_empty_one_is_none(headers, client_metadata, token):
    inquiry = Inquiry.of(LAPTOP, headers, client_metadata)
    assert (inquiry.caller, inquiry.headers, inquiry.token) == (LAPTOP, headers, token)


def test_each_request_has_a_name_of_its_own_and_shows_no_secret():
    one, other = (Inquiry.of(LAPTOP, {TOKEN: "secret", "authorization": "Bearer secret"}) for _ in range(2))
    assert one.request_id != other.request_id
    assert repr(one) == f"<Inquiry {one.request_id} of laptop>"


def test_headers_are_text_with_names_in_lower_case():
    assert plain_headers([(b"X-One", b"\xe9"), (b"x-two", b"1"), (b"x-two", b"2")]) == {"x-one": "é", "x-two": "2"}
