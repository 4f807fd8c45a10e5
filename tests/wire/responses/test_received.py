"""Responses requests as a server gets them: what is asked of the model, what of the server, and what makes no sense."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from turnwire.errors import InvalidPrompt
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
)
from turnwire.prompt import Prompt
from turnwire.wire.chat import encode_request
from turnwire.wire.responses import (
    ReceivedRequest,
    ResponseObject,
    decode_response_request,
    encode_response_request,
)

BARE = {"model": "m", "input": "hi"}


def received(**fields):
    return decode_response_request(BARE | fields)


def test_a_bare_request_has_the_apis_defaults():
    assert received() == ReceivedRequest("m", Prompt("hi"), BARE, stream=False, store=True)


def test_null_is_as_good_as_absent():
    names = [*Prompt.__struct_fields__, *ReceivedRequest.__struct_fields__, "text", "top_p", "truncation", "foo"]
    nulls = {name: None for name in names if name not in BARE}
    assert received(**nulls) == ReceivedRequest("m", Prompt("hi"), BARE | nulls)
    assert received(text={"format": None, "verbosity": None}).prompt == Prompt("hi")


SCHEMA = {"type": "object"}
FORMAT = {"type": "json_schema", "name": "city", "schema": SCHEMA}
TOOL = {"type": "function", "name": "f"}
PROMPTS = {
    "rules": ({"instructions": "Be brief."}, {"instructions": "Be brief."}),
    "tools": (
        {"tools": [TOOL], "tool_choice": {"type": "function", "name": "f"}, "parallel_tool_calls": False},
        {"tools": [TOOL], "tool_choice": {"type": "function", "name": "f"}, "parallel_tool_calls": False},
    ),
    "a choice in a word": ({"tool_choice": "required"}, {"tool_choice": "required"}),
    "reasoning": ({"reasoning": {"effort": "low"}}, {"reasoning": {"effort": "low"}}),
    "no reasoning": ({"reasoning": {}}, {}),
    "bounds": ({"max_output_tokens": 9, "temperature": 0}, {"max_output_tokens": 9, "temperature": 0.0}),
    "plain text": ({"text": {"format": {"type": "text"}, "verbosity": "low"}}, {"verbosity": "low"}),
    "any object": ({"text": {"format": {"type": "json_object"}}}, {"output_schema": {"type": "json_object"}}),
    "a schema": ({"text": {"format": FORMAT}}, {"output_schema": FORMAT}),
    "a schema with all about it": (
        {"text": {"format": {**FORMAT, "strict": False, "description": "d"}}},
        {"output_schema": {**FORMAT, "strict": False, "description": "d"}},
    ),
    "a schema as turnwire itself sends it": (
        {"text": {"format": {**FORMAT, "name": "output_schema", "strict": True}}},
        {"output_schema": SCHEMA},
    ),
    "the server's word": ({"service_tier": "flex"}, {"service_tier": "flex"}),
    "no word": ({"service_tier": "auto"}, {}),
    "what both APIs know": (
        {"top_p": 0.5, "presence_penalty": 1, "user": "u", "stop": ["\n"], "seed": 7, "top_k": 5, "logit_bias": {}},
        {
            "extra": {
                "top_p": 0.5,
                "presence_penalty": 1.0,
                "user": "u",
                "stop": ["\n"],
                "seed": 7,
                "top_k": 5,
                "logit_bias": {},
            }
        },
    ),
}


@pytest.mark.parametrize("case", PROMPTS)
def test_what_is_asked_of_the_model_is_the_prompt(case):
    fields, expected = PROMPTS[case]
    assert received(**fields) == ReceivedRequest("m", Prompt("hi", **expected), BARE | fields)


def test_what_is_asked_of_the_server_stands_beside_the_prompt():
    fields = {
        "stream": True,
        "store": False,
        "background": True,
        "generate": False,
        "previous_response_id": "resp_1",
        "prompt_cache_key": "k",
        "client_metadata": {"a": "b"},
        "include": ["reasoning.encrypted_content"],
        "metadata": {"a": "b"},
        "stream_options": {"include_obfuscation": False},
        "truncation": "disabled",
        "type": "response.create",
    }
    request = received(**fields)
    assert request == ReceivedRequest(
        "m",
        Prompt("hi"),
        BARE | fields,
        stream=True,
        store=False,
        background=True,
        generate=False,
        previous_response_id="resp_1",
        prompt_cache_key="k",
        client_metadata={"a": "b"},
        include=("reasoning.encrypted_content",),
    )
    assert encode_request(request.prompt, model="m").dropped == ()


@pytest.mark.parametrize(
    ("fields", "dropped"),
    [
        ({"conversation": "conv_1"}, ["conversation"]),
        ({"prompt": {"id": "pmpt_1"}}, ["prompt"]),
        ({"max_tool_calls": 3, "top_logprobs": 2}, ["max_tool_calls", "top_logprobs"]),
        ({"top_logprobs": 0}, []),
        ({"truncation": "auto"}, ["truncation"]),
        (
            {"include": ["reasoning.encrypted_content", "message.output_text.logprobs"]},
            ["include 'message.output_text.logprobs'"],
        ),
        ({"safety_identifier": "s", "prompt_cache_retention": "24h"}, ["prompt_cache_retention", "safety_identifier"]),
        ({"moon_phase": "full", "other": False, "more": []}, ["parameter 'moon_phase'"]),
        ({"text": {"voice": "low", "other": None}}, ["parameter 'text.voice'"]),
    ],
)
def test_what_has_no_place_is_named(fields, dropped):
    assert received(**fields).dropped == tuple(dropped)


def test_messages_may_be_short():
    items = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "yes"},
        {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "rules"}]},
    ]
    assert received(input=items).prompt == Prompt(
        [
            Message("user", [InputText("hi")]),
            Message("assistant", [OutputText("yes")]),
            Message("developer", [InputText("rules")]),
        ]
    )


@pytest.mark.parametrize(
    "fields",
    [
        {"type": "compaction_trigger"},
        {"type": "message", "role": "user", "content": [{"type": "input_file"}, 5]},
        {"role": "user", "content": [{"type": "input_file"}]},
        {"type": "function_call_output", "call_id": "c", "output": [{"type": "input_file"}]},
    ],
)
def test_an_item_of_an_unknown_kind_or_with_unknown_parts_is_kept_whole(fields):
    assert received(input=[fields]).prompt == Prompt([OtherItem(fields)])


REFERENCE = (
    "input[1] refers to the item 'msg_1'; expected the item itself: "
    "send it whole, or go on from its response with previous_response_id"
)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"model": None}, "model is missing; expected the name of a model"),
        ({"model": ""}, "model is missing; expected the name of a model"),
        ({"model": 5}, "model is an integer; expected a text"),
        ({"input": None}, "input is missing; expected a text or a list of items"),
        ({"input": {}}, "input is an object; expected a text or a list"),
        ({"input": ["hi"]}, "input[0] is a text; expected an object"),
        ({"input": [{}]}, "input[0] has neither a type nor a role; expected an item, or a message with a role"),
        ({"input": [{"role": "user", "content": ""}, {"type": "item_reference", "id": "msg_1"}]}, REFERENCE),
        ({"input": [{"role": "user", "content": ""}, {"id": "msg_1"}]}, REFERENCE),
        ({"input": [{"type": "message", "role": "user"}]}, "input[0].content is missing; it must be given"),
        ({"input": [{"type": "message", "content": "hi"}]}, "input[0].role is missing; it must be given"),
        ({"input": [{"role": 5, "content": "hi"}]}, "input[0].role is an integer; expected a text"),
        (
            {"input": [{"type": "function_call", "name": "f", "arguments": {}, "call_id": "c", "extra": 5}]},
            "input[0].arguments is an object; expected a text",
        ),
        (
            {"input": [{"type": "function_call_output", "output": "done"}]},
            "input[0].call_id is missing; it must be given",
        ),
        ({"instructions": ["a"]}, "instructions is a list; expected a text"),
        ({"tools": {}}, "tools is an object; expected a list"),
        ({"tools": ["f"]}, "tools[0] is a text; expected an object"),
        ({"tool_choice": 5}, "tool_choice is an integer; expected a text or an object"),
        ({"parallel_tool_calls": "yes"}, "parallel_tool_calls is a text; expected true or false"),
        ({"reasoning": "low"}, "reasoning is a text; expected an object"),
        ({"temperature": "hot"}, "temperature is a text; expected a number"),
        ({"max_output_tokens": 1.5}, "max_output_tokens is a number; expected an integer"),
        ({"max_output_tokens": True}, "max_output_tokens is true or false; expected an integer"),
        ({"text": {"format": {"name": "x"}}}, "text.format.type is missing; it must be given"),
        ({"text": {"format": {"type": "xml"}}}, "text.format.type has the wrong form: Invalid enum value 'xml'"),
        (
            {"text": {"format": {"type": "json_schema", "name": "x"}}},
            "text.format is a json_schema without a name or a schema; expected both",
        ),
        ({"truncation": "always"}, "truncation has the wrong form: Invalid enum value 'always'"),
        ({"stop": [5]}, "stop[0] is an integer; expected a text"),
        ({"client_metadata": {"a": 5}}, "client_metadata[...] is an integer; expected a text"),
        ({"previous_response_id": 5}, "previous_response_id is an integer; expected a text"),
    ],
)
def test_what_makes_no_sense_is_told_in_a_sentence_that_names_the_field(fields, sentence):
    with pytest.raises(InvalidPrompt) as raised:
        received(**fields)
    assert str(raised.value) == sentence


@pytest.mark.parametrize("case", PROMPTS)
def test_whatever_was_received_can_be_repeated_in_the_response(case):
    request = received(**PROMPTS[case][0])
    ResponseObject(response_id="resp_1", model="m", clock=lambda: 0.0, request=request.fields)


# There and back.

modest = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

texts = st.text(max_size=5)
some = st.text(min_size=1, max_size=5)
objects = st.dictionaries(texts, texts | st.integers(0, 5) | st.none(), max_size=2)
marked = objects.map(lambda fields: {"note": fields} if fields else {})


def some_of(*parts):
    """Parts of which no two neighbours are of one kind: those would be sent as one."""
    return st.lists(st.one_of(parts), max_size=3).map(
        lambda drawn: [
            part for place, part in enumerate(drawn) if not place or type(drawn[place - 1]) is not type(part)
        ]
    )


images = st.builds(InputImage, some, st.none() | st.just("low"), extra=marked)
given_parts = some_of(st.builds(InputText, texts), images)
said_parts = some_of(st.builds(OutputText, texts), st.builds(Refusal, texts))
outputs = texts | given_parts
namespaces = st.none() | some
items = st.one_of(
    st.builds(Message, st.sampled_from(["user", "system", "developer"]), given_parts),
    st.builds(Message, st.just("assistant"), said_parts, st.none() | st.just("msg_1"), extra=marked),
    st.builds(
        Reasoning,
        st.sampled_from(["", "rs_1"]),
        st.lists(st.builds(SummaryText, texts), max_size=2),
        st.none() | st.lists(st.builds(ReasoningText, texts), max_size=1),
        st.none() | texts,
    ),
    st.builds(FunctionCall, texts, texts, texts, st.none() | st.just("fc_1"), namespaces, extra=marked),
    st.builds(FunctionCallOutput, texts, outputs),
    st.builds(CustomToolCall, texts, texts, texts, st.none() | st.just("ctc_1"), namespaces),
    st.builds(CustomToolCallOutput, texts, outputs),
    st.builds(LocalShellCall, objects, texts),
    st.builds(WebSearchCall, objects),
    st.builds(ToolSearchCall, objects, st.just("client"), texts),
    st.builds(ToolSearchOutput, st.just([TOOL]), st.just("client"), texts),
    st.builds(Compaction, texts),
    st.builds(OtherItem, st.fixed_dictionaries({"type": st.just("additional_tools"), "tools": st.just([TOOL])})),
)
definitions = st.sampled_from(
    [
        TOOL,
        {"type": "custom", "name": "patch", "format": {"type": "grammar", "syntax": "lark", "definition": "x"}},
        {"type": "namespace", "name": "mail", "description": "d", "tools": [TOOL, {"type": "custom", "name": "send"}]},
        {"type": "tool_search", "execution": "client"},
        {"type": "web_search"},
    ]
)
prompts = st.builds(
    Prompt,
    st.lists(items, max_size=5),
    instructions=st.none() | some,
    tools=st.lists(definitions, max_size=4),
    tool_choice=st.sampled_from([None, "auto", "required", {"type": "custom", "name": "patch"}]),
    parallel_tool_calls=st.none() | st.booleans(),
    output_schema=st.none() | st.fixed_dictionaries({"type": st.just("object"), "properties": objects}),
    reasoning=st.sampled_from([None, {"effort": "low"}, {"effort": "low", "summary": "auto"}]),
    max_output_tokens=st.none() | st.integers(0, 9),
    temperature=st.none() | st.floats(0, 2),
    extra=st.fixed_dictionaries({}, optional={"top_p": st.floats(0, 1), "user": texts, "stop": texts}),
    verbosity=st.sampled_from([None, "low"]),
    prompt_cache_key=st.none() | some,
    client_metadata=st.dictionaries(some, texts, max_size=2),
    store=st.none() | st.booleans(),
    include=st.sampled_from([None, (), ("reasoning.encrypted_content",)]),
    service_tier=st.sampled_from([None, "flex"]),
)


@modest
@given(prompts, st.none() | some, st.booleans())
def test_a_prompt_comes_out_as_it_went_in(prompt, previous, stream):
    sent = encode_response_request(prompt, model="m", previous_response_id=previous, stream=stream)
    request = decode_response_request(json.loads(sent.body))
    assert request.prompt == replace(prompt, prompt_cache_key=None, client_metadata={}, store=None, include=None)
    assert (request.prompt_cache_key, request.client_metadata) == (prompt.prompt_cache_key, prompt.client_metadata)
    assert (request.store, request.previous_response_id, request.stream) == (bool(prompt.store), previous, stream)
    assert request.dropped == ()


@given(st.dictionaries(st.sampled_from(["model", "input", "text", "tools", "include", "truncation", "x"]), objects))
def test_any_object_is_a_request_or_a_typed_error(fields):
    try:
        decode_response_request(fields)
    except InvalidPrompt as error:
        assert str(error)  # noqa: PT017 - either outcome is fine, another error is not
