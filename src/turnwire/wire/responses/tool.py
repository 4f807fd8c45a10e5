"""The tools of a Responses request: definitions and choices in either API's form, in the Responses form."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from turnwire.errors import InvalidPrompt

__all__ = ["encode_choice", "encode_tool"]

_Json: TypeAlias = dict[str, Any]


def encode_tool(definition: Any) -> _Json:
    """A tool's definition; what is in the Responses form already goes as it is, of whatever type.

    The chat form puts the fields of a function, or of a custom tool, one level deeper. There a function is not strict
    unless it says so, while here it would be: that is written out.

    Raises `InvalidPrompt` for what is no definition.
    """
    match definition:
        case {"type": "function", "function": Mapping() as fields}:
            return {**_without(definition, "function"), "strict": False, **fields}
        case {"type": "custom", "custom": Mapping() as fields}:
            tool = {**_without(definition, "custom"), **fields}
            match fields.get("format"):
                case {"type": "grammar", "grammar": Mapping() as grammar}:
                    tool["format"] = {"type": "grammar", **grammar}
            return tool
        case {"type": str()}:
            return dict(definition)
        case _:
            raise InvalidPrompt(f"a tool is {definition!r}; expected an object with a type")


def encode_choice(choice: str | Mapping[str, Any], tools: Sequence[Mapping[str, Any]]) -> Any:
    """A ``tool_choice``; ``tools`` are the request's, as `encode_tool` gives them.

    A bare name is that of one of the tools, else `InvalidPrompt`.
    """
    match choice:
        case "auto" | "none" | "required":
            return choice
        case str():
            return _by_name(choice, tools)
        case {"type": "function" as kind, "function": {"name": str(name)}}:
            return {"type": kind, "name": name}
        case {"type": "custom" as kind, "custom": {"name": str(name)}}:
            return {"type": kind, "name": name}
        case {"type": "allowed_tools" as kind, "allowed_tools": {"tools": [*allowed], **fields}}:
            return {"type": kind, **fields, "tools": [encode_choice(tool, tools) for tool in allowed]}
        case _:
            return choice


def _by_name(name: str, tools: Sequence[Mapping[str, Any]]) -> _Json:
    callable_tools = list(_callable(tools))
    for tool, namespace in callable_tools:
        if tool["name"] == name:
            return {"type": tool["type"], "name": name, **({"namespace": namespace} if namespace else {})}
    known = ", ".join(str(tool["name"]) for tool, _ in callable_tools)
    raise InvalidPrompt(f"tool_choice is {name!r}; expected auto, none, required or one of the tools: {known}")


def _callable(
    tools: Sequence[Mapping[str, Any]], namespace: str | None = None
) -> Iterator[tuple[Mapping[str, Any], str | None]]:
    """The tools that can be called by name, those of namespaces included."""
    for tool in tools:
        match tool:
            case {"type": "namespace", "name": str(inner), "tools": [*members]}:
                yield from _callable(members, inner)
            case {"type": "function" | "custom", "name": str()}:
                yield tool, namespace


def _without(fields: Mapping[str, Any], key: str) -> _Json:
    return {name: value for name, value in fields.items() if name != key}
