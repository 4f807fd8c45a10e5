"""The messages of a Chat Completions request as the items that they stand for.

============================ ==========================================================================
a message                    becomes
============================ ==========================================================================
system, developer, user      a `Message` of that role
assistant                    `Reasoning`, a `Message`, a call for each of ``tool_calls``, in that order
assistant, ``function_call`` a `FunctionCall` under an id made of the message's place
tool                         the output of the call that its id names, function's or custom tool's
function                     the output of the latest call of that function
============================ ==========================================================================
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, TypeAlias

from msgspec import Struct

from turnwire.errors import InvalidPrompt
from turnwire.item import (
    CustomToolCall,
    FunctionCall,
    FunctionCallOutput,
    Reasoning,
    ReasoningText,
    ResponseItem,
    decode_item,
)
from turnwire.wire.received_object import checked

__all__ = ["ReceivedHistory"]

_Json: TypeAlias = dict[str, Any]
_Content: TypeAlias = str | list[_Json]


class _Said(Struct):
    content: _Content


class _Function(Struct):
    name: str
    arguments: str


class _Answer(Struct):
    content: _Content | None = None
    refusal: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[_Json] | None = None
    function_call: _Function | None = None


class _ToolOutput(Struct):
    tool_call_id: str
    content: _Content
    name: str | None = None
    """The tool's, which the call names as well."""


class _FunctionOutput(Struct):
    name: str
    content: str | None = None


class _FunctionCalled(Struct):
    id: str
    function: _Function


class _Custom(Struct):
    name: str
    input: str


class _CustomCalled(Struct):
    id: str
    custom: _Custom


_MESSAGES: Mapping[str, type[_Said | _Answer | _ToolOutput | _FunctionOutput]] = {
    "system": _Said,
    "developer": _Said,
    "user": _Said,
    "assistant": _Answer,
    "tool": _ToolOutput,
    "function": _FunctionOutput,
}
_CALLS: Mapping[str, type[_FunctionCalled | _CustomCalled]] = {"function": _FunctionCalled, "custom": _CustomCalled}

_CALL_KEYS = frozenset(("id", "type", "function", "custom", "index"))
"""``index`` is the place of a call in a stream: clients that put a message together from one may leave it there."""

_PART_SHAPES = {
    "text": '{"type": "text", "text": "…"}',
    "refusal": '{"type": "refusal", "refusal": "…"}',
    "image_url": '{"type": "image_url", "image_url": {"url": "…"}}',
    "file": '{"type": "file", "file": {…}}',
}


