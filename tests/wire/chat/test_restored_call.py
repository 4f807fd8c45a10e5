"""Calls as the tools that they mean, whatever a model makes of the JSON around them."""

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.decoding import call, calls, events_of
from turnwire.event import Completed, OutputItemAdded, OutputItemDone, ToolCallArgumentsDelta
from turnwire.item import CustomToolCall, FunctionCall, ToolSearchCall
from turnwire.wire.chat import decode_completion
from turnwire.wire.chat.restored_call import GrowingInput, custom_input, restored_call
from turnwire.wire.chat.tool import ToolOrigin

TOOLS = {
    "mail__read": ToolOrigin("function", "read", "mail"),
    "patch": ToolOrigin("custom", "patch"),
    "functions__exec": ToolOrigin("custom", "exec", "functions"),
    "tool_search": ToolOrigin("tool_search", "tool_search"),
}


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        pytest.param('{"input":"ls"}', "ls", id="as it was asked for"),
        pytest.param(' {\n "input" : "a\\nb\\"\\u00e9\\ud83d\\ude00" } ', 'a\nb"é😀', id="with spaces and escapes"),
        pytest.param('{"input":"ls","cwd":"/"}', "ls", id="with more behind it"),
        pytest.param('{"cwd":"/","input":"ls"}', "ls", id="with more in front"),
        pytest.param('{"input":""}', "", id="an empty text"),
        pytest.param('{"input":"a\n\tb"}', "a\n\tb", id="bare line breaks"),
        pytest.param(r'{"input":"\d+\(\u12"}', r"\d+\(\u12", id="backslashes that begin no escape"),
        pytest.param(r'{"input":"\ud83d!\ude00"}', "�!�", id="halves of characters"),
        pytest.param('{"input":"echo "hi", "you""}', 'echo "hi", "you"', id="bare quotes"),
        pytest.param('{"input":"ls', "ls", id="no end"),
        pytest.param('{"input":"ls"', "ls", id="no brace"),
        pytest.param('{"input":"ls"}}', "ls", id="a brace too many"),
        pytest.param('{"input":"ls\\', "ls\\", id="an escape without its end"),
        pytest.param('{"input":"a" then "b', 'a" then "b', id="bare quotes and no end"),
        pytest.param("*** Begin Patch", "*** Begin Patch", id="the bare text"),
        pytest.param('"ls"', '"ls"', id="a JSON text"),
        pytest.param('{"cmd":"ls"}', '{"cmd":"ls"}', id="an object without input"),
        pytest.param('{"input":["ls"]}', '{"input":["ls"]}', id="an input that is no text"),
        pytest.param('{"input":5,"x":""}', '{"input":5,"x":""}', id="an input that is a number"),
        pytest.param(" " * 200 + '{"input":"ls"}', "ls", id="a long way to the beginning"),
        pytest.param("", "", id="nothing"),
        pytest.param("[" * 5000, "[" * 5000, id="nested beyond all depth"),
    ],
)
def test_the_input_of_a_custom_tool_is_the_text_that_the_model_meant(arguments, text):
    assert custom_input(arguments) == text


def grown(arguments, places):
    """What a growing input tells of arguments in pieces, and the input in the end."""
    growing, ends = GrowingInput(), sorted({place % (len(arguments) + 1) for place in places} | {0, len(arguments)})
    told = [growing.feed(arguments[start:end]) for start, end in itertools.pairwise(ends)]
    whole = custom_input(arguments)
    return "".join(told), "".join([*told, growing.rest(whole)]), whole


fragments = st.sampled_from(
    ['{"input":"', '"', "\\", "\\\\", "\\u", "d8", "3d", "\\ud83d", "\\ude00", "}", ",", "\n", "n", "é", "{", " "]
)


@given(
    st.lists(fragments, max_size=12).map("".join) | st.text(max_size=20), st.booleans(), st.lists(st.integers(0, 99))
)
def test_what_is_told_of_any_input_is_its_beginning(arguments, begun, places):
    arguments = '{"input":"' * begun + arguments
    told, all_told, whole = grown(arguments, places)
    assert whole.startswith(told)
    assert all_told == whole
    assert grown(arguments, range(len(arguments))) == grown(arguments, ())


