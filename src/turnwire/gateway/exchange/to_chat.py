"""What all exchanges with a client of the Chat Completions API have in common: its answer, from a decoder's events."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from turnwire.errors import ApiError, StreamError
from turnwire.event import Completed, ResponseEvent
from turnwire.gateway.exchange.exchange import Outcome
from turnwire.gateway.exchange.from_decoder import FromDecoder
from turnwire.gateway.refusal import stream_failure
from turnwire.wire.answer_decoder import AnswerDecoder
from turnwire.wire.chat import ChatAnswerWriter, ReasoningName
from turnwire.wire.sse import encode_comment

__all__ = ["ToChat"]

_KEEPALIVE = encode_comment("keepalive")


class ToChat(FromDecoder):
    """An `Exchange` but for its ``path`` and ``body``: what the decoder reads, the writer writes.

    Errors in front of the stream are best told by an HTTP status; in the stream they are an ``error`` event, behind
    which no ``[DONE]`` comes.
    """

    told_in_stream: tuple[type[ApiError], ...] = ()
    reasoning_name: ReasoningName | None = None
    dropped: Sequence[str] = ()

    def __init__(self, decoder: AnswerDecoder, writer: ChatAnswerWriter, *, response_id: str, streams: bool) -> None:
        super().__init__(decoder)
        self._writer = writer
        self._response_id = response_id
        self._streams = streams
        self._completed: Completed | None = None

    @property
    def over(self) -> bool:
        """The end was given, or the failure."""
        return self._completed is not None or self.error is not None

    @property
    def committed(self) -> bool:
        """A chunk of the answer was given; of a whole answer nothing is, until it is over."""
        return self._writer.output_started

    @property
    def position(self) -> int | None:
        """Where another exchange can go on: anywhere before the answer, for comments don't count."""
        return None if self.committed else 0

    @property
    def outcome(self) -> Outcome | None:
        """The answer, once it ended properly."""
        completed = self._completed
        if completed is None:
            return None
        return Outcome(self._response_id, usage=completed.token_usage)

    def start(self, metadata: Mapping[str, str]) -> list[bytes]:
        """The chunk that says who speaks."""
        return self._writer.start() if self._streams else []

    def keepalive(self) -> list[bytes]:
        """A comment: this API has no event that means nothing."""
        return [_KEEPALIVE] if self._streams and not self.over else []

    def fail(self, error: ApiError) -> list[bytes]:
        """An ``error`` event."""
        if self.over:
            return []
        self.error = error
        return self._writer.failed(stream_failure(error)) if self._streams else []

    def document(self) -> bytes:
        """The ``chat.completion`` object."""
        if self._completed is None:
            raise self.error or StreamError("the answer has not ended yet")
        return self._writer.completion(self._decoder.items, self._completed)

    def _take(self, events: Iterable[ResponseEvent]) -> list[bytes]:
        try:
            if self._streams:
                written = self._writer.encode(events)
                self._completed = self._writer.completed
                return written
            for event in events:
                if isinstance(event, Completed):
                    self._completed = event
        except ApiError as error:
            return self.fail(error)
        return []
