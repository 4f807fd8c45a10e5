"""Plain chunks: what each view takes, and what it leaves to be decoded in full."""

import msgspec
import pytest

from turnwire.wire.chat.plain import Fragment, plain_decoders

FRAGMENT = {"index": 0, "function": {"arguments": "{"}}


def chunk(delta, *, beside=None, **choice):
    return {"id": "c", "choices": [{"index": 0, "delta": delta, "finish_reason": None} | choice]} | (beside or {})


def value(name, payload):
    return plain_decoders[name](msgspec.json.encode(payload)).choices[0].delta.value


@pytest.mark.parametrize("name", ["content", "reasoning", "reasoning_content"])
def test_a_text_is_plain_beside_keys_that_say_nothing(name):
    empty = {"content": "", "reasoning": None, "reasoning_content": "", "refusal": None, "tool_calls": None}
    assert value(name, chunk(empty | {"role": "assistant", name: "a"}, beside={"usage": None, "x": 1})) == "a"


def test_more_of_a_calls_arguments_is_plain():
    (fragment,) = value("tool_calls", chunk({"content": None, "tool_calls": [FRAGMENT | {"type": "function"}]}))
    assert (type(fragment), fragment.index, fragment.function.arguments) == (Fragment, 0, "{")


@pytest.mark.parametrize(
    ("name", "payload"),
    [
        ("content", chunk({"content": ["a"]})),
        ("content", chunk({"content": None})),
        ("content", chunk({"content": "a", "reasoning": "b"})),
        ("content", chunk({"content": "a", "tool_calls": [FRAGMENT]})),
        ("content", chunk({"content": "a", "refusal": "no"})),
        ("content", chunk({"content": "a"}, finish_reason="stop")),
        ("content", chunk({"content": "a"}, message={"reasoning": "b"})),
        ("content", chunk({"content": "a"}, index=1)),
        ("content", chunk({"content": "a"}, index=None)),
        ("content", chunk({"content": "a"}, beside={"usage": {"prompt_tokens": 1}})),
        ("content", chunk({"content": "a"}, beside={"timings": {"cache_n": 1}})),
        ("content", chunk({"content": "a"}, beside={"error": {"message": "boom"}})),
        ("content", {"choices": [{"delta": {"content": "a"}}, {"delta": {"content": "b"}}]}),
        ("content", {"choices": []}),
        ("reasoning", chunk({"reasoning": {"text": "a"}})),
        ("reasoning", chunk({"reasoning": "a", "reasoning_details": [{"text": "a"}]})),
        ("tool_calls", chunk({"tool_calls": [FRAGMENT, FRAGMENT]})),
        ("tool_calls", chunk({"tool_calls": [FRAGMENT | {"id": "call_1"}]})),
        ("tool_calls", chunk({"tool_calls": [FRAGMENT | {"index": -1}]})),
        ("tool_calls", chunk({"tool_calls": [FRAGMENT | {"extra_content": {}}]})),
        ("tool_calls", chunk({"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": ""}}]})),
        ("tool_calls", chunk({"tool_calls": [{"index": 0, "function": {"arguments": {}}}]})),
    ],
)
def test_what_brings_anything_else_is_not_plain(name, payload):
    with pytest.raises(msgspec.DecodeError):
        value(name, payload)