@given(st.text(), st.booleans(), st.lists(st.integers(0, 999)))
def test_an_input_in_good_json_is_told_as_it_grows(text, ascii_only, places):
    assert grown(json.dumps({"input": text}, ensure_ascii=ascii_only), places) == (text, text, text)


@pytest.mark.parametrize(
    ("arguments", "searched"),
    [
        ('{"query":"mail","limit":3}', {"query": "mail", "limit": 3}),
        ("mail", {"query": "mail"}),
        ('["mail"]', {"query": '["mail"]'}),
        ("", {}),
        (" ", {}),
    ],
)
def test_a_search_for_tools_has_an_object_as_its_arguments(arguments, searched):
    restored = restored_call(TOOLS["tool_search"], arguments, "c", {"sig": 1})
    assert restored == ToolSearchCall(searched, "client", "c", extra={"sig": 1})


def answer(*fragments, **options):
    said = [calls(fragment) for fragment in fragments]
    return events_of(*said, calls(finish_reason="tool_calls"), tools=TOOLS, **options)


def test_calls_are_those_of_the_tools_that_their_names_stand_for():
    assert answer(
        call(0, id="a", name="mail__read", arguments="{}", thought_signature="s"),
        call(1, id="b", name="functions__exec", arguments='{"input":"ls"}', thought_signature="s"),
        call(2, id="c", name="tool_search", arguments='{"query":"mail"}'),
        call(3, id="d", name="unknown", arguments="{}"),
    ) == [
        OutputItemDone(FunctionCall("read", "{}", "a", namespace="mail", extra={"thought_signature": "s"})),
        OutputItemDone(CustomToolCall("exec", "ls", "b", namespace="functions", extra={"thought_signature": "s"})),
        OutputItemDone(ToolSearchCall({"query": "mail"}, "client", "c")),
        OutputItemDone(FunctionCall("unknown", "{}", "d")),
        Completed(finish_reason="tool_calls"),
    ]


def test_a_watcher_is_told_of_the_tools_and_of_their_input():
    assert answer(
        call(0, id="a", name="patch", arguments='{"inp'),
        call(0, arguments='ut":"a\\'),
        call(0, arguments="nb\\ud83d"),
        call(0, arguments='\\ude00"'),
        call(0, arguments="}"),
        call(1, id="b", name="mail__read", arguments="{"),
        call(1, arguments="}"),
        call(2, id="c", name="tool_search", arguments='{"query":"m'),
        call(2, arguments='ail"}'),
        watch_calls=True,
    ) == [
        OutputItemAdded(CustomToolCall("patch", "", "a")),
        ToolCallArgumentsDelta("a", "a"),
        ToolCallArgumentsDelta("a", "\nb"),
        ToolCallArgumentsDelta("a", "😀"),
        OutputItemAdded(FunctionCall("read", "", "b", namespace="mail")),
        ToolCallArgumentsDelta("b", "{"),
        ToolCallArgumentsDelta("b", "}"),
        OutputItemAdded(ToolSearchCall({}, "client", "c")),
        OutputItemDone(CustomToolCall("patch", "a\nb😀", "a")),
        OutputItemDone(FunctionCall("read", "{}", "b", namespace="mail")),
        OutputItemDone(ToolSearchCall({"query": "mail"}, "client", "c")),
        Completed(finish_reason="tool_calls"),
    ]


def test_a_watcher_is_told_the_rest_where_what_came_was_no_json():
    assert answer(
        call(0, id="a", name="patch", arguments='{"input":"say "hi'), call(0, arguments='""}'), watch_calls=True
    ) == [
        OutputItemAdded(CustomToolCall("patch", "", "a")),
        ToolCallArgumentsDelta("a", "say "),
        ToolCallArgumentsDelta("a", '"hi"'),
        OutputItemDone(CustomToolCall("patch", 'say "hi"', "a")),
        Completed(finish_reason="tool_calls"),
    ]


def test_the_calls_of_a_whole_answer_are_restored_as_well():
    function = {"name": "patch", "arguments": '{"input":"x"}'}
    message = {"tool_calls": [{"id": "a", "type": "function", "function": function}]}
    body = json.dumps({"choices": [{"message": message, "finish_reason": "tool_calls"}]}).encode()
    assert next(iter(decode_completion(body, tools=TOOLS))) == OutputItemDone(CustomToolCall("patch", "x", "a"))
