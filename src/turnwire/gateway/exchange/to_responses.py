"""What the translating exchanges with a client of the Responses API share: a decoder's events, encoded for it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping

from turnwire.errors import ApiError, ContextWindowExceeded
from turnwire.event import ResponseEvent
from turnwire.gateway.refusal import stream_failure
from turnwire.wire.answer_decoder import AnswerDecoder, Ending
from turnwire.wire.responses import ResponsesEncoder

__all__ = ["ToResponses"]


class ToResponses(ABC):
    """An `Exchange` but for its ``path``, its ``body`` and what becomes of the decoder's events."""

    # Codex makes room and goes on, where a 400 would end the turn.
    told_in_stream: tuple[type[ApiError], ...] = (ContextWindowExceeded,)

    def __init__(self, decoder: AnswerDecoder, encoder: ResponsesEncoder, *, streams: bool) -> None:
        self.error: ApiError | None = None
        self.committed = False
        self._decoder = decoder
        self._encoder = encoder
        self._streams = streams
        self._ended = False

    @property
    def over(self) -> bool:
        """The terminal event was given."""
        return self._ended or self.error is not None

    @property
    def ending(self) -> Ending:
        """How much of an end the upstream has given."""
        return self._decoder.ending

    @property
    def position(self) -> int | None:
        """Where another exchange can go on: anywhere before the answer's first event."""
        return None if self.committed else self._encoder.next_number

    def start(self, metadata: Mapping[str, str]) -> list[bytes]:
        """``created``, the metadata, ``in_progress``."""
        return self._encoder.start(metadata) if self._streams else []

    def feed(self, data: bytes) -> list[bytes]:
        """What these bytes become."""
        return self._take(self._decoder.feed(data))

    def feed_whole(self, body: bytes) -> list[bytes]:
        """What an answer becomes that came whole, though a stream was asked for."""
        return self._take(self._decoder.feed_completion(body))

    def feed_eof(self) -> list[bytes]:
        """What the end of the body becomes."""
        return self._take(self._decoder.feed_eof())

    def keepalive(self) -> list[bytes]:
        """An event that says nothing: unlike a comment, it re-arms the idle timers of clients."""
        return self._encoder.keepalive() if self._streams and not self.over else []

    def fail(self, error: ApiError) -> list[bytes]:
        """``response.failed``."""
        if self.over:
            return []
        self.error = error
        return self._encoder.failed(stream_failure(error)) if self._streams else []

    @abstractmethod
    def _take(self, events: Iterable[ResponseEvent]) -> list[bytes]:
        """What these events become; a failure behind them is told as `fail` tells it."""
