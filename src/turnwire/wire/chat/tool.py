"""The tools of a chat request: whatever a definition says a tool is, a chat server is told of a function.

These are tools as a request declares them; `turnwire.wire.chat.tool_call` gathers the calls that come back.

A tool in a namespace gets one flat name, a tool that takes free text (``custom``) one text parameter, the client's
own search for tools (``tool_search``) the API's name. `ToolOrigin` leads from the function's name back to the tool;
`turnwire.wire.chat.restored_call` takes that way.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

from msgspec import Struct

from turnwire.errors import InvalidPrompt
from turnwire.wire.chat.dialect import ChatDialect
from turnwire.wire.chat.schema import clean_schema

__all__ = ["ToolOrigin", "Tools", "flat_name"]

_MAX_NAME = 64
_DIGEST_LENGTH = 8
_KNOWN_KEYS = {
    "function": ("name", "description", "parameters", "strict"),
    "custom": ("name", "description", "format"),
    "tool_search": ("name", "description", "parameters", "execution"),
}
_NO_PARAMETERS = {"type": "object", "properties": {}}
_ONE_TEXT = {"type": "object", "properties": {"input": {"type": "string"}}, "required": ["input"]}

_Json: TypeAlias = dict[str, Any]
_ToolType: TypeAlias = Literal["function", "custom", "tool_search"]


class ToolOrigin(Struct, frozen=True):
    """The tool that a function stands for, by the names that the caller gave it; no two tools have all three alike."""

    type: _ToolType
    name: str
    namespace: str | None = None


def flat_name(name: str, namespace: str | None = None) -> str:
    """The one name under which a chat server knows a tool that lives in a namespace.

    Servers refuse names over 64 characters (OpenAI, DeepSeek, DashScope, Gemini). What a namespace makes longer is cut,
    and ends in a digest of the whole, which is the same in every request. A name without a namespace stays as it is.
    """
    if not namespace:
        return name
    flat = f"{namespace}__{name}"
    return flat if len(flat) <= _MAX_NAME else _marked(flat, flat)


class Tools:
    """The functions of one request by the names that they are sent under, from the prompt and from the history.

    What has no place in a chat request is named in ``dropped``.
    """

    def __init__(self, dialect: ChatDialect, dropped: list[str]) -> None:
        self.functions: dict[str, _Json] = {}
        self.origins: dict[str, ToolOrigin] = {}
        """The tool that each name stands for, be it declared or only called in the history."""
        self._names: dict[ToolOrigin, str] = {}
        self._schemas = dialect.tool_schemas
        self._dropped = dropped

    def add(self, definition: Any) -> list[str]:
        """Takes a definition in the Responses or the chat form; gives the names that it is sent under.

        Keys that turnwire does not know go along in the chat form, whose author wrote them for the server.

        Raises `InvalidPrompt` for a definition that makes no sense.
        """
        match definition:
            case {"type": "namespace", "name": str(namespace), "tools": [*tools]} if namespace:
                return self._add_namespace(namespace, definition.get("description"), tools)
            case {"type": "namespace"}:
                raise InvalidPrompt(f"a namespace of tools is {definition!r}; expected a name and a list of tools")
            case _:
                return self._add(definition)

    def name(self, tool: ToolOrigin) -> str:
        """The name that a tool is sent under, declared or not: no two tools have the same.

        Where two would (tool ``c`` of namespace ``a__b``, tool ``b__c`` of ``a``), the one that was asked for first has
        the flat name and the other one with a digest. So a conversation that grows keeps its earlier names.
        """
        name = self._names.get(tool)
        if name is None:
            flat = name = flat_name(tool.name, tool.namespace)
            identity = "\0".join((tool.type, tool.namespace or "", tool.name))
            while name in self.origins:
                name = _marked(flat, identity)
                identity += "\0"
            self._names[tool] = name
            self.origins[name] = tool
        return name

    def choice(self, choice: str | Mapping[str, Any] | None) -> str | _Json | None:
        """A ``tool_choice`` in the chat form; None where there is none, or none that could be carried over.

        Raises `InvalidPrompt` for one that names no tool of this request.
        """
        match choice:
            case None | "auto" | "none" | "required":
                return choice
            case {"type": "allowed_tools", "allowed_tools": {"mode": "auto" | "required" as mode, "tools": [*tools]}}:
                return self._allowed(mode, tools)
            case {"type": "allowed_tools", "mode": "auto" | "required" as mode, "tools": [*tools]}:
                return self._allowed(mode, tools)
            case _:
                function = self._chosen(choice)
                if function is None:
                    self._dropped.append(f"tool_choice {choice!r}")
                return function

    def _add_namespace(self, namespace: str, description: object, tools: Sequence[object]) -> list[str]:
        # Told with the first tool alone: a namespace may hold hundreds.
        note = f"All {namespace}__ tools: {description}" if description else None
        names: list[str] = []
        for tool in tools:
            names += self._add(tool, namespace, None if names else note)
        return names

    def _add(self, definition: Any, namespace: str | None = None, note: str | None = None) -> list[str]:
        """Takes one tool; ``note`` is put in front of its description."""
        beside: Mapping[str, Any] | None = None  # what stands next to the fields in the chat form
        match definition:
            case {"type": "function" as kind, "function": Mapping() as fields}:
                beside = _without(definition, "function")
            case {"type": "custom" as kind, "custom": Mapping() as fields}:
                beside = _without(definition, "custom")
            case {"type": "function" | "custom" as kind}:
                fields = _without(definition, "type")
            case {"type": "tool_search" as kind, "execution": "client"} if namespace is None:
                fields = {**_without(definition, "type"), "name": kind}
            case {"type": str(kind)}:
                self._dropped.append(f"tool of type {kind!r}")
                return []
            case _:
                raise InvalidPrompt(f"a tool is {definition!r}; expected an object with a type")
        unknown = _without(fields, *_KNOWN_KEYS[kind])
        if beside is None:
            self._dropped += [f"tool key {key!r}" for key, value in unknown.items() if value not in (None, False)]
            unknown, beside = {}, {}
        function = self._function(_custom_function(fields) if kind == "custom" else fields, note)
        name = function["name"] = self.name(ToolOrigin(kind, function["name"], namespace))
        tool = {**beside, "type": "function", "function": {**unknown, **function}}
        if self.functions.get(name, tool) != tool:
            self._dropped.append(f"earlier definition of the tool {name!r}")
        self.functions[name] = tool
        return [name]

    def _function(self, fields: Mapping[str, Any], note: str | None) -> _Json:
        name, description, parameters = fields.get("name"), fields.get("description"), fields.get("parameters")
        if not isinstance(name, str) or not name:
            raise InvalidPrompt(f"a tool's name is {name!r}; expected a text that is not empty")
        if description is not None and not isinstance(description, str):
            raise InvalidPrompt(f"the description of the tool {name!r} is {description!r}; expected a text")
        if parameters is not None and not isinstance(parameters, Mapping):
            raise InvalidPrompt(f"the parameters of the tool {name!r} are {parameters!r}; expected a JSON schema")
        function: _Json = {"name": name}
        if described := "\n\n".join(filter(None, (note, description))):
            function["description"] = described
        try:
            # Chat templates expect parameters even where there are none.
            function["parameters"] = clean_schema(parameters or _NO_PARAMETERS, self._schemas, self._dropped)
        except RecursionError:
            raise InvalidPrompt(f"the parameters of the tool {name!r} are nested too deep; flatten them") from None
        if fields.get("strict") is not None:
            function["strict"] = fields["strict"]
        return function

    def _allowed(self, mode: str, tools: Sequence[Any]) -> str | _Json:
        """The choice among some of the tools; where none of them is left, no tool may be called."""
        allowed: list[_Json] = []
        for tool in tools:
            function = self._chosen(tool)
            if function is None:
                self._dropped.append(f"allowed tool {tool!r}")
            else:
                allowed.append(function)
        if not allowed:
            return "none"
        return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": allowed}}

    def _chosen(self, tool: Any) -> _Json | None:
        """The function for a tool that a choice names; None for one that is no function."""
        match tool:
            case str(name) | {"type": "function", "function": {"name": str(name)}}:
                origin = ToolOrigin("function", name)
            case {"type": "custom" as kind, "custom": {"name": str(name)}}:
                origin = ToolOrigin(kind, name)
            case {"type": "function" | "custom" as kind, "name": str(name), "namespace": str(namespace)}:
                origin = ToolOrigin(kind, name, namespace or None)
            case {"type": "function" | "custom" as kind, "name": str(name)}:
                origin = ToolOrigin(kind, name)
            case {"type": "tool_search" as kind}:
                origin = ToolOrigin(kind, kind)
            case _:
                return None
        # A choice may call a custom tool a function, as a bare name does.
        name = self._names.get(origin) or flat_name(origin.name, origin.namespace)
        if name not in self.functions:
            known = ", ".join(self.functions)
            raise InvalidPrompt(f"tool_choice is {name!r}; expected auto, none, required or one of the tools: {known}")
        return {"type": "function", "function": {"name": name}}


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
    return {"name": fields.get("name"), "description": description, "parameters": _ONE_TEXT}


def _without(fields: Mapping[str, Any], *keys: str) -> _Json:
    return {key: value for key, value in fields.items() if key not in keys}


def _marked(name: str, identity: str) -> str:
    """A name that differs from its likes by a digest of what it stands for, cut to what servers take."""
    digest = hashlib.sha256(identity.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGEST_LENGTH]
    return f"{name[: _MAX_NAME - _DIGEST_LENGTH - 1]}_{digest}"
