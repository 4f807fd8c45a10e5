"""What a caller wrote into a prompt, as JSON."""

from __future__ import annotations

import msgspec

from turnwire.errors import InvalidPrompt

__all__ = ["prompt_json"]

_encode = msgspec.json.Encoder().encode


def prompt_json(value: object) -> bytes:
    """The value as JSON; `InvalidPrompt` where JSON has no words for it, such as half a surrogate pair."""
    try:
        return _encode(value)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise InvalidPrompt(
            f"the prompt holds a value that JSON can't: {error}; give text, numbers and the like"
        ) from error
