"""A Responses answer of some 500 deltas, as OpenAI writes it: reasoning with a summary, a text, a call of a tool."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any, TypeAlias

import msgspec
from msgspec import Struct

from answer import blocks, texts
from turnwire.event import (
    Completed,
    OutputItemAdded,
    OutputItemDone,
    OutputTextDelta,
    ReasoningSummaryDelta,
    ReasoningSummaryPartAdded,
    ResponseEvent,
    TokenUsage,
    ToolCallArgumentsDelta,
)
from turnwire.item import FunctionCall, Message, OutputText, Reasoning, SummaryText
from turnwire.wire.responses import ResponsesEncoder
from turnwire.wire.sse import encode_event

__all__ = ["RESPONSES_ANSWER", "ResponsesAnswer"]

_Json: TypeAlias = dict[str, Any]

_SUMMARY_PARTS = 2
_SUMMARY_TEXTS = 100
_TEXTS = 200
_ARGUMENTS = 100
_CALL_ID = "call_9vGtR2mXw4LqZ7bNc1KdYp0s"
_PADDED_TO = 16
_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
_REQUEST: _Json = {
    "instructions": "You are a coding agent. Read before you write, and say what you did. " * 30,
    "include": ["reasoning.encrypted_content"],
    "prompt_cache_key": "0199a213-81c0-7800-8aa1-bbab2a035a53",
    "reasoning": {"effort": "medium", "summary": "auto"},
    "store": False,
    "text": {"verbosity": "medium"},
    "tools": [
        {
            "type": "function",
            "name": name,
            "description": f"What {name} does, when to call it, and what to expect of it. " * 4,
            "parameters": {
                "type": "object",
                "properties": {key: {"type": "string", "description": f"The {key}."} for key in ("path", "text")},
                "required": ["path", "text"],
                "additionalProperties": False,
            },
            "strict": True,
        }
        for name in ("read_file", "write_file", "run_command")
    ],
}


class ResponsesAnswer(Struct, frozen=True):
    """One streamed answer, as JSON objects in bytes: each is a WebSocket message."""

    messages: list[bytes]

    @property
    def events(self) -> list[bytes]:
        """The same as server-sent events."""
        return [encode_event(message, msgspec.json.decode(message)["type"]) for message in self.messages]

    @property
    def blocks(self) -> list[bytes]:
        """Those as 64 KiB reads."""
        return blocks(self.events)


def _agent_turn(chance: random.Random) -> Iterator[ResponseEvent]:
    reasoning_id, message_id, call_id = (f"{prefix}_{chance.randbytes(25).hex()}" for prefix in ("rs", "msg", "fc"))
    encrypted = "gAAAAAB" + "".join(chance.choices(_LETTERS, k=2000))
    summaries = [SummaryText("".join(texts(_SUMMARY_TEXTS)))] * _SUMMARY_PARTS
    yield OutputItemAdded(Reasoning(id=reasoning_id, encrypted_content=encrypted))
    for index in range(_SUMMARY_PARTS):
        yield ReasoningSummaryPartAdded(index)
        yield from (ReasoningSummaryDelta(text, index) for text in texts(_SUMMARY_TEXTS))
    yield OutputItemDone(Reasoning(id=reasoning_id, summary=tuple(summaries), encrypted_content=encrypted))

    yield OutputItemAdded(Message("assistant", (), id=message_id))
    yield from (OutputTextDelta(text) for text in texts(_TEXTS))
    yield OutputItemDone(Message("assistant", (OutputText("".join(texts(_TEXTS))),), id=message_id))

    inside = (msgspec.json.encode(text).decode()[1:-1] for text in texts(_ARGUMENTS))
    arguments = ['{"text":"', *inside, '"}']
    yield OutputItemAdded(FunctionCall("write_file", "", _CALL_ID, id=call_id))
    yield from (ToolCallArgumentsDelta(_CALL_ID, text) for text in arguments)
    yield OutputItemDone(FunctionCall("write_file", "".join(arguments), _CALL_ID, id=call_id))

    yield Completed("", TokenUsage(4096, 3840, 640, 128, 4736))


def _as_openai(message: bytes, chance: random.Random) -> bytes:
    """A message with its number in front, and its delta padded, to hide how long the text is, to 16 letters."""
    fields: _Json = msgspec.json.decode(message)
    head = {"type": fields.pop("type"), "sequence_number": fields.pop("sequence_number")}
    if "delta" in fields:
        missing = _PADDED_TO - len(fields["delta"]) % _PADDED_TO
        fields["obfuscation"] = "".join(chance.choices(_LETTERS, k=missing))
    return msgspec.json.encode(head | fields)


def _answer() -> ResponsesAnswer:
    chance = random.Random(7)
    encoder = ResponsesEncoder(
        response_id=f"resp_{chance.randbytes(25).hex()}",
        model="gpt-5-2025-08-07",
        clock=lambda: 1795366250.0,
        request=_REQUEST,
        framing="websocket",
    )
    messages = [*encoder.start(), *encoder.encode(_agent_turn(chance))]
    return ResponsesAnswer([_as_openai(message, chance) for message in messages])


RESPONSES_ANSWER = _answer()
