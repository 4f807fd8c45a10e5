"""The history of a chat request: a conversation's items as the messages that a server takes.

A Responses history is a flat list of items; a chat history is a list of messages, and servers insist that an
assistant's message with N calls is followed by exactly N tool messages. So

* reasoning, text and calls that stand next to each other are one assistant message, whatever their order;
* an output goes behind its call, wherever it stood; it ends the assistant's message that holds its call;
* of several open calls under one id (``call_0`` in every round) it answers one of the latest message, the
  oldest first;
* a call without an output gets one that says so, and an output without a call is left out and named.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from msgspec import Struct

from turnwire.errors import InvalidPrompt
from turnwire.item import (
    Compaction,
    ContentPart,
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
    Refusal,
    ResponseItem,
    ToolSearchCall,
    ToolSearchOutput,
    WebSearchCall,
    decode_item,
)
from turnwire.wire.chat.call_id import CallIds
from turnwire.wire.chat.dialect import ChatDialect, ReasoningName
from turnwire.wire.chat.tool import ToolOrigin, Tools
from turnwire.wire.prompt_json import prompt_json
from turnwire.wire.sealed import SUMMARY_NOTE, unseal, unsealed_reasoning

__all__ = ["History"]

_NO_OUTPUT = "No output of this call was recorded."
_IMAGES_ONLY = "The output is shown below."
_BETWEEN_TOOL_AND_USER = "I have the output."

_LOCAL_SHELL = ToolOrigin("function", "local_shell")
_TOOL_SEARCH = ToolOrigin("tool_search", "tool_search")

_BOOKKEEPING = frozenset(("id", "status"))
"""Keys that say nothing to a model."""

_Json: TypeAlias = dict[str, Any]
_Output: TypeAlias = str | Sequence[ContentPart]
_Spoken: TypeAlias = Message | Reasoning | FunctionCallOutput | CustomToolCallOutput | ToolSearchOutput


class _Answer(Struct, eq=False):
    """An assistant's message in the making."""

    texts: list[str] = []
    refusals: list[str] = []
    reasoning: list[Reasoning] = []
    calls: list[_Call] = []


class _Call(Struct, eq=False):
    """A call and, once it is found, its output."""

    answer: _Answer
    wire_id: str
    name: str
    arguments: str
    extra: Mapping[str, Any]
    output: _Output | None = None


