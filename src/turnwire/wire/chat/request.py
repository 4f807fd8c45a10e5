"""Chat Completions requests: a `Prompt` as the body that a server of a given dialect accepts.

The history becomes messages, the tools become functions, and the rest of the prompt becomes fields. The three hang
together: the history may bring tools, the tools decide on fields, and all name what the server's API has no place for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from msgspec import Struct

from turnwire.item import CustomToolCall, FunctionCall, LocalShellCall, ToolSearchCall
from turnwire.prompt import Prompt
from turnwire.wire.chat.dialect import ChatDialect, ReasoningName
from turnwire.wire.chat.history import History
from turnwire.wire.chat.tool import ToolOrigin, Tools
from turnwire.wire.prompt_json import prompt_json

__all__ = ["EncodedRequest", "encode_request"]

_SCHEMA_NOTE = "Answer with one JSON object that follows this JSON schema, and with nothing else:\n"

_OUTPUT_NAME = "output_schema"

_RESPONSES_ONLY = ("verbosity", "prompt_cache_key", "client_metadata", "store", "include", "service_tier")

_REFERENCE = ChatDialect()
_CALLS = FunctionCall | CustomToolCall | LocalShellCall | ToolSearchCall

_Json: TypeAlias = dict[str, Any]


class EncodedRequest(Struct, frozen=True):
    """A request, ready to be sent."""

    body: bytes
    """JSON."""
    dropped: tuple[str, ...] = ()
    """What it could not carry over, in a few words each, for a log or a header."""
    tools: Mapping[str, ToolOrigin] = {}
    """By the name of each function that it sends or whose calls it repeats, the tool that a call of that name means."""
    call_ids: frozenset[str] = frozenset()
    """The ids that the conversation's calls came with: an answer's calls must have others."""


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

    Raises `InvalidPrompt` for a tool definition, a tool choice, an item or a role that makes no sense, and for values
    that JSON can't hold.
    """
    dropped: list[str] = []
    tools = Tools(dialect, dropped)
    for definition in prompt.tools:
        tools.add(definition)
    history = History(dialect, reasoning_name or dialect.reasoning_name, tools, dropped)
    items = prompt.items
    for item in items:
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
    once_each = tuple(dict.fromkeys(dropped))
    call_ids = frozenset(item.call_id for item in items if isinstance(item, _CALLS) and item.call_id)
    return EncodedRequest(prompt_json({**body, **prompt.extra}), once_each, tools.origins, call_ids)


def _preamble(prompt: Prompt, dialect: ChatDialect) -> list[str]:
    """What the first system message begins with."""
    preamble = [prompt.instructions] if prompt.instructions else []
    if dialect.output_schemas == "json_object":
        match _output_format(prompt.output_schema):
            case {"schema": schema}:
                preamble.append(_SCHEMA_NOTE + prompt_json(schema).decode())
    return preamble


def _tool_fields(prompt: Prompt, dialect: ChatDialect, tools: Tools, dropped: list[str]) -> _Json:
    """The fields about tools: all or, where there are no tools, none, since servers refuse an empty list."""
    if not tools.functions:
        if prompt.tool_choice not in (None, "auto", "none"):
            dropped.append("tool_choice, as there are no tools")
        return {}
    fields: _Json = {"tools": list(tools.functions.values())}
    choice = tools.choice(prompt.tool_choice)
    if choice is not None:
        fields["tool_choice"] = choice
    if prompt.parallel_tool_calls is not None and dialect.parallel_tool_calls:
        fields["parallel_tool_calls"] = prompt.parallel_tool_calls
    elif prompt.parallel_tool_calls is False:
        dropped.append("parallel_tool_calls")
    return fields


def _answer_fields(prompt: Prompt, dialect: ChatDialect, dropped: list[str]) -> _Json:
    """The fields about the answer: its form, the effort spent on it, its length, its temperature."""
    fields: _Json = {}
    if prompt.output_schema is not None:
        fields["response_format"] = _response_format(prompt.output_schema, dialect)
    reasoning = {key: value for key, value in (prompt.reasoning or {}).items() if value is not None}
    if reasoning and dialect.reasoning_effort == "reasoning":
        fields["reasoning"] = reasoning
    else:
        if "effort" in reasoning and dialect.reasoning_effort == "reasoning_effort":
            fields["reasoning_effort"] = reasoning.pop("effort")
        dropped += [f"reasoning.{key}" for key in reasoning]
    if prompt.max_output_tokens is not None:
        fields[dialect.max_tokens_name] = prompt.max_output_tokens
    if prompt.temperature is not None:
        fields["temperature"] = prompt.temperature
    dropped += [name for name in _RESPONSES_ONLY if getattr(prompt, name)]
    return fields


def _response_format(schema: Mapping[str, Any], dialect: ChatDialect) -> _Json:
    form = _output_format(schema)
    if form is None or dialect.output_schemas == "json_object":
        return {"type": "json_object"}
    return {"type": "json_schema", "json_schema": form}


def _output_format(schema: Mapping[str, Any] | None) -> _Json | None:
    """The schema with its name and whether it is strict; None where any object will do, or any text.

    A prompt may give that as the Responses API's own object, which no JSON schema can be taken for: it is of a type
    that JSON does not have.
    """
    match schema:
        case None | {"type": "json_object"}:
            return None
        case {"type": "json_schema"}:
            return {key: value for key, value in schema.items() if key != "type"}
        case _:
            return {"name": _OUTPUT_NAME, "strict": True, "schema": schema}
