"""What the exchanges share that read the upstream's answer with a decoder, whatever they make of its events."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable

from turnwire.errors import ApiError
from turnwire.event import ResponseEvent
from turnwire.wire.answer_decoder import AnswerDecoder, Ending

__all__ = ["FromDecoder"]


class FromDecoder(ABC):
    """The part of an `Exchange` that is fed."""

    def __init__(self, decoder: AnswerDecoder) -> None:
        self.error: ApiError | None = None
        self._decoder = decoder

    @property
    def ending(self) -> Ending:
        """How much of an end the upstream has given."""
        return self._decoder.ending

    def feed(self, data: bytes) -> list[bytes]:
        """What these bytes become."""
        return self._take(self._decoder.feed(data))

    def feed_whole(self, body: bytes) -> list[bytes]:
        """What an answer becomes that came whole, though a stream was asked for."""
        return self._take(self._decoder.feed_completion(body))

    def feed_eof(self) -> list[bytes]:
        """What the end of the body becomes: a failure, where the answer had not ended."""
        return self._take(self._decoder.feed_eof())

    @abstractmethod
    def _take(self, events: Iterable[ResponseEvent]) -> list[bytes]:
        """What these events become; a failure behind them is told as `Exchange.fail` tells it."""
