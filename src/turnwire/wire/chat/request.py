"""Chat Completions requests: a `Prompt` as the body that a server of a given dialect accepts.

The work is in three parts, in the order of this file: the history becomes messages, the tools become functions,
and the rest of the prompt becomes fields. The file is long because the three are one: the history defines tools,
the tools decide the fields, and all of them add to one list of what the server's API has no place for.

The history is the hard part. A Responses history is a flat list of items; a chat history is a list of messages,
and servers insist that an assistant's message with N calls is followed by exactly N tool messages. So

* reasoning, text and calls that stand next to each other are one assistant message, whatever their order;
* an output goes behind its call, wherever it stood; it ends the assistant's message that holds its call;
* of several open calls under one id (``call_0`` in every round) it answers one of the latest message, the
  oldest first;
* a call without an output gets one that says so, and an output without a call is left out and named.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import msgspec
from msgspec import Struct

from turnwire.errors import InvalidPrompt
from turnwire.item import (
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
    decode_item,
)
from turnwire.prompt import Prompt
from turnwire.wire.chat.call_id import CallIds
from turnwire.wire.chat.dialect import ChatDialect, ReasoningName

__all__ = ["EncodedRequest", "encode_request", "flat_name"]

_NO_OUTPUT = "No output of this call was recorded."
_IMAGES_ONLY = "The output is shown below."
_BETWEEN_TOOL_AND_USER = "I have the output."
_SCHEMA_NOTE = "Answer with one JSON object that follows this JSON schema, and with nothing else:\n"

_REFERENCE = ChatDialect()
_ENCODER = msgspec.json.Encoder()

_Json: TypeAlias = dict[str, Any]
_Dropped: TypeAlias = dict[str, None]
"""A set that keeps its order."""


class EncodedRequest(Struct, frozen=True):
    """A request's body as JSON, and in a few words each what it could not carry over, for a log or a header."""

    body: bytes
    dropped: tuple[str, ...] = ()


def encode_request(
    prompt: Prompt,
    *,
    model: str,
    dialect: ChatDialect = _REFERENCE,
    reasoning_name: ReasoningName | None = None,
    stream: bool = True,
) -> EncodedRequest:
    """The request that asks ``model`` for an answer to ``prompt``.

    ``reasoning_name`` is the name that the server was seen to use for reasoning; it outranks the dialect's.
    Equal prompts give equal bytes. A conversation that grows keeps its earlier messages to the byte, which is
    what prompt caches live on, unless a call was still open or a system message is merged to the front.

    Raises `InvalidPrompt` for a tool definition, a tool choice or a role that makes no sense, and for values
    that JSON can't hold.
    """
    dropped: _Dropped = {}
    tools = _Tools(dialect, dropped)
    for definition in prompt.tools:
        tools.add(definition)
    history = _History(dialect, reasoning_name or dialect.reasoning_name, tools, dropped)
    for item in prompt.items:
        history.add(item)
    body = {
        "model": model,
        "messages": history.messages(_preamble(prompt, dialect)),
        **_tool_fields(prompt, dialect, tools, dropped),
        **_answer_fields(prompt, dialect, dropped),
        "stream": stream,
    }
    if stream and dialect.stream_options:
        body["stream_options"] = {"include_usage": True}
    return EncodedRequest(_json({**body, **prompt.extra}), tuple(dropped))


def flat_name(name: str, namespace: str | None = None) -> str:
    """The one name under which a chat server knows a tool that lives in a namespace."""
    return f"{namespace}__{name}" if namespace else name


def _json(value: object) -> bytes:
    try:
        return _ENCODER.encode(value)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise InvalidPrompt(
            f"the prompt holds a value that JSON can't: {error}; give text, numbers and the like"
        ) from error


def _json_text(value: object) -> str:
    return _json(value).decode()


# The history.


class _Turn(Struct, eq=False):
    """An assistant's message in the making."""

    texts: list[str] = []
    refusals: list[str] = []
    reasoning: list[Reasoning] = []
    calls: list[_Call] = []


