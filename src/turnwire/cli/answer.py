"""An answer on its way to the user: the text to standard output, all else to standard error, or events as JSON."""

from __future__ import annotations

import time
from typing import Literal, Protocol

import msgspec
from rich.text import Text

from turnwire.cli.console import duration, note, notes, usage_words, visible, write
from turnwire.event import (
    Completed,
    Created,
    ModelsEtag,
    OutputItemAdded,
    OutputItemDone,
    OutputTextDelta,
    RateLimits,
    ReasoningContentDelta,
    ReasoningSummaryDelta,
    ReasoningSummaryPartAdded,
    ResponseEvent,
    ServerModel,
    TokenUsage,
)
from turnwire.item import FunctionCall, Message, Refusal, encode_item
from turnwire.wire.answer_decoder import AnswerDecoder
from turnwire.wire.chat import ChatDecoder

__all__ = ["AnswerWriter", "JsonWriter", "Pace", "TextWriter", "losses", "refusal", "summary"]


_NO_OUTPUT = (Created, RateLimits, ServerModel, ModelsEtag, Completed)
"""Events that bring nothing of the answer itself."""


class AnswerWriter(Protocol):
    """Where the events of an answer go."""

    def write(self, event: ResponseEvent, /) -> None:
        """Takes the next event."""

    def close(self) -> None:
        """Called once, when no more events come, however the answer ended."""


class JsonWriter:
    """One JSON object per event and line, ``type`` first; items stand in the Responses API's own form."""

    def write(self, event: ResponseEvent, /) -> None:
        """Writes the event's line."""
        fields = msgspec.to_builtins(event)
        if isinstance(event, OutputItemAdded | OutputItemDone):
            fields["item"] = encode_item(event.item)
        write(msgspec.json.encode(fields).decode() + "\n")

    def close(self) -> None:
        """Nothing to do: every line is whole."""


class TextWriter:
    """Text as it comes on standard output; reasoning, dimmed, and calls on standard error.

    Both may be the same terminal, so whatever follows text or reasoning begins on a line of its own.
    """

    def __init__(self) -> None:
        self._open: Literal["text", "reasoning"] | None = None  # what the last line holds, while it has no end

    def write(self, event: ResponseEvent, /) -> None:
        """Writes what the event adds for a reader."""
        match event:
            case OutputTextDelta(delta):
                self._continue("text", delta)
                write(delta)
            case ReasoningContentDelta(delta) | ReasoningSummaryDelta(delta):
                self._continue("reasoning", delta)
                notes.print(Text(visible(delta), style="dim italic"), end="")
            case ReasoningSummaryPartAdded():
                self._end_line()
            case OutputItemDone(FunctionCall(name, arguments)):
                self._end_line()
                notes.print(Text.assemble("call ", (visible(name), "bold"), " ", visible(arguments)))
            case OutputItemDone(Message() as message) if refused := refusal(message):
                self._end_line()
                note(f"refused: {refused}")
            case Completed():
                self._end_line()

    def close(self) -> None:
        """Ends the line that is still open."""
        self._end_line()

    def _end_line(self) -> None:
        """Ends the open line, on the output that it stands on."""
        if self._open == "text":
            write("\n")
        elif self._open == "reasoning":
            notes.print()
        self._open = None

    def _continue(self, kind: Literal["text", "reasoning"], delta: str) -> None:
        if self._open != kind:
            self._end_line()
        self._open = None if delta.endswith("\n") else kind


class Pace:
    """How fast an answer comes: the time to its first output, and output tokens per second from there on."""

    def __init__(self) -> None:
        self._started = time.perf_counter()
        self._first: float | None = None
        self._last = self._started

    def saw(self, event: ResponseEvent) -> None:
        """Notes when an event came."""
        if not isinstance(event, _NO_OUTPUT):
            self._last = time.perf_counter()
            if self._first is None:
                self._first = self._last

    def words(self, usage: TokenUsage | None) -> str:
        """The pace in words; a rate needs usage, and an answer that came in more than one read."""
        if self._first is None:
            return "no output"
        words = f"first token after {duration(self._first - self._started)}"
        elapsed = self._last - self._first
        # The first token's time is not among what elapsed; below a millisecond all came at once.
        if usage is not None and usage.output_tokens > 1 and elapsed > 0.001:
            words += f", then {(usage.output_tokens - 1) / elapsed:.1f} tokens/s"
        return words


def summary(completed: Completed, pace: Pace) -> str:
    """The last line about an answer."""
    words = f"{usage_words(completed.token_usage)}; {pace.words(completed.token_usage)}"
    return words if completed.incomplete_reason is None else f"incomplete ({completed.incomplete_reason}); {words}"


def losses(decoder: AnswerDecoder | None) -> list[str]:
    """What came and could not be given, a sentence each."""
    if decoder is None:
        return []  # no answer began
    sentences = [f"the call of {name} was never released, and was dropped" for name in decoder.dropped_calls]
    if decoder.skipped:
        events = "1 event" if decoder.skipped == 1 else f"{decoder.skipped} events"
        why = "held no JSON" if isinstance(decoder, ChatDecoder) else "of no known type"
        sentences.append(f"{events} {why}, and went unread")
    return sentences


def refusal(message: Message) -> str:
    """The words in which the model declined, empty where it did not."""
    return "".join(part.refusal for part in message.content if isinstance(part, Refusal))
