"""Token counts as the Responses API writes them, both ways."""

from __future__ import annotations

from typing import Any

from turnwire.event import TokenUsage
from turnwire.wire.token_count import token_count

__all__ = ["decode_usage", "encode_usage"]


def decode_usage(usage: Any) -> TokenUsage | None:
    """The counts of a ``usage`` object, None for anything else; what is not a count is 0."""
    if not isinstance(usage, dict):
        return None
    input_tokens = token_count(usage, "input_tokens")
    output_tokens = token_count(usage, "output_tokens")
    return TokenUsage(
        input_tokens=input_tokens,
        cached_input_tokens=token_count(usage.get("input_tokens_details"), "cached_tokens"),
        output_tokens=output_tokens,
        reasoning_output_tokens=token_count(usage.get("output_tokens_details"), "reasoning_tokens"),
        total_tokens=token_count(usage, "total_tokens") or input_tokens + output_tokens,
    )


def encode_usage(usage: TokenUsage) -> dict[str, Any]:
    """The ``usage`` object. Its details are never empty: Codex takes an empty object for a broken stream."""
    return {
        "input_tokens": usage.input_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_input_tokens},
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_output_tokens},
        "total_tokens": usage.total_tokens,
    }
