"""The items of an answer that have begun and are not done, and what has been told of them.

Servers leave out what they think nobody reads: the beginning of an item, its deltas, everything but the whole item.
Whoever reads the events shall not have to know: of each message and each reasoning item, and of calls for whoever
watches them, the beginning comes first, then all of its text in deltas, then the whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

from msgspec.structs import replace

from turnwire.event import (
    OutputItemAdded,
    OutputTextDelta,
    ReasoningContentDelta,
    ReasoningSummaryDelta,
    ReasoningSummaryPartAdded,
    ResponseEvent,
    ToolCallArgumentsDelta,
)
from turnwire.item import CustomToolCall, FunctionCall, Message, OutputText, Reasoning, ResponseItem

__all__ = ["GrowingItem", "GrowingItems"]

_Kind: TypeAlias = type[Message] | type[Reasoning] | type[FunctionCall] | type[CustomToolCall]


class GrowingItem:
    """One item that has begun."""

    __slots__ = ("call_id", "key", "kind", "summary_parts", "texts", "told")

    def __init__(self, kind: _Kind, key: str, call_id: str = "") -> None:
        self.kind = kind
        self.key = key
        self.call_id = call_id
        self.texts: list[str] = []  # a message's deltas
        self.summary_parts: set[int] = set()
        self.told = False
        """Some of its text was told in deltas."""


class GrowingItems:
    """The open items, by the server's id. ``watch_calls`` has calls told as well."""

    def __init__(self, *, watch_calls: bool) -> None:
        self._watch_calls = watch_calls
        self._open: dict[str, GrowingItem] = {}
        self._whole: dict[str, ResponseItem] = {}

    @property
    def text(self) -> str:
        """What has come of the messages that are open."""
        return "".join(text for item in self._open.values() if item.kind is Message for text in item.texts)

    def begin(self, item: ResponseItem, events: list[ResponseEvent]) -> None:
        """Takes an item's beginning, and tells it.

        One under the id of an item that is done is told no sooner than something new comes of it.
        """
        if _item_id(item) in self._whole:
            return
        match item:
            case Message() | Reasoning():
                self._begin(type(item), item.id or "")
                events.append(OutputItemAdded(item))
            case FunctionCall() | CustomToolCall() if self._watch_calls:
                self._begin(type(item), item.id or "", item.call_id)
                events.append(OutputItemAdded(_without_text(item)))
            case FunctionCall() | CustomToolCall():
                pass
            case _:
                events.append(OutputItemAdded(item))

    def growing(self, kind: _Kind, item_id: object, events: list[ResponseEvent]) -> GrowingItem:
        """The message or reasoning item that a delta belongs to, begun where the server has not said that it began."""
        item = self._find(kind, item_id)
        if item is None:
            begun = Message("assistant", ()) if kind is Message else Reasoning()
            item = self._begin(kind, item_id if isinstance(item_id, str) else "")
            events.append(OutputItemAdded(begun))
        return item

    def growing_call(self, kind: _Kind, item_id: object) -> GrowingItem | None:
        """The call that a delta belongs to; None where nobody watches or it is not known."""
        return self._find(kind, item_id)

    def repeats(self, item: ResponseItem) -> bool:
        """Whether the item was done before, under the same id: transformers sends its message again behind calls."""
        item_id = _item_id(item)
        return bool(item_id) and self._whole.get(item_id) == item

    def finish(self, item: ResponseItem) -> Iterator[ResponseEvent]:
        """Ends an item that is whole; gives what was not told of it."""
        if item_id := _item_id(item):
            self._whole[item_id] = item
        match item:
            case Message():
                yield from self._finish_message(item)
            case Reasoning():
                yield from self._finish_reasoning(item)
            case FunctionCall() | CustomToolCall() if self._watch_calls:
                yield from self._finish_call(item)

    def _begin(self, kind: _Kind, key: str, call_id: str = "") -> GrowingItem:
        while key in self._open:
            key += "'"  # a server that names two items alike, or neither
        item = self._open[key] = GrowingItem(kind, key, call_id)
        return item

    def _find(self, kind: _Kind, item_id: object) -> GrowingItem | None:
        """The open item of this id, or the latest of its kind for a server whose ids change from event to event."""
        item = self._open.get(item_id) if isinstance(item_id, str) else None
        if item is not None and item.kind is kind:
            return item
        return next((item for item in reversed(self._open.values()) if item.kind is kind), None)

    def _end(self, kind: _Kind, item_id: str | None) -> GrowingItem | None:
        item = self._open.get(item_id or "")
        if item is None or item.kind is not kind:
            item = next((item for item in self._open.values() if item.kind is kind), None)
        if item is not None:
            del self._open[item.key]
        return item

    def _finish_message(self, message: Message) -> Iterator[ResponseEvent]:
        begun = self._end(Message, message.id)
        if begun is None:
            yield OutputItemAdded(replace(message, content=()))
        if begun is None or not begun.told:
            for part in message.content:
                if isinstance(part, OutputText) and part.text:
                    yield OutputTextDelta(part.text)

    def _finish_reasoning(self, reasoning: Reasoning) -> Iterator[ResponseEvent]:
        begun = self._end(Reasoning, reasoning.id)
        if begun is None:
            yield OutputItemAdded(Reasoning(id=reasoning.id))
        if begun is None or not begun.told:
            for summary_index, summary in enumerate(reasoning.summary):
                yield ReasoningSummaryPartAdded(summary_index)
                if summary.text:
                    yield ReasoningSummaryDelta(summary.text, summary_index)
            for content_index, content in enumerate(reasoning.content or ()):
                if content.text:
                    yield ReasoningContentDelta(content.text, content_index)

    def _finish_call(self, call: FunctionCall | CustomToolCall) -> Iterator[ResponseEvent]:
        open_calls = [item for item in self._open.values() if item.kind is type(call) and item.call_id == call.call_id]
        begun = open_calls[0] if open_calls else None
        if begun is None:
            yield OutputItemAdded(_without_text(call))
        else:
            del self._open[begun.key]
        text = call.arguments if isinstance(call, FunctionCall) else call.input
        if text and (begun is None or not begun.told):
            yield ToolCallArgumentsDelta(call.call_id, text)


def _item_id(item: ResponseItem) -> str:
    return getattr(item, "id", None) or ""


def _without_text(call: FunctionCall | CustomToolCall) -> FunctionCall | CustomToolCall:
    """A call as it begins: a server that gives it all at once has its text told in a delta."""
    return replace(call, arguments="") if isinstance(call, FunctionCall) else replace(call, input="")