class _Call(Struct, eq=False):
    """A call and, once it is found, its output."""

    turn: _Turn
    wire_id: str
    name: str
    arguments: str
    extra: Mapping[str, Any]
    output: str | Sequence[ContentPart] | None = None


class _History:
    """Items in, messages out."""

    def __init__(self, dialect: ChatDialect, reasoning_name: ReasoningName, tools: _Tools, dropped: _Dropped) -> None:
        self._dialect = dialect
        self._reasoning_name = reasoning_name
        self._tools = tools
        self._dropped = dropped
        self._call_ids = CallIds(dialect.call_ids)
        self._system: list[str] = []
        self._entries: list[_Json | _Turn] = []
        self._turn: _Turn | None = None
        self._open_calls: dict[str, list[_Call]] = {}
        self._early_outputs: dict[str, list[str | Sequence[ContentPart]]] = {}

    def add(self, item: ResponseItem) -> None:
        """Take the next item of the conversation."""
        match item:
            case Message():
                self._add_message(item)
            case Reasoning():
                self._open_turn().reasoning.append(item)
            case FunctionCall():
                # Chat templates parse the arguments, and nothing is no JSON.
                arguments = item.arguments if item.arguments.strip() else "{}"
                self._add_call(item.call_id, flat_name(item.name, item.namespace), arguments, item.extra)
            case CustomToolCall():
                self._add_call(item.call_id, flat_name(item.name, item.namespace), _json_text({"input": item.input}))
            case LocalShellCall():
                self._add_call(item.call_id or item.id or "", "local_shell", _json_text(item.action))
            case ToolSearchCall():
                self._add_call(item.call_id or "", "tool_search", _json_text(item.arguments))
            case FunctionCallOutput() | CustomToolCallOutput():
                self._add_output(item.call_id, item.output)
            case ToolSearchOutput():
                found = [name for definition in item.tools for name in self._tools.add(definition)]
                self._add_output(item.call_id or "", _json_text({"tools": found}))
            case OtherItem():
                self._add_other(item)
            case _:
                self._dropped[f"item of type {item.__struct_config__.tag!r}"] = None

    def messages(self, preamble: Sequence[str]) -> list[_Json]:
        """The conversation, once all items are in; ``preamble`` is what the first system message begins with."""
        self._claim_early_outputs()
        system = "\n\n".join(filter(None, (*preamble, *self._system)))
        messages: list[_Json] = [{"role": "system", "content": system}] if system else []
        refused_after_tool = ("system", "developer", "user") if self._dialect.user_after_tool == "refused" else ()
        for entry in self._entries:
            for message in self._turn_messages(entry) if isinstance(entry, _Turn) else (entry,):
                if message["role"] in refused_after_tool and messages and messages[-1]["role"] == "tool":
                    messages.append({"role": "assistant", "content": _BETWEEN_TOOL_AND_USER})
                messages.append(message)
        return messages

    def _add_message(self, item: Message) -> None:
        match item.role:
            case "assistant":
                turn = self._open_turn()
                turn.texts.append(item.text)
                turn.refusals += [part.refusal for part in item.content if isinstance(part, Refusal)]
                self._drop_images(item)
            case "user":
                parts = list(self._chat_parts(item.content))
                self._add_entry({"role": "user", "content": parts if _images(parts) else _text(parts)})
            case "system" | "developer":
                text = _text(self._chat_parts(item.content))
                self._drop_images(item)
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
                self._dropped[f"item of type {item.type!r}"] = None

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
            self._dropped[f"content part of type {kind!r}"] = None
        return item

    def _add_entry(self, message: _Json) -> None:
        self._turn = None
        self._entries.append(message)

    def _open_turn(self) -> _Turn:
        if self._turn is None:
            self._turn = _Turn()
            self._entries.append(self._turn)
        return self._turn

    def _add_call(self, call_id: str, name: str, arguments: str, extra: Mapping[str, Any] = {}) -> None:
        turn = self._open_turn()
        call = _Call(turn, self._call_ids.to_wire(call_id), name, arguments, extra)
        turn.calls.append(call)
        self._open_calls.setdefault(call_id, []).append(call)

    def _add_output(self, call_id: str, output: str | Sequence[ContentPart]) -> None:
        calls = self._open_calls.get(call_id)
        if not calls:
            self._early_outputs.setdefault(call_id, []).append(output)
            return
        call = next(call for call in calls if call.turn is calls[-1].turn)
        calls.remove(call)
        call.output = output
        if call.turn is self._turn:
            self._turn = None

    def _claim_early_outputs(self) -> None:
        for call_id, outputs in self._early_outputs.items():
            calls = self._open_calls.get(call_id, [])
            for call, output in zip(calls, outputs, strict=False):
                call.output = output
            if len(outputs) > len(calls):
                self._dropped[f"output of the unknown call {call_id!r}"] = None

    def _turn_messages(self, turn: _Turn) -> Iterator[_Json]:
        message = self._assistant_message(turn)
        if message is not None:
            yield message
        images: list[_Json] = []
        for call in turn.calls:
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

    def _assistant_message(self, turn: _Turn) -> _Json | None:
        back = self._dialect.reasoning_back
        if not (turn.texts or turn.calls):
            # Reasoning alone is no message that a server would take.
            if back == "always":
                self._dropped["reasoning without an answer"] = None
            return None
        texts, refusals = turn.texts, turn.refusals
        if self._dialect.refusals == "content":
            texts, refusals = texts + refusals, []
        text = "\n\n".join(filter(None, texts))
        message: _Json = {"role": "assistant", "content": text or (None if turn.calls or refusals else "")}
        if refusals:
            message["refusal"] = "\n\n".join(refusals)
        if turn.reasoning and (back == "always" or (back == "calls" and turn.calls)):
            message |= self._reasoning_fields(turn.reasoning, text)
        if turn.calls:
            message["tool_calls"] = [
                {
                    **call.extra,
                    "id": call.wire_id,
                    "type": "function",
                    "function": {"name": call.name, "arguments": call.arguments},
                }
                for call in turn.calls
            ]
        return message

    def _reasoning_fields(self, reasoning: Sequence[Reasoning], text: str) -> _Json:
        """The fields of an assistant's message, with ``text`` as its answer, that hold its reasoning."""
        name = self._reasoning_name
        if name == "reasoning_details":
            details = [detail for item in reasoning for detail in _reasoning_details(item)]
            return {name: details} if details else {}
        if any(item.encrypted_content and not item.text for item in reasoning):
            self._dropped["encrypted reasoning"] = None
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
                case InputText(text) | OutputText(text) | Refusal(text):
                    # Some servers refuse an empty text (Moonshot: "text content is empty").
                    if text:
                        yield {"type": "text", "text": text}
                case InputImage(None):
                    self._dropped["image without an address"] = None
                case InputImage(url, detail):
                    image = {"url": url}
                    if detail is not None:
                        image["detail"] = "high" if detail == "original" else detail
                    yield {"type": "image_url", "image_url": image}

    def _drop_images(self, item: Message) -> None:
        if any(isinstance(part, InputImage) for part in item.content):
            self._dropped[f"image in a message of role {item.role!r}"] = None


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


