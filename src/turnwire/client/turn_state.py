"""The routing token of one user turn."""

from __future__ import annotations

__all__ = ["TURN_STATE_HEADER", "TurnState"]

TURN_STATE_HEADER = "x-codex-turn-state"
"""The header that hands the token out and takes it back."""

_MAX_SIZE = 8 * 1024
_FIRST_VISIBLE, _LAST_VISIBLE = "!", "~"


class TurnState:
    """Sticky-routing token of one user turn, opaque to the client.

    The first response that carries one sets it; every later request of the turn repeats it unchanged, retries
    included. It never crosses into another turn, nor to another provider.
    """

    __slots__ = ("_provisional", "_value")

    def __init__(self) -> None:
        self._value: str | None = None
        self._provisional = False

    def __repr__(self) -> str:
        # The value says where a request goes and for whom, so it stays out of logs.
        return f"<TurnState {'unset' if self._value is None else f'of {len(self._value)} characters'}>"

    def get(self) -> str | None:
        """The token, None as long as there is none."""
        return self._value

    def set(self, value: str) -> bool:
        """Takes a token if there is none yet; whether it was taken.

        Not taken is what can't travel in a header unchanged: an empty value, one over 8 KiB, or one that is not
        visible ASCII throughout.
        """
        if (self._value is not None and not self._provisional) or not _can_travel(value):
            return False
        self._value = value
        self._provisional = False
        return True

    def set_provisionally(self, value: str) -> bool:
        """Takes a WebSocket handshake's token if there is none yet, until `set` brings one that outranks it."""
        if self._value is not None or not _can_travel(value):
            return False
        self._value = value
        self._provisional = True
        return True


def _can_travel(value: str) -> bool:
    return 0 < len(value) <= _MAX_SIZE and all(_FIRST_VISIBLE <= character <= _LAST_VISIBLE for character in value)
