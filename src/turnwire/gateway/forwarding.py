"""Which headers cross the gateway: from a client to its upstream, and from the upstream's response back.

What is not listed here stays on its side: keys, cookies and hop-by-hop headers (RFC 9110, section 7.6.1), all that
describes the body, and the turn state, for which the gateway has its own. Towards the client also what would make the
Codex CLI doubt its model (``openai-model``) or read the list of models again after each response (``x-models-etag``).
"""

from __future__ import annotations

from collections.abc import Mapping

from turnwire.client.turn_state import TURN_STATE_HEADER

__all__ = ["UPSTREAM_REQUEST_ID_HEADER", "can_travel", "request_headers", "response_headers"]

UPSTREAM_REQUEST_ID_HEADER = "x-upstream-request-id"
"""What the upstream calls a request, to quote to those who run it."""

_FORWARDED = frozenset(
    {
        "user-agent",
        "originator",
        "version",
        "session-id",
        "session_id",
        "thread-id",
        "conversation_id",
        "x-client-request-id",
        "x-request-id",
        "idempotency-key",
        "openai-beta",
        "traceparent",
        "tracestate",
    }
)
_FORWARDED_KINDS = ("x-codex-", "x-openai-")
_RETURNED = frozenset({"x-request-id", "openai-processing-ms", "openai-version"})
_RETURNED_KINDS = ("x-codex-", "x-ratelimit-")
_RENAMED = {"x-request-id": UPSTREAM_REQUEST_ID_HEADER}

_MAX_VALUE = 8 * 1024
_MAX_TOTAL = 16 * 1024
"""Characters of all names and values together: servers refuse heads over some 16 to 64 KiB."""


def request_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers of a client's request that its upstream gets, by lower-case name.

    What can't travel, and what would take them over 16 KiB, is left out.
    """
    return _selected(headers, _FORWARDED, _FORWARDED_KINDS)


def response_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers of an upstream's response that its client gets; bounds as for `request_headers`.

    The upstream's name for the request comes under another header, for the gateway has its own in ``x-request-id``.
    """
    returned = _selected(headers, _RETURNED, _RETURNED_KINDS)
    return {_RENAMED.get(name, name): value for name, value in returned.items()}


def can_travel(value: str) -> bool:
    """Whether a header's value is fit to be sent on: printable ASCII, not empty, at most 8 KiB."""
    return 0 < len(value) <= _MAX_VALUE and value.isascii() and value.isprintable()


def _selected(headers: Mapping[str, str], names: frozenset[str], kinds: tuple[str, ...]) -> dict[str, str]:
    selected: dict[str, str] = {}
    left = _MAX_TOTAL
    for name, value in headers.items():
        name = name.lower()
        if name == TURN_STATE_HEADER or not (name in names or name.startswith(kinds)):
            continue
        size = len(name) + len(value)
        if size <= left and can_travel(value):
            selected[name] = value
            left -= size
    return selected
