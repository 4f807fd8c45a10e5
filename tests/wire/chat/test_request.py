"""Chat requests: what a server is sent for a prompt, and what is said about the rest."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

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
from turnwire.wire.chat.request import EncodedRequest, encode_request

NO_OUTPUT = "No output of this call was recorded."
PIXEL = "data:image/png;base64,AAAA"


def user(*texts):
    return Message("user", [InputText(text) for text in texts])


def developer(text):
    return Message("developer", [InputText(text)])


def assistant(*texts):
    return Message("assistant", [OutputText(text) for text in texts])


def thought(text):
    return Reasoning(content=[ReasoningText(text)])


def call(call_id, name="f"):
    return FunctionCall(name, "{}", call_id)


def output(call_id, text="done"):
    return FunctionCallOutput(call_id, text)


def chat_call(call_id, name="f", arguments="{}"):
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def chat_calls(*call_ids, content=None):
    return {"role": "assistant", "content": content, "tool_calls": [chat_call(call_id) for call_id in call_ids]}


def chat_output(call_id, text="done"):
    return {"role": "tool", "tool_call_id": call_id, "content": text}


def chat_tool(name="f", **fields):
    return {
        "type": "function",
        "function": {"name": name, "parameters": {"type": "object", "properties": {}}, **fields},
    }


def encoded(prompt, dialect=ChatDialect(), **options):  # noqa: B008
    request = encode_request(prompt, model="m", dialect=dialect, **options)
    return json.loads(request.body), request.dropped


def messages(*items, dialect=ChatDialect(), **options):  # noqa: B008
    """The messages of a history that is carried over without loss."""
    body, dropped = encoded(Prompt(items), dialect, **options)
    assert dropped == ()
    return body["messages"]


def fields(dialect=ChatDialect(), **prompt):  # noqa: B008
    """The body for a prompt that is carried over without loss, but for what every body has."""
    body, dropped = encoded(Prompt("hi", **prompt), dialect)
    assert dropped == ()
    return {key: value for key, value in body.items() if key not in ("model", "messages", "stream", "stream_options")}


# The body as a whole.


def test_a_bare_text_is_one_user_message():
    assert encode_request(Prompt("hi"), model="m") == EncodedRequest(
        b'{"model":"m","messages":[{"role":"user","content":"hi"}],"stream":true,"stream_options":{"include_usage":true}}'
    )


def test_a_full_prompt_has_every_field_in_a_fixed_order():
    prompt = Prompt(
        "hi",
        instructions="Be brief.",
        tools=[{"type": "function", "name": "f"}],
        tool_choice="auto",
        parallel_tool_calls=True,
        output_schema={"type": "object"},
        reasoning={"effort": "low"},
        max_output_tokens=9,
        temperature=0.5,
        extra={"seed": 1},
    )
    body, dropped = encoded(prompt)
    assert dropped == ()
    assert list(body.items()) == [
        ("model", "m"),
        ("messages", [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}]),
        ("tools", [chat_tool()]),
        ("tool_choice", "auto"),
        ("parallel_tool_calls", True),
        (
            "response_format",
            {
                "type": "json_schema",
                "json_schema": {"name": "output_schema", "strict": True, "schema": {"type": "object"}},
            },
        ),
        ("reasoning_effort", "low"),
        ("max_tokens", 9),
        ("temperature", 0.5),
        ("stream", True),
        ("stream_options", {"include_usage": True}),
        ("seed", 1),
    ]


def test_extra_wins_over_everything():
    body, _ = encoded(Prompt("hi", temperature=0.5, extra={"temperature": 1, "model": "other", "stream_options": None}))
    assert (body["temperature"], body["model"], body["stream_options"]) == (1, "other", None)


def test_a_request_that_does_not_stream_asks_for_no_stream_options():
    body, _ = encoded(Prompt("hi"), stream=False)
    assert body == {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": False}


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


@pytest.mark.parametrize(
    ("schemas", "sent"),
    [
        (
            "any",
            {
                "$schema": "https://json-schema.org/draft/2020-12/schema",
                "type": "object",
                "properties": {
                    "type": {"type": ["null", "string"], "default": {"additionalProperties": 1}},
                    "$schema": {"anyOf": [{"type": ["integer", "null"], "additionalProperties": False}]},
                },
                "additionalProperties": False,
            },
        ),
        (
            "plain",
            {
                "type": "object",
                "properties": {
                    "type": {"type": "string", "default": {"additionalProperties": 1}},
                    "$schema": {"anyOf": [{"type": "integer"}]},
                },
            },
        ),
    ],
)
def test_schema_keywords_refused_are_removed_for_that_dialect_and_never_for_all(schemas, sent):
    given_schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": {
            "type": {"type": ["null", "string"], "default": {"additionalProperties": 1}},
            "$schema": {"anyOf": [{"type": ["integer", "null"], "additionalProperties": False}]},
        },
        "additionalProperties": False,
    }
    tools = [{"type": "function", "name": "f", "parameters": given_schema}]
    assert fields(ChatDialect(tool_schemas=schemas), tools=tools) == {"tools": [chat_tool(parameters=sent)]}


def test_stream_options_refused_are_left_out():
    body, _ = encoded(Prompt("hi"), ChatDialect(stream_options=False))
    assert body == {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": True}


def test_ids_over_64_characters_refused_become_shorter_ones():
    first, second = messages(call("x" * 65), output("x" * 65), dialect=ChatDialect(call_ids="64"))
    call_id = second["tool_call_id"]
    assert len(call_id) == 64
    assert (first, second) == (chat_calls(call_id), chat_output(call_id))


# The history.


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


# The tools.


@pytest.mark.parametrize("choice", [None, "auto", "none"])
def test_an_empty_list_of_tools_leaves_out_all_that_is_about_tools(choice):
    assert fields(tools=[], tool_choice=choice, parallel_tool_calls=True) == {}


@pytest.mark.parametrize(
    ("tool", "sent"),
    [
        pytest.param(
            {"type": "function", "name": "f", "description": "d", "parameters": {"type": "object"}, "strict": False},
            [chat_tool(description="d", parameters={"type": "object"}, strict=False)],
            id="the Responses form",
        ),
        pytest.param(
            {"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}}},
            [chat_tool(description="d", parameters={"type": "object"})],
            id="the chat form",
        ),
        pytest.param(
            {"type": "function", "name": "f", "description": None, "parameters": None, "strict": None},
            [chat_tool()],
            id="nothing but a name",
        ),
        pytest.param(
            {
                "type": "function",
                "name": "f",
                "parameters": {
                    "properties": {
                        "encrypted": {"type": "string", "encrypted": True},
                        "other": {"items": [{"encrypted": True}], "encrypted": "no"},
                    }
                },
            },
            [
                chat_tool(
                    parameters={
                        "properties": {"encrypted": {"type": "string"}, "other": {"items": [{}], "encrypted": "no"}}
                    }
                )
            ],
            id="the keyword encrypted is removed, a property of that name is not",
        ),
        pytest.param(
            {
                "type": "namespace",
                "name": "mail",
                "description": "All about mail.",
                "tools": [
                    {"type": "function", "name": "read", "description": "Read."},
                    {"type": "custom", "name": "send"},
                ],
            },
            [
                chat_tool("mail__read", description="All mail__ tools: All about mail.\n\nRead."),
                chat_tool(
                    "mail__send",
                    parameters={"type": "object", "properties": {"input": {"type": "string"}}, "required": ["input"]},
                ),
            ],
            id="a namespace is flattened",
        ),
        pytest.param(
            {
                "type": "custom",
                "name": "patch",
                "description": "Edit.",
                "format": {"type": "grammar", "syntax": "lark", "definition": "start: /x/"},
            },
            [
                chat_tool(
                    "patch",
                    description="Edit.\n\nThe input follows this lark grammar:\nstart: /x/",
                    parameters={"type": "object", "properties": {"input": {"type": "string"}}, "required": ["input"]},
                )
            ],
            id="a custom tool is a function of one text",
        ),
        pytest.param(
            {
                "type": "custom",
                "custom": {
                    "name": "patch",
                    "format": {"type": "grammar", "grammar": {"syntax": "regex", "definition": "x"}},
                },
            },
            [
                chat_tool(
                    "patch",
                    description="The input follows this regex grammar:\nx",
                    parameters={"type": "object", "properties": {"input": {"type": "string"}}, "required": ["input"]},
                )
            ],
            id="a custom tool in the chat form",
        ),
        pytest.param(
            {"type": "tool_search", "execution": "client", "description": "Search.", "parameters": {"type": "object"}},
            [chat_tool("tool_search", description="Search.", parameters={"type": "object"})],
            id="the search for tools is a function",
        ),
    ],
)
def test_a_tool_becomes_a_function(tool, sent):
    assert fields(tools=[tool]) == {"tools": sent}


def test_tools_that_the_history_brings_can_be_called():
    tool = {"type": "function", "name": "read"}
    found = {"type": "namespace", "name": "mail", "description": "All about mail.", "tools": [tool]}
    body, dropped = encoded(
        Prompt(
            [
                OtherItem({"type": "additional_tools", "role": "developer", "tools": [tool]}),
                *(ToolSearchCall({}, "client", "a"), ToolSearchOutput([found], "client", "a")),
                *(ToolSearchCall({}, "client", "b"), ToolSearchOutput([found], "client", "b")),
            ],
            tools=[{"type": "function", "name": "f"}],
        )
    )
    assert dropped == ()
    assert body["tools"] == [
        chat_tool("f"),
        chat_tool("read"),
        chat_tool("mail__read", description="All mail__ tools: All about mail."),
    ]
    assert body["messages"][1] == chat_output("a", '{"tools":["mail__read"]}')


@pytest.mark.parametrize(
    ("tool", "complaint"),
    [
        ({"type": "function", "name": ""}, "a tool's name is ''; expected a text that is not empty"),
        ({"type": "function", "function": {}}, "a tool's name is None; expected a text that is not empty"),
        ({"type": "custom", "name": 5}, "a tool's name is 5; expected a text that is not empty"),
        ({"name": "f"}, "a tool is {'name': 'f'}; expected an object with a type"),
        ("f", "a tool is 'f'; expected an object with a type"),
        ({"type": "namespace"}, "a namespace of tools is {'type': 'namespace'}; expected a name and a list of tools"),
        ({"type": "function", "name": "f", "description": 5}, "the description of the tool 'f' is 5; expected a text"),
        (
            {"type": "function", "name": "f", "parameters": []},
            "the parameters of the tool 'f' are []; expected a JSON schema",
        ),
    ],
)
def test_an_invalid_tool_is_named(tool, complaint):
    with pytest.raises(InvalidPrompt) as raised:
        encoded(Prompt("hi", tools=[tool]))
    assert str(raised.value) == complaint


def test_a_schema_that_is_nested_too_deep_is_named():
    schema = {}
    for _ in range(5000):
        schema = {"items": schema}
    with pytest.raises(InvalidPrompt, match="the parameters of the tool 'f' are nested too deep"):
        encoded(Prompt("hi", tools=[{"type": "function", "name": "f", "parameters": schema}]))


@pytest.mark.parametrize(
    ("choice", "sent"),
    [
        ("auto", "auto"),
        ("none", "none"),
        ("required", "required"),
        ("f", "f"),
        ({"type": "function", "name": "f"}, "f"),
        ({"type": "function", "function": {"name": "f"}}, "f"),
        ({"type": "function", "name": "f", "namespace": "ns"}, "ns__f"),
        ({"type": "custom", "name": "patch"}, "patch"),
        ({"type": "custom", "custom": {"name": "patch"}}, "patch"),
        ({"type": "tool_search"}, "tool_search"),
    ],
)
def test_a_tool_choice_is_a_word_or_a_function(choice, sent):
    function = {"type": "function", "name": "f"}
    tools = [
        function,
        {"type": "namespace", "name": "ns", "tools": [function]},
        {"type": "custom", "name": "patch"},
        {"type": "tool_search", "execution": "client"},
    ]
    named = {"type": "function", "function": {"name": sent}}
    assert fields(tools=tools, tool_choice=choice)["tool_choice"] == (choice if choice == sent != "f" else named)


def test_a_tool_choice_that_names_no_tool_is_an_error():
    tools = [{"type": "function", "name": "f"}, {"type": "function", "name": "g"}]
    with pytest.raises(InvalidPrompt) as raised:
        encoded(Prompt("hi", tools=tools, tool_choice="requred"))
    assert str(raised.value) == "tool_choice is 'requred'; expected auto, none, required or one of the tools: f, g"


# The answer.


@pytest.mark.parametrize(
    ("dialect", "prompt", "sent"),
    [
        (ChatDialect(max_tokens_name="max_completion_tokens"), {"max_output_tokens": 5}, {"max_completion_tokens": 5}),
        (ChatDialect(), {"max_output_tokens": 0, "temperature": 0.0}, {"max_tokens": 0, "temperature": 0.0}),
        (ChatDialect(), {"reasoning": {"effort": "low", "summary": None}}, {"reasoning_effort": "low"}),
        (ChatDialect(), {"reasoning": {}}, {}),
        (
            ChatDialect(reasoning_effort="reasoning"),
            {"reasoning": {"effort": "low", "summary": "auto"}},
            {"reasoning": {"effort": "low", "summary": "auto"}},
        ),
    ],
)
def test_the_answer_is_bounded_in_the_dialects_words(dialect, prompt, sent):
    assert fields(dialect, **prompt) == sent


def test_a_schema_for_a_server_that_knows_json_alone_is_told_in_the_system_prompt():
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    body, _ = encoded(
        Prompt("hi", instructions="Be brief.", output_schema=schema), ChatDialect(output_schemas="json_object")
    )
    assert body["response_format"] == {"type": "json_object"}
    assert body["messages"][0] == {
        "role": "system",
        "content": "Be brief.\n\nAnswer with one JSON object that follows this JSON schema, and with nothing else:\n"
        '{"type":"object","properties":{"a":{"type":"string"}}}',
    }


# What can't be carried over.


@pytest.mark.parametrize(
    ("dialect", "prompt", "dropped"),
    [
        ({}, {"tools": [{"type": "web_search"}, {"type": "web_search"}]}, ["tool of type 'web_search'"]),
        ({}, {"tools": [{"type": "tool_search"}]}, ["tool of type 'tool_search'"]),
        (
            {},
            {"tools": [{"type": "function", "name": "f"}, {"type": "function", "name": "f", "description": "d"}]},
            ["earlier definition of the tool 'f'"],
        ),
        ({}, {"tool_choice": "required"}, ["tool_choice, as there are no tools"]),
        (
            {},
            {"tools": [{"type": "function", "name": "f"}], "tool_choice": {"type": "web_search"}},
            ["tool_choice {'type': 'web_search'}"],
        ),
        (
            {"parallel_tool_calls": False},
            {"tools": [{"type": "function", "name": "f"}], "parallel_tool_calls": False},
            ["parallel_tool_calls"],
        ),
        ({}, {"reasoning": {"summary": "auto"}}, ["reasoning.summary"]),
        ({"reasoning_effort": "drop"}, {"reasoning": {"effort": "low"}}, ["reasoning.effort"]),
        ({}, {"input": [WebSearchCall(), WebSearchCall()]}, ["item of type 'web_search_call'"]),
        ({}, {"input": [Compaction("…")]}, ["item of type 'compaction'"]),
        ({}, {"input": [OtherItem({"type": "mcp_call"})]}, ["item of type 'mcp_call'"]),
        ({}, {"input": [OtherItem({"type": "mcp_list", "content": [{}]})]}, ["item of type 'mcp_list'"]),
        ({}, {"input": [output("a"), call("b"), output("b")]}, ["output of the unknown call 'a'"]),
        ({}, {"input": [Message("user", [InputImage(file_id="f")])]}, ["image without an address"]),
        ({}, {"input": [Message("system", [InputImage(PIXEL)])]}, ["image in a message of role 'system'"]),
        ({}, {"input": [Message("assistant", [InputImage(PIXEL)])]}, ["image in a message of role 'assistant'"]),
        ({"reasoning_back": "always"}, {"input": [thought("a"), user("b")]}, ["reasoning without an answer"]),
        (
            {"reasoning_back": "always"},
            {"input": [Reasoning(encrypted_content="…"), assistant("b")]},
            ["encrypted reasoning"],
        ),
    ],
)
def test_nothing_is_dropped_in_silence(dialect, prompt, dropped):
    assert encoded(Prompt(**{"input": "hi"} | prompt), ChatDialect(**dialect))[1] == tuple(dropped)


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
    body, dropped = encoded(Prompt([call("a"), decode_item(fields)]))
    assert dropped == ("content part of type 'input_file'",)
    assert body["messages"][-len(sent) :] == sent


@pytest.mark.parametrize(
    ("prompt", "complaint"),
    [
        (
            Prompt([Message("critic", [])]),
            "a message has the role 'critic'; expected user, assistant, system or developer",
        ),
        (Prompt("hi", extra={"stop": object()}), "the prompt holds a value that JSON can't: "),
        (Prompt("\ud800"), "the prompt holds a value that JSON can't: "),
        (Prompt([FunctionCall("f", "\ud800", "a")]), "the prompt holds a value that JSON can't: "),
    ],
)
def test_what_makes_no_sense_is_an_error(prompt, complaint):
    with pytest.raises(InvalidPrompt) as raised:
        encode_request(prompt, model="m", dialect=ChatDialect(call_ids="mistral"))
    assert str(raised.value).startswith(complaint)


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
