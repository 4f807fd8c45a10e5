"""Call ids: unique, accepted, reversible, and the same whatever comes later."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnwire.wire.chat.call_id import CallIds

STYLES = {"any": r"(?s).+", "64": r"(?s).{1,64}", "mistral": r"[A-Za-z0-9]{9}"}
call_id_lists = st.lists(st.sampled_from(["", "call_0", "call_0-2", "abcDEF123", "x" * 64, "x" * 65]) | st.text())


@pytest.mark.parametrize(
    ("style", "call_ids", "wire_ids"),
    [
        pytest.param("any", ["a", "b" * 99], ["a", "b" * 99], id="what is accepted stays as it is"),
        pytest.param("any", ["call_0"] * 3, ["call_0", "call_0-2", "call_0-3"], id="a repeated id is counted"),
        pytest.param("any", ["", ""], ["call", "call-2"], id="an absent id is made up"),
        pytest.param("any", ["a", "a", "a-2"], ["a", "a-2", "a-2-2"], id="an id that a count has taken gives way"),
        pytest.param("any", ["a-2", "a", "a"], ["a-2", "a", "a-3"], id="a count that an id has taken is left out"),
        pytest.param("64", ["a" * 64], ["a" * 64], id="64 characters are not too many"),
        pytest.param("mistral", ["abcDEF123"], ["abcDEF123"], id="9 alphanumerics stay as they are"),
        pytest.param("mistral", ["call_0", "call_0"], ["c557a85a0", "fda017fdc"], id="anything else becomes a digest"),
    ],
)
def test_an_id_is_sent_in_a_form_that_the_server_accepts(style, call_ids, wire_ids):
    ids = CallIds(style)
    assert [ids.to_wire(call_id) for call_id in call_ids] == wire_ids


@pytest.mark.parametrize("style", STYLES)
@given(call_ids=call_id_lists)
def test_every_id_is_unique_and_accepted_and_leads_back(style, call_ids):
    ids = CallIds(style)
    wire_ids = [ids.to_wire(call_id) for call_id in call_ids]
    assert len(set(wire_ids)) == len(wire_ids)
    assert all(re.fullmatch(STYLES[style], wire_id) for wire_id in wire_ids)
    assert [ids.from_wire(wire_id) for wire_id in wire_ids] == call_ids


@pytest.mark.parametrize("style", STYLES)
@given(call_ids=call_id_lists, later=call_id_lists)
def test_an_id_does_not_depend_on_what_comes_later(style, call_ids, later):
    ids, grown = CallIds(style), CallIds(style)
    wire_ids = [ids.to_wire(call_id) for call_id in call_ids]
    assert [grown.to_wire(call_id) for call_id in call_ids + later][: len(call_ids)] == wire_ids


def test_an_id_that_was_never_sent_is_the_servers_own():
    assert CallIds("mistral").from_wire("new_call") == "new_call"
