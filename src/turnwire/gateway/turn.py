"""The turn that a request belongs to: where it is to go, by its token or by its conversation, and its token."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from os import urandom
from typing import Any

from msgspec import Struct

from turnwire.client.turn_state import TURN_STATE_HEADER
from turnwire.gateway.affinity import conversation_of, named_conversation
from turnwire.gateway.caller import Caller
from turnwire.gateway.inquiry import Inquiry
from turnwire.gateway.metrics import Metrics
from turnwire.gateway.turn_token import TurnTicket, TurnTokens

__all__ = ["Turn", "Turns"]

_log = logging.getLogger("turnwire.gateway")


class Turn(Struct, frozen=True):
    """One user turn, as one of its requests tells it."""

    key: bytes
    """Of its conversation."""
    name: str
    """The turn's own, at random: the same for all requests that carry its token."""
    ticket: TurnTicket | None = None
    """What its token says; None for its first request."""

    @property
    def held_by(self) -> str | None:
        """The upstream that its token names."""
        return None if self.ticket is None else self.ticket.upstream

    def upstream_token(self, upstream: str) -> str | None:
        """That upstream's own token, where it gave this turn one; it goes to no other."""
        ticket = self.ticket
        return ticket.upstream_token if ticket is not None and ticket.upstream == upstream else None


class Turns:
    """Reads and issues the tokens of turns; what does not count is counted."""

    def __init__(self, tokens: TurnTokens, metrics: Metrics) -> None:
        self._tokens = tokens
        self._metrics = metrics

    def of(self, inquiry: Inquiry, fields: Mapping[str, Any]) -> Turn:
        """The turn of a request, whose fields are those of either API, with nothing left out.

        A token that is forged, foreign, expired or another caller's counts as none.
        """
        ticket = None if inquiry.token is None else self._tokens.read(inquiry.token, inquiry.caller.tenant)
        if isinstance(ticket, TurnTicket):
            return Turn(ticket.key, ticket.turn, ticket)
        if ticket is not None:
            self._metrics.token_refused(ticket)
            _log.info("%s came with a turn token that is %s", inquiry.request_id, ticket)
        return Turn(conversation_of(fields, inquiry.headers), urandom(8).hex())

    def token(self, turn: Turn, inquiry: Inquiry, upstream: str, upstream_token: str | None = None) -> str | None:
        """A token for a turn that goes to this upstream, or to whichever its key says where that is not known yet: "".

        None where it has one, for clients keep their first.
        """
        if turn.ticket is not None:
            return None
        ticket = TurnTicket(turn.name, upstream, upstream_token, turn.key)
        return self._tokens.issue(ticket, inquiry.caller.tenant)

    def handshake_token(self, caller: Caller, headers: Mapping[str, str]) -> str | None:
        """A token for the response to a WebSocket's handshake, where the client has none and names its conversation.

        Clients from before there were metadata events know no other. No request has come yet, so it names no upstream:
        the conversation's key alone says where the turn goes.
        """
        key = named_conversation(headers)
        if key is None or headers.get(TURN_STATE_HEADER):
            return None
        return self._tokens.issue(TurnTicket(urandom(8).hex(), "", None, key), caller.tenant)