class History:
    """Items in, messages out.

    Tools that the history brings go to ``tools``; what has no place in a message is named in ``dropped``.
    """

    def __init__(self, dialect: ChatDialect, reasoning_name: ReasoningName, tools: Tools, dropped: list[str]) -> None:
        self._dialect = dialect
        self._reasoning_name = reasoning_name
        self._tools = tools
        self._dropped = dropped
        self._call_ids = CallIds(dialect.call_ids)
        self._system: list[str] = []
        self._entries: list[_Json | _Answer] = []
        self._answer: _Answer | None = None  # the last entry, while it may still grow
        self._open_calls: dict[str, list[_Call]] = {}
        self._early_outputs: dict[str, list[_Output]] = {}

    def add(self, item: ResponseItem) -> None:
        """Takes the next item of the conversation; `InvalidPrompt` for one that makes no sense."""
        match item:
            case Message():
                self._add_message(item)
            case Reasoning():
                self._name_lost_keys(item)
                self._open_answer().reasoning.append(item)
            case Compaction() if (summary := unseal("compaction", item.encrypted_content)) is not None:
                self._add_entry({"role": "user", "content": SUMMARY_NOTE + summary})
            case FunctionCall():
                # Chat templates parse the arguments, and nothing is no JSON.
                arguments = item.arguments if item.arguments.strip() else "{}"
                tool = ToolOrigin("function", item.name, item.namespace or None)
                self._add_call(item.call_id, tool, arguments, item.extra)
            case CustomToolCall():
                tool = ToolOrigin("custom", item.name, item.namespace or None)
                self._add_call(item.call_id, tool, _json_text({"input": item.input}), item.extra)
            case LocalShellCall():
                self._add_call(item.call_id or item.id, _LOCAL_SHELL, _json_text(item.action), item.extra)
            case ToolSearchCall():
                self._add_call(item.call_id, _TOOL_SEARCH, _json_text(item.arguments), item.extra)
            case FunctionCallOutput() | CustomToolCallOutput():
                self._name_lost_keys(item, () if isinstance(item.output, str) else item.output)
                self._add_output(item.call_id, item.output)
            case ToolSearchOutput():
                self._name_lost_keys(item)
                found = [name for definition in item.tools for name in self._tools.add(definition)]
                self._add_output(item.call_id, _json_text({"tools": found}))
            case WebSearchCall() | Compaction():
                self._dropped.append(f"item of type {item.__struct_config__.tag!r}")
            case OtherItem():
                self._add_other(item)
            case _:
                raise InvalidPrompt(f"an item is a {type(item).__name__}; expected a ResponseItem: see decode_item")

    def messages(self, preamble: Sequence[str]) -> list[_Json]:
        """The conversation, once all items are in; ``preamble`` is what the first system message begins with."""
        self._claim_early_outputs()
        system = "\n\n".join(filter(None, (*preamble, *self._system)))
        messages: list[_Json] = [{"role": "system", "content": system}] if system else []
        refused_after_tool = ("system", "developer", "user") if self._dialect.user_after_tool == "refused" else ()
        for entry in self._entries:
            for message in self._answer_messages(entry) if isinstance(entry, _Answer) else (entry,):
                if message["role"] in refused_after_tool and messages and messages[-1]["role"] == "tool":
                    messages.append({"role": "assistant", "content": _BETWEEN_TOOL_AND_USER})
                messages.append(message)
        return messages

    def _add_message(self, item: Message) -> None:
        self._name_lost_keys(item, item.content)
        match item.role:
            case "assistant":
                answer = self._open_answer()
                answer.texts.append(item.text)
                answer.refusals += [part.refusal for part in item.content if isinstance(part, Refusal)]
                self._name_lost_images(item)
            case "user":
                parts = list(self._chat_parts(item.content))
                self._add_entry({"role": "user", "content": parts if _images(parts) else _text(parts)})
            case "system" | "developer":
                text = _text(self._chat_parts(item.content))
                self._name_lost_images(item)
                if self._dialect.system_messages == "merged":
                    self._system.append(text)
                else:
                    role = self._dialect.developer_role if item.role == "developer" else "system"
                    self._add_entry({"role": role, "content": text})
            case role:
                expected = "expected user, assistant, system or developer"
                raise InvalidPrompt(f"a message has the role {role!r}; {expected}")

    def _add_other(self, item: OtherItem) -> None:
        match item.fields:
            case {"type": "additional_tools", "tools": [*definitions]}:
                for definition in definitions:
                    self._tools.add(definition)
            case {"content": [*parts]} if known := self._without_unknown_parts(item.fields, "content", parts):
                self.add(known)
            case {"output": [*parts]} if known := self._without_unknown_parts(item.fields, "output", parts):
                self.add(known)
            case _:
                self._dropped.append(f"item of type {item.type!r}")

    def _without_unknown_parts(
        self, fields: Mapping[str, Any], key: str, parts: Sequence[object]
    ) -> ResponseItem | None:
        """What is left of a message or an output without the parts, such as files, that nobody here knows."""
        unknown = [part for part in parts if isinstance(decode_item({**fields, key: [part]}), OtherItem)]
        item = decode_item({**fields, key: [part for part in parts if part not in unknown]})
        if isinstance(item, OtherItem):
            return None
        for part in unknown:
            kind = part.get("type") if isinstance(part, Mapping) else part
            self._dropped.append(f"content part of type {kind!r}")
        return item

    def _add_entry(self, message: _Json) -> None:
        self._answer = None
        self._entries.append(message)

    def _open_answer(self) -> _Answer:
        if self._answer is None:
            self._answer = _Answer()
            self._entries.append(self._answer)
        return self._answer

    def _add_call(self, call_id: str | None, tool: ToolOrigin, arguments: str, extra: Mapping[str, Any]) -> None:
        call_id = call_id or ""
        # Nulls are what an SDK writes for keys that were not there, and strict servers refuse unknown keys.
        extra = {key: value for key, value in extra.items() if value is not None}
        answer = self._open_answer()
        call = _Call(answer, self._call_ids.to_wire(call_id), self._tools.name(tool), arguments, extra)
        answer.calls.append(call)
        self._open_calls.setdefault(call_id, []).append(call)

    def _add_output(self, call_id: str | None, output: _Output) -> None:
        call_id = call_id or ""
        calls = self._open_calls.get(call_id)
        if not calls:
            self._early_outputs.setdefault(call_id, []).append(output)
            return
        call = next(call for call in calls if call.answer is calls[-1].answer)
        calls.remove(call)
        call.output = output
        if call.answer is self._answer:
            self._answer = None

    def _claim_early_outputs(self) -> None:
        for call_id, outputs in self._early_outputs.items():
            calls = self._open_calls.get(call_id, [])
            for call, output in zip(calls, outputs, strict=False):
                call.output = output
            if len(outputs) > len(calls):
                self._dropped.append(f"output of the unknown call {call_id!r}")

    def _answer_messages(self, answer: _Answer) -> Iterator[_Json]:
        message = self._assistant_message(answer)
        if message is not None:
            yield message
        images: list[_Json] = []
        for call in answer.calls:
            text, shown = self._output(call)
            yield {"role": "tool", "tool_call_id": call.wire_id, "content": text}
            if shown:
                images += [{"type": "text", "text": f"Output of the tool call {call.wire_id}:"}, *shown]
        if images:
            yield {"role": "user", "content": images}

    def _output(self, call: _Call) -> tuple[str, list[_Json]]:
        """Text for the tool message, where no server takes images, and images for the message after it."""
        if call.output is None:
            return _NO_OUTPUT, []
        if isinstance(call.output, str):
            return call.output, []
        parts = list(self._chat_parts(call.output))
        images = _images(parts)
        return _text(parts) or (_IMAGES_ONLY if images else ""), images

    def _assistant_message(self, answer: _Answer) -> _Json | None:
        back = self._dialect.reasoning_back
        if not (answer.texts or answer.calls):
            # Reasoning alone is no message that a server would take.
            if back == "always":
                self._dropped.append("reasoning without an answer")
            return None
        texts, refusals = answer.texts, answer.refusals
        if self._dialect.refusals == "content":
            texts, refusals = texts + refusals, []
        text = "\n\n".join(filter(None, texts))
        message: _Json = {"role": "assistant", "content": text or (None if answer.calls or refusals else "")}
        if refusals:
            message["refusal"] = "\n\n".join(refusals)
        if back == "always" or (back == "calls" and answer.calls):
            message |= self._reasoning_fields(answer.reasoning, text)
        if answer.calls:
            message["tool_calls"] = [
                {
                    **call.extra,
                    "id": call.wire_id,
                    "type": "function",
                    "function": {"name": call.name, "arguments": call.arguments},
                }
                for call in answer.calls
            ]
        return message

    def _reasoning_fields(self, reasoning: Sequence[Reasoning], text: str) -> _Json:
        """The fields of an assistant's message, with ``text`` as its answer, that hold its reasoning."""
        reasoning = [unsealed_reasoning(item) for item in reasoning]
        name = self._reasoning_name
        if name == "reasoning_details":
            details = [detail for item in reasoning for detail in _reasoning_details(item)]
            return {name: details} if details else {}
        if any(item.encrypted_content and not item.text for item in reasoning):
            self._dropped.append("encrypted reasoning")
        thought = "\n\n".join(item.text for item in reasoning if item.text)
        if not thought:
            return {}
        if name != "thinking":
            return {name: thought}
        answer = [{"type": "text", "text": text}] if text else []
        return {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": thought}]}, *answer]}

    def _chat_parts(self, parts: Iterable[ContentPart]) -> Iterator[_Json]:
        for part in parts:
            match part:
                case InputImage(None):
                    self._dropped.append("image without an address")
                case InputImage(url, detail):
                    image = {"url": url}
                    if detail is not None:
                        image["detail"] = "high" if detail == "original" else detail
                    yield {"type": "image_url", "image_url": image}
                case InputText(text) | OutputText(text) | Refusal(text) if text:
                    # An empty text is refused by some servers (Moonshot: "text content is empty").
                    yield {"type": "text", "text": text}

    def _name_lost_images(self, item: Message) -> None:
        if any(isinstance(part, InputImage) for part in item.content):
            self._dropped.append(f"image in a message of role {item.role!r}")

    def _name_lost_keys(self, item: _Spoken, parts: Iterable[ContentPart] = ()) -> None:
        """Names what is said under keys that turnwire does not know: calls alone have a place for them."""
        for source in (item, *parts):
            for key, value in source.extra.items():
                if key not in _BOOKKEEPING and value not in (None, [], {}):
                    self._dropped.append(f"key {key!r} of a {item.__struct_config__.tag}")


def _json_text(value: object) -> str:
    return prompt_json(value).decode()


def _text(parts: Iterable[_Json]) -> str:
    """Parts as one text, one to a line: what servers make of a list of parts themselves (llama.cpp, vLLM)."""
    return "\n".join(part["text"] for part in parts if part["type"] == "text")


def _images(parts: Iterable[_Json]) -> list[_Json]:
    return [part for part in parts if part["type"] == "image_url"]


def _reasoning_details(item: Reasoning) -> Iterator[_Json]:
    """The parts of OpenRouter's ``reasoning_details``."""
    if item.content:
        yield {"type": "reasoning.text", "text": item.text}
    elif item.summary:
        yield {"type": "reasoning.summary", "summary": item.text}
    if item.encrypted_content:
        yield {"type": "reasoning.encrypted", "data": item.encrypted_content}
