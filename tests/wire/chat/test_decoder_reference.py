"""The reference's own eight tests of its chat stream, with whole lists of events.

Codex at its pull request 9332: https://github.com/openai/codex/pull/9332
"""

from tests.decoding import call, calls, chunk, decode, events_of, message, reasoning
from turnwire.event import Completed, OutputItemDone
from turnwire.item import FunctionCall

FINISH = chunk("tool_calls")
COMPLETED = Completed(finish_reason="tool_calls")


def done(name, arguments, call_id):
    return OutputItemDone(FunctionCall(name, arguments, call_id))


def test_a_done_sentinel_completes_the_stream():
    assert decode([b"event: message\ndata: [DONE]\n\n"]).events == [Completed()]


def test_arguments_are_concatenated_across_deltas():
    events = events_of(
        calls(call(0, id="call_a", name="do_a")),
        calls(call(0, arguments='{ "foo":')),
        calls(call(0, arguments="1}")),
        FINISH,
    )
    assert events == [done("do_a", '{ "foo":1}', "call_a"), COMPLETED]


def test_several_calls_come_in_the_order_in_which_they_appeared():
    events = events_of(
        calls(call(id="call_a", name="do_a", arguments='{"foo":1}')),
        calls(call(id="call_b", name="do_b", arguments='{"bar":2}')),
        FINISH,
    )
    assert events == [done("do_a", '{"foo":1}', "call_a"), done("do_b", '{"bar":2}', "call_b"), COMPLETED]


def test_the_calls_of_several_choices_all_come():
    both = {
        "choices": [
            {"delta": {"tool_calls": [call(0, id=call_id, name=name, arguments="{}")]}, "finish_reason": "tool_calls"}
            for call_id, name in (("call_a", "do_a"), ("call_b", "do_b"))
        ]
    }
    assert events_of(both) == [done("do_a", "{}", "call_a"), done("do_b", "{}", "call_b"), COMPLETED]


def test_a_fragment_without_an_id_goes_by_its_index():
    events = events_of(
        calls(call(0, id="call_a", name="do_a", arguments='{ "foo":')),
        calls(call(0, arguments="1}")),
        FINISH,
    )
    assert events == [done("do_a", '{ "foo":1}', "call_a"), COMPLETED]


def test_an_empty_name_does_not_replace_the_one_that_came():
    events = events_of(
        calls(call(id="call_a", name="do_a")),
        calls(call(id="call_a", name="", arguments="{}")),
        FINISH,
    )
    assert events == [done("do_a", "{}", "call_a"), COMPLETED]


def test_calls_come_beside_text_and_reasoning():
    events = events_of(
        chunk(
            content=[{"text": "hi"}],
            reasoning="because",
            tool_calls=[call(id="call_a", name="do_a", arguments="{}")],
        ),
        FINISH,
    )
    thought, said = reasoning("because"), message("hi")
    assert events == [
        *thought[:-1], *said[:-1],
        thought[-1], done("do_a", "{}", "call_a"), said[-1],
        COMPLETED,
    ]  # fmt: skip


def test_calls_that_a_stop_left_open_are_dropped():
    events = events_of(calls(call(id="call_a", name="do_a", arguments="{}")), chunk("stop"))
    assert events == [Completed(finish_reason="stop")]
