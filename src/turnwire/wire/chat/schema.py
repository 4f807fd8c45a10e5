"""The JSON schema of a tool's parameters, without the words that a server refuses.

Every server is spared ``"encrypted": true``, a word of Codex alone. Those that know plain schemas only (Gemini,
Moonshot) are spared more: see ``tool_schemas`` of `ChatDialect`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

__all__ = ["clean_schema"]

_SCHEMAS_BY_NAME = frozenset(("properties", "patternProperties", "$defs", "definitions", "dependentSchemas"))
_PLAIN_DATA = frozenset(("const", "default", "enum", "example", "examples", "required"))
_REFUSED_BY_PLAIN = frozenset(("$schema", "$defs", "definitions", "additionalProperties"))
_OUTLINE = ("type", "description")

_MAX_INLINED = 500
"""How many references of one schema are inlined: thirty definitions, each with the next one twice, are a billion."""

_Json: TypeAlias = dict[str, Any]


def clean_schema(schema: Mapping[str, Any], style: Literal["any", "plain"], dropped: list[str]) -> _Json:
    """A copy of the schema in words that the server knows; what only looks like a keyword is left alone.

    In the plain style references within the schema (``"$ref": "#/$defs/City"``) give way to what they refer to. Of one
    that leads back into itself, leads nowhere or is one too many, an outline is left, and it is named in ``dropped``.

    Raises `RecursionError` for a schema that is nested too deep.
    """
    return _Copy(schema, plain=style == "plain", dropped=dropped).schema(schema)


class _Copy:
    """One schema in the copying."""

    def __init__(self, root: Mapping[str, Any], *, plain: bool, dropped: list[str]) -> None:
        self._root = root
        self._plain = plain
        self._dropped = dropped
        self._references: list[str] = []  # that lead to where the copy is, outermost first
        self._inlined = 0

    def schema(self, schema: Mapping[str, Any]) -> _Json:
        copy: _Json = {}
        for keyword, value in schema.items():
            if keyword == "encrypted" and value is True:
                continue
            if self._plain and keyword in _REFUSED_BY_PLAIN:
                continue
            if self._plain and keyword == "$ref" and isinstance(value, str):
                # What stands beside a reference outranks what it refers to.
                copy = {**self._target(value), **copy}
            elif self._plain and keyword == "type" and isinstance(value, list | tuple):
                copy[keyword] = next((kind for kind in value if kind != "null"), "null")
            elif keyword in _PLAIN_DATA:
                copy[keyword] = value
            elif keyword in _SCHEMAS_BY_NAME and isinstance(value, Mapping):
                copy[keyword] = {name: self._value(part) for name, part in value.items()}
            else:
                copy[keyword] = self._value(value)
        return copy

    def _value(self, value: Any) -> Any:
        match value:
            case Mapping():
                return self.schema(value)
            case list() | tuple():
                return [self._value(part) for part in value]
        return value

    def _target(self, reference: str) -> _Json:
        """What a reference stands for, or the outline of it where it can't be inlined."""
        target = _resolve(reference, self._root)
        if target is None or reference in self._references or self._inlined == _MAX_INLINED:
            self._dropped.append(f"schema reference {reference!r}")
            known = target or {}
            return self.schema({keyword: known[keyword] for keyword in _OUTLINE if keyword in known})
        self._inlined += 1
        self._references.append(reference)
        copy = self.schema(target)
        self._references.pop()
        return copy


def _resolve(reference: str, root: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The schema that a JSON pointer in a fragment (RFC 6901, section 6) points to within ``root``; None if none."""
    place, *path = reference.split("/")
    if place != "#":
        return None
    target: Any = root
    for step in path:
        key = step.replace("~1", "/").replace("~0", "~")
        match target:
            case Mapping():
                target = target.get(key)
            case list() | tuple():
                target = {str(index): part for index, part in enumerate(target)}.get(key)
            case _:
                return None
    return target if isinstance(target, Mapping) else None
