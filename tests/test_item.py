"""Items and the JSON objects that they stand for."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnwire.item import (
    Compaction,
    CustomToolCall,
    CustomToolCallOutput,
    FunctionCall,
    FunctionCallOutput,
    InputImage,
    InputText,
    LocalShellCall,
    Message,
    OtherItem,
    OutputText,
    Reasoning,
    ReasoningText,
    Refusal,
    SummaryText,
    ToolSearchCall,
    ToolSearchOutput,
    WebSearchCall,
    decode_item,
    encode_item,
    item_text,
)

texts = st.text(max_size=8)
maybe_texts = st.none() | texts
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | texts,
    lambda values: st.lists(values, max_size=2) | st.dictionaries(texts, values, max_size=2),
    max_leaves=4,
)
objects = st.dictionaries(texts, json_values, max_size=3)
unknown_keys = st.sampled_from(["extra", "annotations", "x"])
extras = st.dictionaries(unknown_keys, json_values, max_size=2)
parts = st.lists(
    st.builds(InputText, texts)
    | st.builds(InputImage, maybe_texts, maybe_texts, maybe_texts)
    | st.builds(OutputText, texts, extra=extras)
    | st.builds(Refusal, texts),
    max_size=3,
)
outputs = texts | parts
known_items = st.one_of(
    st.builds(Message, texts, parts, maybe_texts, extra=extras),
    st.builds(
        Reasoning,
        texts,
        st.lists(st.builds(SummaryText, texts), max_size=2),
        st.none() | st.lists(st.builds(ReasoningText, texts), max_size=2),
        maybe_texts,
    ),
    st.builds(
        FunctionCall,
        *(texts, texts, texts, maybe_texts, maybe_texts, maybe_texts),
        extra=extras,
    ),
    st.builds(FunctionCallOutput, texts, outputs),
    st.builds(CustomToolCall, texts, texts, texts, maybe_texts, maybe_texts, maybe_texts),
    st.builds(CustomToolCallOutput, texts, outputs),
    st.builds(LocalShellCall, objects, maybe_texts, maybe_texts, maybe_texts),
    st.builds(WebSearchCall, st.none() | objects, maybe_texts, maybe_texts),
    st.builds(ToolSearchCall, json_values, maybe_texts, maybe_texts, maybe_texts, maybe_texts),
    st.builds(ToolSearchOutput, st.lists(objects, max_size=2), maybe_texts, maybe_texts, maybe_texts, maybe_texts),
    st.builds(Compaction, texts, maybe_texts),
)


@given(known_items)
def test_an_item_comes_back_from_json_as_it_was(item):
    assert decode_item(msgspec.json.decode(msgspec.json.encode(encode_item(item)))) == item


@given(
    objects
    | st.fixed_dictionaries(
        {"type": texts | st.sampled_from(["message", "function_call"])},
        optional={
            "role": json_values,
            "content": json_values,
            "name": json_values,
            "extra": json_values,
        },
    )
)
def test_any_object_is_an_item_and_an_unknown_one_is_kept_whole(fields):
    item = decode_item(fields)
    if isinstance(item, OtherItem):
        assert encode_item(item) == fields
    else:
        assert decode_item(encode_item(item)) == item


@given(known_items.map(encode_item), unknown_keys, json_values)
def test_an_unknown_key_is_kept_and_does_not_hide_a_known_item(fields, key, value):
    item = decode_item({**fields, key: value})
    assert type(item) is type(decode_item(fields))
    assert encode_item(item) == {**fields, key: value}


@pytest.mark.parametrize(
    ("fields", "item"),
    [
        pytest.param(
            {"role": "user", "content": "hi"},
            Message("user", (InputText("hi"),)),
            id="a bare text is a part of input",
        ),
        pytest.param(
            {"type": "message", "role": "assistant", "content": "hi"},
            Message("assistant", (OutputText("hi"),)),
            id="an assistant's bare text is a part of output",
        ),
        pytest.param(
            {"type": "function_call", "name": "f", "arguments": "{}", "call_id": "c", "status": "completed"},
            FunctionCall("f", "{}", "c", status="completed"),
            id="a call's status is no unknown key",
        ),
        pytest.param(
            {"type": "function_call", "name": "f", "arguments": "{}", "call_id": "c", "extra": 1, "x": {"y": 2}},
            FunctionCall("f", "{}", "c", extra={"extra": 1, "x": {"y": 2}}),
            id="a call keeps unknown keys, even one called extra",
        ),
        pytest.param(
            {
                "type": "message",
                "role": "assistant",
                "content": [{"type": "output_text", "text": "hi", "annotations": [], "extra": 1}],
                "phase": "commentary",
            },
            Message(
                "assistant",
                (OutputText("hi", extra={"annotations": [], "extra": 1}),),
                extra={"phase": "commentary"},
            ),
            id="so do any item and its parts",
        ),
        pytest.param(
            {"type": None, "role": "user", "content": [{"type": "input_text", "text": "hi"}]},
            Message("user", (InputText("hi"),)),
            id="no type is a message's",
        ),
        pytest.param(
            {"type": "reasoning", "summary": []},
            Reasoning(),
            id="reasoning may be kept back",
        ),
    ],
)
def test_an_object_stands_for_an_item(fields, item):
    assert decode_item(fields) == item


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({}, id="nothing"),
        pytest.param({"type": "image_generation_call", "result": "…"}, id="an unknown kind"),
        pytest.param({"type": ["message"], "role": "user", "content": "hi"}, id="a kind that is no text"),
        pytest.param(
            {"type": "function_call", "name": "f", "arguments": {}, "call_id": "c", "x": 1}, id="a misfit call"
        ),
        pytest.param({"type": "message", "content": [{"type": "input_file"}], "role": "user"}, id="an unknown part"),
        pytest.param({"type": "message", "content": [{}], "role": "user", "extra": 5}, id="a key called extra"),
        pytest.param({"role": 5, "content": "hi"}, id="the short form with a misfit role"),
        pytest.param({"type": "message", "role": "user"}, id="a message without content"),
        pytest.param({"type": "message", "role": "user", "content": ["hi"]}, id="a part that is no object"),
    ],
)
def test_what_does_not_fit_is_kept_as_it_came(fields):
    assert decode_item(fields) == OtherItem(fields)
    assert encode_item(decode_item(fields)) == fields


def test_the_type_of_an_unknown_item_is_a_text_or_none():
    assert [OtherItem(fields).type for fields in ({"type": "new"}, {"type": 5}, {})] == ["new", None, None]


def test_only_an_assistants_text_is_text_to_read():
    said = [Message("assistant", [OutputText("a"), Refusal("b"), OutputText("c")]), Message("user", [InputText("d")])]
    assert [item_text(item) for item in (*said, Reasoning("r"))] == ["ac", "", ""]


@pytest.mark.parametrize(
    ("reasoning", "text"),
    [
        (Reasoning("r", [SummaryText("short")], [ReasoningText("lo"), ReasoningText("ng")]), "long"),
        (Reasoning("r", [SummaryText("short")]), "short"),
        (Reasoning("r"), ""),
    ],
)
def test_reasoning_reads_as_itself_or_as_its_summary(reasoning, text):
    assert reasoning.text == text