class ReceivedHistory:
    """Messages in, `items` out; what has no place in an item is named in ``dropped``."""

    def __init__(self, dropped: list[str]) -> None:
        self.items: list[ResponseItem] = []
        self._dropped = dropped
        self._place = -1
        self._custom_calls: set[str] = set()
        self._legacy_calls: dict[str, str] = {}  # the id of the latest call by its function's name

    def add(self, fields: _Json) -> None:
        """Takes the next message, a JSON object; `InvalidPrompt` for one that makes no sense."""
        self._place += 1
        where = f"messages[{self._place}]"
        role = _one_of(_MESSAGES, fields.get("role"), f"{where}.role")
        message = checked(fields, _MESSAGES[role], where)
        match message:
            case _Said():
                self._add_message(role, message.content)
            case _Answer():
                self._add_answer(message, where)
            case _ToolOutput():
                self._add_output(message)
            case _FunctionOutput():
                call_id = self._legacy_calls.get(message.name)
                if call_id is None:
                    raise InvalidPrompt(
                        f"{where} is the output of the function {message.name!r}, which no message before it calls; "
                        "expected its function_call first"
                    )
                self.items.append(FunctionCallOutput(call_id, message.content or ""))
        for key, value in fields.items():
            if key != "role" and key not in message.__struct_fields__ and value not in (None, "", [], {}):
                self._dropped.append(f"key {key!r} of a message of role {role!r}")

    def _add_answer(self, message: _Answer, where: str) -> None:
        thoughts = dict.fromkeys(filter(None, (message.reasoning, message.reasoning_content)))  # often one, twice
        if thoughts:
            self.items.append(Reasoning(content=[ReasoningText(thought) for thought in thoughts]))
        self._add_message("assistant", message.content or [], message.refusal)
        for place, call in enumerate(message.tool_calls or ()):
            self._add_call(call, f"{where}.tool_calls[{place}]")
        if message.function_call is not None:
            called = message.function_call
            call_id = self._legacy_calls[called.name] = f"function_call_{self._place}"
            self.items.append(FunctionCall(called.name, called.arguments, call_id))

    def _add_call(self, fields: _Json, where: str) -> None:
        call = checked(fields, _CALLS[_one_of(_CALLS, fields.get("type"), f"{where}.type")], where)
        extra = _present(fields, without=_CALL_KEYS)
        if isinstance(call, _CustomCalled):
            self._custom_calls.add(call.id)
            self.items.append(CustomToolCall(call.custom.name, call.custom.input, call.id, extra=extra))
        else:
            self._custom_calls.discard(call.id)  # a server that counts its calls anew in every round
            self.items.append(FunctionCall(call.function.name, call.function.arguments, call.id, extra=extra))

    def _add_output(self, message: _ToolOutput) -> None:
        call_id, content = message.tool_call_id, message.content
        kind = "custom_tool_call_output" if call_id in self._custom_calls else "function_call_output"
        output = content if isinstance(content, str) else self._parts(content, "input_text")
        self.items.append(decode_item({"type": kind, "call_id": call_id, "output": output}))

    def _add_message(self, role: str, content: _Content, refusal: str | None = None) -> None:
        text_type = "output_text" if role == "assistant" else "input_text"
        parts = [{"type": text_type, "text": content}] if isinstance(content, str) else self._parts(content, text_type)
        if refusal:
            parts.append({"type": "refusal", "refusal": refusal})
        if parts or role != "assistant":
            self.items.append(decode_item({"type": "message", "role": role, "content": parts}))

    def _parts(self, parts: list[_Json], text_type: str) -> list[_Json]:
        """The parts in the form of the Responses API. Files have no type of ours: what holds one is an `OtherItem`."""
        received: list[_Json] = []
        for place, part in enumerate(parts):
            kind = str(part.get("type"))
            if "type" in part and kind not in _PART_SHAPES:
                self._dropped.append(f"content part of type {kind!r}")
                continue
            known = _received_part(part, text_type)
            if known is None:
                shape = _PART_SHAPES.get(kind, "an object with a type")
                raise InvalidPrompt(f"messages[{self._place}].content[{place}] is malformed; expected {shape}")
            received.append(known)
            self._dropped += [f"key {key!r} of a content part" for key in _present(part, without=("type", kind))]
        if parts and not received and text_type == "input_text":
            raise InvalidPrompt(f"messages[{self._place}].content holds nothing that can be carried over; send text")
        return received


def _one_of(known: Collection[str], value: object, where: str) -> str:
    if not isinstance(value, str) or value not in known:
        found = "missing" if value is None else repr(value)
        raise InvalidPrompt(f"{where} is {found}; expected one of {', '.join(known)}")
    return value


def _received_part(part: _Json, text_type: str) -> _Json | None:
    match part:
        case {"type": "text", "text": str(text)}:
            return {"type": text_type, "text": text}
        case {"type": "refusal", "refusal": str(refusal)}:
            return {"type": "refusal", "refusal": refusal}
        case {"type": "image_url", "image_url": {"url": str(url)} as image}:
            return _present({"type": "input_image", "image_url": url, "detail": image.get("detail")})
        case {"type": "image_url", "image_url": str(url)}:  # Mistral's form
            return {"type": "input_image", "image_url": url}
        case {"type": "file", "file": Mapping() as file}:
            return {"type": "input_file", **_present(file)}
        case _:
            return None


def _present(fields: Mapping[str, Any], without: Collection[str] = ()) -> _Json:
    return {key: value for key, value in fields.items() if value is not None and key not in without}
