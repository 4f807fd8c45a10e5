"""An answer as it grows: chunks to events, in the reference's order and with every habit of real servers.

The states of an answer, and what moves it on:

======== ============================================== =========================================================
state    on                                             gives
======== ============================================== =========================================================
open     text, reasoning, refusal                       the item's beginning (once), the delta
open     fragments of calls                             nothing, or their growth for whoever watches
open     finish ``tool_calls``                          reasoning done, then the calls; stays open
open     finish ``length``, bound not set by the caller `ContextWindowExceeded`
open     any other finish                               reasoning done, message done; stays open, for usage may follow
open     an ``error`` object                            its typed error
open     `complete`                                     what is open is done, `Completed`
======== ============================================== =========================================================
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from turnwire.errors import ContextWindowExceeded
from turnwire.event import (
    Completed,
    OutputItemAdded,
    OutputItemDone,
    OutputTextDelta,
    ReasoningContentDelta,
    ResponseEvent,
    TokenUsage,
)
from turnwire.item import Message, OutputText, Reasoning, ReasoningText, Refusal, ResponseItem, item_text
from turnwire.wire.answer_decoder import Ending
from turnwire.wire.chat.chunk import Choice, Chunk, Delta
from turnwire.wire.chat.dialect import ReasoningName
from turnwire.wire.chat.plain import PlainName, TextName
from turnwire.wire.chat.tool import ToolOrigin
from turnwire.wire.chat.tool_call import GrowingCalls
from turnwire.wire.failure import failure_from_object
from turnwire.wire.token_count import token_count

__all__ = ["GrowingAnswer"]

_log = logging.getLogger("turnwire.wire.chat")

_CALLED = frozenset({"tool_calls", "function_call"})
_WHOLE = frozenset({"stop", *_CALLED})
_INCOMPLETE = {"length": "max_output_tokens"}


class GrowingAnswer:
    """Takes the chunks of one answer and appends to ``events`` what they became.

    ``bounded`` says that the caller bounded the answer's length, ``choices`` how many answers were asked for.
    ``emit_open_calls`` is `ChatDialect.open_calls`, ``times_count`` says that llama.cpp's timings are usage where there
    is no other; the others are those of `GrowingCalls`.
    """

    def __init__(
        self,
        *,
        bounded: bool,
        choices: int,
        emit_open_calls: bool,
        watch_calls: bool,
        taken_ids: Collection[str],
        tools: Mapping[str, ToolOrigin] = {},
        times_count: bool = False,
    ) -> None:
        self._times_count = times_count
        self._bounded = bounded
        self._choices = choices
        self._emit_open_calls = emit_open_calls
        self._message: list[str | Refusal] | None = None
        self._reasoning: list[str] | None = None
        self._encrypted: list[str] = []
        self._calls = GrowingCalls(watch=watch_calls, taken_ids=taken_ids, tools=tools)
        self._items: list[ResponseItem] = []
        self._response_id = ""
        self._usage: dict[str, Any] | None = None
        self._timings: dict[str, Any] | None = None
        self._started: set[int] = set()
        self._finished: set[int] = set()
        self.ending: Ending = "open"
        """How much of an end the server has given."""
        self.finish_reason: str | None = None
        """The server's word for why it ended, None so far or where it gave none."""
        self.reasoning_name: ReasoningName | None = None
        """The name that this server's reasoning goes by, once some came."""

    @property
    def dropped_calls(self) -> tuple[str, ...]:
        """The names of the calls that came and were not given: never released, or without a name."""
        return tuple(self._calls.dropped)

    @property
    def items(self) -> tuple[ResponseItem, ...]:
        """The items that are done."""
        return tuple(self._items)

    @property
    def text(self) -> str:
        """The text as far as it came, that of the open message included."""
        done = "".join(item_text(item) for item in self._items)
        return done + "".join(part for part in self._message or () if isinstance(part, str))

    def take(self, chunk: Chunk, events: list[ResponseEvent]) -> PlainName | None:
        """Takes a chunk; gives the name of what it brought where the next one may bring more of that and nothing else.

        Raises the typed error of an ``error`` object, and `ContextWindowExceeded` for ``length`` without a bound.
        """
        if chunk.error:
            raise failure_from_object(chunk.error)
        if not self._response_id and isinstance(chunk.id, str):
            self._response_id = chunk.id
        plain = chunk.usage is None and chunk.timings is None
        if not plain:
            if isinstance(chunk.usage, dict):
                self._usage = chunk.usage
            if isinstance(chunk.timings, dict):
                self._timings = chunk.timings
            self._note_ending()
        choices = chunk.choices
        if not choices:
            return None
        name: PlainName | None = None
        for choice in choices:
            name = self._take_choice(choice, events)
        # Plain chunks are not asked for their id.
        return name if plain and len(choices) == 1 and self._response_id else None

    def add_one(self, name: PlainName, value: Any, events: list[ResponseEvent]) -> None:
        """`add` for the most frequent case, a read that brought one plain chunk."""
        if name == "content" and value:
            (self._message or self._open_message(events)).append(value)
            events.append(OutputTextDelta(value))
        elif name == "tool_calls":
            self._calls.extend(0, value[0], events)
        elif value:
            reasoning = self._reasoning or self._open_reasoning(events)
            events.append(ReasoningContentDelta(value, len(reasoning)))
            reasoning.append(value)

    def add(self, name: PlainName, values: list[Any], events: list[ResponseEvent]) -> None:
        """Adds what plain chunks of one name brought."""
        if name == "tool_calls":
            for (fragment,) in values:
                self._calls.extend(0, fragment, events)
        else:
            self.add_texts(name, values, events)

    def add_texts(self, name: TextName, texts: list[str], events: list[ResponseEvent]) -> None:
        """Adds deltas to the open message or reasoning; an empty text opens nothing and says nothing."""
        if "" in texts:
            texts = [text for text in texts if text]
        if not texts:
            return
        if name == "content":
            self._open_message(events).extend(texts)
            events.extend([OutputTextDelta(text) for text in texts])
        else:
            reasoning = self._open_reasoning(events)
            start = len(reasoning)
            reasoning.extend(texts)
            events.extend([ReasoningContentDelta(text, index) for index, text in enumerate(texts, start)])

    def complete(self, events: list[ResponseEvent]) -> None:
        """Ends the answer: what is open is done, and `Completed` says how it ended."""
        reason = self.finish_reason
        self._close_reasoning(events)
        self._close_message(events)
        if self._emit_open_calls and (reason is None or reason in _WHOLE):
            self._done(self._calls.release_complete(), events)
        else:
            self._calls.drop()
        if self._calls.dropped:
            _log.warning("dropped calls that the server never released: %s", ", ".join(self._calls.dropped))
        incomplete = None if reason is None or reason in _WHOLE else _INCOMPLETE.get(reason, reason)
        usage: TokenUsage | None = None
        if self._usage is not None:
            usage = _token_usage(self._usage, self._timings)
        elif self._times_count and self._choices == 1:
            usage = _timed_usage(self._timings)
        events.append(Completed(self._response_id, usage, reason, incomplete))

    def _take_choice(self, choice: Choice, events: list[ResponseEvent]) -> PlainName | None:
        index = choice.index if type(choice.index) is int else 0
        delta, reason = choice.delta, choice.finish_reason
        name: PlainName | None = None
        if delta is not None:
            if index not in self._started:
                self._started.add(index)
                self._note_ending()
            name = self._take_delta(delta, index, events)
        if choice.message is not None:
            name = None
            self._take_reasoning(choice.message, events)
        if reason is not None:
            name = None
            if isinstance(reason, str) and reason:
                self._started.add(index)
                self._finished.add(index)
                self._note_ending()
                self._finish(reason, events)
        return name if index == 0 else None

    def _note_ending(self) -> None:
        if len(self._finished) < max(self._choices, len(self._started)):
            self.ending = "open"
        else:
            self.ending = "finished" if self._usage is None else "settled"

    def _take_delta(self, delta: Delta, choice: int, events: list[ResponseEvent]) -> PlainName | None:
        """Takes what a choice gained, in the reference's order: reasoning, content, calls."""
        content = delta.content
        if (
            delta.reasoning is None
            and delta.reasoning_content is None
            and delta.tool_calls is None
            and delta.reasoning_details is None
            and delta.refusal is None
            and delta.function_call is None
            and type(content) is str
        ):
            if not content:
                return None
            (self._message or self._open_message(events)).append(content)
            events.append(OutputTextDelta(content))
            return "content"
        name: PlainName | None = self._take_reasoning(delta, events)
        if content:
            name = None
            self._take_content(content, events)
        if delta.refusal:
            name = None
            if isinstance(delta.refusal, str):
                self._open_message(events).append(Refusal(delta.refusal))
        if delta.tool_calls:
            name = None if name or content else "tool_calls"
            self._calls.take(choice, delta.tool_calls, events)
        if delta.function_call and not delta.tool_calls:  # llama-cpp-python tells a call under both names
            name = None
            self._calls.take_legacy(choice, delta.function_call, events)
        return name

    def _take_reasoning(self, delta: Delta, events: list[ResponseEvent]) -> TextName | None:
        """Takes reasoning under any of its names; the same text under two names counts once."""
        name: TextName | None = None
        first = _reasoning_text(delta.reasoning)
        if first:
            name = "reasoning" if isinstance(delta.reasoning, str) else None
            self._name_reasoning("reasoning")
            self.add_texts("reasoning", [first], events)
        second = delta.reasoning_content
        if second and isinstance(second, str):
            name = None if first else "reasoning_content"
            if second != first:
                self._name_reasoning("reasoning_content")
                self.add_texts("reasoning_content", [second], events)
        if delta.reasoning_details and isinstance(delta.reasoning_details, list):
            name = None
            self._name_reasoning("reasoning_details")
            self._take_details(delta.reasoning_details, (first, second), events)
        return name

    def _take_details(self, details: list[Any], known: tuple[Any, ...], events: list[ResponseEvent]) -> None:
        """OpenRouter's form: texts, that may stand under another name too, and data that only the server can read."""
        text = "".join(_detail_text(detail) for detail in details)
        if text and text not in known:
            self.add_texts("reasoning", [text], events)
        for detail in details:
            if isinstance(detail, dict) and isinstance(detail.get("data"), str):
                self._open_reasoning(events)
                self._encrypted.append(detail["data"])

    def _name_reasoning(self, name: ReasoningName) -> None:
        # Details hold more than the bare text (signatures, encrypted parts), so they are what goes back.
        if self.reasoning_name is None or name == "reasoning_details":
            self.reasoning_name = name

    def _take_content(self, content: Any, events: list[ResponseEvent]) -> None:
        if isinstance(content, str):
            self.add_texts("content", [content], events)
        elif isinstance(content, list):
            for part in content:
                if not isinstance(part, dict):
                    continue
                text = part.get("text")
                if part.get("type") == "thinking":
                    self._name_reasoning("thinking")
                    self.add_texts("reasoning", [_thinking_text(part.get("thinking"))], events)
                elif isinstance(text, str):
                    self.add_texts("content", [text], events)

    def _open_message(self, events: list[ResponseEvent]) -> list[str | Refusal]:
        if self._message is None:
            self._message = []
            events.append(OutputItemAdded(Message("assistant", ())))
        return self._message

    def _open_reasoning(self, events: list[ResponseEvent]) -> list[str]:
        if self._reasoning is None:
            self._reasoning = []
            events.append(OutputItemAdded(Reasoning(content=())))
        return self._reasoning

    def _finish(self, reason: str, events: list[ResponseEvent]) -> None:
        if reason == "length" and not self._bounded:
            raise ContextWindowExceeded("the answer did not fit the model's context window (finish reason length)")
        # Of several, one that did not end well outranks those that did, and calls outrank a mere stop.
        if self.finish_reason is None or _rank(reason) > _rank(self.finish_reason):
            self.finish_reason = reason
        self._close_reasoning(events)
        if reason in _CALLED:
            self._done(self._calls.release(), events)
        else:
            self._close_message(events)

    def _close_reasoning(self, events: list[ResponseEvent]) -> None:
        if self._reasoning is not None:
            content = tuple([ReasoningText(text) for text in self._reasoning])
            encrypted = "".join(self._encrypted) or None
            self._reasoning, self._encrypted = None, []
            self._done((OutputItemDone(Reasoning(content=content, encrypted_content=encrypted)),), events)

    def _close_message(self, events: list[ResponseEvent]) -> None:
        if self._message is not None:
            content = tuple([OutputText(part) if isinstance(part, str) else part for part in self._message])
            self._message = None
            self._done((OutputItemDone(Message("assistant", content)),), events)

    def _done(self, closing: Iterable[ResponseEvent], events: list[ResponseEvent]) -> None:
        for event in closing:
            events.append(event)
            if isinstance(event, OutputItemDone):
                self._items.append(event.item)


