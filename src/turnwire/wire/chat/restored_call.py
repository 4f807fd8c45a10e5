"""Calls as the tools that they mean: a chat server knows functions only, so the call of any tool comes as a function's.

What a model writes for a custom tool is ``{"input": "…"}`` (see `turnwire.wire.chat.tool`), or it should be. Many
models are not held to JSON while they write, and what they mean is plain all the same:

========================================= =======================================================================
arguments                                 the tool's input
========================================= =======================================================================
an object that begins with ``input``      the text, in which a bare line break, or a backslash that begins no escape,
                                          stands for itself
… whose text has bare quotes in it        all of the text: a quote behind which the rest is not JSON ends nothing
… without its end                         the text as far as it came
an object with ``input`` further behind   the same text
anything else                             the arguments, as they are
========================================= =======================================================================
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeAlias

import msgspec

from turnwire.item import CustomToolCall, FunctionCall, ToolSearchCall
from turnwire.wire.chat.tool import ToolOrigin

__all__ = ["GrowingInput", "RestoredCall", "custom_input", "restored_call"]

RestoredCall: TypeAlias = FunctionCall | CustomToolCall | ToolSearchCall

_HEAD = re.compile(r'\s*\{\s*"input"\s*:\s*"')
_HEAD_QUOTES = 3
_MAX_HEAD = 100
"""Characters after which no beginning is waited for, which servers write in twelve."""

_STRING = re.compile(r'(?:[^"\\]++|\\[^u]|\\u[0-9a-fA-F]{4}|\\u(?![0-9a-fA-F]{0,3}\Z))*+', re.DOTALL)
"""What stands in a string up to a quote, up to the end, or up to an escape that the end has cut."""
_TAIL = re.compile(r'"[\s}]*')
_ESCAPE = re.compile(r'\\(?:u([0-9a-fA-F]{4})|(["\\/bfnrt]))')
_ESCAPES = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_SURROGATE = re.compile("[\ud800-\udfff]")


def restored_call(tool: ToolOrigin, arguments: str, call_id: str, extra: Mapping[str, Any] = {}) -> RestoredCall:
    """The call of a tool, given the arguments of the function that stands for it.

    A search that is no JSON object is one for the text itself: ``{"query": text}``.
    """
    match tool.type:
        case "custom":
            return CustomToolCall(tool.name, custom_input(arguments), call_id, namespace=tool.namespace, extra=extra)
        case "tool_search":
            return ToolSearchCall(_search(arguments), "client", call_id, extra=extra)
        case "function":
            return FunctionCall(tool.name, arguments, call_id, namespace=tool.namespace, extra=extra)


def custom_input(arguments: str) -> str:
    """What a custom tool is called with: see the table above."""
    head = _HEAD.match(arguments)
    if head is None:
        value = (_object(arguments) or {}).get("input")
        return value if isinstance(value, str) else arguments
    end = _string_end(arguments, head.end())
    if _object(head[0] + arguments[end:]) is None:
        end = _last_end(arguments, end)
    return _meaning(arguments[head.end() : end])


class GrowingInput:
    """The input of a custom tool while its arguments come in.

    All that `feed` gives is the beginning of what `custom_input` gives in the end, and `rest` is what it lacks.
    """

    __slots__ = ("_begun", "_high", "_over", "_pending", "_quotes", "_told")

    def __init__(self) -> None:
        self._begun = False
        self._over = False  # the rest of the arguments decides
        self._pending = ""
        self._quotes = 0
        self._high = ""  # the first half of a surrogate pair
        self._told = 0

    def feed(self, arguments: str) -> str:
        """What these arguments add."""
        if self._over:
            return ""
        self._pending += arguments
        if not self._begun:
            self._quotes += arguments.count('"')
            if self._quotes < _HEAD_QUOTES and len(self._pending) < _MAX_HEAD:
                return ""
            head = _HEAD.match(self._pending)
            if head is None:
                self._over = True
                return ""
            self._begun = True
            self._pending = self._pending[head.end() :]
        end = _string_end(self._pending, 0)
        text = self._high + _ESCAPE.sub(_escaped, self._pending[:end])
        self._pending = self._pending[end:]
        self._over = self._pending.startswith('"')
        self._high = text[-1:] if "\ud800" <= text[-1:] <= "\udbff" else ""
        added = _paired(text.removesuffix(self._high))
        self._told += len(added)
        return added

    def rest(self, whole: str) -> str:
        """What was not told of the whole input."""
        return whole[self._told :]


def _string_end(text: str, start: int) -> int:
    string = _STRING.match(text, start)
    assert string is not None  # noqa: S101 - it matches nothing as well
    return string.end()


def _last_end(text: str, quote: int) -> int:
    """Where a string ends of which no bare quote is the end that JSON says: at its last, if that closes the object."""
    end = quote
    while quote < len(text) and text[quote] == '"':
        end = quote
        quote = _string_end(text, quote + 1)
    return end if _TAIL.fullmatch(text, end) else len(text)


def _meaning(string: str) -> str:
    """What a string says, its escapes read; a backslash that begins none stands for itself."""
    return _paired(_ESCAPE.sub(_escaped, string))


def _escaped(escape: re.Match[str]) -> str:
    return chr(int(escape[1], 16)) if escape[1] else _ESCAPES[escape[2]]


def _paired(text: str) -> str:
    """The text with the halves of each character joined; a half without the other is U+FFFD, for JSON has no halves."""
    if _SURROGATE.search(text) is None:
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _search(arguments: str) -> Any:
    found = _object(arguments)
    if found is None:
        return {"query": arguments} if arguments.strip() else {}
    return found


def _object(text: str) -> dict[str, Any] | None:
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
