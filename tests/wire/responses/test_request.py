"""Responses requests: a prompt as a body or a frame, and what becomes of its items, tools and choices."""

import json

import pytest

from tests.encoding import call, developer, user
from turnwire.errors import InvalidPrompt
from turnwire.item import (
    Compaction,
    CustomToolCall,
    FunctionCall,
    FunctionCallOutput,
    InputImage,
    InputText,
    Message,
    OtherItem,
    OutputText,
    Reasoning,
    ReasoningText,
    Refusal,
    SummaryText,
    decode_item,
)
from turnwire.prompt import Prompt
from turnwire.wire.chat import encode_request
from turnwire.wire.responses import encode_response_request

HI = [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]}]
BARE = {"model": "m", "input": HI, "store": False}


def fields(prompt, **options):
    """The body of a request, as a server reads it."""
    return json.loads(encode_response_request(prompt, model="m", **options).body)


def sent(*items, **options):
    """The items that a server gets."""
    return fields(Prompt(items), **options)["input"]


def test_a_bare_prompt_is_a_short_request():
    assert fields(Prompt("hi")) == {"stream": True, **BARE}
    assert fields(Prompt("hi"), stream=False) == {"stream": False, **BARE}


def test_over_a_websocket_a_request_is_a_frame_without_stream():
    request = encode_response_request(Prompt("hi", extra={"stream": True}), model="m", generate=False)
    assert json.loads(request.frame) == {"type": "response.create", **BARE, "generate": False}


PROMPTS = {
    "instructions": (Prompt("hi", "Be brief."), {"instructions": "Be brief."}),
    "no instructions": (Prompt("hi", ""), {}),
    "calls": (
        Prompt("hi", tools=[{"type": "function", "name": "f"}], tool_choice="f", parallel_tool_calls=False),
        {
            "tools": [{"type": "function", "name": "f"}],
            "tool_choice": {"type": "function", "name": "f"},
            "parallel_tool_calls": False,
        },
    ),
    "a choice among tools that the history brings": (Prompt("hi", tool_choice="required"), {"tool_choice": "required"}),
    "reasoning": (
        Prompt("hi", reasoning={"effort": "low", "summary": None}),
        {"reasoning": {"effort": "low"}, "include": ["reasoning.encrypted_content"]},
    ),
    "reasoning that is stored": (
        Prompt("hi", reasoning={"effort": "low"}, store=True),
        {"reasoning": {"effort": "low"}, "store": True},
    ),
    "what to include": (
        Prompt("hi", include=("message.output_text.logprobs",)),
        {"include": ["message.output_text.logprobs"]},
    ),
    "nothing to include": (
        Prompt("hi", reasoning={"effort": "low"}, include=()),
        {"reasoning": {"effort": "low"}},
    ),
    "text": (
        Prompt("hi", output_schema={"type": "object"}, verbosity="low"),
        {
            "text": {
                "format": {
                    "type": "json_schema",
                    "name": "output_schema",
                    "strict": True,
                    "schema": {"type": "object"},
                },
                "verbosity": "low",
            }
        },
    ),
    "bounds": (Prompt("hi", max_output_tokens=9, temperature=0.0), {"max_output_tokens": 9, "temperature": 0.0}),
    "conversation": (
        Prompt("hi", prompt_cache_key="k", client_metadata={"a": "b"}, service_tier="flex"),
        {"prompt_cache_key": "k", "client_metadata": {"a": "b"}, "service_tier": "flex"},
    ),
    "extra": (Prompt("hi", extra={"model": "other", "user": "u"}), {"model": "other", "user": "u"}),
}


@pytest.mark.parametrize("case", PROMPTS)
def test_each_part_of_a_prompt_has_its_place(case):
    prompt, expected = PROMPTS[case]
    assert fields(prompt) == {"stream": True, **BARE, **expected}


def test_what_a_session_knows_is_added_and_outranks_the_prompt():
    prompt = Prompt("hi", client_metadata={"a": "1", "x-codex-turn-state": "old"})
    options = {"previous_response_id": "resp_1", "client_metadata": {"x-codex-turn-state": "t"}}
    assert fields(prompt, **options) == {
        "stream": True,
        **BARE,
        "previous_response_id": "resp_1",
        "client_metadata": {"a": "1", "x-codex-turn-state": "t"},
    }