# The tools.

_SCHEMAS_BY_NAME = frozenset(("properties", "patternProperties", "$defs", "definitions", "dependentSchemas"))
_PLAIN_DATA = frozenset(("const", "default", "enum", "example", "examples", "required"))
_REFUSED_BY_PLAIN = frozenset(("$schema", "additionalProperties"))


class _Tools:
    """The functions of a request by the name they are sent under, from the prompt and from the history."""

    def __init__(self, dialect: ChatDialect, dropped: _Dropped) -> None:
        self.functions: dict[str, _Json] = {}
        self._plain = dialect.tool_schemas == "plain"
        self._dropped = dropped

    def add(self, definition: Any, namespace: str | None = None, note: str | None = None) -> list[str]:
        """Take a definition in the Responses or the chat form; gives the names it will be called by.

        ``note`` is put in front of its description.
        """
        match definition:
            case {"type": "function", "function": Mapping() as function} | ({"type": "function"} as function):
                return [self._add_function(function, namespace, note)]
            case {"type": "custom", "custom": Mapping() as custom} | ({"type": "custom"} as custom):
                return [self._add_function(_custom_function(custom), namespace, note)]
            case {"type": "tool_search", "execution": "client"}:
                return [self._add_function({"name": "tool_search", **definition}, namespace, note)]
            case {"type": "namespace", "name": str(name), "tools": [*tools]}:
                return self._add_namespace(flat_name(name, namespace), definition.get("description"), tools)
            case {"type": "namespace"}:
                raise InvalidPrompt(f"a namespace of tools is {definition!r}; expected a name and a list of tools")
            case {"type": str(kind)}:
                self._dropped[f"tool of type {kind!r}"] = None
                return []
            case _:
                raise InvalidPrompt(f"a tool is {definition!r}; expected an object with a type")

    def _add_namespace(self, namespace: str, description: object, tools: Sequence[object]) -> list[str]:
        # Told with the first tool alone: a namespace may hold hundreds.
        note = f"All {namespace}__ tools: {description}" if description else None
        names: list[str] = []
        for tool in tools:
            names += self.add(tool, namespace, None if names else note)
        return names

    def _add_function(self, fields: Mapping[str, Any], namespace: str | None, note: str | None) -> str:
        name, description, parameters = fields.get("name"), fields.get("description"), fields.get("parameters")
        if not isinstance(name, str) or not name:
            raise InvalidPrompt(f"a tool's name is {name!r}; expected a text that is not empty")
        if description is not None and not isinstance(description, str):
            raise InvalidPrompt(f"the description of the tool {name!r} is {description!r}; expected a text")
        if parameters is not None and not isinstance(parameters, Mapping):
            raise InvalidPrompt(f"the parameters of the tool {name!r} are {parameters!r}; expected a JSON schema")
        wire_name = flat_name(name, namespace)
        function: _Json = {"name": wire_name}
        if described := "\n\n".join(filter(None, (note, description))):
            function["description"] = described
        try:
            # Chat templates expect parameters even where there are none.
            function["parameters"] = self._schema(parameters or {"type": "object", "properties": {}})
        except RecursionError:
            raise InvalidPrompt(f"the parameters of the tool {name!r} are nested too deep; flatten them") from None
        if fields.get("strict") is not None:
            function["strict"] = fields["strict"]
        tool = {"type": "function", "function": function}
        if self.functions.get(wire_name, tool) != tool:
            self._dropped[f"earlier definition of the tool {wire_name!r}"] = None
        self.functions[wire_name] = tool
        return wire_name

    def _schema(self, schema: Any) -> Any:
        """A schema without the keywords that the server does not know; what only looks like one is left alone."""
        if isinstance(schema, list | tuple):
            return [self._schema(part) for part in schema]
        if not isinstance(schema, Mapping):
            return schema
        known: _Json = {}
        for keyword, value in schema.items():
            if (keyword == "encrypted" and value is True) or (self._plain and keyword in _REFUSED_BY_PLAIN):
                continue
            if keyword in _PLAIN_DATA:
                known[keyword] = value
            elif keyword in _SCHEMAS_BY_NAME and isinstance(value, Mapping):
                known[keyword] = {name: self._schema(part) for name, part in value.items()}
            elif keyword == "type" and self._plain and isinstance(value, list | tuple):
                known[keyword] = next((kind for kind in value if kind != "null"), "null")
            else:
                known[keyword] = self._schema(value)
        return known


