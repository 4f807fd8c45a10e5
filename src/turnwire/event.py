"""The one vocabulary of a model turn, whatever the server speaks.

A stream is `Created`?, then items (added, deltas, done), then exactly one `Completed`, which is last. A stream
that fails raises an error from `turnwire.errors` instead of completing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from msgspec import Struct

from turnwire.item import ResponseItem

__all__ = [
    "Completed",
    "Created",
    "ModelsEtag",
    "OutputItemAdded",
    "OutputItemDone",
    "OutputTextDelta",
    "RateLimits",
    "ReasoningContentDelta",
    "ReasoningSummaryDelta",
    "ReasoningSummaryPartAdded",
    "ResponseEvent",
    "ServerModel",
    "StreamRestarted",
    "TokenUsage",
    "ToolCallArgumentsDelta",
]


class TokenUsage(Struct, frozen=True, gc=False):
    """Tokens as the server counts them. The cached ones are part of the input, the reasoning ones of the output."""

    input_tokens: int = 0
    cached_input_tokens: int = 0
    output_tokens: int = 0
    reasoning_output_tokens: int = 0
    total_tokens: int = 0

    @property
    def cached_share(self) -> float:
        """How much of the input was read from a prompt cache, between 0 and 1."""
        return self.cached_input_tokens / self.input_tokens if self.input_tokens else 0.0


class Created(Struct, frozen=True, tag="created", gc=False):
    """The server has begun to answer."""

    response_id: str = ""


class OutputItemAdded(Struct, frozen=True, tag="output_item_added"):
    """An item has begun; it is empty or nearly so."""

    item: ResponseItem


class OutputItemDone(Struct, frozen=True, tag="output_item_done"):
    """An item is whole."""

    item: ResponseItem


class OutputTextDelta(Struct, frozen=True, tag="output_text_delta", gc=False):
    """More text of the open message."""

    delta: str


class ReasoningSummaryDelta(Struct, frozen=True, tag="reasoning_summary_delta", gc=False):
    """More text of a part of the reasoning's summary."""

    delta: str
    summary_index: int


class ReasoningSummaryPartAdded(Struct, frozen=True, tag="reasoning_summary_part_added", gc=False):
    """A part of the reasoning's summary has begun."""

    summary_index: int


class ReasoningContentDelta(Struct, frozen=True, tag="reasoning_content_delta", gc=False):
    """More of the reasoning itself; over Chat Completions ``content_index`` counts the deltas of the item."""

    delta: str
    content_index: int


class ToolCallArgumentsDelta(Struct, frozen=True, tag="tool_call_arguments_delta", gc=False):
    """More of a call's arguments; only for whoever watches calls."""

    call_id: str
    delta: str


class RateLimits(Struct, frozen=True, tag="rate_limits"):
    """What the server says is left: header names in lower case, without their common prefix, to their values."""

    limits: Mapping[str, Any]


class ServerModel(Struct, frozen=True, tag="server_model", gc=False):
    """The model that really answers, where the server names it."""

    model: str


class ModelsEtag(Struct, frozen=True, tag="models_etag", gc=False):
    """The version of the server's list of models."""

    etag: str


class StreamRestarted(Struct, frozen=True, tag="stream_restarted", gc=False):
    """The answer begins anew: forget what this stream gave so far. Only for whoever asked for restarts."""

    attempt: int
    reason: str


class Completed(Struct, frozen=True, tag="completed", gc=False):
    """The answer is over. It comes once and last.

    ``finish_reason`` is the server's word, None where it never gave one. ``incomplete_reason`` says why the
    answer is not whole (``max_output_tokens``, ``content_filter`` or the server's own word), None where it is.
    """

    response_id: str = ""
    token_usage: TokenUsage | None = None
    finish_reason: str | None = None
    incomplete_reason: str | None = None


ResponseEvent: TypeAlias = (
    Created
    | OutputItemAdded
    | OutputItemDone
    | OutputTextDelta
    | ReasoningSummaryDelta
    | ReasoningSummaryPartAdded
    | ReasoningContentDelta
    | ToolCallArgumentsDelta
    | RateLimits
    | ServerModel
    | ModelsEtag
    | StreamRestarted
    | Completed
)
