"""What the translating exchanges with a client of the Responses API share: a decoder's events, encoded for it."""

from __future__ import annotations

from collections.abc import Mapping

from turnwire.errors import ApiError, ContextWindowExceeded
from turnwire.gateway.exchange.from_decoder import FromDecoder
from turnwire.gateway.refusal import stream_failure
from turnwire.wire.answer_decoder import AnswerDecoder
from turnwire.wire.responses import ResponsesEncoder

__all__ = ["ToResponses"]


class ToResponses(FromDecoder):
    """An `Exchange` but for its ``path``, its ``body`` and what becomes of the decoder's events."""

    # Codex makes room and goes on, where a 400 would end the turn.
    told_in_stream: tuple[type[ApiError], ...] = (ContextWindowExceeded,)

    def __init__(self, decoder: AnswerDecoder, encoder: ResponsesEncoder, *, streams: bool) -> None:
        super().__init__(decoder)
        self.committed = False
        self.over = False
        """The terminal event was given."""
        self._encoder = encoder
        self._streams = streams

    @property
    def position(self) -> int | None:
        """Where another exchange can go on: anywhere before the answer's first event."""
        return None if self.committed else self._encoder.next_number

    def start(self, metadata: Mapping[str, str]) -> list[bytes]:
        """``created``, the metadata, ``in_progress``."""
        return self._encoder.start(metadata) if self._streams else []

    def keepalive(self) -> list[bytes]:
        """An event that says nothing: unlike a comment, it re-arms the idle timers of clients."""
        return self._encoder.keepalive() if self._streams and not self.over else []

    def fail(self, error: ApiError) -> list[bytes]:
        """``response.failed``."""
        if self.over:
            return []
        self.error = error
        self.over = True
        return self._encoder.failed(stream_failure(error)) if self._streams else []
