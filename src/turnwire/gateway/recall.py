"""What a request leaves out, looked up: in its connection's memory, and in the store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from turnwire.errors import InvalidPrompt, PreviousResponseNotFound
from turnwire.gateway.conversation import (
    Item,
    forgotten,
    history_of,
    items_of,
    referenced_ids,
    require_calls,
    resolved,
)
from turnwire.gateway.memory import ConnectionMemory
from turnwire.gateway.store import ResponseStore

__all__ = ["Recalled", "recall"]


class Recalled(Struct, frozen=True):
    """A request with nothing left out."""

    fields: Mapping[str, Any]
    """The request's, with the whole conversation as ``input``. ``previous_response_id`` is still there, for the
    response repeats it; an upstream must not see it."""
    items: Sequence[Item]
    """The whole conversation: what a `ConnectionMemory` remembers as the response's input."""
    input_items: Sequence[Item]
    """What a `StoredResponse` is to hold of it: the request's own items, or all where the store has not the rest."""
    previous_response_id: str | None
    """The kept response that the `StoredResponse` goes on from."""


async def recall(
    fields: Mapping[str, Any],
    tenant: str,
    *,
    store: ResponseStore | None = None,
    memory: ConnectionMemory | None = None,
) -> Recalled:
    """The whole of a request: what it goes on from, and the items that it only names.

    Raises `PreviousResponseNotFound` where nobody remembers the response, and `InvalidPrompt` where an item is not
    known, the response can't be gone on from, or an output has no call.
    """
    own = items_of(fields.get("input"))
    previous = fields.get("previous_response_id")
    if not isinstance(previous, str | None):
        raise InvalidPrompt(f"previous_response_id: expected a response's id, not {type(previous).__name__}")
    named = referenced_ids(own)
    if previous is None and not named:
        return Recalled(fields, own, own, None)
    history, kept = ([], None) if previous is None else await _history(fields, previous, tenant, store, memory)
    found = {} if store is None or not named else await store.items(tenant, named)
    own = resolved(own, {item_id: msgspec.json.decode(item) for item_id, item in found.items()}, history)
    items = [*history, *own]
    if previous is not None:
        require_calls(own, items)
    return Recalled({**fields, "input": items}, items, own if kept or not history else items, kept)


async def _history(
    fields: Mapping[str, Any],
    previous: str,
    tenant: str,
    store: ResponseStore | None,
    memory: ConnectionMemory | None,
) -> tuple[Sequence[Item], str | None]:
    """What went before, and the kept response that holds it, where the store was asked."""
    remembered = memory is not None and previous in memory
    # A response that is to be kept itself is kept behind the one before it, so that is looked for in the store.
    if store is not None and (not remembered or fields.get("store") is not False):
        try:
            return history_of(previous, await store.chain(tenant, previous)), previous
        except PreviousResponseNotFound:
            if not remembered:
                raise
    if memory is None:
        raise forgotten(previous)
    return memory.recall(previous), None
