"""WebSocket connections that outlive a turn: one is kept, and what its server remembers of it with it.

A server keeps the last response of a connection, input and output, so that the next request can go on from it and
send only what is new. The routing token is not part of that: it belongs to the turn, and a connection carries none.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence

from turnwire.client.provider import Provider
from turnwire.client.turn_state import TURN_STATE_HEADER, TurnState
from turnwire.errors import Disconnected
from turnwire.event import ResponseEvent
from turnwire.item import ResponseItem
from turnwire.transport.websocket import WebSocketConnection
from turnwire.wire.responses import ResponsesDecoder

__all__ = ["FrameDecoder", "SocketAnswer", "SocketLink", "SocketPool"]

_log = logging.getLogger("turnwire.client")

_MAX_AGE = 55 * 60.0
"""Seconds: servers close a connection after 60 minutes (``websocket_connection_limit_reached``)."""
_MAX_BREAKS = 3
"""Answers in a row that may break off before they complete until WebSocket is given up."""


class SocketLink:
    """One connection, and the response that its server remembers."""

    def __init__(self, connection: WebSocketConnection) -> None:
        self.connection = connection
        self._response_id: str | None = None
        self._history: tuple[ResponseItem, ...] = ()
        self._answered = False

    def remember(self, response_id: str, history: tuple[ResponseItem, ...], *, answered: bool) -> None:
        """The response that just completed, and the conversation up to its end; a warm-up is not ``answered``."""
        self._response_id = response_id or None
        self._history = history
        self._answered = answered

    def continuation(self, items: Sequence[ResponseItem]) -> tuple[str, Sequence[ResponseItem]] | None:
        """The response to go on from and what is new since, where the history has only grown; None where not.

        After a warm-up nothing need be new: the prompt itself has not been answered yet.
        """
        known = len(self._history)
        if self._response_id is None or len(items) < known + self._answered or tuple(items[:known]) != self._history:
            return None
        return self._response_id, items[known:]


class SocketPool:
    """The one connection that a client keeps for its next turn, and whether it uses WebSocket at all."""

    def __init__(self) -> None:
        self._idle: SocketLink | None = None
        self._breaks = 0
        self._closed = False
        self.given_up: str | None = None
        """Why WebSocket is not used any more, None while it is."""

    def wanted(self, provider: Provider) -> bool:
        """Whether this provider is to be asked over WebSocket, where the client has not given it up."""
        return provider.websocket is True or (provider.websocket == "auto" and self.given_up is None)

    def take(self) -> SocketLink | None:
        """The kept connection, if it can still be used; it is no longer kept then."""
        link, self._idle = self._idle, None
        if link is not None and (link.connection.closed or link.connection.age > _MAX_AGE):
            link.connection.close()
            return None
        return link

    def give(self, link: SocketLink) -> None:
        """Keeps a connection whose answer is complete; of two, the newer."""
        self._breaks = 0
        if self._closed:
            link.connection.close()
            return
        if self._idle is not None:
            self._idle.connection.close()
        self._idle = link

    def broke(self) -> None:
        """An answer broke off."""
        self._breaks += 1
        if self._breaks >= _MAX_BREAKS:
            self.give_up(f"{self._breaks} answers in a row broke off")

    def give_up(self, why: str) -> None:
        """Uses HTTP from here on."""
        if self.given_up is None:
            self.given_up = why
            _log.warning("WebSocket is given up for HTTP: %s", why)

    def close(self) -> None:
        """Closes the kept connection; those that are in use are closed when they are given back."""
        self._closed = True
        if self._idle is not None:
            self._idle.connection.close()
            self._idle = None


class FrameDecoder(ResponsesDecoder):
    """Reads an answer whose pieces are WebSocket messages, and takes the token that its metadata hand out."""

    def __init__(self, turn_state: TurnState, *, watch_calls: bool, max_event_size: int) -> None:
        super().__init__(watch_calls=watch_calls, max_event_size=max_event_size)
        self._turn_state = turn_state

    def feed(self, data: bytes) -> Iterable[ResponseEvent]:
        """The events of one message."""
        events = self.feed_frame(data)
        if self.metadata:
            self._turn_state.set(self.metadata.get(TURN_STATE_HEADER, ""))
        return events


class SocketAnswer:
    """A connection for as long as it carries one answer; it is kept for the next turn where the answer completed."""

    def __init__(
        self,
        link: SocketLink,
        pool: SocketPool,
        asked: tuple[ResponseItem, ...],
        decoder: ResponsesDecoder,
        *,
        answered: bool,
    ) -> None:
        self._link = link
        self._pool = pool
        self._asked = asked
        self._decoder = decoder
        self._answered = answered
        self._over = False
        self.headers: Mapping[str, str] = link.connection.headers
        """Those of the handshake."""
        self.content_type = ""

    async def read(self) -> bytes:
        """The next message."""
        try:
            # An empty message is no end: a blank is as little JSON, and the decoder says so.
            return await self._link.connection.receive() or b" "
        except Disconnected:
            if not self._over:  # else it was closed here
                self._pool.broke()
            raise

    async def finish(self) -> None:
        """Keeps the connection, and remembers what its server does."""
        self._over = True
        history = (*self._asked, *self._decoder.items)
        self._link.remember(self._decoder.response_id, history, answered=self._answered)
        self._pool.give(self._link)

    def close(self) -> None:
        """Closes the connection: an answer that nobody reads to its end would get in the way of the next."""
        if not self._over:
            self._over = True
            self._link.connection.close()
