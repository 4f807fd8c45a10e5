"""The Responses API, whatever it comes over: from a request's fields to its answer."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from os import urandom
from typing import Any

import msgspec
from msgspec import Struct

from turnwire.client.turn_state import TURN_STATE_HEADER
from turnwire.errors import ApiError, InvalidPrompt
from turnwire.event import Completed
from turnwire.gateway.answering import Answering
from turnwire.gateway.background import Background, require_store
from turnwire.gateway.caller import Caller
from turnwire.gateway.catalog import Served
from turnwire.gateway.compaction import CompactionByModel
from turnwire.gateway.exchange.exchange import Exchange, Outcome
from turnwire.gateway.exchange.responses_over_chat import ResponsesOverChat
from turnwire.gateway.exchange.responses_relayed import ResponsesRelayed
from turnwire.gateway.inquiry import REQUEST_ID_HEADER, Inquiry
from turnwire.gateway.memory import ConnectionMemory
from turnwire.gateway.recall import Recalled, recall
from turnwire.gateway.sink import Sink
from turnwire.gateway.store import ResponseStore, StoredResponse
from turnwire.gateway.stored_endpoint import send_events
from turnwire.gateway.summary import asks_for_compaction
from turnwire.gateway.turn import Turn
from turnwire.wire.responses import Framing, ResponseObject, ResponsesEncoder
from turnwire.wire.responses.received import ReceivedRequest, decode_response_request

__all__ = ["ResponsesService"]

_log = logging.getLogger("turnwire.gateway")


class _Asked(Struct, frozen=True):
    """One request that can be answered."""

    received: ReceivedRequest
    recalled: Recalled
    inquiry: Inquiry
    sink: Sink
    turn: Turn
    framing: Framing
    memory: ConnectionMemory | None

    @property
    def headers(self) -> dict[str, str]:
        """What every answer's head says."""
        return {REQUEST_ID_HEADER: self.inquiry.request_id}


