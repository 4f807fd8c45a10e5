"""Which conversation a request belongs to, so that all its turns meet where its prompt is cached.

The first of these that is there says it:

1. ``prompt_cache_key``, the API's own word for it (Codex: the thread's id);
2. the header ``thread-id``, then ``session-id``: a sub-agent has its parent's session and a thread of its own;
3. the prompt's head: the instructions and everything up to the first user message. A conversation that grows keeps it.
   One that goes on by ``previous_response_id`` has it too, for what went before is put back in front.

The caller is not part of it: equal prompts of two callers are one prompt to a cache.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from turnwire.gateway.routing import KEY_SIZE, conversation_key

__all__ = ["conversation_of", "named_conversation"]

_NAMED = "named"
_HEADERS = ("thread-id", "session-id", "session_id")
_MAX_HEAD = 64 * 1024
"""Bytes of a prompt that are looked at."""

_encode = msgspec.json.Encoder().encode


def conversation_of(fields: Mapping[str, Any], headers: Mapping[str, str]) -> bytes:
    """The key of a request's conversation: of its fields, in either API's form, and its headers in lower case."""
    cache_key = fields.get("prompt_cache_key")
    if isinstance(cache_key, str) and cache_key:
        return conversation_key(_NAMED, cache_key)
    return named_conversation(headers) or _head_key(fields)


def named_conversation(headers: Mapping[str, str]) -> bytes | None:
    """The key of the conversation that headers name; None where they name none.

    Codex gives its ``prompt_cache_key`` and its thread the same name, so it is the same key.
    """
    for header in _HEADERS:
        name = headers.get(header)
        if name:
            return conversation_key(_NAMED, name)
    return None


def _head_key(fields: Mapping[str, Any]) -> bytes:
    digest = hashlib.blake2b(digest_size=KEY_SIZE)
    left = _MAX_HEAD
    for piece in _head(fields):
        data = _encode(piece)[:left]
        digest.update(data)
        left -= len(data)
        if not left:
            break
    return digest.digest()


def _head(fields: Mapping[str, Any]) -> Iterable[Any]:
    """What a prompt begins with: each piece a JSON value."""
    yield fields.get("instructions")
    items = fields.get("messages") or fields.get("input")
    if not isinstance(items, list):
        yield items
        return
    for item in items:
        yield item
        if isinstance(item, dict) and item.get("role") == "user":
            return
