"""The server's end, as far as the application has to know of it."""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping
from typing import Any

__all__ = ["STATE_NAME", "draining"]

STATE_NAME = "turnwire.draining"


def draining(scope: MutableMapping[str, Any]) -> asyncio.Event:
    """The event, by an ASGI scope, that is set once the server takes nothing new; never set by servers not ours.

    From then on ``readyz`` says so, and a WebSocket is closed (1012) as soon as no answer is under way on it. An answer
    that takes longer than ``drain_timeout`` has its task cancelled, and `turnwire.gateway.server.LAST_WORDS` seconds to
    tell its client.
    """
    event: asyncio.Event = scope.setdefault("state", {}).setdefault(STATE_NAME, asyncio.Event())
    return event
