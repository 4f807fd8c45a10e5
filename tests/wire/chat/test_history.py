"""The history of a chat request: items in, messages out."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.encoding import (
    NO_OUTPUT,
    PIXEL,
    assistant,
    call,
    chat_call,
    chat_calls,
    chat_output,
    developer,
    dropped,
    encoded,
    messages,
    output,
    thought,
    user,
)
from turnwire.errors import ApiError, InvalidPrompt
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
)
from turnwire.prompt import Prompt
from turnwire.wire.chat.dialect import PRESETS, ChatDialect
from turnwire.wire.chat.request import encode_request
from turnwire.wire.sealed import seal, sealed_reasoning

# Servers' habits on the way in, each under its own name.


def test_developer_refused_is_system():
    items = (developer("rules"), user("hi"))
    assert messages(*items) == [{"role": "system", "content": "rules"}, {"role": "user", "content": "hi"}]
    assert messages(*items, dialect=ChatDialect(developer_role="developer")) == [
        {"role": "developer", "content": "rules"},
        {"role": "user", "content": "hi"},
    ]


def test_calls_spread_over_several_assistant_messages_refused_are_one_message_with_all_calls_then_all_outputs():
    assert messages(user("go"), assistant("I ", "will."), call("a"), call("b"), output("a", "1"), output("b", "2")) == [
        {"role": "user", "content": "go"},
        chat_calls("a", "b", content="I will."),
        chat_output("a", "1"),
        chat_output("b", "2"),
    ]


@pytest.mark.parametrize(
    ("back", "with_call", "with_text"),
    [("drop", False, False), ("calls", True, False), ("always", True, True)],
)
def test_reasoning_content_must_come_back_with_tool_calls_where_the_dialect_says_so(back, with_call, with_text):
    dialect = ChatDialect(reasoning_back=back, reasoning_name="reasoning_content")
    call_message, _, text_message = messages(
        *(thought("why"), call("a"), output("a"), thought("so"), assistant("done")), dialect=dialect
    )
    assert call_message == chat_calls("a") | ({"reasoning_content": "why"} if with_call else {})
    assert text_message == {"role": "assistant", "content": "done"} | ({"reasoning_content": "so"} if with_text else {})


def test_no_user_after_tool_puts_an_assistant_between():
    items = (call("a"), output("a"), user("next"))
    between = {"role": "assistant", "content": "I have the output."}
    plain = [chat_calls("a"), chat_output("a"), {"role": "user", "content": "next"}]
    assert messages(*items) == plain
    assert messages(*items, dialect=ChatDialect(user_after_tool="refused")) == [*plain[:2], between, plain[2]]


def test_ids_of_exactly_9_alphanumerics_name_call_and_output_alike():
    first, second, *_ = messages(call("call_0"), output("call_0"), dialect=ChatDialect(call_ids="mistral"))
    assert (first, second) == (chat_calls("c557a85a0"), chat_output("c557a85a0"))


def test_ids_over_64_characters_refused_become_shorter_ones():
    first, second = messages(call("x" * 65), output("x" * 65), dialect=ChatDialect(call_ids="64"))
    call_id = second["tool_call_id"]
    assert len(call_id) == 64
    assert (first, second) == (chat_calls(call_id), chat_output(call_id))


# Items and messages.


@pytest.mark.parametrize(
    ("items", "sent"),
    [
        pytest.param(
            [call("a"), call("b"), output("b", "2"), output("a", "1")],
            [chat_calls("a", "b"), chat_output("a", "1"), chat_output("b", "2")],
            id="outputs stand in the order of their calls",
        ),
        pytest.param(
            [call("a"), output("a"), call("b"), output("b")],
            [chat_calls("a"), chat_output("a"), chat_calls("b"), chat_output("b")],
            id="an answered call ends its message",
        ),
        pytest.param(
            [call("a"), user("hurry"), call("b"), output("a", "late"), call("c"), output("c"), output("b")],
            [
                chat_calls("a"),
                chat_output("a", "late"),
                {"role": "user", "content": "hurry"},
                chat_calls("b", "c"),
                chat_output("b"),
                chat_output("c"),
            ],
            id="a late output goes behind its call",
        ),
        pytest.param(
            [output("a", "early"), user("hi"), call("a")],
            [{"role": "user", "content": "hi"}, chat_calls("a"), chat_output("a", "early")],
            id="an early output goes behind its call",
        ),
        pytest.param(
            [call("a"), call("b"), output("b"), user("stop")],
            [chat_calls("a", "b"), chat_output("a", NO_OUTPUT), chat_output("b"), {"role": "user", "content": "stop"}],
            id="a call without an output gets one that says so",
        ),
        pytest.param(
            [call("call_0"), output("call_0", "1"), call("call_0"), output("call_0", "2")],
            [chat_calls("call_0"), chat_output("call_0", "1"), chat_calls("call_0-2"), chat_output("call_0-2", "2")],
            id="an id that comes back in every round is made unique",
        ),
        pytest.param(
            [call("x"), user("stop"), call("x"), call("x"), output("x", "1"), output("x", "2")],
            [
                chat_calls("x"),
                chat_output("x", NO_OUTPUT),
                {"role": "user", "content": "stop"},
                chat_calls("x-2", "x-3"),
                chat_output("x-2", "1"),
                chat_output("x-3", "2"),
            ],
            id="an output answers the latest message's oldest open call",
        ),
        pytest.param(
            [call(""), call(""), output("", "1"), output("", "2")],
            [chat_calls("call", "call-2"), chat_output("call", "1"), chat_output("call-2", "2")],
            id="calls without ids get some",
        ),
        pytest.param(
            [call("a"), assistant("Looking."), output("a")],
            [chat_calls("a", content="Looking."), chat_output("a")],
            id="text behind its calls is in their message",
        ),
        pytest.param(
            [assistant("One."), assistant(), assistant("Two.")],
            [{"role": "assistant", "content": "One.\n\nTwo."}],
            id="texts next to each other are one message",
        ),
        pytest.param([assistant()], [{"role": "assistant", "content": ""}], id="an empty answer stays"),
        pytest.param(
            [FunctionCall("f", " ", "a"), output("a", "")],
            [chat_calls("a"), chat_output("a", "")],
            id="no arguments are an empty object",
        ),
        pytest.param(
            [FunctionCall("f", '{"a":', "a"), output("a")],
            [
                {"role": "assistant", "content": None, "tool_calls": [chat_call("a", "f", '{"a":')]},
                chat_output("a"),
            ],
            id="broken arguments stay as they came",
        ),
        pytest.param(
            [FunctionCall("f", "{}", "a", extra={"extra_content": {"google": 1}, "id": "other"}), output("a")],
            [
                {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [{"extra_content": {"google": 1}} | chat_call("a")],
                },
                chat_output("a"),
            ],
            id="unknown keys of a call go back and change nothing else",
        ),
        pytest.param(
            [
                decode_item(
                    {
                        "type": "custom_tool_call",
                        "name": "f",
                        "input": "",
                        "call_id": "a",
                        "status": "completed",
                        "caller": None,
                        "thought_signature": "s",
                    }
                ),
                output("a"),
            ],
            [
                {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [{"thought_signature": "s"} | chat_call("a", arguments='{"input":""}')],
                },
                chat_output("a"),
            ],
            id="a call of any kind keeps its unknown keys, but for those that are null",
        ),
        pytest.param(
            [
                FunctionCall("f", "{}", "a", namespace="ns"),
                CustomToolCall("patch", "*** Begin", "b"),
                CustomToolCall("exec", "ls", "c", namespace="functions"),
                LocalShellCall({"type": "exec", "command": ["ls"]}, "d"),
                ToolSearchCall({"query": "mail"}, "client", "e"),
                output("a"),
                CustomToolCallOutput("b", "ok"),
                CustomToolCallOutput("c", "ok"),
                output("d"),
                ToolSearchOutput([], "client", "e"),
            ],
            [
                {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [
                        chat_call("a", "ns__f"),
                        chat_call("b", "patch", '{"input":"*** Begin"}'),
                        chat_call("c", "functions__exec", '{"input":"ls"}'),
                        chat_call("d", "local_shell", '{"type":"exec","command":["ls"]}'),
                        chat_call("e", "tool_search", '{"query":"mail"}'),
                    ],
                },
                chat_output("a"),
                chat_output("b", "ok"),
                chat_output("c", "ok"),
                chat_output("d"),
                chat_output("e", '{"tools":[]}'),
            ],
            id="calls of every kind are function calls",
        ),
        pytest.param(
            [user("one", "two")],
            [{"role": "user", "content": "one\ntwo"}],
            id="text parts are one text",
        ),
        pytest.param(
            [Message("user", [InputText("see"), InputText(""), InputImage(PIXEL, "original"), InputImage("http://i")])],
            [
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "see"},
                        {"type": "image_url", "image_url": {"url": PIXEL, "detail": "high"}},
                        {"type": "image_url", "image_url": {"url": "http://i"}},
                    ],
                }
            ],
            id="an image makes the content a list",
        ),
        pytest.param(
            [
                call("a"),
                call("b"),
                FunctionCallOutput("a", [InputText("seen"), InputImage(PIXEL, "low"), InputText("twice")]),
                FunctionCallOutput("b", [InputImage(PIXEL)]),
            ],
            [
                chat_calls("a", "b"),
                chat_output("a", "seen\ntwice"),
                chat_output("b", "The output is shown below."),
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "Output of the tool call a:"},
                        {"type": "image_url", "image_url": {"url": PIXEL, "detail": "low"}},
                        {"type": "text", "text": "Output of the tool call b:"},
                        {"type": "image_url", "image_url": {"url": PIXEL}},
                    ],
                },
            ],
            id="images of outputs follow after all the outputs",
        ),
    ],
)
def test_a_history_becomes_messages(items, sent):
    assert messages(*items) == sent


def test_a_prompt_that_grows_keeps_its_beginning():
    items = [user("go"), call("x"), output("x"), call("x"), output("x"), assistant("done"), user("more"), call("x")]
    whole = messages(*items, output("x"))
    for end in (1, 3, 5, 6, 7):
        part = messages(*items[:end])
        assert whole[: len(part)] == part


def test_system_messages_merged_are_one_at_the_front_and_part_no_calls():
    items = (user("hi"), developer("one"), call("a"), Message("system", [InputText("two")]), call("b"))
    body, _ = encoded(Prompt(items, instructions="zero"), ChatDialect(system_messages="merged"))
    assert body["messages"] == [
        {"role": "system", "content": "zero\n\none\n\ntwo"},
        {"role": "user", "content": "hi"},
        chat_calls("a", "b"),
        chat_output("a", NO_OUTPUT),
        chat_output("b", NO_OUTPUT),
    ]


@pytest.mark.parametrize(
    ("refusals", "content", "sent"),
    [
        ("content", [Refusal("No.")], {"content": "No."}),
        ("content", [OutputText("Well."), Refusal("No.")], {"content": "Well.\n\nNo."}),
        ("refusal", [Refusal("No.")], {"content": None, "refusal": "No."}),
        ("refusal", [OutputText("Well."), Refusal("No.")], {"content": "Well.", "refusal": "No."}),
    ],
)
def test_a_refusal_goes_back_where_the_server_looks_for_it(refusals, content, sent):
    assert messages(Message("assistant", content), dialect=ChatDialect(refusals=refusals)) == [
        {"role": "assistant", **sent}
    ]


@pytest.mark.parametrize(
    ("name", "items", "sent"),
    [
        ("reasoning", [thought("a"), thought("b"), assistant("c")], {"content": "c", "reasoning": "a\n\nb"}),
        (
            "reasoning_content",
            [Reasoning(summary=[SummaryText("s")]), assistant("c")],
            {"content": "c", "reasoning_content": "s"},
        ),
        ("reasoning_content", [Reasoning(), assistant("c")], {"content": "c"}),
        (
            "thinking",
            [thought("a"), assistant("c")],
            {
                "content": [
                    {"type": "thinking", "thinking": [{"type": "text", "text": "a"}]},
                    {"type": "text", "text": "c"},
                ]
            },
        ),
        (
            "thinking",
            [thought("a"), assistant()],
            {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "a"}]}]},
        ),
        (
            "reasoning_details",
            [Reasoning("", [SummaryText("s")], [ReasoningText("a")], "enc"), assistant("c")],
            {
                "content": "c",
                "reasoning_details": [
                    {"type": "reasoning.text", "text": "a"},
                    {"type": "reasoning.encrypted", "data": "enc"},
                ],
            },
        ),
        (
            "reasoning_details",
            [Reasoning("", [SummaryText("s")]), assistant("c")],
            {"content": "c", "reasoning_details": [{"type": "reasoning.summary", "summary": "s"}]},
        ),
        ("reasoning_details", [Reasoning(), assistant("c")], {"content": "c"}),
    ],
)
def test_reasoning_goes_back_under_its_name(name, items, sent):
    dialect = ChatDialect(reasoning_back="always", reasoning_name=name)
    assert messages(*items, dialect=dialect) == [{"role": "assistant", **sent}]


def test_the_name_that_the_server_uses_outranks_the_dialects():
    dialect = ChatDialect(reasoning_back="always", reasoning_name="reasoning")
    assert messages(thought("a"), assistant("b"), dialect=dialect, reasoning_name="reasoning_content") == [
        {"role": "assistant", "content": "b", "reasoning_content": "a"}
    ]


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("reasoning_content", {"reasoning_content": "why"}),
        ("reasoning_details", {"reasoning_details": [{"type": "reasoning.text", "text": "why"}]}),
    ],
)
def test_reasoning_that_was_sealed_goes_back_in_the_clear(name, field):
    sealed = sealed_reasoning(thought("why"))
    dialect = ChatDialect(reasoning_back="always", reasoning_name=name)
    for item in (sealed, msgspec.structs.replace(sealed, content=None)):
        assert messages(item, assistant("so"), dialect=dialect) == [{"role": "assistant", "content": "so", **field}]


def test_a_summary_that_was_sealed_is_what_the_model_is_told_of_the_conversation():
    assert messages(assistant("a"), Compaction(seal("compaction", "They said hi.")), assistant("b")) == [
        {"role": "assistant", "content": "a"},
        {"role": "user", "content": "The conversation so far was replaced by this summary of it:\n\nThey said hi."},
        {"role": "assistant", "content": "b"},
    ]


# What can't be carried over.


@pytest.mark.parametrize(
    ("items", "named"),
    [
        ([WebSearchCall(), WebSearchCall()], ["item of type 'web_search_call'"]),
        ([Compaction("…")], ["item of type 'compaction'"]),
        ([Compaction(seal("reasoning", "why"))], ["item of type 'compaction'"]),
        ([OtherItem({"type": "mcp_call"})], ["item of type 'mcp_call'"]),
        ([OtherItem({"type": "mcp_list", "content": [{}]})], ["item of type 'mcp_list'"]),
        ([output("a"), call("b"), output("b")], ["output of the unknown call 'a'"]),
        ([Message("user", [InputImage(file_id="f")])], ["image without an address"]),
        ([Message("system", [InputImage(PIXEL)])], ["image in a message of role 'system'"]),
        ([Message("assistant", [InputImage(PIXEL)])], ["image in a message of role 'assistant'"]),
        (
            [
                Message(
                    "assistant",
                    [OutputText("a", extra={"annotations": [], "logprobs": [1]})],
                    extra={"phase": "commentary", "status": "completed", "note": None},
                )
            ],
            ["key 'phase' of a message", "key 'logprobs' of a message"],
        ),
        (
            [call("a"), FunctionCallOutput("a", [InputText("b", extra={"cache_control": {"type": "ephemeral"}})])],
            ["key 'cache_control' of a function_call_output"],
        ),
        ([Reasoning(extra={"id": "r", "status": "completed"})], []),
    ],
)
def test_what_has_no_place_in_a_message_is_named(items, named):
    assert dropped(Prompt(items)) == named


@pytest.mark.parametrize(
    ("items", "named"),
    [
        ([thought("a"), user("b")], ["reasoning without an answer"]),
        ([Reasoning(encrypted_content="…"), assistant("b")], ["encrypted reasoning"]),
    ],
)
def test_reasoning_that_should_go_back_and_can_t_is_named(items, named):
    assert dropped(Prompt(items), ChatDialect(reasoning_back="always")) == named


@pytest.mark.parametrize(
    ("item", "complaint"),
    [
        (Message("critic", []), "a message has the role 'critic'; expected user, assistant, system or developer"),
        ({"role": "user", "content": "hi"}, "an item is a dict; expected a ResponseItem: see decode_item"),
    ],
)
def test_an_item_that_makes_no_sense_is_an_error(item, complaint):
    with pytest.raises(InvalidPrompt) as raised:
        encode_request(Prompt([item]), model="m")
    assert str(raised.value) == complaint


@pytest.mark.parametrize(
    ("fields", "sent"),
    [
        (
            {"role": "user", "content": [{"type": "input_file"}, {"type": "input_text", "text": "Read this."}]},
            [{"role": "user", "content": "Read this."}],
        ),
        ({"type": "function_call_output", "call_id": "a", "output": [{"type": "input_file"}]}, [chat_output("a", "")]),
    ],
)
def test_a_part_that_is_unknown_does_not_take_the_rest_with_it(fields, sent):
    body, named = encoded(Prompt([call("a"), decode_item(fields)]))
    assert named == ("content part of type 'input_file'",)
    assert body["messages"][-len(sent) :] == sent


# Any history whatever.

texts = st.text(max_size=3)
call_ids = st.sampled_from(["", "call_0", "call_1", "x" * 65])
images = st.builds(InputImage, st.sampled_from([None, PIXEL]), st.sampled_from([None, "original"]))
parts = st.lists(
    st.builds(InputText, texts) | images | st.builds(OutputText, texts) | st.builds(Refusal, texts), max_size=3
)
outputs = texts | parts
objects = st.dictionaries(texts, texts, max_size=2)
definitions = st.sampled_from(
    [{"type": "function", "name": "f"}, {"type": "web_search"}, {"type": "custom", "name": "c"}]
)
items = st.one_of(
    st.builds(Message, st.sampled_from(["user", "assistant", "system", "developer"]), parts),
    st.builds(
        Reasoning,
        content=st.none() | st.lists(st.builds(ReasoningText, texts), max_size=2),
        encrypted_content=st.none() | texts,
    ),
    st.builds(FunctionCall, texts, texts, call_ids, extra=objects),
    st.builds(FunctionCallOutput, call_ids, outputs),
    st.builds(CustomToolCall, texts, texts, call_ids),
    st.builds(CustomToolCallOutput, call_ids, outputs),
    st.builds(LocalShellCall, objects, st.none() | call_ids),
    st.builds(WebSearchCall),
    st.builds(ToolSearchCall, objects, call_id=st.none() | call_ids),
    st.builds(ToolSearchOutput, st.lists(definitions, max_size=2), call_id=st.none() | call_ids),
    st.builds(Compaction, texts),
    st.builds(OtherItem, objects | st.fixed_dictionaries({"role": texts, "content": st.lists(objects, max_size=2)})),
)
dialects = st.sampled_from(sorted(PRESETS)).map(ChatDialect.preset)


@given(st.lists(items, max_size=12), dialects)
def test_in_any_history_tool_messages_follow_the_message_that_holds_their_calls(history, dialect):
    try:
        request = encode_request(Prompt(history), model="m", dialect=dialect)
    except ApiError:
        return
    seen, expected = set(), []
    previous = None
    for message in msgspec.json.decode(request.body)["messages"]:
        if message["role"] == "tool":
            assert message["tool_call_id"] == expected.pop(0)
        else:
            assert expected == []
            assert (previous, message["role"], dialect.user_after_tool) != ("tool", "user", "refused")
            assert message["content"] is not None or message.keys() & {"tool_calls", "refusal"}
            expected = [call["id"] for call in message.get("tool_calls", ())]
            assert seen.isdisjoint(expected)
            seen.update(expected)
        previous = message["role"]
    assert expected == []
    assert len(seen) == sum(
        isinstance(item, FunctionCall | CustomToolCall | LocalShellCall | ToolSearchCall) for item in history
    )
