"""What every exchange offers, so that whoever relays one need not know which APIs it goes between."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from msgspec import Struct

from turnwire.errors import ApiError
from turnwire.event import TokenUsage
from turnwire.wire.answer_decoder import Ending
from turnwire.wire.chat import ReasoningName

__all__ = ["Exchange", "Outcome"]


class Outcome(Struct, frozen=True):
    """What became of an answer that ended properly."""

    response_id: str
    response: Mapping[str, Any] | None = None
    """The ``response`` object, None where the client speaks Chat Completions."""
    usage: TokenUsage | None = None


class Exchange(Protocol):
    """One request on its way: what the upstream is asked, and what its answer becomes for the client. No I/O, no clock.

    A streamed answer is `start`, `feed` for each read, `feed_eof`; `keepalive` at any time between; `fail` where it
    breaks. Each gives events as bytes, to be written in one go; over a WebSocket each is one message. An answer that is
    not streamed is fed the same way, gives nothing as it goes, and is `document` once it is over.
    """

    path: str
    """What is asked of the upstream: ``chat/completions`` or ``responses``."""
    body: bytes
    """The request's body."""
    told_in_stream: tuple[type[ApiError], ...]
    """Errors that a stream's client understands better in a stream than as an HTTP status."""
    dropped: Sequence[str]
    """What of the client's request could not be carried over, in a few words each."""

    @property
    def over(self) -> bool:
        """The terminal event was given: there is nothing more to write."""

    @property
    def ending(self) -> Ending:
        """How much of an end the upstream has given: one that has said all may never end its body."""

    @property
    def reasoning_name(self) -> ReasoningName | None:
        """What a chat upstream calls its reasoning, once it showed; its later requests need the name."""

    @property
    def committed(self) -> bool:
        """Something of the answer itself was given, so that nothing may be repeated behind the client's back."""

    @property
    def position(self) -> int | None:
        """How many events the client was given, where another exchange can go on behind them; None where none can."""

    @property
    def outcome(self) -> Outcome | None:
        """The answer, once it ended properly; None until then, and where it failed."""

    @property
    def error(self) -> ApiError | None:
        """Why the answer failed, None where it did not."""

    def start(self, metadata: Mapping[str, str]) -> list[bytes]:
        """The beginning; ``metadata`` are headers for a client that sees none, on a WebSocket."""

    def feed(self, data: bytes) -> list[bytes]:
        """What these bytes of the upstream's body become; a failure in them is told as `fail` tells it."""

    def feed_whole(self, body: bytes) -> list[bytes]:
        """What an upstream's body becomes that is one JSON object instead of a stream."""

    def feed_eof(self) -> list[bytes]:
        """What the end of the upstream's body becomes: a failure, where the answer had not ended."""

    def keepalive(self) -> list[bytes]:
        """A sign of life that means nothing."""

    def fail(self, error: ApiError) -> list[bytes]:
        """The end of an answer that broke; nothing where it is over."""

    def document(self) -> bytes:
        """The answer as one JSON object, for a request without ``stream``; raises the `ApiError` of one that failed."""
