"""Counts of tokens as servers give them, whatever the API."""

from __future__ import annotations

from typing import Any

__all__ = ["token_count"]


def token_count(counts: Any, name: str) -> int:
    """A count among others; 0 where it is missing, where it is no count, or where there are none at all."""
    value = counts.get(name) if isinstance(counts, dict) else None
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0