@pytest.mark.parametrize(
    ("asked", "habit", "stored"),
    [(None, False, False), (None, True, True), (True, False, True), (False, True, False)],
)
def test_the_prompt_outranks_the_servers_habit_of_storing(asked, habit, stored):
    assert fields(Prompt("hi", store=asked), store=habit)["store"] is stored


IDS = [
    Message("assistant", [OutputText("a")], id="msg_1"),
    Reasoning(id="rs_1", summary=[SummaryText("s")], encrypted_content="gAAA"),
    FunctionCall("f", "{}", "c1", id="fc_1", status="completed"),
    CustomToolCall("patch", "x", "c2", id="ctc_1"),
    Compaction("gAAA", id="cmp_1"),
]
FOREIGN_IDS = [
    Message("assistant", [OutputText("a")], id="chatcmpl-1"),
    Reasoning(id="reasoning-1"),
    FunctionCall("f", "{}", "c1", id="call_1"),
    CustomToolCall("patch", "x", "c2", id=""),
    Compaction("gAAA", id="1"),
]


def test_only_ids_that_a_responses_server_gave_are_sent_where_nothing_is_stored():
    assert [item.get("id") for item in sent(*IDS)] == ["msg_1", "rs_1", "fc_1", "ctc_1", "cmp_1"]
    assert [item.get("id", "none") for item in sent(*FOREIGN_IDS)] == ["none"] * 5


def test_a_server_that_stores_gets_all_ids():
    assert [item.get("id") for item in sent(*FOREIGN_IDS, store=True)] == [
        "chatcmpl-1",
        "reasoning-1",
        "call_1",
        None,
        "1",
    ]


def test_items_go_as_the_api_has_them():
    assert sent(
        developer("Rules."),
        Message("user", [InputText("look: "), InputImage("data:image/png;base64,AAAA")]),
        Reasoning(content=[ReasoningText("a"), ReasoningText("b")]),
        Message("assistant", [OutputText("hel"), OutputText("lo"), Refusal("no "), Refusal("way")]),
        call("c1"),
        FunctionCallOutput("c1", "done"),
        FunctionCallOutput("c2", [InputText("x"), InputText("y")]),
    ) == [
        {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "Rules."}]},
        {
            "type": "message",
            "role": "user",
            "content": [
                {"type": "input_text", "text": "look: "},
                {"type": "input_image", "image_url": "data:image/png;base64,AAAA"},
            ],
        },
        {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "ab"}]},
        {
            "type": "message",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "hello"}, {"type": "refusal", "refusal": "no way"}],
        },
        {"type": "function_call", "name": "f", "arguments": "{}", "call_id": "c1"},
        {"type": "function_call_output", "call_id": "c1", "output": "done"},
        {
            "type": "function_call_output",
            "call_id": "c2",
            "output": [{"type": "input_text", "text": "x"}, {"type": "input_text", "text": "y"}],
        },
    ]


def test_what_a_server_said_of_an_item_goes_back_to_it():
    item = {
        "type": "message",
        "id": "msg_1",
        "role": "assistant",
        "status": "completed",
        "phase": "final_answer",
        "content": [
            {"type": "output_text", "text": "a", "annotations": [{"type": "url_citation"}]},
            {"type": "output_text", "text": "b", "annotations": []},
        ],
    }
    unknown = {"type": "item_reference", "id": "whatever"}
    assert sent(decode_item(item), OtherItem(unknown)) == [item, unknown]


