"""What a server says in headers: those of a response, of a handshake, of an event that carries some."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from turnwire.event import ModelsEtag, RateLimits, ResponseEvent, ServerModel

__all__ = ["events_from_headers", "plain_headers"]

_LIMITS = ("x-codex-primary-", "x-codex-secondary-", "x-ratelimit-")
_PREFIXES = ("x-codex-", "x-ratelimit-")


def events_from_headers(headers: Mapping[str, str]) -> list[ResponseEvent]:
    """The events that a response's headers stand for; names count in any case.

    ``x-codex-primary-*``, ``x-codex-secondary-*`` and ``x-ratelimit-*`` are one `RateLimits` (keys such as
    ``primary-used-percent`` and ``remaining-requests``), ``x-models-etag`` is a `ModelsEtag`, ``openai-model`` a
    `ServerModel`.
    """
    lower = {name.lower(): value for name, value in headers.items()}
    limits = {_bare(name): value for name, value in lower.items() if name.startswith(_LIMITS)}
    events: list[ResponseEvent] = []
    if limits:
        events.append(RateLimits(limits))
    if etag := lower.get("x-models-etag"):
        events.append(ModelsEtag(etag))
    if model := lower.get("openai-model"):
        events.append(ServerModel(model))
    return events


def plain_headers(headers: Any) -> dict[str, str]:
    """An event's ``headers`` object with names in lower case; of a list its first element, and nothing that is empty.

    Of a name that stands there twice, in different cases, the first value counts.
    """
    plain: dict[str, str] = {}
    if isinstance(headers, dict):
        for name, value in headers.items():
            first = value[0] if isinstance(value, list) and value else value
            if isinstance(first, str) and first:
                plain.setdefault(name.lower(), first)
    return plain


def _bare(name: str) -> str:
    for prefix in _PREFIXES:
        name = name.removeprefix(prefix)
    return name