def _rank(reason: str) -> int:
    return 2 if reason not in _WHOLE else 1 if reason in _CALLED else 0


def _reasoning_text(value: Any) -> str:
    """The reference's three forms: a string, an object's ``text``, an object's ``content``."""
    if isinstance(value, dict):
        text = value.get("text")
        value = text if isinstance(text, str) else value.get("content")
    return value if isinstance(value, str) else ""


def _detail_text(detail: Any) -> str:
    """OpenRouter's details: ``text`` of reasoning.text, ``summary`` of reasoning.summary."""
    if not isinstance(detail, dict):
        return ""
    value = detail.get("text", detail.get("summary"))
    return value if isinstance(value, str) else ""


def _thinking_text(value: Any) -> str:
    """Mistral's thinking: a list of text parts, or the text itself."""
    if isinstance(value, list):
        return "".join(_detail_text(part) for part in value)
    return value if isinstance(value, str) else ""


def _timed_usage(timings: dict[str, Any] | None) -> TokenUsage | None:
    """The counts that llama.cpp's timings hold, which stand with a choice's finish whether or not usage was asked for.

    What was computed of the prompt and what was in the cache make up the prompt.
    """
    cached, output = token_count(timings, "cache_n"), token_count(timings, "predicted_n")
    prompt = cached + token_count(timings, "prompt_n")
    if not (prompt and output):
        return None
    return TokenUsage(prompt, cached_input_tokens=cached, output_tokens=output, total_tokens=prompt + output)


def _token_usage(usage: dict[str, Any], timings: dict[str, Any] | None) -> TokenUsage:
    prompt = token_count(usage, "prompt_tokens")
    output = token_count(usage, "completion_tokens")
    cached = token_count(usage.get("prompt_tokens_details"), "cached_tokens") or token_count(
        usage, "prompt_cache_hit_tokens"
    )
    return TokenUsage(
        input_tokens=prompt,
        cached_input_tokens=cached or token_count(timings, "cache_n"),
        output_tokens=output,
        reasoning_output_tokens=token_count(usage.get("completion_tokens_details"), "reasoning_tokens"),
        total_tokens=token_count(usage, "total_tokens") or prompt + output,
    )
