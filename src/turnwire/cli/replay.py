"""``turnwire replay``: a recorded answer, decoded and shown."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from turnwire.cli.answer import AnswerWriter, JsonWriter, losses, refusal
from turnwire.cli.console import ExitCode, note, piped, usage_words, write
from turnwire.errors import ConfigurationError
from turnwire.event import (
    Completed,
    OutputItemAdded,
    OutputItemDone,
    OutputTextDelta,
    ReasoningContentDelta,
    ResponseEvent,
    ToolCallArgumentsDelta,
)
from turnwire.item import FunctionCall, Message, Reasoning, ResponseItem, encode_item
from turnwire.wire.chat import ChatDecoder, ChatDialect

__all__ = ["replay"]


def replay(
    file: Annotated[str, typer.Argument(metavar="FILE", help="The body of a response as it came; - is read in.")],
    dialect: Annotated[
        str | None, typer.Option(metavar="NAME", help="How the server speaks; by default as the reference reads.")
    ] = None,
    max_output_tokens_set: Annotated[
        bool, typer.Option("--max-output-tokens-set", help="The request bounded the answer, so that it may be cut.")
    ] = False,
    watch_calls: Annotated[bool, typer.Option("--watch-calls", help="Show calls while they grow.")] = False,
    cut: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Decode N bytes at a time; the events are the same.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Write the events, a JSON object per line.")] = False,
) -> None:
    """Decode a recorded stream, or a whole chat.completion, and show its events."""
    body = _read(file)
    chosen = ChatDialect() if dialect is None else ChatDialect.preset(dialect)
    decoder = ChatDecoder(chosen, max_output_tokens_set=max_output_tokens_set, watch_calls=watch_calls)
    # An answer that came whole begins as an object, which no event does.
    whole = body.lstrip().startswith(b"{")
    events = decoder.feed_completion(body) if whole else _streamed(decoder, body, cut or max(1, len(body)))
    writer: AnswerWriter = JsonWriter() if as_json else _LineWriter()
    code = ExitCode.OK
    try:
        for event in events:
            writer.write(event)
            if isinstance(event, Completed) and event.incomplete_reason is not None:
                code = ExitCode.INCOMPLETE
    finally:
        writer.close()
        for sentence in losses(decoder):
            note(sentence)
    if not (whole or decoder.done_seen or decoder.finish_reason or chosen.bare_end == "end"):
        note("the stream ended without a finish reason or [DONE]: a client takes the answer for cut off")
        code = ExitCode.INCOMPLETE
    raise typer.Exit(code)


def _read(file: str) -> bytes:
    try:
        return piped() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{file} can't be read: {error.strerror}") from error


def _streamed(decoder: ChatDecoder, body: bytes, size: int) -> Iterator[ResponseEvent]:
    for start in range(0, len(body), size):
        yield from decoder.feed(body[start : start + size])
    yield from decoder.feed_eof()


class _LineWriter:
    """A line per event; at the end the items that became whole, and the usage."""

    def __init__(self) -> None:
        self._items: list[ResponseItem] = []
        self._completed: Completed | None = None

    def write(self, event: ResponseEvent, /) -> None:
        """Writes what the event is, and the one thing that it brings."""
        match event:
            case OutputItemAdded(item):
                self._line("added", _kind(item))
            case OutputTextDelta(delta):
                self._line("text", _quoted(delta))
            case ReasoningContentDelta(delta):
                self._line("reasoning", _quoted(delta))
            case ToolCallArgumentsDelta(_, delta):
                self._line("arguments", _quoted(delta))
            case OutputItemDone(item):
                self._items.append(item)
                self._line("done", _kind(item))
            case Completed(_, _, reason, incomplete):
                self._completed = event
                why = "" if incomplete is None else f", incomplete: {incomplete}"
                self._line("completed", f"{reason or 'without a finish reason'}{why}")

    def close(self) -> None:
        """Writes what remains."""
        for item in self._items:
            write(f"\n{_kind(item)}\n{_content(item)}\n")
        if self._completed is not None:
            write(f"\n{usage_words(self._completed.token_usage)}\n")

    def _line(self, name: str, value: str) -> None:
        write(f"{name:<10} {value}\n")


def _content(item: ResponseItem) -> str:
    match item:
        case Message():
            text = item.text + refusal(item)
        case Reasoning():
            text = item.text or "(only the server can read it)"
        case FunctionCall(name, arguments, call_id):
            text = f"{name} {arguments} as {call_id}"
        case _:
            text = _quoted(encode_item(item))
    return "\n".join(f"  {line}" for line in text.removesuffix("\n").split("\n"))


def _kind(item: ResponseItem) -> str:
    return str(encode_item(item)["type"])


def _quoted(value: Any) -> str:
    return msgspec.json.encode(value).decode()
