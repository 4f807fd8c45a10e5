"""Plain chunks, which are nearly all of a stream: each brings more of one thing, and nothing else.

Each kind has a view that fits nothing else: one choice, the first, with a text under one name or more of one call's
arguments, and no finish, usage or error. msgspec sees to that in the pass that it makes anyway, so that nobody needs to
look at such a chunk again. What a view refuses is read by `turnwire.wire.chat.chunk`, which takes anything.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal, TypeAlias

import msgspec
from msgspec import Meta, Struct, defstruct

from turnwire.wire.chat.chunk import Delta

__all__ = ["Fragment", "PlainName", "TextName", "plain_decoders"]

TextName: TypeAlias = Literal["content", "reasoning", "reasoning_content"]
PlainName: TypeAlias = Literal[TextName, "tool_calls"]

_Empty: TypeAlias = Literal[""] | None
_EMPTY_TEXTS = frozenset({"content", "reasoning", "reasoning_content", "refusal"})


class _Function(Struct, gc=False):
    arguments: str
    name: _Empty = None


class Fragment(Struct, forbid_unknown_fields=True, gc=False):
    """More of the arguments of the call at an index."""

    index: Annotated[int, Meta(ge=0)]
    function: _Function
    id: _Empty = None
    type: Literal["function"] | None = None


def _decoder(name: PlainName, value: Any) -> Callable[[bytes], Any]:
    others = [
        (field, _Empty if field in _EMPTY_TEXTS else None, None) for field in Delta.__struct_fields__ if field != name
    ]
    delta: Any = defstruct("PlainDelta", [("value", value), *others], rename={"value": name}, gc=False)
    choice: Any = defstruct(
        "PlainChoice",
        [("delta", delta), ("finish_reason", _Empty, None), ("message", None, None), ("index", Literal[0], 0)],
        gc=False,
    )
    absent = [(field, None, None) for field in ("usage", "error", "timings")]
    return msgspec.json.Decoder(defstruct("PlainChunk", [("choices", tuple[choice]), *absent], gc=False)).decode


plain_decoders: dict[PlainName, Callable[[bytes], Any]] = {
    "content": _decoder("content", str),
    "reasoning": _decoder("reasoning", str),
    "reasoning_content": _decoder("reasoning_content", str),
    "tool_calls": _decoder("tool_calls", tuple[Fragment]),
}
"""By what the chunks bring, which is ``.choices[0].delta.value``: a text, or a tuple of one `Fragment`.

Whatever else they are given is a `msgspec.DecodeError`, a `UnicodeDecodeError` or a `RecursionError`.
"""
