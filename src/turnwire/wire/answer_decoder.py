"""What every decoder of an answer offers, so that whoever reads one need not know which API it comes from."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, Protocol, TypeAlias

from turnwire.event import ResponseEvent
from turnwire.item import ResponseItem

__all__ = ["AnswerDecoder", "Ending"]

Ending: TypeAlias = Literal["open", "finished", "settled"]
"""``finished``: every choice gave a finish reason; ``settled``: and usage came, so that nothing is missing."""


class AnswerDecoder(Protocol):
    """Turns the bytes of one answer into events; does no I/O and knows no clock.

    The three ``feed`` methods give an iterable of events; where something failed it raises, behind the events that
    came before, one of `turnwire.errors`. `turnwire.event.Completed` comes once and last.
    """

    @property
    def over(self) -> bool:
        """Nothing more will come: completed or failed."""

    @property
    def ending(self) -> Ending:
        """How much of an end the server has given; an API whose last event says that it is the last stays ``open``."""

    @property
    def finish_reason(self) -> str | None:
        """The server's word for why it ended, None so far or where it gave none."""

    @property
    def items(self) -> tuple[ResponseItem, ...]:
        """The items that are done."""

    @property
    def text(self) -> str:
        """The answer's text as far as it came, that of open messages included."""

    @property
    def parsed(self) -> int:
        """How often something was read that is not a comment: it grows with every read that brings an event."""

    @property
    def skipped(self) -> int:
        """Events that told the decoder nothing: no JSON, or of no known type."""

    @property
    def dropped_calls(self) -> tuple[str, ...]:
        """The names of the calls that came and were not given."""

    def feed(self, data: bytes) -> Iterable[ResponseEvent]:
        """The events that these bytes of the body complete, in order."""

    def feed_eof(self) -> Iterable[ResponseEvent]:
        """The events that the end of the body completes."""

    def feed_completion(self, body: bytes) -> Iterable[ResponseEvent]:
        """The events of a whole answer, one JSON object instead of a stream; then it is over."""
