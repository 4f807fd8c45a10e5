"""Growing calls: which fragment belongs to which, by the reference's rules and by the habits of servers."""

import pytest

from tests.decoding import call
from turnwire.event import OutputItemAdded, OutputItemDone, ToolCallArgumentsDelta
from turnwire.item import FunctionCall
from turnwire.wire.chat.tool_call import GrowingCalls


def grown(*fragments, **options):
    """The calls that fragments of one choice, or of the choice before each, grow into."""
    growing = GrowingCalls(**options)
    for fragment in fragments:
        choice, fragment = fragment if isinstance(fragment, tuple) else (0, fragment)
        growing.take(choice, [fragment], [])
    return [event.item for event in growing.release()]


def whole(name, arguments, call_id, **extra):
    return FunctionCall(name, arguments, call_id, extra=extra)


A, B = whole("f", "12", "a"), whole("g", "34", "b")


@pytest.mark.parametrize(
    ("fragments", "calls"),
    [
        pytest.param(
            [call(0, id="a", name="f", arguments="1"), call(0, arguments="2")], [A], id="by index without an id"
        ),
        pytest.param([call(id="a", name="f", arguments="1"), call(id="a", arguments="2")], [A], id="by a known id"),
        pytest.param(
            [call(0, id="a", name="f", arguments="1"), call(7, id="a", arguments="2")], [A], id="id over index"
        ),
        pytest.param(
            [call(id="a", name="f", arguments="1"), call(arguments="2")], [A], id="with neither, the last one"
        ),
        pytest.param(
            [call(0, name="f", arguments="1"), call(0, id="a", arguments="2")], [A], id="an id that comes later"
        ),
        pytest.param(
            [
                call(0, id="a", name="f", arguments="1"),
                call(1, id="b", name="g", arguments="3"),
                call(0, arguments="2"),
                call(1, arguments="4"),
            ],
            [A, B],
            id="two that alternate by index",
        ),
        pytest.param(
            [
                call(id="a", name="f", arguments="1"),
                call(id="b", name="g", arguments="3"),
                call(id="a", arguments="2"),
                call(arguments=""),
                call(id="b", arguments="4"),
            ],
            [A, B],
            id="two that alternate by id",
        ),
        pytest.param(
            [
                call(0, id="a", name="f", arguments="1"),
                call(0, arguments="2"),
                call(0, id="b", name="g", arguments="3"),
                call(0, arguments="4"),
            ],
            [A, B],
            id="two ids under one index",
        ),
        pytest.param(
            [(0, call(0, name="f", arguments="1")), (1, call(0, name="g", arguments="3")), (0, call(0, arguments="2"))],
            [whole("f", "12", "tool-call-0"), whole("g", "3", "tool-call-1")],
            id="one index in two choices",
        ),
        pytest.param(
            [call(3, name="f"), call(name="", arguments="1"), call(0, name="g")],
            [whole("f", "1", "tool-call-3"), whole("g", "", "tool-call-0")],
            id="an id is made of the slot where none came",
        ),
        pytest.param([call(0, id="a", arguments="1"), call(1, id="b", name="g", arguments="34")], [B], id="no name"),
        pytest.param(
            [call(0, id="a", name="f", arguments="1"), call(0, id="b", name="", arguments="2")],
            [whole("f", "1", "a")],
            id="a new id is a new call, even without a name",
        ),
        pytest.param(
            [call(0, id="a", name="f", arguments="12"), call(0, id="", name=None, arguments=None)],
            [A],
            id="empty and null count as absent",
        ),
        pytest.param(
            [call(0, id="a", name="f", arguments={"x": [1, None]})],
            [whole("f", '{"x":[1,null]}', "a")],
            id="an object is serialised",
        ),
        pytest.param(
            [call(0, id="a", name="f", arguments={}), call(0, id="a", arguments={})],
            [whole("f", "{}", "a")],
            id="an object that is repeated counts once",
        ),
        pytest.param([call(0, id="a", name="f", arguments=True)], [whole("f", "true", "a")], id="true is kept as text"),
        pytest.param([call(0, id="a", name="f", arguments="null")], [whole("f", "null", "a")], id="so is null"),
        pytest.param(
            [call(0, id="a", name="f", arguments="12", extra_content={"google": {"thought_signature": "s"}})],
            [whole("f", "12", "a", extra_content={"google": {"thought_signature": "s"}})],
            id="unknown keys are kept",
        ),
        pytest.param(
            [{"index": 0, "id": "a", "function": None}, {"index": True, "id": 5}, call(-1, name="f", arguments="12")],
            [A],
            id="what has the wrong shape counts as absent",
        ),
    ],
)
def test_fragments_find_their_call(fragments, calls):
    assert grown(*fragments) == calls


