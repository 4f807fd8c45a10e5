"""The calls that are growing in a chat stream, and which fragment belongs to which."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import msgspec

from turnwire.event import OutputItemAdded, OutputItemDone, ResponseEvent, ToolCallArgumentsDelta
from turnwire.item import CustomToolCall
from turnwire.wire.chat.plain import Fragment
from turnwire.wire.chat.restored_call import GrowingInput, restored_call
from turnwire.wire.chat.tool import ToolOrigin

__all__ = ["GrowingCalls"]

_KNOWN_KEYS = frozenset({"index", "id", "type", "function"})


class _Slot:
    """One call as far as it came."""

    __slots__ = (
        "arguments",
        "as_it_comes",
        "call_id",
        "extra",
        "input",
        "name",
        "number",
        "released",
        "tool",
        "watched",
    )

    def __init__(self, number: int) -> None:
        self.number = number
        self.call_id: str | None = None
        self.name: str | None = None
        self.tool: ToolOrigin | None = None  # that the name stands for
        self.arguments: list[str] = []
        self.extra: dict[str, Any] = {}
        self.input: GrowingInput | None = None  # of a custom tool that is watched
        self.watched = False  # its beginning has been told
        self.as_it_comes = False  # and more of its arguments is told as it comes
        self.released = False

    def __str__(self) -> str:
        return self.name or f"the unnamed call in slot {self.number}"


class GrowingCalls:
    """Gathers fragments of calls into slots, by the reference's rules and the habits of real servers.

    A fragment belongs to the slot of its known id; else of its index; with neither, of the last call touched; with a
    new id and no index, to a free slot. Two ids never share a slot, whatever index they come under, and choices don't
    share slots either. The first id and the first non-empty name stay; argument texts are appended.

    ``taken_ids`` are ids that the conversation has used already: one that comes again gets a suffix, so that an output
    can't be taken for another call's. ``watch`` has the growing calls told as events. ``tools`` are those that names of
    functions stand for: see `restored_call`. A name that is not among them is a function's own.
    """

    def __init__(
        self, *, watch: bool = False, taken_ids: Collection[str] = (), tools: Mapping[str, ToolOrigin] = {}
    ) -> None:
        self._watch = watch
        self._tools = tools
        self._taken = set(taken_ids)
        self._open: list[_Slot] = []
        self._numbers: set[int] = set()
        self._next = 0
        self._by_id: dict[tuple[object, str], _Slot] = {}
        self._by_index: dict[tuple[object, int], _Slot] = {}
        self._last: _Slot | None = None
        self.dropped: list[str] = []
        """What was dropped, by name."""

    def take(self, choice: object, fragments: Any, events: list[ResponseEvent]) -> None:
        """Takes a delta's ``tool_calls``; what is not a list of objects means nothing."""
        if isinstance(fragments, list):
            for fragment in fragments:
                if isinstance(fragment, dict):
                    self._take(choice, fragment, events)

    def take_legacy(self, choice: object, function: Any, events: list[ResponseEvent]) -> None:
        """Takes a delta's ``function_call``, of servers from before calls had ids: there is one at most."""
        if isinstance(function, dict):
            self._take(choice, {"index": 0, "function": function}, events)

    def extend(self, choice: object, fragment: Fragment, events: list[ResponseEvent]) -> None:
        """Takes a plain fragment: `take` for the most frequent case."""
        slot = self._by_index.get((choice, fragment.index))
        if slot is None or slot.released or (self._watch and not slot.as_it_comes):
            self._take(choice, msgspec.to_builtins(fragment), events)
            return
        self._last = slot
        added = fragment.function.arguments
        if added:
            slot.arguments.append(added)
            if slot.as_it_comes and slot.call_id is not None:
                events.append(ToolCallArgumentsDelta(slot.call_id, added))

    def release(self) -> Iterator[ResponseEvent]:
        """All open calls, in the order in which they appeared; those without a name are dropped."""
        for slot in self._close():
            if slot.tool is None:
                self.dropped.append(str(slot))
            else:
                yield from self._done(slot, slot.tool)

    def release_complete(self) -> Iterator[ResponseEvent]:
        """The open calls whose arguments are a JSON object, for servers that forget to say that they called."""
        for slot in self._close():
            if slot.tool is not None and _is_object("".join(slot.arguments)):
                yield from self._done(slot, slot.tool)
            else:
                self.dropped.append(str(slot))

    def drop(self) -> None:
        """Gives up all open calls."""
        self.dropped.extend(str(slot) for slot in self._close())

    def _take(self, choice: object, fragment: Mapping[str, Any], events: list[ResponseEvent]) -> None:
        call_id = fragment.get("id")
        if not isinstance(call_id, str) or not call_id:
            call_id = None
        index = fragment.get("index")
        if not isinstance(index, int) or isinstance(index, bool) or index < 0:
            index = None
        slot = self._slot(choice, call_id, index)
        if slot.released:
            return  # a server that repeats a call it has given already
        self._last = slot
        if slot.call_id is None and call_id is not None:
            slot.call_id = self._unused(call_id)
            self._by_id[choice, call_id] = slot
        for key, value in fragment.items():
            if key not in _KNOWN_KEYS:
                slot.extra[key] = value
        added = ""
        function = fragment.get("function")
        if isinstance(function, dict):
            name = function.get("name")
            if slot.name is None and isinstance(name, str) and name:
                slot.name = name
                slot.tool = self._tools.get(name) or ToolOrigin("function", name)
            added = _arguments(function.get("arguments"), slot.arguments)
            if added:
                slot.arguments.append(added)
        if self._watch and slot.tool is not None and slot.call_id is not None:
            events.extend(_told(slot, slot.tool, slot.call_id, added))

    def _slot(self, choice: object, call_id: str | None, index: int | None) -> _Slot:
        slot = None
        if call_id is not None:
            slot = self._by_id.get((choice, call_id))
        if slot is None and index is not None:
            slot = self._by_index.get((choice, index))
            if slot is not None and (slot.released or (call_id is not None and slot.call_id is not None)):
                slot = None  # the index is used again, for another call
        if slot is None and call_id is None and index is None:
            slot = self._last
            if slot is not None and slot.released:
                slot = None
        if slot is None:
            slot = self._new(index)
        if index is not None:
            self._by_index[choice, index] = slot
        return slot

    def _new(self, index: int | None) -> _Slot:
        if index is None or index in self._numbers:
            while self._next in self._numbers:
                self._next += 1
            index = self._next
        self._numbers.add(index)
        slot = _Slot(index)
        self._open.append(slot)
        return slot

    def _close(self) -> list[_Slot]:
        slots, self._open = self._open, []
        for slot in slots:
            slot.released = True
        return slots

    def _done(self, slot: _Slot, tool: ToolOrigin) -> Iterator[ResponseEvent]:
        call_id = slot.call_id or self._unused(f"tool-call-{slot.number}")
        call = restored_call(tool, "".join(slot.arguments), call_id, slot.extra)
        if self._watch:
            yield from _told(slot, tool, call_id, "")
            if slot.input is not None and isinstance(call, CustomToolCall) and (rest := slot.input.rest(call.input)):
                yield ToolCallArgumentsDelta(call_id, rest)
        yield OutputItemDone(call)

    def _unused(self, call_id: str) -> str:
        unused, count = call_id, 1
        while unused in self._taken:
            count += 1
            unused = f"{call_id}-{count}"
        self._taken.add(unused)
        return unused


def _told(slot: _Slot, tool: ToolOrigin, call_id: str, added: str) -> Iterator[ResponseEvent]:
    """What a watcher is told: once the beginning, with all that came so far, then what was added.

    The arguments of a search for tools are an object, of which nothing can be told before it is whole.
    """
    if not slot.watched:
        slot.watched = True
        added = "".join(slot.arguments)
        slot.input = GrowingInput() if tool.type == "custom" else None
        slot.as_it_comes = slot.input is None and tool.type != "tool_search"
        yield OutputItemAdded(restored_call(tool, "", call_id))
    delta = added if slot.input is None else slot.input.feed(added)
    if delta and tool.type != "tool_search":
        yield ToolCallArgumentsDelta(call_id, delta)


def _arguments(value: Any, before: list[str]) -> str:
    """The text that a fragment adds; anything but text is a whole value, and counts only where nothing came before."""
    if isinstance(value, str):
        return value
    if value is None or before:
        return ""
    return msgspec.json.encode(value).decode()


def _is_object(text: str) -> bool:
    try:
        return isinstance(msgspec.json.decode(text), dict)
    except (msgspec.DecodeError, RecursionError):
        return False
