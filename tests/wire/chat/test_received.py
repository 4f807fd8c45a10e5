"""Requests of chat clients: what they become, what they lose, and what is refused."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.encoding import assistant, call, chat_call, chat_tool, developer, output, thought, user
from turnwire.errors import InvalidPrompt
from turnwire.item import (
    CustomToolCall,
    CustomToolCallOutput,
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
)
from turnwire.prompt import Prompt
from turnwire.wire.chat import ChatDialect, ReceivedChatRequest, decode_chat_request, encode_request
from turnwire.wire.responses import encode_response_request

HI = {"role": "user", "content": "hi"}
SCHEMA = {"type": "object", "properties": {}}


def received(**fields):
    return decode_chat_request({"model": "m", "messages": [HI], **fields})


def items(*messages):
    request = received(messages=list(messages))
    assert request.dropped == ()
    return list(request.prompt.items)


def test_a_request_becomes_a_prompt():
    fields = {
        "model": "gpt",
        "messages": [{"role": "system", "content": "Be brief."}, HI],
        "tools": [chat_tool("f")],
        "tool_choice": {"type": "function", "function": {"name": "f"}},
        "parallel_tool_calls": False,
        "reasoning_effort": "low",
        "max_completion_tokens": 9,
        "temperature": 0.5,
        "top_p": 0.9,
        "verbosity": "low",
        "prompt_cache_key": "k",
        "service_tier": "flex",
        "store": True,
        "metadata": {"a": "b"},
        "user": "u",
        "stream": True,
        "stream_options": {"include_usage": True, "include_obfuscation": False},
    }
    assert decode_chat_request(fields) == ReceivedChatRequest(
        model="gpt",
        prompt=Prompt(
            [Message("system", [InputText("Be brief.")]), user("hi")],
            tools=[chat_tool("f")],
            tool_choice={"type": "function", "function": {"name": "f"}},
            parallel_tool_calls=False,
            reasoning={"effort": "low"},
            max_output_tokens=9,
            temperature=0.5,
            extra={"top_p": 0.9, "user": "u", "metadata": {"a": "b"}},
            verbosity="low",
            prompt_cache_key="k",
            store=True,
            include=(),
            service_tier="flex",
        ),
        fields=fields,
        stream=True,
        include_usage=True,
    )


def test_nulls_and_neutral_values_ask_for_nothing():
    neutral = {
        "n": 1,
        "frequency_penalty": 0,
        "presence_penalty": 0.0,
        "logprobs": False,
        "logit_bias": {},
        "modalities": ["text"],
        "stop": [],
        "seed": None,
        "audio": None,
        "response_format": {"type": "text"},
        "stream": None,
        "stream_options": None,
        "tools": None,
        "reasoning": {"max_tokens": None},
    }
    assert received(**neutral) == ReceivedChatRequest(
        "m", Prompt([user("hi")], include=()), {"model": "m", "messages": [HI], **neutral}
    )


CALLING = {
    "role": "assistant",
    "content": None,
    "tool_calls": [chat_call("c1"), {"id": "c2", "type": "custom", "custom": {"name": "patch", "input": "*** x"}}],
}


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ([{"role": "developer", "content": "a"}], [developer("a")]),
        (
            [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}],
            [user("a", "b")],
        ),
        ([{"role": "user", "content": ""}], [user("")]),
        (
            [
                {
                    "role": "user",
                    "content": [
                        {"type": "image_url", "image_url": {"url": "data:,a", "detail": "low"}},
                        {"type": "image_url", "image_url": {"url": "http://b", "detail": None}},
                        {"type": "image_url", "image_url": "http://c"},
                    ],
                }
            ],
            [
                Message(
                    "user",
                    [
                        InputImage(image_url="data:,a", detail="low"),
                        InputImage(image_url="http://b"),
                        InputImage(image_url="http://c"),
                    ],
                )
            ],
        ),
        (
            [{"role": "user", "content": [{"type": "file", "file": {"file_id": "file-1", "file_data": None}}]}],
            [OtherItem({"type": "message", "role": "user", "content": [{"type": "input_file", "file_id": "file-1"}]})],
        ),
        ([{"role": "assistant", "content": "a"}], [assistant("a")]),
        ([{"role": "assistant", "content": ""}], []),
        ([{"role": "assistant"}], []),
        (
            [{"role": "assistant", "content": [{"type": "text", "text": "a"}, {"type": "refusal", "refusal": "no"}]}],
            [Message("assistant", [OutputText("a"), Refusal("no")])],
        ),
        ([{"role": "assistant", "content": None, "refusal": "no"}], [Message("assistant", [Refusal("no")])]),
        (
            # As the SDK's `message.model_dump()` has it.
            [
                {
                    "role": "assistant",
                    "content": "a",
                    "refusal": None,
                    "annotations": [],
                    "audio": None,
                    "function_call": None,
                    "tool_calls": None,
                }
            ],
            [assistant("a")],
        ),
        (
            [{"role": "assistant", "reasoning_content": "hm", "content": "a", "tool_calls": [chat_call("c")]}],
            [thought("hm"), assistant("a"), call("c")],
        ),
        (
            [{"role": "assistant", "reasoning": "hm", "reasoning_content": "hm", "content": "a"}],
            [thought("hm"), assistant("a")],
        ),
        (
            [{"role": "assistant", "reasoning": "hm", "reasoning_content": "so", "content": "a"}],
            [Reasoning(content=[ReasoningText("hm"), ReasoningText("so")]), assistant("a")],
        ),
        (
            [
                CALLING,
                {"role": "tool", "tool_call_id": "c2", "content": "ok"},
                {"role": "tool", "tool_call_id": "c1", "name": "f", "content": [{"type": "text", "text": "done"}]},
            ],
            [
                call("c1"),
                CustomToolCall("patch", "*** x", "c2"),
                CustomToolCallOutput("c2", "ok"),
                FunctionCallOutput("c1", [InputText("done")]),
            ],
        ),
        (
            # A server that counts its calls anew in every round.
            [
                CALLING,
                {"role": "assistant", "tool_calls": [chat_call("c2")]},
                {"role": "tool", "tool_call_id": "c2", "content": "done"},
            ],
            [call("c1"), CustomToolCall("patch", "*** x", "c2"), call("c2"), output("c2")],
        ),
        (
            [{"role": "assistant", "tool_calls": [{**chat_call("c"), "index": 0, "signature": "s", "other": None}]}],
            [FunctionCall("f", "{}", "c", extra={"signature": "s"})],
        ),
        (
            [
                HI,
                {"role": "assistant", "function_call": {"name": "f", "arguments": "{}"}},
                {"role": "function", "name": "f", "content": "done"},
                {"role": "assistant", "function_call": {"name": "f", "arguments": "{}"}},
                {"role": "function", "name": "f", "content": None},
            ],
            [
                user("hi"),
                call("function_call_1"),
                output("function_call_1"),
                call("function_call_3"),
                output("function_call_3", ""),
            ],
        ),
    ],
)
def test_messages_become_items(messages, expected):
    assert items(*messages) == expected


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"stop": "\n"}, ["stop"]),
        ({"seed": 0, "logit_bias": {"1": 2}, "top_k": 3}, ["seed", "logit_bias", "parameter 'top_k'"]),
        ({"n": 1, "logprobs": True, "top_logprobs": 2}, ["logprobs", "top_logprobs"]),
        ({"modalities": ["text", "audio"], "audio": {"voice": "a"}}, ["modalities", "audio"]),
        ({"reasoning": {"effort": "low", "max_tokens": 9}}, ["parameter 'reasoning.max_tokens'"]),
        ({"response_format": {"type": "regex", "regex": "a"}}, ["response_format of type 'regex'"]),
        ({"messages": [{**HI, "name": "Ada"}]}, ["key 'name' of a message of role 'user'"]),
        (
            {"messages": [{"role": "assistant", "audio": {"id": "a"}, "content": [{"type": "thinking"}]}]},
            ["content part of type 'thinking'", "key 'audio' of a message of role 'assistant'"],
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "a", "cache_control": {}}] * 2}]},
            ["key 'cache_control' of a content part"],
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "input_audio"}]}]},
            ["content part of type 'input_audio'"],
        ),
    ],
)
def test_nothing_is_dropped_in_silence(fields, named):
    assert list(received(**fields).dropped) == named


def asked_of_responses(**fields):
    """What a Responses server is asked, but for what is the same in every request."""
    request = encode_response_request(received(**fields).prompt, model="m")
    return {key: value for key, value in request.fields.items() if key not in ("model", "input", "store")}


@pytest.mark.parametrize(
    ("fields", "asked"),
    [
        ({"max_tokens": 5}, {"max_output_tokens": 5}),
        ({"max_tokens": 5, "max_completion_tokens": 7}, {"max_output_tokens": 7}),
        ({"reasoning_effort": "low"}, {"reasoning": {"effort": "low"}}),
        (
            {"reasoning": {"effort": "high", "summary": "auto"}, "reasoning_effort": "low"},
            {"reasoning": {"effort": "low", "summary": "auto"}},
        ),
        ({"response_format": {"type": "json_object"}}, {"text": {"format": {"type": "json_object"}}}),
        (
            {
                "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA}},
                "verbosity": "low",
            },
            {
                "text": {
                    "format": {"type": "json_schema", "name": "n", "schema": SCHEMA, "strict": False},
                    "verbosity": "low",
                }
            },
        ),
        ({"verbosity": "low"}, {"text": {"verbosity": "low"}}),
        (
            {"tools": [chat_tool("f"), {"type": "custom", "custom": {"name": "g"}}], "tool_choice": "required"},
            {
                "tools": [
                    {"type": "function", "name": "f", "parameters": SCHEMA, "strict": False},
                    {"type": "custom", "name": "g"},
                ],
                "tool_choice": "required",
            },
        ),
        (
            {"tool_choice": {"type": "function", "function": {"name": "f"}}, "tools": [chat_tool("f")]},
            {
                "tools": [{"type": "function", "name": "f", "parameters": SCHEMA, "strict": False}],
                "tool_choice": {"type": "function", "name": "f"},
            },
        ),
        (
            {"functions": [{"name": "f", "parameters": SCHEMA}], "function_call": {"name": "f"}},
            {
                "tools": [{"type": "function", "name": "f", "parameters": SCHEMA, "strict": False}],
                "tool_choice": {"type": "function", "name": "f"},
                "parallel_tool_calls": False,
            },
        ),
        (
            {"functions": [{"name": "f"}], "function_call": "none", "parallel_tool_calls": True},
            {
                "tools": [{"type": "function", "name": "f", "strict": False}],
                "tool_choice": "none",
                "parallel_tool_calls": False,
            },
        ),
    ],
)
def test_the_fields_reach_a_responses_server_in_its_own_words(fields, asked):
    assert asked_of_responses(**fields) == asked


@pytest.mark.parametrize(
    ("fields", "legacy"),
    [
        ({}, False),
        ({"functions": []}, False),
        ({"functions": [{"name": "f"}]}, True),
        ({"functions": [{"name": "f"}], "tools": [chat_tool("g")]}, False),
    ],
)
def test_a_client_that_declares_functions_alone_knows_only_the_call_of_old(fields, legacy):
    assert received(**fields).legacy_calls is legacy


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"model": None}, "model is null; expected a text"),
        ({"messages": []}, "messages is empty; expected at least one message"),
        ({"messages": {}}, "messages is an object; expected a list"),
        ({"messages": ["hi"]}, "messages[0] is a text; expected an object"),
        (
            {"messages": [HI, {"content": "x"}]},
            "messages[1].role is missing; expected one of system, developer, user, assistant, tool, function",
        ),
        (
            {"messages": [{"role": "bot", "content": "x"}]},
            "messages[0].role is 'bot'; expected one of system, developer, user, assistant, tool, function",
        ),
        ({"messages": [{"role": "user"}]}, "messages[0].content is missing; it must be given"),
        ({"messages": [{"role": "user", "content": None}]}, "messages[0].content is null; expected a text or a list"),
        ({"messages": [{"role": "user", "content": ["x"]}]}, "messages[0].content[0] is a text; expected an object"),
        (
            {"messages": [{"role": "user", "content": [{"text": "x"}]}]},
            "messages[0].content[0] is malformed; expected an object with a type",
        ),
        (
            {"messages": [HI, {"role": "user", "content": [{"type": "text", "text": 1}]}]},
            'messages[1].content[0] is malformed; expected {"type": "text", "text": "…"}',
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}]},
            "messages[0].content holds nothing that can be carried over; send text",
        ),
        (
            {"messages": [{"role": "assistant", "tool_calls": [{"id": "c", "type": "magic"}]}]},
            "messages[0].tool_calls[0].type is 'magic'; expected one of function, custom",
        ),
        (
            {"messages": [{"role": "assistant", "tool_calls": [chat_call("c", arguments={})]}]},
            "messages[0].tool_calls[0].function.arguments is an object; expected a text",
        ),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id is missing; it must be given"),
        (
            {"messages": [{"role": "function", "name": "f", "content": "x"}]},
            "messages[0] is the output of the function 'f', which no message before it calls; "
            "expected its function_call first",
        ),
        ({"n": 3}, "n is 3; this model gives one answer to a request, so leave n out or set it to 1"),
        ({"n": "3"}, "n is a text; expected an integer"),
        ({"max_tokens": 1.5}, "max_tokens is a number; expected an integer"),
        ({"temperature": 10**400}, "temperature has the wrong form: Number out of range"),
        ({"temperature": True}, "temperature is true or false; expected a number"),
        ({"stream": "yes"}, "stream is a text; expected true or false"),
        ({"tools": [None]}, "tools[0] is null; expected an object"),
        ({"tool_choice": []}, "tool_choice is a list; expected a text or an object"),
        ({"metadata": {"a": 1}}, "metadata[...] is an integer; expected a text"),
        ({"response_format": {}}, "response_format has no type; expected text, json_object or json_schema"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": {}}}},
            "response_format.json_schema is not whole; expected an object with a name and a schema",
        ),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(fields, sentence):
    with pytest.raises(InvalidPrompt) as raised:
        received(**fields)
    assert str(raised.value) == sentence


def test_a_request_without_a_model_is_refused():
    with pytest.raises(InvalidPrompt) as raised:
        decode_chat_request({"messages": [HI]})
    assert str(raised.value) == "model is missing; it must be given"


texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6)
outputs = texts | st.lists(st.builds(InputText, texts), min_size=1, max_size=2).map(tuple)


@st.composite
def conversations(draw):
    """Turns as agents have them: what is said, then rounds of thought, answer and calls, each with its outputs."""
    conversation = [Message(draw(st.sampled_from(["system", "developer", "user"])), [InputText(draw(texts))])]
    for turn in range(draw(st.integers(0, 3))):
        conversation += [thought(text) for text in draw(st.lists(texts, max_size=1))]
        said = draw(st.lists(texts, max_size=1))
        calls = [f"call_{turn}_{place}" for place in range(draw(st.integers(0 if said else 1, 2)))]
        conversation += [assistant(text) for text in said]
        conversation += [FunctionCall(draw(texts), '{"a":1}', call_id) for call_id in calls]
        conversation += [FunctionCallOutput(call_id, draw(texts)) for call_id in calls]
        conversation.append(Message("user", [InputImage(image_url=draw(texts)), InputText(draw(texts))]))
    return conversation


@settings(deadline=None)
@given(
    conversation=conversations(),
    tools=st.lists(texts, unique=True, max_size=2),
    bound=st.none() | st.integers(1, 99),
    effort=st.none() | st.just({"effort": "low"}),
    stream=st.booleans(),
    name=st.sampled_from(["reasoning", "reasoning_content"]),
)
def test_what_the_request_encoder_writes_is_read_back(conversation, tools, bound, effort, stream, name):
    prompt = Prompt(
        conversation,
        tools=[chat_tool(tool) for tool in tools],
        max_output_tokens=bound,
        reasoning=effort,
        temperature=0.5,
        extra={"top_p": 0.5},
        include=(),
    )
    dialect = ChatDialect(developer_role="developer", reasoning_back="always", reasoning_name=name)
    body = encode_request(prompt, model="m", dialect=dialect, stream=stream).body
    fields = json.loads(body)
    assert decode_chat_request(fields) == ReceivedChatRequest("m", prompt, fields, stream, include_usage=stream)


words = st.sampled_from(["user", "assistant", "tool", "function", "custom", "text", "file", "c", ""])
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 3) | st.just(10**400) | st.floats(allow_nan=False) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=5,
)


def objects(**fields):
    return st.fixed_dictionaries({}, optional={name: value | json_values for name, value in fields.items()})


parts = st.lists(objects(type=words, text=words, image_url=objects(url=words), file=objects(file_id=words)), max_size=2)
functions = objects(name=words, arguments=words, input=words)
messages = st.lists(
    st.fixed_dictionaries(
        {"role": words, "content": words | parts | json_values},
        optional={
            "tool_call_id": words,
            "name": words,
            "refusal": words,
            "reasoning": json_values,
            "tool_calls": st.lists(objects(id=words, type=words, function=functions, custom=functions), max_size=2),
            "function_call": functions,
        },
    ),
    max_size=3,
)
requests = objects(
    model=words,
    messages=messages,
    tools=st.lists(json_values, max_size=2),
    response_format=objects(type=words, json_schema=json_values),
    reasoning=objects(effort=words),
    n=st.integers(0, 2),
    metadata=json_values,
    stop=json_values,
    temperature=json_values,
    max_tokens=json_values,
)


@settings(deadline=None)
@given(fields=st.fixed_dictionaries({"model": st.just("m"), "messages": messages}) | requests)
def test_any_json_object_is_a_request_or_an_error_of_one_sentence(fields):
    sentence = ""
    try:
        assert decode_chat_request(fields).fields is fields
    except InvalidPrompt as error:
        sentence = error.message
    assert not {"\n", "`"} & set(sentence)
