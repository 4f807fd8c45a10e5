"""Items in the form that they have on the wire of the Responses API: their ids, and their texts in one part.

Our own items may come from anywhere: those of a chat stream have no ids, and one part per delta.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any, TypeAlias

from turnwire.item import ResponseItem, encode_item

__all__ = ["ID_PREFIXES", "has_fitting_id", "item_fields"]

_Json: TypeAlias = dict[str, Any]

ID_PREFIXES: Mapping[str, str] = {
    "message": "msg_",
    "reasoning": "rs_",
    "function_call": "fc_",
    "function_call_output": "fco_",
    "custom_tool_call": "ctc_",
    "custom_tool_call_output": "ctco_",
    "local_shell_call": "lsh_",
    "web_search_call": "ws_",
    "tool_search_call": "tsc_",
    "tool_search_output": "tso_",
    "compaction": "cmp_",
}
"""How the ids of each kind of item begin."""

_TEXT_KEYS = {"input_text": "text", "output_text": "text", "reasoning_text": "text", "refusal": "refusal"}


def has_fitting_id(fields: Mapping[str, Any]) -> bool:
    """Whether an item's id begins as a Responses server's ids do; of a kind that turnwire does not know, any may."""
    item_id, prefix = fields.get("id"), ID_PREFIXES.get(str(fields.get("type")), "")
    return isinstance(item_id, str) and item_id.startswith(prefix) and item_id != prefix


def item_fields(item: ResponseItem) -> _Json:
    """The JSON object of an item, with neighbouring texts of one kind as one part."""
    fields = encode_item(item)
    if isinstance(content := fields.get("content"), list | tuple):
        fields["content"] = _joined(content)
    return fields


def _joined(parts: Sequence[Any]) -> list[Any]:
    """The parts, each run of bare texts as one; what a server said beside a text keeps it apart."""
    joined: list[Any] = []
    for kind, run in groupby(parts, _bare_kind):
        if kind is None:
            joined.extend(run)
        else:
            key = _TEXT_KEYS[kind]
            joined.append({"type": kind, key: "".join([part[key] for part in run])})
    return joined


def _bare_kind(part: Any) -> str | None:
    """The kind of a part that is a text and nothing else, None for any other."""
    kind = part.get("type") if isinstance(part, dict) and len(part) == 2 else None
    return kind if kind in _TEXT_KEYS and isinstance(part.get(_TEXT_KEYS[kind]), str) else None
