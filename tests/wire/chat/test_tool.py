"""Tools: what a server is told of them, and what they are called there."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.encoding import chat_output, chat_tool, dropped, encoded, fields
from turnwire.errors import InvalidPrompt
from turnwire.item import CustomToolCall, FunctionCall, OtherItem, ToolSearchCall, ToolSearchOutput
from turnwire.prompt import Prompt
from turnwire.wire.chat.dialect import ChatDialect
from turnwire.wire.chat.request import encode_request
from turnwire.wire.chat.tool import ToolOrigin, Tools, flat_name

LONG = "performance_analyze_insight_of_the_page_that_is_open"


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
            {
                "type": "function",
                "function": {"name": "f", "format": None, "examples": [1]},
                "cache_control": {"type": "ephemeral"},
            },
            [{"cache_control": {"type": "ephemeral"}} | chat_tool(format=None, examples=[1])],
            id="unknown keys in the chat form go along",
        ),
        pytest.param(
            {"type": "custom", "custom": {"name": "f", "parameters": 1}, "function": 2, "cache_control": 3},
            [
                {"cache_control": 3}
                | chat_tool(
                    parameters={"type": "object", "properties": {"input": {"type": "string"}}, "required": ["input"]}
                )
            ],
            id="unknown keys in the chat form change nothing else",
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
    body, named = encoded(
        Prompt(
            [
                OtherItem({"type": "additional_tools", "role": "developer", "tools": [tool]}),
                *(ToolSearchCall({}, "client", "a"), ToolSearchOutput([found], "client", "a")),
                *(ToolSearchCall({}, "client", "b"), ToolSearchOutput([found], "client", "b")),
            ],
            tools=[{"type": "function", "name": "f"}],
        )
    )
    assert named == ()
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
        (
            {"type": "namespace", "name": "", "tools": []},
            "a namespace of tools is {'type': 'namespace', 'name': '', 'tools': []}; "
            "expected a name and a list of tools",
        ),
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
        ({"type": "function", "name": "patch"}, "patch"),
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


@pytest.mark.parametrize(
    ("allowed", "sent"),
    [
        pytest.param(
            {"mode": "required", "tools": [{"type": "function", "name": "f"}, {"type": "custom", "name": "patch"}]},
            {
                "type": "allowed_tools",
                "allowed_tools": {
                    "mode": "required",
                    "tools": [
                        {"type": "function", "function": {"name": "f"}},
                        {"type": "function", "function": {"name": "patch"}},
                    ],
                },
            },
            id="the Responses form",
        ),
        pytest.param(
            {"allowed_tools": {"mode": "auto", "tools": [{"type": "function", "function": {"name": "f"}}]}},
            {
                "type": "allowed_tools",
                "allowed_tools": {"mode": "auto", "tools": [{"type": "function", "function": {"name": "f"}}]},
            },
            id="the chat form",
        ),
        pytest.param({"mode": "auto", "tools": []}, "none", id="none of them"),
    ],
)
def test_a_tool_choice_may_be_among_some_of_the_tools(allowed, sent):
    tools = [{"type": "function", "name": "f"}, {"type": "function", "name": "g"}, {"type": "custom", "name": "patch"}]
    assert fields(tools=tools, tool_choice={"type": "allowed_tools", **allowed})["tool_choice"] == sent


@pytest.mark.parametrize(
    ("tools", "choice", "named"),
    [
        ([{"type": "web_search"}, {"type": "web_search"}], None, ["tool of type 'web_search'"]),
        ([{"type": "tool_search"}], None, ["tool of type 'tool_search'"]),
        (
            [{"type": "namespace", "name": "a", "tools": [{"type": "namespace", "name": "b", "tools": []}]}],
            None,
            ["tool of type 'namespace'"],
        ),
        (
            [{"type": "namespace", "name": "a", "tools": [{"type": "tool_search", "execution": "client"}]}],
            None,
            ["tool of type 'tool_search'"],
        ),
        (
            [{"type": "function", "name": "f"}, {"type": "function", "name": "f", "description": "d"}],
            None,
            ["earlier definition of the tool 'f'"],
        ),
        (
            [
                {"type": "function", "name": "f", "defer_loading": True, "async": False, "allowed_callers": None},
                {"type": "custom", "name": "p", "defer_loading": True, "cache_control": {"type": "ephemeral"}},
                {"type": "tool_search", "execution": "client", "strict": True},
            ],
            None,
            ["tool key 'defer_loading'", "tool key 'cache_control'", "tool key 'strict'"],
        ),
        ([{"type": "function", "name": "f"}], {"type": "web_search"}, ["tool_choice {'type': 'web_search'}"]),
        (
            [{"type": "function", "name": "f"}],
            {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "web_search"}, "f"]},
            ["allowed tool {'type': 'web_search'}"],
        ),
    ],
)
def test_what_a_chat_server_has_no_tools_for_is_named(tools, choice, named):
    assert dropped(Prompt("hi", tools=tools, tool_choice=choice)) == named


# Names.


def test_the_name_of_a_function_leads_back_to_the_tool():
    read = {"type": "function", "name": "read"}
    prompt = Prompt(
        [ToolSearchCall({}, "client", "a"), ToolSearchOutput([{"type": "custom", "name": "patch"}], "client", "a")],
        tools=[
            read,
            {"type": "namespace", "name": "mail", "tools": [read, {"type": "custom", "name": "send"}]},
            {"type": "namespace", "name": "chrome-devtools", "tools": [{"type": "function", "name": LONG}]},
            {"type": "tool_search", "execution": "client"},
            {"type": "web_search"},
        ],
    )
    assert encode_request(prompt, model="m").tools == {
        "read": ToolOrigin("function", "read"),
        "mail__read": ToolOrigin("function", "read", "mail"),
        "mail__send": ToolOrigin("custom", "send", "mail"),
        "chrome-devtools__performance_analyze_insight_of_the_pag_1b0fe01e": ToolOrigin(
            "function", LONG, "chrome-devtools"
        ),
        "tool_search": ToolOrigin("tool_search", "tool_search"),
        "patch": ToolOrigin("custom", "patch"),
    }


def test_two_tools_never_go_by_one_name():
    function, custom = {"type": "function", "name": "c"}, {"type": "custom", "name": "c"}
    prompt = Prompt(
        [
            *(FunctionCall("b__c", "{}", "1", namespace="a"), FunctionCall("c", "{}", "2", namespace="a__b")),
            *(FunctionCall("a__b__c", "{}", "3"), CustomToolCall("c", "", "4"), FunctionCall("c", "{}", "5")),
        ],
        tools=[
            {"type": "namespace", "name": "a__b", "tools": [function]},
            {"type": "namespace", "name": "a", "tools": [{"type": "function", "name": "b__c"}]},
            function,
            custom,
        ],
        tool_choice={"type": "function", "name": "b__c", "namespace": "a"},
    )
    request = encode_request(prompt, model="m")
    assert request.dropped == ()
    assert request.tools == {
        "a__b__c": ToolOrigin("function", "c", "a__b"),
        "a__b__c_5e844bb7": ToolOrigin("function", "b__c", "a"),
        "c": ToolOrigin("function", "c"),
        "c_99001bda": ToolOrigin("custom", "c"),
        "a__b__c_d45149ce": ToolOrigin("function", "a__b__c"),  # called, but not declared
    }
    body = json.loads(request.body)
    assert [tool["function"]["name"] for tool in body["tools"]] == [*request.tools][:4]
    assert body["tool_choice"] == {"type": "function", "function": {"name": "a__b__c_5e844bb7"}}
    sent = [call["function"]["name"] for call in body["messages"][0]["tool_calls"]]
    assert sent == ["a__b__c_5e844bb7", "a__b__c", "a__b__c_d45149ce", "c_99001bda", "c"]


def test_a_function_that_is_called_what_a_tool_would_be_called_is_no_obstacle():
    plain, inner = ToolOrigin("function", "b__c"), ToolOrigin("function", "c", "b")
    tools = Tools(ChatDialect(), [])
    name = [tools.name(plain), tools.name(inner)][1]
    others = Tools(ChatDialect(), [])
    taken = {others.name(plain), others.name(ToolOrigin("function", name))}
    assert taken == {"b__c", name}
    assert others.name(inner) not in taken


@pytest.mark.parametrize(
    ("name", "namespace", "flat"),
    [
        ("f", None, "f"),
        ("f", "", "f"),
        ("f" * 65, None, "f" * 65),
        ("f", "ns", "ns__f"),
        ("f" * 60, "ns", "ns__" + "f" * 60),
        ("f" * 61, "ns", "ns__" + "f" * 51 + "_53ae468a"),
    ],
)
def test_a_name_is_made_longer_by_its_namespace_only_as_far_as_servers_take_it(name, namespace, flat):
    assert flat_name(name, namespace) == flat


@given(st.text(min_size=1), st.text(min_size=1))
def test_a_flat_name_is_never_too_long(name, namespace):
    assert len(flat_name(name, namespace)) <= 64


def test_long_names_that_begin_alike_stay_apart():
    assert flat_name("f" * 80 + "a", "ns") != flat_name("f" * 80 + "b", "ns")