@pytest.mark.parametrize("fragments", [None, "text", {"index": 0}, [None, 5, "x", []]])
def test_what_is_no_list_of_objects_means_nothing(fragments):
    growing = GrowingCalls()
    growing.take(0, fragments, [])
    growing.take_legacy(0, fragments if not isinstance(fragments, dict) else None, [])
    assert (list(growing.release()), growing.dropped) == ([], [])


def test_an_id_that_the_conversation_has_used_gets_a_count():
    calls = grown(
        call(0, id="a", name="f"), call(1, name="g"), call(2, id="b", name="h"), taken_ids=["a", "a-2", "tool-call-1"]
    )
    assert calls == [whole("f", "", "a-3"), whole("g", "", "tool-call-1-2"), whole("h", "", "b")]


def test_a_call_that_was_released_is_not_given_again():
    growing = GrowingCalls()
    growing.take(0, [call(0, id="a", name="f", arguments="12")], [])
    assert list(growing.release()) == [OutputItemDone(A)]
    growing.take(0, [call(0, id="a", name="f", arguments="12")], [])
    assert (list(growing.release()), growing.dropped) == ([], [])


def test_an_index_is_used_again_after_its_call_was_released():
    growing = GrowingCalls()
    growing.take(0, [call(0, name="f", arguments="1")], [])
    assert list(growing.release()) == [OutputItemDone(whole("f", "1", "tool-call-0"))]
    growing.take(0, [call(0, name="g"), call(arguments="2")], [])
    assert list(growing.release()) == [OutputItemDone(whole("g", "2", "tool-call-1"))]


def test_a_fragment_with_neither_id_nor_index_behind_a_released_call_begins_another():
    growing = GrowingCalls()
    growing.take(0, [call(id="a", name="f", arguments="12")], [])
    assert list(growing.release()) == [OutputItemDone(A)]
    growing.take(0, [call(name="g", arguments="34")], [])
    assert list(growing.release()) == [OutputItemDone(whole("g", "34", "tool-call-1"))]


def test_only_calls_that_hold_an_object_are_complete():
    growing = GrowingCalls()
    texts = ["{}", '{"a":1}', "[]", "", '{"a":', "[" * 5000]
    growing.take(0, [call(index, id=str(index), name="f", arguments=text) for index, text in enumerate(texts)], [])
    growing.take(0, [call(9, arguments="{}")], [])
    assert list(growing.release_complete()) == [
        OutputItemDone(whole("f", "{}", "0")),
        OutputItemDone(whole("f", '{"a":1}', "1")),
    ]
    assert growing.dropped == ["f", "f", "f", "f", "the unnamed call in slot 9"]


def test_a_watcher_is_told_of_a_call_once_it_has_a_name_and_an_id():
    growing, events = GrowingCalls(watch=True), []
    for fragment in (call(0, id="a", arguments="1"), call(0, name="f"), call(0, arguments="2"), call(0, arguments="")):
        growing.take(0, [fragment], events)
    assert [*events, *growing.release()] == [
        OutputItemAdded(FunctionCall("f", "", "a")),
        ToolCallArgumentsDelta("a", "1"),
        ToolCallArgumentsDelta("a", "2"),
        OutputItemDone(A),
    ]


def test_a_watcher_is_told_of_a_call_without_an_id_when_it_is_done():
    growing, events = GrowingCalls(watch=True), []
    growing.take_legacy(0, {"name": "f", "arguments": "1"}, events)
    assert [*events, *growing.release()] == [
        OutputItemAdded(FunctionCall("f", "", "tool-call-0")),
        ToolCallArgumentsDelta("tool-call-0", "1"),
        OutputItemDone(whole("f", "1", "tool-call-0")),
    ]
