"""Chat Completions: from a request's fields to its answer."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from typing import Any

from turnwire.errors import ApiError, InvalidPrompt
from turnwire.gateway.answering import Answering
from turnwire.gateway.catalog import Catalog, Served
from turnwire.gateway.exchange.chat_over_responses import ChatOverResponses
from turnwire.gateway.exchange.chat_relayed import ChatRelayed
from turnwire.gateway.exchange.exchange import Exchange
from turnwire.gateway.inquiry import REQUEST_ID_HEADER, Inquiry
from turnwire.gateway.sink import Sink
from turnwire.wire.chat.received import decode_chat_request

__all__ = ["ChatService"]


class ChatService:
    """Answers requests of the Chat Completions API."""

    def __init__(self, catalog: Catalog, answering: Answering) -> None:
        self._catalog = catalog
        self._answering = answering

    async def answer(self, fields: Mapping[str, Any], inquiry: Inquiry, sink: Sink) -> None:
        """Answers one request; what is wrong with it is told to the client as well."""
        try:
            ticket = self._answering.ticket(inquiry)
            model = fields.get("model")
            if not isinstance(model, str):
                raise InvalidPrompt(f"model is {model!r}; expected the name of a model")
            served = self._catalog.find(model, upstream=None if ticket is None else ticket.upstream)
            exchange = _exchange(fields, served)
        except ApiError as error:
            await sink.refuse(error, {REQUEST_ID_HEADER: inquiry.request_id})
            return
        await self._answering.run(
            exchange,
            served.upstream,
            sink,
            inquiry,
            api="chat",
            model=served.model,
            streams=bool(fields.get("stream")),
            ticket=ticket,
        )


def _exchange(fields: Mapping[str, Any], served: Served) -> Exchange:
    """The exchange for a request, by what the upstream speaks."""
    response_id = f"chatcmpl-{secrets.token_hex(16)}"
    if served.upstream.wire_api == "responses":
        return ChatOverResponses(
            decode_chat_request(fields), model=served.model, response_id=response_id, clock=time.time
        )
    return ChatRelayed(
        fields, model=served.model, dialect=served.upstream.dialect, response_id=response_id, clock=time.time
    )