def _custom_function(fields: Mapping[str, Any]) -> _Json:
    """A tool that takes free text as a function of one text, its grammar told in words."""
    description = fields.get("description")
    match fields.get("format"):
        case {"type": "grammar", "syntax": syntax, "definition": definition} | {
            "type": "grammar",
            "grammar": {"syntax": syntax, "definition": definition},
        }:
            told = f"The input follows this {syntax} grammar:\n{definition}"
            description = f"{description}\n\n{told}" if description else told
    parameters = {"type": "object", "properties": {"input": {"type": "string"}}, "required": ["input"]}
    return {"name": fields.get("name"), "description": description, "parameters": parameters}


# The rest.


def _preamble(prompt: Prompt, dialect: ChatDialect) -> list[str]:
    preamble = [prompt.instructions] if prompt.instructions else []
    if prompt.output_schema is not None and dialect.output_schemas == "json_object":
        preamble.append(_SCHEMA_NOTE + _json_text(prompt.output_schema))
    return preamble


def _tool_fields(prompt: Prompt, dialect: ChatDialect, tools: _Tools, dropped: _Dropped) -> _Json:
    """The fields about tools: all or, where there are no tools, none, since servers refuse an empty list."""
    if not tools.functions:
        if prompt.tool_choice not in (None, "auto", "none"):
            dropped["tool_choice, as there are no tools"] = None
        return {}
    fields: _Json = {"tools": list(tools.functions.values())}
    choice = _tool_choice(prompt.tool_choice, tools, dropped)
    if choice is not None:
        fields["tool_choice"] = choice
    if prompt.parallel_tool_calls is not None and dialect.parallel_tool_calls:
        fields["parallel_tool_calls"] = prompt.parallel_tool_calls
    elif prompt.parallel_tool_calls is False:
        dropped["parallel_tool_calls"] = None
    return fields


