"""Client and upstream both speak Chat Completions: request and answer go on as they are, but for the model's name.

A stream's bytes pass unread, as far as that can be: what ends it, and what it cost, is looked for at a glance. Only
whole events pass, so that a stream that breaks off can still be ended by an event of ours. An upstream that answers in
the other form than it was asked for, whole or as a stream, is translated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from turnwire.errors import ApiError, ProtocolError, StreamError
from turnwire.event import ResponseEvent
from turnwire.gateway.exchange.to_chat import ToChat
from turnwire.wire.answer_decoder import Ending
from turnwire.wire.chat import ChatAnswerWriter, ChatDecoder, ChatDialect
from turnwire.wire.chat.passing import PassingAnswer
from turnwire.wire.prompt_json import prompt_json
from turnwire.wire.sse import encode_event

__all__ = ["ChatRelayed"]

_DONE = encode_event("[DONE]")


class ChatRelayed(ToChat):
    """An `Exchange`. ``fields`` is the request's JSON object, whose ``model`` becomes the upstream's own name for it.

    The object needs no other check: the upstream knows best what it accepts. ``clock`` gives seconds since 1970.
    """

    path = "chat/completions"

    def __init__(
        self,
        fields: Mapping[str, Any],
        *,
        model: str,
        dialect: ChatDialect,
        response_id: str,
        clock: Callable[[], float],
    ) -> None:
        choices, options = fields.get("n"), fields.get("stream_options")
        self._choices = max(1, choices) if isinstance(choices, int) else 1
        self._dialect = dialect
        super().__init__(
            ChatDecoder(
                dialect, max_output_tokens_set=True, watch_calls=True, choices=self._choices, refuse_bare_end=True
            ),
            ChatAnswerWriter(
                response_id=response_id,
                model=str(fields.get("model")),
                created=int(clock()),
                include_usage=isinstance(options, Mapping) and options.get("include_usage") is True,
                legacy_calls="functions" in fields and "tools" not in fields,
            ),
            response_id=response_id,
            streams=bool(fields.get("stream")),
        )
        self.body = prompt_json({**fields, "model": model})
        self._passing = PassingAnswer(self._choices)
        self._document: bytes | None = None

    @property
    def ending(self) -> Ending:
        """How much of an end the upstream has given."""
        return self._passing.ending if self._streams else super().ending

    @property
    def committed(self) -> bool:
        """A chunk of the answer was given."""
        return self._passing.begun or super().committed

    def start(self, metadata: Mapping[str, str]) -> list[bytes]:
        """Nothing: the upstream's own beginning will do."""
        return []

    def feed(self, data: bytes) -> list[bytes]:
        """The events that these bytes complete, as they came."""
        if not self._streams:
            return self._other_form(self._decoder.feed(data))
        if self.over:
            return []
        passing = self._passing
        try:
            events = passing.feed(data)
        except ProtocolError as error:
            return self.fail(error)
        if passing.error is not None:
            self.error = passing.error  # the event that says so is the upstream's own
        elif passing.done_seen:
            self._end()
        return [events] if events else []

    def feed_whole(self, body: bytes) -> list[bytes]:
        """An answer in one piece: as it came, or as a stream where one was asked for."""
        if not self._streams:
            self._document = body
            return super().feed_whole(body)
        return [*self._writer.start(), *self._other_form(self._decoder.feed_completion(body))]

    def feed_eof(self) -> list[bytes]:
        """The sentinel, where an answer that ended lacks it, or a failure; what is left of an event is none."""
        if not self._streams:
            return super().feed_eof()
        if self.over:
            return []
        if self._passing.ending == "open" and (self._dialect.bare_end == "cut" or not self._passing.begun):
            return self.fail(StreamError("the stream ended without a finish reason or [DONE]: it was cut off"))
        self._end()
        return [_DONE]

    def fail(self, error: ApiError) -> list[bytes]:
        """An ``error`` event; none behind an end, for which nothing was missing but the sentinel."""
        if self._passing.ending != "open" and not self.over:
            return self.feed_eof()
        return super().fail(error)

    def document(self) -> bytes:
        """The upstream's own object, where it gave one."""
        if self._completed is not None and self._document is not None:
            return self._document
        return super().document()

    def _other_form(self, events: Iterable[ResponseEvent]) -> list[bytes]:
        """What an answer becomes that came whole instead of as a stream, or the other way round."""
        if self._choices > 1:
            return self.fail(
                StreamError(f"the server gave its {self._choices} answers in another form than it was asked for")
            )
        return self._take(events)

    def _end(self) -> None:
        self._completed = self._passing.completed()
        self._response_id = self._completed.response_id or self._response_id
