"""What a client sent as a JSON object, checked: where it does not fit, a sentence says where and what was expected."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from turnwire.errors import InvalidPrompt

__all__ = ["checked"]

_Kind = TypeVar("_Kind", bound=Struct)

_AT = r"(?: - at `\$\.?(?P<place>.*)`)?"
_MISTYPED = re.compile(r"Expected `(?P<expected>[\w| ]+)`, got `(?P<got>\w+)`" + _AT, re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(?P<name>.+?)`" + _AT, re.DOTALL)
_ANY = re.compile(r"(?P<fault>.*?)" + _AT, re.DOTALL)
_WORDS = {
    "array": "a list",
    "bool": "true or false",
    "float": "a number",
    "int": "an integer",
    "null": "null",
    "object": "an object",
    "str": "a text",
}


def checked(fields: Mapping[str, Any], kind: type[_Kind], where: str = "") -> _Kind:
    """The object as a record of this kind; ``where`` is the object's own place, such as ``input[2]``.

    Raises `InvalidPrompt`. Values are not quoted: they may be the prompt.
    """
    try:
        return msgspec.convert(fields, kind)
    except msgspec.ValidationError as error:
        raise InvalidPrompt(_sentence(str(error), where)) from None


def _sentence(error: str, where: str) -> str:
    """What msgspec found, in our words."""
    if found := _MISTYPED.fullmatch(error):
        expected = [_WORDS[word] for word in found["expected"].split(" | ") if word != "null"]
        return f"{_joined(where, found['place'])} is {_WORDS[found['got']]}; expected {' or '.join(expected)}"
    if found := _MISSING.fullmatch(error):
        return f"{_joined(where, found['place'], found['name'])} is missing; it must be given"
    found = _ANY.fullmatch(error)
    assert found is not None  # noqa: S101 - it matches anything
    return f"{_joined(where, found['place'])} has the wrong form: {found['fault']}"


def _joined(*places: str | None) -> str:
    return ".".join(filter(None, places)) or "the request"
