"""Chat Completions: from a request's fields to its answer."""

from __future__ import annotations

import time
from collections.abc import Mapping
from os import urandom
from typing import Any

from turnwire.errors import ApiError, InvalidPrompt
from turnwire.gateway.answering import Answering
from turnwire.gateway.catalog import Served
from turnwire.gateway.exchange.chat_over_responses import ChatOverResponses
from turnwire.gateway.exchange.chat_relayed import ChatRelayed
from turnwire.gateway.exchange.exchange import Exchange
from turnwire.gateway.inquiry import REQUEST_ID_HEADER, Inquiry
from turnwire.gateway.sink import Sink
from turnwire.wire.chat.received import decode_chat_request

__all__ = ["ChatService"]


class ChatService:
    """Answers requests of the Chat Completions API."""

    def __init__(self, answering: Answering) -> None:
        self._answering = answering

    async def answer(self, fields: Mapping[str, Any], inquiry: Inquiry, sink: Sink) -> None:
        """Answers one request; what is wrong with it is told to the client as well."""
        response_id = f"chatcmpl-{urandom(16).hex()}"

        def make(served: Served, _position: int) -> Exchange:
            return _exchange(fields, served, response_id)

        try:
            model = fields.get("model")
            if not isinstance(model, str):
                raise InvalidPrompt(f"model is {model!r}; expected the name of a model")
            turn = await self._answering.turn(inquiry, fields, model)
            await self._answering.run(
                make, sink, inquiry, turn, api="chat", model=model, streams=fields.get("stream") is True
            )
        except ApiError as error:
            await sink.refuse(error, {REQUEST_ID_HEADER: inquiry.request_id})


def _exchange(fields: Mapping[str, Any], served: Served, response_id: str) -> Exchange:
    """The exchange for a request, by what the upstream speaks."""
    if served.upstream.wire_api == "responses":
        received = decode_chat_request(fields)
        return ChatOverResponses(received, model=served.model, response_id=response_id, clock=time.time)
    return ChatRelayed(
        fields, model=served.model, dialect=served.upstream.dialect, response_id=response_id, clock=time.time
    )
