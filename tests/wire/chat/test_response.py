"""What the chat encoder writes: the bytes of each method, each dialect's habits, and the way back."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turnwire.event import (
    Completed,
    OutputItemAdded,
    OutputItemDone,
    OutputTextDelta,
    ReasoningContentDelta,
    ResponseEvent,
    TokenUsage,
)
from turnwire.item import FunctionCall, Message, OutputText, Reasoning, ReasoningText, Refusal
from turnwire.wire.chat.decoder import ChatDecoder, decode_completion
from turnwire.wire.chat.dialect import PRESETS, ChatDialect
from turnwire.wire.chat.response import ChatEncoder, encode_error
from turnwire.wire.sse import encode_event

USAGE = TokenUsage(input_tokens=20, cached_input_tokens=16, output_tokens=5, reasoning_output_tokens=2, total_tokens=25)
USAGE_OBJECT = {
    "prompt_tokens": 20,
    "completion_tokens": 5,
    "total_tokens": 25,
    "prompt_tokens_details": {"cached_tokens": 16},
    "completion_tokens_details": {"reasoning_tokens": 2},
}
CALL = FunctionCall("get_weather", '{"city":"Zürich"}', "call_1")
OTHER_CALL = FunctionCall("get_time", "{}", "call_2")


def encoder(dialect: ChatDialect | None = None, *, include_usage: bool = True, **kwargs: Any) -> ChatEncoder:
    return ChatEncoder(
        dialect or ChatDialect(),
        response_id="chatcmpl-7",
        model="m",
        created=1700000000,
        include_usage=include_usage,
        **kwargs,
    )


def chunk(*choices: dict[str, Any], **more: Any) -> bytes:
    fields = {"id": "chatcmpl-7", "object": "chat.completion.chunk", "created": 1700000000, "model": "m"}
    document = json.dumps({**fields, "choices": choices, **more}, ensure_ascii=False, separators=(",", ":"))
    return b"data: " + document.encode() + b"\n\n"


def delta(finish_reason: str | None = None, /, **fields: Any) -> dict[str, Any]:
    return {"index": 0, "delta": fields, "finish_reason": finish_reason}


def test_each_method_gives_whole_events() -> None:
    out = encoder()
    assert [
        out.start(),
        out.reasoning("Let me see."),
        out.text('say "Grüezi"\u2028\n\0'),
        out.refusal("I would rather not."),
        out.finish(),
        out.done(),
    ] == [
        chunk(delta(role="assistant", content="")),
        chunk(delta(reasoning="Let me see.")),
        chunk(delta(content='say "Grüezi"\u2028\n\0')),
        chunk(delta(refusal="I would rather not.")),
        chunk(delta("stop")),
        b"data: [DONE]\n\n",
    ]


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("reasoning", {"reasoning": "hm"}),
        ("reasoning_content", {"reasoning_content": "hm"}),
        ("reasoning_details", {"reasoning_details": [{"type": "reasoning.text", "text": "hm"}]}),
        ("thinking", {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}]}),
    ],
)
def test_reasoning_goes_by_the_dialects_name(name: Any, fields: dict[str, Any]) -> None:
    assert encoder(ChatDialect(reasoning_name=name)).reasoning("hm") == chunk(delta(**fields))


def head(index: dict[str, int], call: FunctionCall, arguments: str) -> dict[str, Any]:
    function = {"name": call.name, "arguments": arguments}
    return delta(tool_calls=[{**index, "id": call.call_id, "type": "function", "function": function}])


def piece(place: dict[str, Any], arguments: str) -> dict[str, Any]:
    return delta(tool_calls=[{**place, "function": {"arguments": arguments}}])


@pytest.mark.parametrize(
    ("dialect", "expected"),
    [
        (
            ChatDialect(),
            [
                head({"index": 0}, CALL, ""),
                piece({"index": 0}, CALL.arguments),
                head({"index": 1}, OTHER_CALL, ""),
                piece({"index": 1}, "{}"),
            ],
        ),
        (
            ChatDialect(calls_whole=True),
            [head({"index": 0}, CALL, CALL.arguments), head({"index": 1}, OTHER_CALL, "{}")],
        ),
        (
            ChatDialect(calls_whole=True, call_index="zero"),
            [head({"index": 0}, CALL, CALL.arguments), head({"index": 0}, OTHER_CALL, "{}")],
        ),
        (
            ChatDialect(calls_whole=True, call_index="missing"),
            [head({}, CALL, CALL.arguments), head({}, OTHER_CALL, "{}")],
        ),
        (
            ChatDialect(call_index="zero"),
            [
                head({"index": 0}, CALL, ""),
                piece({"index": 0, "id": "call_1"}, CALL.arguments),
                head({"index": 0}, OTHER_CALL, ""),
                piece({"index": 0, "id": "call_2"}, "{}"),
            ],
        ),
        (
            ChatDialect(call_index="missing"),
            [
                head({}, CALL, ""),
                piece({"id": "call_1"}, CALL.arguments),
                head({}, OTHER_CALL, ""),
                piece({"id": "call_2"}, "{}"),
            ],
        ),
    ],
    ids=["counted", "whole", "whole-zero", "whole-missing", "zero", "missing"],
)
def test_calls_come_as_the_dialect_has_them(dialect: ChatDialect, expected: list[dict[str, Any]]) -> None:
    out = encoder(dialect)
    assert out.call(CALL) + out.call(OTHER_CALL) == b"".join(chunk(choice) for choice in expected)


def test_two_calls_can_grow_at_once() -> None:
    out = encoder()
    assert [
        out.call_added(CALL),
        out.call_added(OTHER_CALL),
        out.call_arguments("call_1", '{"ci'),
        out.call_arguments("call_2", "{}"),
        out.call_arguments("call_1", 'ty":1}'),
    ] == [
        chunk(head({"index": 0}, CALL, "")),
        chunk(head({"index": 1}, OTHER_CALL, "")),
        chunk(piece({"index": 0}, '{"ci')),
        chunk(piece({"index": 1}, "{}")),
        chunk(piece({"index": 0}, 'ty":1}')),
    ]
    assert repr(out) == "<ChatEncoder: chatcmpl-7, 2 calls>"
    with pytest.raises(KeyError, match="call_3"):
        out.call_arguments("call_3", "{}")


def test_unknown_keys_of_a_call_go_along() -> None:
    extra = {"extra_content": {"google": {"thought_signature": "c2ln"}}}
    out = encoder(ChatDialect(calls_whole=True))
    function = {"name": "f", "arguments": "{}"}
    assert out.call(FunctionCall("f", "{}", "c", extra=extra)) == chunk(
        delta(tool_calls=[{"index": 0, **extra, "id": "c", "type": "function", "function": function}])
    )


@pytest.mark.parametrize(
    ("dialect", "include_usage", "expected"),
    [
        (ChatDialect(), True, chunk(delta("stop")) + chunk(usage=USAGE_OBJECT)),
        (ChatDialect(), False, chunk(delta("stop"))),
        (ChatDialect(usage_place="finish_chunk"), False, chunk(delta("stop"), usage=USAGE_OBJECT)),
        (ChatDialect(usage_place="every_chunk"), False, chunk(delta("stop"), usage=USAGE_OBJECT)),
        (ChatDialect(usage_place="never"), True, chunk(delta("stop"))),
    ],
    ids=["own-chunk", "own-chunk-unasked", "finish-chunk", "every-chunk", "never"],
)
def test_usage_comes_in_its_place(dialect: ChatDialect, include_usage: bool, expected: bytes) -> None:
    assert encoder(dialect, include_usage=include_usage).finish(usage=USAGE) == expected


@pytest.mark.parametrize(("running", "told"), [(None, None), (USAGE, USAGE_OBJECT)], ids=["unknown", "known"])
def test_every_chunk_tells_what_is_known_of_usage(running: TokenUsage | None, told: Any) -> None:
    out = encoder(ChatDialect(usage_place="every_chunk"), running_usage=running)
    assert [out.start(), out.text("a"), out.reasoning("b"), out.finish()] == [
        chunk(delta(role="assistant", content=""), usage=told),
        chunk(delta(content="a"), usage=told),
        chunk(delta(reasoning="b"), usage=told),
        chunk(delta("stop"), usage=told),
    ]


@pytest.mark.parametrize(
    ("dialect", "reason", "expected"),
    [
        (ChatDialect(), None, "tool_calls"),
        (ChatDialect(calls_finish="stop"), None, "stop"),
        (ChatDialect(), "length", "length"),
    ],
)
def test_the_finish_reason_fits_the_calls(dialect: ChatDialect, reason: str | None, expected: str) -> None:
    out = encoder(dialect)
    out.call(CALL)
    assert out.finish(reason) == chunk(delta(expected))


def test_a_dialect_without_sentinel_just_ends() -> None:
    assert encoder(ChatDialect(done_sentinel=False)).done() == b""


def test_an_answer_can_be_given_as_one_object() -> None:
    document = encoder().completion(text="21 °C", reasoning="hm", refusal="no", calls=[CALL], usage=USAGE)
    assert json.loads(document) == {
        "id": "chatcmpl-7",
        "object": "chat.completion",
        "created": 1700000000,
        "model": "m",
        "choices": [
            {
                "index": 0,
                "message": {
                    "role": "assistant",
                    "content": "21 °C",
                    "reasoning": "hm",
                    "refusal": "no",
                    "tool_calls": [
                        {
                            "id": "call_1",
                            "type": "function",
                            "function": {"name": "get_weather", "arguments": '{"city":"Zürich"}'},
                        }
                    ],
                },
                "finish_reason": "tool_calls",
            }
        ],
        "usage": USAGE_OBJECT,
    }


@pytest.mark.parametrize(
    ("text", "content"),
    [
        ("", [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}]),
        (
            "yes",
            [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, {"type": "text", "text": "yes"}],
        ),
    ],
)
def test_thinking_stands_in_front_of_the_text_in_one_object(text: str, content: Any) -> None:
    document = encoder(ChatDialect.preset("mistral")).completion(text=text, reasoning="hm")
    assert json.loads(document)["choices"][0]["message"] == {"role": "assistant", "content": content}


def test_an_error_has_openais_shape() -> None:
    assert json.loads(encode_error("no such model", code="model_not_found", param="model")) == {
        "error": {
            "message": "no such model",
            "type": "invalid_request_error",
            "param": "model",
            "code": "model_not_found",
        }
    }


DIALECTS = {
    **PRESETS,
    "details": ChatDialect(reasoning_name="reasoning_details", usage_place="never"),
    "no index": ChatDialect(call_index="missing", usage_place="finish_chunk", done_sentinel=False),
    "index zero": ChatDialect(call_index="zero"),
}
deltas = st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20), max_size=4)
arguments = st.dictionaries(st.text('abc ü"\\\n', max_size=4), st.integers(0, 9), max_size=3).map(json.dumps)
calls = st.lists(
    st.builds(FunctionCall, st.text("abc_", min_size=1, max_size=8), arguments, st.text("xyz", min_size=1, max_size=3)),
    unique_by=lambda call: call.call_id,
    max_size=3,
)


@pytest.mark.parametrize("name", DIALECTS)
@settings(max_examples=40, deadline=None)
@given(texts=deltas, thoughts=deltas, refusals=deltas, calls=calls, cut=st.integers(1, 400))
def test_what_the_encoder_writes_the_decoder_reads_back(
    name: str, texts: list[str], thoughts: list[str], refusals: list[str], calls: list[FunctionCall], cut: int
) -> None:
    dialect = DIALECTS[name]
    out = encoder(dialect, running_usage=TokenUsage(input_tokens=20, total_tokens=20))
    stream = b"".join(
        [
            out.start(),
            *[out.reasoning(text) for text in thoughts],
            *[out.text(text) for text in texts],
            *[out.refusal(text) for text in refusals],
            *[out.call(call) for call in calls],
            out.finish(usage=USAGE),
            out.done(),
        ]
    )
    decoder = ChatDecoder(dialect)
    events: list[ResponseEvent] = []
    for at in range(0, len(stream), cut):
        events += decoder.feed(stream[at : at + cut])
    events += decoder.feed_eof()

    reasoning = Reasoning(content=tuple(ReasoningText(text) for text in thoughts))
    message = Message("assistant", (*map(OutputText, texts), *map(Refusal, refusals)))
    said = [OutputItemDone(message)] * bool(message.content)
    called = [OutputItemDone(call) for call in calls]
    expected: list[ResponseEvent] = []
    if thoughts:
        expected.append(OutputItemAdded(Reasoning(content=())))
        expected += [ReasoningContentDelta(text, index) for index, text in enumerate(thoughts)]
    if message.content:
        expected.append(OutputItemAdded(Message("assistant", ())))
        expected += [OutputTextDelta(text) for text in texts]
    expected += [OutputItemDone(reasoning)] * bool(thoughts)
    expected += called + said if dialect.calls_finish == "tool_calls" else said + called
    expected.append(
        Completed(
            response_id="chatcmpl-7",
            token_usage=None if dialect.usage_place == "never" else USAGE,
            finish_reason=dialect.calls_finish if calls else "stop",
        )
    )
    assert events == expected


@pytest.mark.parametrize("name", DIALECTS)
def test_what_is_written_as_one_object_is_read_back(name: str) -> None:
    dialect = DIALECTS[name]
    body = encoder(dialect).completion(text="yes", reasoning="hm", calls=[CALL, OTHER_CALL], usage=USAGE)
    done = [event for event in decode_completion(body, dialect) if isinstance(event, OutputItemDone | Completed)]
    said = [OutputItemDone(Message("assistant", [OutputText("yes")]))]
    called = [OutputItemDone(CALL), OutputItemDone(OTHER_CALL)]
    assert done == [
        OutputItemDone(Reasoning(content=[ReasoningText("hm")])),
        *(called + said if dialect.calls_finish == "tool_calls" else said + called),
        Completed("chatcmpl-7", None if dialect.usage_place == "never" else USAGE, dialect.calls_finish),
    ]


def test_an_error_in_the_stream_is_an_event_of_its_own() -> None:
    assert encode_event(encode_error("out of memory", kind="server_error")) == (
        b'data: {"error":{"message":"out of memory","type":"server_error","param":null,"code":null}}\n\n'
    )
