"""What one WebSocket connection remembers: its clients go on from its responses, also from those never to be stored.

Codex asks for ``store: false`` and still sends only what is new on a connection. A continuation that fails makes the
gateway forget the response that it went on from; the client then sends everything again.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from turnwire.gateway.conversation import Item, forgotten

__all__ = ["ConnectionMemory"]

_encode = msgspec.json.Encoder().encode


class ConnectionMemory:
    """The conversations that lead to a connection's responses, by the responses' ids.

    ``max_size`` bounds the bytes of all items, as JSON, and ``max_responses`` their number; beyond, the oldest are
    forgotten. A conversation that grows shares its items with its own past, so each is held, counted and encoded
    once. Items must not be changed once they were given here.
    """

    def __init__(self, *, max_size: int = 64 * 1024 * 1024, max_responses: int = 64) -> None:
        self._max_size = max_size
        self._max_responses = max_responses
        self._conversations: dict[str, Sequence[Item]] = {}
        self._held: dict[int, _Held] = {}  # by the item's identity, which is its own as long as it is held
        self.size = 0
        """Bytes that are held."""

    def __repr__(self) -> str:
        return f"<ConnectionMemory of {len(self._conversations)} responses, {self.size} of {self._max_size} bytes>"

    def __contains__(self, response_id: str) -> bool:
        return response_id in self._conversations

    def remember(self, response_id: str, input_items: Sequence[Item], output_items: Sequence[Item]) -> None:
        """Remembers a response: the whole conversation that was its input, and its output."""
        self.evict(response_id)
        items = (*input_items, *output_items)
        self._conversations[response_id] = items
        for item in items:
            held = self._held.get(id(item))
            if held is None:
                held = self._held[id(item)] = _Held(len(_encode(item)))
                self.size += held.size
            held.uses += 1
        while self.size > self._max_size or len(self._conversations) > self._max_responses:
            self.evict(next(iter(self._conversations)))

    def recall(self, response_id: str) -> Sequence[Item]:
        """The conversation up to the end of this response; raises `PreviousResponseNotFound`."""
        items = self._conversations.get(response_id)
        if items is None:
            raise forgotten(response_id)
        return items

    def evict(self, response_id: str) -> None:
        """Forgets a response, and what no other conversation holds of it."""
        for item in self._conversations.pop(response_id, ()):
            held = self._held[id(item)]
            held.uses -= 1
            if not held.uses:
                self.size -= held.size
                del self._held[id(item)]


class _Held:
    """How often an item is held, and its size."""

    __slots__ = ("size", "uses")

    def __init__(self, size: int) -> None:
        self.size = size
        self.uses = 0
