"""Output items as a server streams them: their beginning, their parts, their deltas, their end.

An item that comes whole, without having grown, is told by the same events.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from msgspec import Struct

from turnwire.wire.responses.event_writer import DeltaWriter, EventWriter

__all__ = ["GrowingCall", "GrowingItem", "GrowingMessage", "GrowingReasoning"]

_Json: TypeAlias = dict[str, Any]


class _PartKind(Struct, frozen=True):
    """How the parts of one kind are told."""

    empty: Mapping[str, Any]
    """The part at its beginning."""
    text_key: str
    text_events: str
    """What the names of its text's events begin with."""
    part_events: str = "response.content_part"
    index_key: str = "content_index"
    beside: Mapping[str, Any] = {}
    """What its text's events carry besides."""


_PART_KINDS = {
    "output_text": _PartKind(
        empty={"type": "output_text", "text": "", "annotations": [], "logprobs": []},
        text_key="text",
        text_events="response.output_text",
        beside={"logprobs": []},
    ),
    "refusal": _PartKind(empty={"type": "refusal", "refusal": ""}, text_key="refusal", text_events="response.refusal"),
    "reasoning_text": _PartKind(
        empty={"type": "reasoning_text", "text": ""}, text_key="text", text_events="response.reasoning_text"
    ),
    "summary_text": _PartKind(
        empty={"type": "summary_text", "text": ""},
        text_key="text",
        text_events="response.reasoning_summary_text",
        part_events="response.reasoning_summary_part",
        index_key="summary_index",
    ),
}


class _GrowingPart:
    """A part of an item, from its beginning on."""

    __slots__ = ("_kind", "_place", "_writer", "deltas")

    def __init__(self, writer: EventWriter, kind: _PartKind, item_place: Mapping[str, Any], index: int) -> None:
        self._writer = writer
        self._kind = kind
        self._place = {**item_place, kind.index_key: index}
        self.deltas = writer.delta_writer(f"{kind.text_events}.delta", {**self._place, **kind.beside})
        writer.write(f"{kind.part_events}.added", {**self._place, "part": kind.empty})

    def finish(self, part: Mapping[str, Any], *, told: bool = False) -> None:
        """``told`` says that the part's text went out in the deltas of another one."""
        kind, write = self._kind, self._writer.write
        text = part[kind.text_key]
        if text and not (told or self.deltas.used):
            self.deltas.write(text)
        write(f"{kind.text_events}.done", {**self._place, **kind.beside, kind.text_key: text})
        write(f"{kind.part_events}.done", {**self._place, "part": part})


class GrowingItem:
    """An item that clients see begin and end, and nothing in between."""

    _BEGINNING: Mapping[str, Any] = {}
    """What it does not have yet at its beginning."""

    def __init__(self, writer: EventWriter, place: int, fields: _Json) -> None:
        self._writer = writer
        self.place = place
        self.item_id: str = fields["id"]
        self._item_place = {"item_id": self.item_id, "output_index": place}
        writer.write("response.output_item.added", {"output_index": place, "item": {**fields, **self._BEGINNING}})

    def finish(self, fields: _Json) -> None:
        """Ends it; ``fields`` is the whole item."""
        self._finish_parts(fields)
        self._writer.write("response.output_item.done", {"output_index": self.place, "item": fields})

    def _finish_parts(self, fields: _Json) -> None:
        pass


class GrowingMessage(GrowingItem):
    """A message. Its text grows in its first part: deltas don't say where they belong."""

    _BEGINNING = {"content": [], "status": "in_progress"}  # noqa: RUF012 - a Mapping, which nobody changes
    _TEXT = "output_text"

    def __init__(self, writer: EventWriter, place: int, fields: _Json) -> None:
        super().__init__(writer, place, fields)
        self._text: _GrowingPart | None = None

    def text(self) -> DeltaWriter:
        """What writes its text, which begins with it if it has not begun."""
        if self._text is None:
            self._text = _GrowingPart(self._writer, _PART_KINDS[self._TEXT], self._item_place, 0)
        return self._text.deltas

    def _finish_parts(self, fields: _Json) -> None:
        if self._text is not None:
            # A stable sort: what was streamed is the first part, so it stays the first.
            fields["content"] = sorted(fields.get("content") or (), key=lambda part: part["type"] != self._TEXT)
        for index, part in enumerate(fields.get("content") or ()):
            kind = _PART_KINDS.get(part["type"])
            if kind is None:
                continue
            streamed = self._text is not None and part["type"] == self._TEXT
            growing = self._text if index == 0 and streamed else None
            if growing is None:
                growing = _GrowingPart(self._writer, kind, self._item_place, index)
            growing.finish(part, told=streamed)


class GrowingReasoning(GrowingMessage):
    """Reasoning: the text itself, its summary in parts, or both."""

    _BEGINNING = {"content": [], "summary": [], "status": "in_progress"}  # noqa: RUF012 - as above
    _TEXT = "reasoning_text"

    def __init__(self, writer: EventWriter, place: int, fields: _Json) -> None:
        super().__init__(writer, place, fields)
        self._summaries: dict[int, _GrowingPart] = {}
        self._summary_texts: dict[int, list[str]] = {}  # of the parts that are open

    def summary_part(self, index: int) -> None:
        """Begins a part of the summary, and ends the one before it."""
        if index not in self._summaries:
            self._finish_summaries(())
            self._summaries[index] = _GrowingPart(self._writer, _PART_KINDS["summary_text"], self._item_place, index)
            self._summary_texts[index] = []

    def summary(self, delta: str, index: int) -> None:
        """Writes more of a part of the summary, which begins with it if it has not begun; nothing where it ended."""
        self.summary_part(index)
        if index in self._summary_texts:
            self._summary_texts[index].append(delta)
            self._summaries[index].deltas.write(delta)

    def _finish_parts(self, fields: _Json) -> None:
        summary = fields["summary"]
        self._finish_summaries(summary)
        for index in range(len(summary)):
            if index not in self._summaries:
                self.summary_part(index)
                self._finish_summaries(summary)
        super()._finish_parts(fields)

    def _finish_summaries(self, summary: Sequence[_Json]) -> None:
        for index, texts in self._summary_texts.items():
            streamed = {"type": "summary_text", "text": "".join(texts)}
            self._summaries[index].finish(summary[index] if index < len(summary) else streamed)
        self._summary_texts.clear()


class GrowingCall(GrowingItem):
    """A call of a function, whose arguments grow, or of a custom tool, whose input does."""

    def __init__(self, writer: EventWriter, place: int, fields: _Json) -> None:
        custom = fields["type"] == "custom_tool_call"
        self._key = "input" if custom else "arguments"
        self._events = "response.custom_tool_call_input" if custom else "response.function_call_arguments"
        super().__init__(writer, place, {**fields, self._key: "", "status": "in_progress"})
        self._deltas = writer.delta_writer(f"{self._events}.delta", self._item_place)

    def arguments(self, delta: str) -> None:
        """Writes more of what the tool is called with."""
        self._deltas.write(delta)

    def _finish_parts(self, fields: _Json) -> None:
        text = fields[self._key]
        if text and not self._deltas.used:
            self._deltas.write(text)
        self._writer.write(f"{self._events}.done", {**self._item_place, self._key: text})
