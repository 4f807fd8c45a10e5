"""Chat requests: what a server is sent for a prompt, and what is said about the rest."""

import pytest

from tests.encoding import chat_tool, dropped, encoded, fields
from turnwire.errors import InvalidPrompt
from turnwire.item import CustomToolCall, FunctionCall, WebSearchCall
from turnwire.prompt import Prompt
from turnwire.wire.chat.dialect import ChatDialect
from turnwire.wire.chat.request import EncodedRequest, encode_request


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
    body, named = encoded(prompt)
    assert named == ()
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


def test_stream_options_refused_are_left_out():
    body, _ = encoded(Prompt("hi"), ChatDialect(stream_options=False))
    assert body == {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": True}


@pytest.mark.parametrize("choice", [None, "auto", "none"])
def test_an_empty_list_of_tools_leaves_out_all_that_is_about_tools(choice):
    assert fields(tools=[], tool_choice=choice, parallel_tool_calls=True) == {}


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


NAMED = {"name": "city", "description": "d", "schema": {"type": "object"}}


@pytest.mark.parametrize(
    ("output_schema", "sent"),
    [
        ({"type": "json_object"}, {"type": "json_object"}),
        ({"type": "json_schema", **NAMED}, {"type": "json_schema", "json_schema": NAMED}),
    ],
)
def test_the_form_of_an_answer_may_be_the_apis_own_object(output_schema, sent):
    assert fields(output_schema=output_schema) == {"response_format": sent}


@pytest.mark.parametrize(
    ("output_schema", "told"),
    [
        ({"type": "json_object"}, []),
        (
            {"type": "json_schema", **NAMED},
            [
                {
                    "role": "system",
                    "content": "Answer with one JSON object that follows this JSON schema, and with nothing else:\n"
                    '{"type":"object"}',
                }
            ],
        ),
    ],
)
def test_a_server_that_knows_json_alone_is_told_the_schema_without_its_name(output_schema, told):
    body, _ = encoded(Prompt("hi", output_schema=output_schema), ChatDialect(output_schemas="json_object"))
    assert body["response_format"] == {"type": "json_object"}
    assert body["messages"] == [*told, {"role": "user", "content": "hi"}]


@pytest.mark.parametrize(
    ("dialect", "prompt", "named"),
    [
        ({}, {"tool_choice": "required"}, ["tool_choice, as there are no tools"]),
        (
            {"parallel_tool_calls": False},
            {"tools": [{"type": "function", "name": "f"}], "parallel_tool_calls": False},
            ["parallel_tool_calls"],
        ),
        ({}, {"reasoning": {"summary": "auto"}}, ["reasoning.summary"]),
        ({"reasoning_effort": "drop"}, {"reasoning": {"effort": "low"}}, ["reasoning.effort"]),
        (
            {},
            {"input": [WebSearchCall(), WebSearchCall()], "tools": [{"type": "web_search"}]},
            ["tool of type 'web_search'", "item of type 'web_search_call'"],
        ),
    ],
)
def test_nothing_is_dropped_in_silence(dialect, prompt, named):
    assert dropped(Prompt(**{"input": "hi"} | prompt), ChatDialect(**dialect)) == named


@pytest.mark.parametrize(
    "prompt",
    [
        Prompt("hi", extra={"stop": object()}),
        Prompt("\ud800"),
        Prompt([FunctionCall("f", "\ud800", "\ud800")]),
        Prompt([CustomToolCall("f", "\ud800", "a")]),
    ],
)
def test_a_value_that_json_can_t_hold_is_an_error(prompt):
    with pytest.raises(InvalidPrompt, match="the prompt holds a value that JSON can't: "):
        encode_request(prompt, model="m", dialect=ChatDialect(call_ids="mistral"))