def _tool_choice(choice: str | Mapping[str, Any] | None, tools: _Tools, dropped: _Dropped) -> str | _Json | None:
    match choice:
        case None | "auto" | "none" | "required":
            return choice
        case str(name):
            pass
        case {"type": "function", "function": {"name": str(name)}} | {"type": "custom", "custom": {"name": str(name)}}:
            pass
        case {"type": "function" | "custom", "name": str(name), "namespace": str(namespace)}:
            name = flat_name(name, namespace)
        case {"type": "function" | "custom", "name": str(name)}:
            pass
        case {"type": "tool_search"}:
            name = "tool_search"
        case _:
            dropped[f"tool_choice {choice!r}"] = None
            return None
    if name not in tools.functions:
        known = ", ".join(tools.functions)
        raise InvalidPrompt(f"tool_choice is {name!r}; expected auto, none, required or one of the tools: {known}")
    return {"type": "function", "function": {"name": name}}


def _answer_fields(prompt: Prompt, dialect: ChatDialect, dropped: _Dropped) -> _Json:
    """The fields about the answer: its form, the effort spent on it, its length, its temperature."""
    fields: _Json = {}
    if prompt.output_schema is not None:
        if dialect.output_schemas == "json_schema":
            schema = {"name": "output_schema", "strict": True, "schema": prompt.output_schema}
            fields["response_format"] = {"type": "json_schema", "json_schema": schema}
        else:
            fields["response_format"] = {"type": "json_object"}
    reasoning = {key: value for key, value in (prompt.reasoning or {}).items() if value is not None}
    if reasoning and dialect.reasoning_effort == "reasoning":
        fields["reasoning"] = reasoning
    else:
        if "effort" in reasoning and dialect.reasoning_effort == "reasoning_effort":
            fields["reasoning_effort"] = reasoning.pop("effort")
        dropped.update(dict.fromkeys(f"reasoning.{key}" for key in reasoning))
    if prompt.max_output_tokens is not None:
        fields[dialect.max_tokens_name] = prompt.max_output_tokens
    if prompt.temperature is not None:
        fields["temperature"] = prompt.temperature
    return fields
