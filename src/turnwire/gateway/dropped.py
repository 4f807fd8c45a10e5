"""What a request could not take along, named: in a header, in the log and in a counter."""

from __future__ import annotations

import re
from collections.abc import Sequence

__all__ = ["DROPPED_HEADER", "dropped_header", "feature_kind"]

DROPPED_HEADER = "x-turnwire-dropped"

_MAX_HEADER = 1024
_UNFIT = re.compile(r"[^\x20-\x7e]|;")
_OWN_WORDS = re.compile(r"reasoning\.(?!(?:effort|summary)$)|[a-z_., -]*")
"""What a feature begins with: our words, up to a value that the client chose."""


def dropped_header(dropped: Sequence[str]) -> str:
    """The features as one header value, separated by semicolons: visible ASCII, at most 1 KiB, the rest counted."""
    told: list[str] = []
    size = 0
    for place, feature in enumerate(dropped):
        text = _UNFIT.sub("?", feature)
        size += len(text) + 2
        if size > _MAX_HEADER:
            told.append(f"and {len(dropped) - place} more")
            break
        told.append(text)
    return "; ".join(told)


def feature_kind(feature: str) -> str:
    """A feature without the names that the client chose: what a counter can be labelled with.

    >>> feature_kind("tool of type 'web_search'")
    'tool of type …'
    """
    found = _OWN_WORDS.match(feature)
    words = "" if found is None else found[0]
    return words if words == feature else f"{words}…"
