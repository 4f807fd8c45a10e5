"""The part of a chunk that anybody reads, as typed views: msgspec skips the rest without building it.

Only the frame is typed (choices, delta); leaves are ``Any``, for servers put all kinds of things there. A chunk
whose very frame is odd (``choices: [null]``) goes through `lenient_chunk` instead.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

__all__ = ["Choice", "Chunk", "Delta", "chunk_decoder", "lenient_chunk"]


class Delta(Struct, gc=False):
    """What a choice gained, or in ``message`` all of it."""

    content: Any = None
    reasoning: Any = None
    reasoning_content: Any = None
    reasoning_details: Any = None
    tool_calls: Any = None
    refusal: Any = None
    function_call: Any = None


class Choice(Struct, gc=False):
    """One of the answers that the model was asked for."""

    delta: Delta | None = None
    finish_reason: Any = None
    message: Delta | None = None
    index: Any = None


class Chunk(Struct, gc=False):
    """One ``chat.completion.chunk``, or a whole ``chat.completion``."""

    choices: list[Choice] | None = None
    id: Any = None
    usage: Any = None
    error: Any = None
    timings: Any = None


chunk_decoder = msgspec.json.Decoder(Chunk)


def lenient_chunk(value: Any) -> Chunk | None:
    """The same view of any decoded JSON: what has not the right shape counts as absent. None for no object."""
    if not isinstance(value, dict):
        return None
    choices = value.get("choices")
    return Chunk(
        choices=[_choice(choice) for choice in choices if isinstance(choice, dict)]
        if isinstance(choices, list)
        else None,
        id=value.get("id"),
        usage=value.get("usage"),
        error=value.get("error"),
        timings=value.get("timings"),
    )


def _choice(value: dict[str, Any]) -> Choice:
    return Choice(
        delta=_delta(value.get("delta")),
        finish_reason=value.get("finish_reason"),
        message=_delta(value.get("message")),
        index=value.get("index"),
    )


def _delta(value: Any) -> Delta | None:
    if not isinstance(value, dict):
        return None
    return Delta(**{name: value.get(name) for name in Delta.__struct_fields__})
