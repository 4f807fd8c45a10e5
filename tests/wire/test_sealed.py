"""Texts inside ``encrypted_content``: what comes out, and that no more comes out than went in."""

import base64
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnwire.item import Reasoning, ReasoningText, SummaryText
from turnwire.wire.sealed import SUMMARY_NOTE, seal, sealed_reasoning, unseal, unsealed_item, unsealed_reasoning

kinds = st.sampled_from(["reasoning", "compaction"])


def packed(data, prefix="turnwire.1.reasoning."):
    return prefix + base64.urlsafe_b64encode(data).decode()


@given(kinds, st.text() | st.builds(lambda text, times: text * times, st.text(max_size=3), st.integers(0, 5000)))
def test_what_was_sealed_comes_out(kind, text):
    sealed = seal(kind, text)
    assert unseal(kind, sealed) == text
    assert sealed.isascii()
    assert sealed.isprintable()


def test_prose_is_sealed_in_less_space():
    prose = "".join(f"Step {count} reads file {count * 7} and compares it.\n" for count in range(100))
    assert len(seal("reasoning", prose)) < len(prose) / 2


def test_a_lone_surrogate_becomes_a_question_mark():
    assert unseal("reasoning", seal("reasoning", "a\ud83d")) == "a?"


@pytest.mark.parametrize(
    "value",
    [
        pytest.param("", id="nothing"),
        pytest.param("gAAAAABo", id="another server's"),
        pytest.param(seal("compaction", "a"), id="another kind"),
        pytest.param(seal("reasoning", "a")[:-4], id="cut"),
        pytest.param(seal("reasoning", "a") + "AAAA", id="with something behind it"),
        pytest.param("turnwire.1.reasoning.é", id="not ASCII"),
        pytest.param("turnwire.1.reasoning.\ud83d", id="half a character"),
        pytest.param("turnwire.1.reasoning.!!!!", id="not base64"),
        pytest.param(packed(b"abc"), id="not packed"),
        pytest.param(packed(zlib.compress(b"\xff")), id="not UTF-8"),
        pytest.param(packed(zlib.compress(b"a"), "turnwire.2.reasoning."), id="a later version's"),
        pytest.param(packed(zlib.compress(b"a" * 10_000_000)), id="far more than it says"),
    ],
)
def test_what_is_not_ours_is_nothing(value):
    assert unseal("reasoning", value) is None


@given(kinds, st.text(), st.binary())
def test_any_value_is_ours_or_nothing(kind, text, data):
    for value in (text, f"turnwire.1.{kind}.{text}", packed(data, f"turnwire.1.{kind}.")):
        assert unseal(kind, value) is None or isinstance(unseal(kind, value), str)


THOUGHT = Reasoning("rs_1", content=[ReasoningText("wh"), ReasoningText("y")])


def test_reasoning_comes_back_from_what_is_left_of_it():
    sealed = sealed_reasoning(THOUGHT)
    assert sealed == Reasoning("rs_1", content=THOUGHT.content, encrypted_content=seal("reasoning", "why"))
    assert unsealed_reasoning(sealed) == THOUGHT
    left = Reasoning("rs_1", encrypted_content=sealed.encrypted_content)
    assert unsealed_reasoning(left) == Reasoning("rs_1", content=[ReasoningText("why")])
    assert sealed_reasoning(sealed) == sealed


def test_a_summary_is_sealed_where_it_is_all_there_is():
    sealed = sealed_reasoning(Reasoning(summary=[SummaryText("so")]))
    assert sealed.encrypted_content == seal("reasoning", "so")


@pytest.mark.parametrize("item", [Reasoning(), Reasoning(encrypted_content="gAAA", content=THOUGHT.content)])
def test_reasoning_that_is_empty_or_a_servers_own_stays_as_it_is(item):
    assert sealed_reasoning(item) == item
    assert unsealed_reasoning(item) == item


def test_an_item_of_ours_is_unsealed_for_other_servers() -> None:
    reasoning = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": seal("reasoning", "Hm.")}
    summary = {"type": "compaction", "id": "cmp_1", "encrypted_content": seal("compaction", "All done.")}
    foreign = {"type": "reasoning", "summary": [], "encrypted_content": "gAAAA"}
    note = {"type": "input_text", "text": f"{SUMMARY_NOTE}All done."}
    assert [unsealed_item(item) for item in (reasoning, summary, foreign)] == [
        {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "Hm."}]},
        {"type": "message", "role": "user", "content": [note]},
        foreign,
    ]
