"""Chat Completions streams, bytes to events.

This file reads: bytes to chunks, plain ones at a glance, whatever else they hold skipped and counted.
What the chunks mean is in `turnwire.wire.chat.answer`. The rules are the reference's but for what docs/dialects.md
lists at its end, where the habits of real servers stand as well.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator, Mapping

import msgspec

from turnwire.errors import ApiError, StreamError
from turnwire.event import ResponseEvent
from turnwire.item import ResponseItem
from turnwire.wire.answer_decoder import Ending
from turnwire.wire.chat.answer import GrowingAnswer
from turnwire.wire.chat.chunk import chunk_decoder, lenient_chunk
from turnwire.wire.chat.dialect import ChatDialect, ReasoningName
from turnwire.wire.chat.plain import PlainName, plain_decoders
from turnwire.wire.chat.tool import ToolOrigin
from turnwire.wire.sse import MAX_EVENT_SIZE, SseDecoder, then_raise

__all__ = ["ChatDecoder", "decode_completion"]

_log = logging.getLogger("turnwire.wire.chat")

_NO_CHUNK = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class ChatDecoder:
    """Turns the bytes of one Chat Completions response into events; does no I/O and knows no clock.

    `feed` takes the body in any pieces and the events do not depend on where it was cut. Both `feed` and `feed_eof`
    give an iterable of events; where something failed it raises, behind the events that came before, one of
    `turnwire.errors`. `Completed` comes once and last.

    ``max_output_tokens_set`` says that the caller bounded the answer, so that ``length`` is what it asked for.
    ``watch_calls`` adds `OutputItemAdded` and `ToolCallArgumentsDelta` for calls while they grow.
    ``choices`` is the number of answers that were asked for; ``taken_call_ids`` those that the conversation has used.
    ``refuse_bare_end`` makes an end without finish reason and ``[DONE]`` a `StreamError`, unless the dialect knows that
    its server ends so; the reference, and the default, complete with ``finish_reason=None``.
    ``tools`` are those of the `EncodedRequest`: calls are given back as calls of the tools that the caller named, a
    custom tool's as `CustomToolCall` with its deltas being the input itself. Without it, all are function calls.
    """

    def __init__(
        self,
        dialect: ChatDialect = ChatDialect(),  # noqa: B008 - frozen
        *,
        max_output_tokens_set: bool = False,
        watch_calls: bool = False,
        max_event_size: int = MAX_EVENT_SIZE,
        choices: int = 1,
        taken_call_ids: Collection[str] = (),
        refuse_bare_end: bool = False,
        tools: Mapping[str, ToolOrigin] = {},
    ) -> None:
        self._refuses_bare_end = refuse_bare_end and dialect.bare_end == "cut"
        self._max_event_size = max_event_size
        self._sse = SseDecoder(max_event_size)
        self._plain: PlainName | None = None  # what the last chunk brought, where the next may bring more of it
        self._over = False
        self._answer = GrowingAnswer(
            bounded=max_output_tokens_set,
            choices=choices,
            emit_open_calls=dialect.open_calls == "emit",
            watch_calls=watch_calls,
            taken_ids=taken_call_ids,
            tools=tools,
        )
        self.ending: Ending = "open"
        """How much of an end the server has given, for whoever must decide how long to wait for the rest."""
        self.done_seen = False
        """``[DONE]`` came."""
        self.parsed = 0
        """How often something was read that is not a comment: it grows with every read that brings an event."""
        self.skipped = 0
        """Events that held no JSON and were skipped, as the reference does."""

    def __repr__(self) -> str:
        state = "over" if self._over else self.ending
        return f"<ChatDecoder {state}, finish_reason={self.finish_reason!r}, skipped={self.skipped}>"

    @property
    def over(self) -> bool:
        """Nothing more will come: completed or failed."""
        return self._over

    @property
    def finish_reason(self) -> str | None:
        """The server's word for why it ended, None so far or where it gave none."""
        return self._answer.finish_reason

    @property
    def reasoning_name(self) -> ReasoningName | None:
        """The name that this server's reasoning goes by, once some came: to be used when it is sent back."""
        return self._answer.reasoning_name

    @property
    def dropped_calls(self) -> tuple[str, ...]:
        """The names of the calls that came and were not given: never released, or without a name."""
        return self._answer.dropped_calls

    @property
    def items(self) -> tuple[ResponseItem, ...]:
        """The items that are done."""
        return self._answer.items

    @property
    def text(self) -> str:
        """The answer's text as far as it came, that of the open message included."""
        return self._answer.text

    def feed(self, data: bytes) -> Iterable[ResponseEvent]:
        """The events that these bytes complete, in order."""
        if self._over:
            return ()
        events: list[ResponseEvent] = []
        plain = self._plain
        if plain is not None and self._sse.fresh and len(data) <= self._max_event_size:
            # By far the most frequent case: the read is one event that brings more of what the last one did.
            payload = data[6:-2]
            if 10 not in payload and 13 not in payload and data[:6] == b"data: " and data[-2:] == b"\n\n":
                try:
                    value = plain_decoders[plain](payload).choices[0].delta.value
                except _NO_CHUNK:
                    pass
                else:
                    self.parsed += 1
                    self._answer.add_one(plain, value, events)
                    return events
        try:
            self._read(data, events)
        except ApiError as error:
            self._over = True
            return then_raise(events, error)
        finally:
            self.ending = self._answer.ending
        return events

    def feed_eof(self) -> Iterable[ResponseEvent]:
        """The events that the end of the body completes; a body without any event is a `StreamError`."""
        if self._over:
            return ()
        self._over = True
        if not self.parsed:
            return then_raise((), StreamError("the server sent an empty body instead of an answer"))
        if self._refuses_bare_end and self.finish_reason is None:
            return then_raise((), StreamError("the stream ended without a finish reason or [DONE]: it was cut off"))
        events: list[ResponseEvent] = []
        self._answer.complete(events)
        return events

    def feed_completion(self, body: bytes) -> Iterable[ResponseEvent]:
        """The events of a whole answer, a ``chat.completion`` object, instead of a stream; then it is over."""
        self._over = True
        try:
            chunk = lenient_chunk(msgspec.json.decode(body))
        except _NO_CHUNK:
            chunk = None
        if chunk is None or not (chunk.choices or chunk.error):
            return then_raise((), StreamError("the server sent neither a stream nor a chat.completion object"))
        for choice in chunk.choices or ():
            choice.delta, choice.message = choice.message, None
        events: list[ResponseEvent] = []
        try:
            self._answer.take(chunk, events)
        except ApiError as error:
            return then_raise(events, error)
        self.ending = self._answer.ending
        self._answer.complete(events)
        return events

    def _read(self, data: bytes, events: list[ResponseEvent]) -> None:
        sse = self._sse
        block = data if sse.fresh else sse.take(data)
        if block == b"":
            return
        payloads = None if block is None else sse.plain_payloads(block)
        if payloads is None:
            self._read_events(data if block is None else block, events)
            return
        rest = iter(payloads)
        while not self._over and (payload := self._take_plain(rest, events)) is not None:
            self._take_payload(payload, events)

    def _take_plain(self, payloads: Iterator[bytes], events: list[ResponseEvent]) -> bytes | None:
        """Takes chunks as long as they bring more of what the last one did; gives the first that does not."""
        plain = self._plain
        if plain is None:
            return next(payloads, None)
        decode = plain_decoders[plain]
        values = []
        payload = None
        try:
            for payload in payloads:
                values.append(decode(payload).choices[0].delta.value)  # noqa: PERF401 - those before an error count
            payload = None
        except _NO_CHUNK:
            pass
        self.parsed += len(values)
        self._answer.add(plain, values, events)
        return payload

    def _take_payload(self, payload: bytes, events: list[ResponseEvent]) -> None:
        try:
            chunk = chunk_decoder.decode(payload)
        except _NO_CHUNK:
            self._take_data(payload.decode("utf-8", "replace"), events)
        else:
            self.parsed += 1
            self._plain = self._answer.take(chunk, events)

    def _read_events(self, data: bytes, events: list[ResponseEvent]) -> None:
        for event in self._sse.feed(data):
            self._take_data(event.data, events)
            if self._over:
                return

    def _take_data(self, data: str, events: list[ResponseEvent]) -> None:
        try:
            chunk = chunk_decoder.decode(data)
        except (msgspec.DecodeError, RecursionError):
            self._take_odd(data, events)
        else:
            self.parsed += 1
            self._answer.take(chunk, events)

    def _take_odd(self, data: str, events: list[ResponseEvent]) -> None:
        """Takes what is no plain chunk: a sentinel, JSON in an odd shape, or no JSON at all."""
        data = data.strip()
        if not data:
            return
        self.parsed += 1
        if data in ("[DONE]", "DONE"):
            self.done_seen = True
            self._over = True
            self._answer.complete(events)
            return
        try:
            chunk = lenient_chunk(msgspec.json.decode(data))
        except (msgspec.DecodeError, RecursionError) as error:
            self.skipped += 1
            _log.warning("skipped an event of %d characters that is not JSON: %s", len(data), error)
            return
        if chunk is not None:
            self._answer.take(chunk, events)


def decode_completion(
    body: bytes,
    dialect: ChatDialect = ChatDialect(),  # noqa: B008 - frozen
    *,
    max_output_tokens_set: bool = False,
    taken_call_ids: Collection[str] = (),
    tools: Mapping[str, ToolOrigin] = {},
) -> Iterable[ResponseEvent]:
    """The events of an answer that came whole: the JSON body of a ``chat.completion``, from a server that can't stream.

    A body that is not one is a `StreamError`.
    """
    decoder = ChatDecoder(
        dialect, max_output_tokens_set=max_output_tokens_set, taken_call_ids=taken_call_ids, tools=tools
    )
    return decoder.feed_completion(body)
