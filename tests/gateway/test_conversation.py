from __future__ import annotations

from typing import Any

import pytest
from openai.types.responses.response_item import ResponseItem
from pydantic import TypeAdapter

from tests.gateway.keeping import asked, document, said, turn
from turnwire.errors import InvalidPrompt, PreviousResponseNotFound
from turnwire.gateway.conversation import history_of, input_of, items_of, listed, referenced_ids, resolved
from turnwire.gateway.store import StoredResponse

ONE = turn("resp_1", "first?", "one")
TWO = turn("resp_2", "second?", "two", previous="resp_1")
REFERENCE = {"type": "item_reference", "id": "msg_one"}


@pytest.mark.parametrize(
    ("given", "items"),
    [
        ("hello", [{"type": "message", "role": "user", "content": "hello"}]),
        ([asked("hello")], [asked("hello")]),
        ([], []),
        (None, []),
    ],
)
def test_an_input_is_a_list_of_items(given: Any, items: list[Any]) -> None:
    assert items_of(given) == items


@pytest.mark.parametrize("given", [5, {"role": "user"}, ["hello"], [None]])
def test_an_input_that_is_no_list_of_objects_is_refused(given: Any) -> None:
    with pytest.raises(InvalidPrompt, match="input: expected text, or a list of objects that are items"):
        items_of(given)


def test_the_history_is_all_input_and_output_in_order() -> None:
    assert history_of("resp_2", [ONE, TWO]) == [asked("first?"), said("one"), asked("second?"), said("two")]


def test_a_responses_input_ends_before_its_output() -> None:
    assert input_of("resp_2", [ONE, TWO]) == [asked("first?"), said("one"), asked("second?")]


@pytest.mark.parametrize("chain", [[], [TWO]])
def test_a_chain_with_a_gap_is_no_history(chain: list[StoredResponse]) -> None:
    with pytest.raises(PreviousResponseNotFound, match="the response 'resp_2' is not known here"):
        history_of("resp_2", chain)


def test_a_response_that_was_cut_short_can_be_gone_on_from() -> None:
    chain = [StoredResponse.of(document("resp_1", said("half"), status="incomplete"))]
    assert history_of("resp_1", chain) == [said("half")]


@pytest.mark.parametrize("status", ["queued", "in_progress", "failed", "cancelled"])
def test_a_response_without_an_answer_can_not_be_gone_on_from(status: str) -> None:
    chain = [StoredResponse.of(document("resp_1", status=status))]
    with pytest.raises(InvalidPrompt) as caught:
        history_of("resp_1", chain)
    assert str(caught.value) == (
        f"previous_response_id: the response 'resp_1' is {status}, and only a completed one can be gone on from"
    )


@pytest.mark.parametrize("reference", [REFERENCE, {"type": None, "id": "msg_one"}, {"id": "msg_one"}])
def test_references_are_replaced_by_what_they_name(reference: dict[str, Any]) -> None:
    items = [asked("a"), reference, {**asked("b"), "id": "msg_b"}]
    assert referenced_ids(items) == ["msg_one"]
    assert resolved(items, {"msg_one": said("one")}) == [items[0], said("one"), items[2]]


def test_what_is_named_and_part_of_the_history_does_not_come_twice() -> None:
    assert resolved([REFERENCE, asked("b")], {"msg_one": said("one")}, [said("one")]) == [asked("b")]


@pytest.mark.parametrize("item_id", ["msg_gone", "", None, ["msg_one"]])
def test_a_reference_to_what_is_not_known_is_refused(item_id: Any) -> None:
    with pytest.raises(InvalidPrompt, match=r"input: the item '(msg_gone)?' that is referred to is not known here"):
        resolved([{"type": "item_reference", "id": item_id}], {}, [{"role": "user", "content": "no id"}])


def test_listed_items_are_in_the_long_form_with_an_id_each() -> None:
    items = [
        asked("hi"),
        {"role": "assistant", "content": "hello"},
        said("one"),
        {"type": "function_call", "id": "fc_1", "call_id": "c", "name": "f", "arguments": "{}", "status": "completed"},
        {"type": "function_call_output", "call_id": "c", "output": "4"},
        {"type": "something_new", "x": 1},
    ]
    assert listed(items, "resp_7") == [
        {
            "type": "message",
            "id": "msg_in_7_0",
            "role": "user",
            "status": "completed",
            "content": [{"type": "input_text", "text": "hi"}],
        },
        {
            "type": "message",
            "id": "msg_in_7_1",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": "hello", "annotations": [], "logprobs": []}],
        },
        {**said("one"), "content": [{"type": "output_text", "text": "one", "annotations": [], "logprobs": []}]},
        items[3],
        {"type": "function_call_output", "id": "fco_in_7_4", "call_id": "c", "output": "4", "status": "completed"},
        {"type": "something_new", "id": "item_in_7_5", "x": 1},
    ]


def test_listed_items_are_what_the_sdk_takes_for_items() -> None:
    items = [
        asked("hi"),
        {"role": "assistant", "content": "hello"},
        {"role": "user", "content": [{"type": "input_image", "image_url": "https://example.test/a.png"}]},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "4"},
        {"type": "custom_tool_call", "call_id": "d", "name": "apply_patch", "input": "*** Begin"},
        {"type": "custom_tool_call_output", "call_id": "d", "output": "done"},
        {"type": "reasoning", "summary": []},
    ]
    TypeAdapter(list[ResponseItem]).validate_python(listed(items, "resp_1"))