FUNCTION = {"type": "function", "name": "f", "parameters": {"type": "object"}}
TOOLS = {
    "Responses form": (FUNCTION, FUNCTION),
    "chat form": (
        {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}},
        {**FUNCTION, "strict": False},
    ),
    "chat form that is strict": (
        {"type": "function", "function": {"name": "f", "strict": True}, "x": 1},
        {"type": "function", "name": "f", "strict": True, "x": 1},
    ),
    "custom tool in the chat form": (
        {
            "type": "custom",
            "custom": {
                "name": "patch",
                "format": {"type": "grammar", "grammar": {"syntax": "lark", "definition": "start: /x/"}},
            },
        },
        {
            "type": "custom",
            "name": "patch",
            "format": {"type": "grammar", "syntax": "lark", "definition": "start: /x/"},
        },
    ),
    "custom tool of free text": (
        {"type": "custom", "custom": {"name": "say", "format": {"type": "text"}}},
        {"type": "custom", "name": "say", "format": {"type": "text"}},
    ),
    "hosted tool": ({"type": "web_search"}, {"type": "web_search"}),
}


@pytest.mark.parametrize("case", TOOLS)
def test_tools_are_sent_in_the_responses_form(case):
    definition, expected = TOOLS[case]
    assert fields(Prompt("hi", tools=[definition]))["tools"] == [expected]


ALL_TOOLS = [
    FUNCTION,
    {"type": "custom", "name": "patch"},
    {"type": "namespace", "name": "ns", "tools": [{"type": "function", "name": "g"}]},
    {"type": "web_search"},
]
CHOICES = {
    "auto": ("auto", "auto"),
    "none": ("none", "none"),
    "a function": ("f", {"type": "function", "name": "f"}),
    "a custom tool": ("patch", {"type": "custom", "name": "patch"}),
    "a tool of a namespace": ("g", {"type": "function", "name": "g", "namespace": "ns"}),
    "the API's object": ({"type": "web_search"}, {"type": "web_search"}),
    "chat form": ({"type": "function", "function": {"name": "f"}}, {"type": "function", "name": "f"}),
    "custom in the chat form": ({"type": "custom", "custom": {"name": "patch"}}, {"type": "custom", "name": "patch"}),
    "allowed tools in the chat form": (
        {
            "type": "allowed_tools",
            "allowed_tools": {"mode": "auto", "tools": [{"type": "function", "function": {"name": "f"}}]},
        },
        {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "f"}]},
    ),
}


@pytest.mark.parametrize("case", CHOICES)
def test_a_choice_is_sent_in_the_responses_form(case):
    choice, expected = CHOICES[case]
    assert fields(Prompt("hi", tools=ALL_TOOLS, tool_choice=choice))["tool_choice"] == expected


@pytest.mark.parametrize(
    ("prompt", "sentence"),
    [
        (Prompt("hi", tools=["f"]), "a tool is 'f'; expected an object with a type"),  # type: ignore[list-item]
        (
            Prompt("hi", tools=ALL_TOOLS, tool_choice="any"),
            "tool_choice is 'any'; expected auto, none, required or one of the tools: f, patch, g",
        ),
        (Prompt("hi", extra={"x": object()}), "the prompt holds a value that JSON can't"),
        (Prompt("\ud83d"), "the prompt holds a value that JSON can't"),
    ],
)
def test_a_prompt_that_makes_no_sense_says_so(prompt, sentence):
    for form in ("body", "frame"):
        with pytest.raises(InvalidPrompt) as caught:
            getattr(encode_response_request(prompt, model="m"), form)
        assert str(caught.value).startswith(sentence)


def test_a_conversation_that_grows_keeps_its_beginning_to_the_byte():
    items = [user("hi"), *IDS, FunctionCallOutput("c1", "done")]
    shorter, longer = (encode_response_request(Prompt(some), model="m").body for some in (items[:-1], items))
    assert longer.startswith(shorter[: shorter.index(b'],"store"')])


def test_a_chat_request_names_what_only_the_responses_api_knows():
    prompt = Prompt(
        "hi",
        verbosity="low",
        prompt_cache_key="k",
        client_metadata={"a": "b"},
        store=True,
        include=("x",),
        service_tier="flex",
    )
    names = ("verbosity", "prompt_cache_key", "client_metadata", "store", "include", "service_tier")
    assert encode_request(prompt, model="m").dropped == names
    assert encode_request(Prompt("hi", store=False, include=()), model="m").dropped == ()
