"""Texts of ours inside ``encrypted_content``, the one field that clients send back unread.

Codex keeps its history itself, and of a reasoning item it returns only what a server has encrypted; of a compacted
conversation there is nothing else. A chat server encrypts nothing, so the text itself travels there. It is packed, not
hidden: whoever holds it has seen it in the clear, and may as well have written it.
"""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

from msgspec.structs import replace

from turnwire.item import Reasoning, ReasoningText

__all__ = [
    "SUMMARY_NOTE",
    "SealedKind",
    "seal",
    "sealed_reasoning",
    "unseal",
    "unsealed_item",
    "unsealed_reasoning",
]

SealedKind: TypeAlias = Literal["reasoning", "compaction"]

_PREFIX = "turnwire.1."
"""Says whose it is and in which form, so that what other servers encrypted is never taken for ours."""

SUMMARY_NOTE = "The conversation so far was replaced by this summary of it:\n\n"
"""What a summary begins with where a model is shown it."""

_MAX_EXPANSION = 16
"""How many bytes of text one character may stand for. Prose packs to a third; what packs much better is a trap, or
else a text that repeats itself, which `seal` leaves unpacked."""


def seal(kind: SealedKind, text: str) -> str:
    """The text in a form that `unseal` reads, in visible ASCII; equal texts give equal seals."""
    data = text.encode("utf-8", "replace")
    sealed = _sealed(kind, data, level=6)
    return sealed if len(data) <= len(sealed) * _MAX_EXPANSION else _sealed(kind, data, level=0)


def unseal(kind: SealedKind, value: str) -> str | None:
    """The text that `seal` was given; None for what it has not made, at no more cost than the value's length."""
    prefix = _prefix(kind)
    if not value.startswith(prefix):
        return None
    limit = len(value) * _MAX_EXPANSION
    unpacking = zlib.decompressobj()
    try:
        packed = base64.b64decode(value[len(prefix) :].encode(), altchars=b"-_", validate=True)
        text = unpacking.decompress(packed, limit + 1).decode()
    except (binascii.Error, zlib.error, UnicodeError):
        return None
    return text if unpacking.eof and not unpacking.unused_data else None


def sealed_reasoning(item: Reasoning) -> Reasoning:
    """The item with its text in ``encrypted_content`` as well; one that a server has encrypted stays as it is."""
    if item.encrypted_content is not None or not item.text:
        return item
    return replace(item, encrypted_content=seal("reasoning", item.text))


def unsealed_reasoning(item: Reasoning) -> Reasoning:
    """The item with the text that was sealed in it, where it has lost its own, and without the seal."""
    text = None if item.encrypted_content is None else unseal("reasoning", item.encrypted_content)
    if text is None:
        return item
    return replace(item, content=item.content or (ReasoningText(text),), encrypted_content=None)


def unsealed_item(fields: Mapping[str, Any]) -> Mapping[str, Any]:
    """An item's JSON object as a Responses server that is not turnwire can read it: nothing of ours is sealed in it.

    A summary becomes a user's message, reasoning has its text in the open; anything else stays as it is.
    """
    match fields:
        case {"type": "compaction", "encrypted_content": str(value)}:
            if (summary := unseal("compaction", value)) is not None:
                part = {"type": "input_text", "text": SUMMARY_NOTE + summary}
                return {"type": "message", "role": "user", "content": [part]}
        case {"type": "reasoning", "encrypted_content": str(value)}:
            if (text := unseal("reasoning", value)) is not None:
                rest = {key: value for key, value in fields.items() if key != "encrypted_content"}
                return {**rest, "content": rest.get("content") or [{"type": "reasoning_text", "text": text}]}
    return fields


def _prefix(kind: SealedKind) -> str:
    return f"{_PREFIX}{kind}."


def _sealed(kind: SealedKind, data: bytes, *, level: int) -> str:
    return _prefix(kind) + base64.urlsafe_b64encode(zlib.compress(data, level)).decode()