class ResponsesService:
    """Answers requests of the Responses API, over HTTP and over WebSockets alike."""

    def __init__(self, answering: Answering, store: ResponseStore, background: Background) -> None:
        self._answering = answering
        self._store = store
        self._background = background

    async def answer(
        self,
        fields: Mapping[str, Any],
        inquiry: Inquiry,
        sink: Sink,
        *,
        framing: Framing = "sse",
        memory: ConnectionMemory | None = None,
    ) -> None:
        """Answers one request; what is wrong with it is told to the client as well.

        ``memory`` is that of the request's connection, which remembers the answer.
        """
        completed = False
        try:
            recalled = await recall(fields, inquiry.caller.tenant, store=self._store, memory=memory)
            received = decode_response_request(recalled.fields)
            turn = await self._answering.turn(inquiry, recalled.fields, received.model)
            asked = _Asked(received, recalled, inquiry, sink, turn, framing, memory)
            if not received.generate:
                await self._warm_up(asked)
                completed = True
            elif received.background:
                if framing == "websocket":
                    raise InvalidPrompt("background: a response runs in the background only where POST asks for it")
                require_store(fields)
                await self._answer_in_background(asked)
            else:
                completed = await self._answer(asked)
        except ApiError as error:
            await sink.refuse(error, {REQUEST_ID_HEADER: inquiry.request_id})
        finally:
            previous = fields.get("previous_response_id")
            if not completed and memory is not None and isinstance(previous, str):
                memory.evict(previous)  # after a continuation that failed, the client sends everything again

    def handshake_token(self, caller: Caller, headers: Mapping[str, str]) -> str | None:
        """A token for a WebSocket's handshake, as `Turns.handshake_token` gives it."""
        return self._answering.turns.handshake_token(caller, headers)

    async def _answer(self, asked: _Asked) -> bool:
        """Answers a request whose client waits for it; whether the answer ended properly."""
        received, framing = asked.received, asked.framing
        response_id = _new_id()

        def make(served: Served, position: int) -> Exchange:
            return _exchange(received, served, framing, response_id, position)

        async def keep(outcome: Outcome) -> None:
            await self._keep(outcome, asked)

        end = await self._answering.run(
            make,
            asked.sink,
            asked.inquiry,
            asked.turn,
            api="websocket" if framing == "websocket" else "responses",
            model=received.model,
            streams=received.stream,
            keep=keep,
        )
        return end == "completed"

    async def _warm_up(self, asked: _Asked) -> None:
        """Answers at once that nothing was answered: the next request goes on from here. Its token is the turn's."""
        received, sink, turn = asked.received, asked.sink, asked.turn
        now = time.time()
        encoder = ResponsesEncoder(
            response_id=_new_id(),
            model=received.model,
            clock=lambda: now,
            request=received.fields,
            framing=asked.framing,
        )
        headers = asked.headers
        answering = self._answering
        preferred = answering.pool.preferred(received.model, turn.key).upstream.name
        token = answering.turns.token(turn, asked.inquiry, preferred)
        if token is not None:
            headers[TURN_STATE_HEADER] = token
        completed = Completed(encoder.response.response_id)
        response = encoder.response.ended(completed)
        await self._keep(Outcome(completed.response_id, response), asked)
        if received.stream:
            started = encoder.start({} if sink.shows_headers else headers)
            await sink.begin(headers)
            await sink.write([*started, *encoder.encode([completed])])
            await sink.end()
        else:
            await sink.answer(msgspec.json.encode(response), headers)

    async def _answer_in_background(self, asked: _Asked) -> None:
        """Has the answer made whether or not its client waits, who can get it by its id."""
        received, inquiry, recalled = asked.received, asked.inquiry, asked.recalled
        response_id = _new_id()
        streamed = msgspec.structs.replace(received, stream=True)

        def make(served: Served, position: int) -> Exchange:
            return _exchange(streamed, served, "sse", response_id, position, renames=True)

        async def run(running: Sink) -> None:
            await self._answering.run(
                make, running, inquiry, asked.turn, api="background", model=received.model, streams=True
            )

        response = ResponseObject(
            response_id=response_id, model=received.model, clock=time.time, request=received.fields
        ).begun()
        record = StoredResponse.of(
            response, input_items=recalled.input_items, previous_response_id=recalled.previous_response_id
        )
        running = await self._background.start(inquiry.caller.tenant, record, run)
        if received.stream:
            patience = self._answering.patience
            await send_events(
                running.follow(), asked.sink, headers=asked.headers, client_timeout=patience.client_timeout
            )
        else:
            await asked.sink.answer(running.record.document, asked.headers)

    async def _keep(self, outcome: Outcome, asked: _Asked) -> None:
        """Keeps an answer for what goes on from it; an answer that can't be stored is an answer all the same."""
        if not outcome.response:
            return
        recalled, inquiry = asked.recalled, asked.inquiry
        if asked.memory is not None:
            asked.memory.remember(outcome.response_id, recalled.items, outcome.response.get("output") or ())
        if asked.received.store:
            stored = StoredResponse.of(
                outcome.response,
                input_items=recalled.input_items,
                previous_response_id=recalled.previous_response_id,
            )
            try:
                await self._store.put(inquiry.caller.tenant, stored)
            except ApiError as error:
                _log.warning("%s could not be stored: %s", inquiry.request_id, error)


def _exchange(
    received: ReceivedRequest,
    served: Served,
    framing: Framing,
    response_id: str,
    position: int,
    *,
    renames: bool = False,
) -> Exchange:
    """The exchange for a request, by what the upstream speaks."""
    upstream = served.upstream
    if upstream.wire_api == "responses":
        return ResponsesRelayed(
            received,
            model=served.model,
            response_id=response_id,
            clock=time.time,
            framing=framing,
            renames=renames,
            position=position,
        )
    if asks_for_compaction(received):
        return CompactionByModel(
            received, served, response_id=response_id, clock=time.time, framing=framing, position=position
        )
    return ResponsesOverChat(
        received,
        model=served.model,
        dialect=upstream.dialect,
        reasoning_name=upstream.reasoning_names.get(served.model),
        response_id=response_id,
        clock=time.time,
        framing=framing,
        position=position,
    )


def _new_id() -> str:
    return f"resp_{urandom(24).hex()}"
