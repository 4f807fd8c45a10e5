"""Compaction: a conversation that grows too long, folded into a summary to go on from.

A client asks for it in one of two ways: ``POST /v1/responses/compact``, answered with the messages that stay and one
``compaction`` item behind them; or a request for a response whose last item is a ``compaction_trigger``, answered with
that item alone (the Codex CLI's way). The client sends the item back in the place of what was folded.

A Responses upstream may have an endpoint of its own for it. For all others the model itself is asked for the summary,
which then travels in the item's ``encrypted_content`` (`turnwire.wire.sealed`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from os import urandom
from typing import Any

import msgspec
from msgspec.structs import replace

from turnwire.errors import ApiError, ContextWindowExceeded, HttpStatusError, RetryableError
from turnwire.event import Completed, OutputItemDone, ResponseEvent, TokenUsage
from turnwire.gateway.answering import Answering
from turnwire.gateway.catalog import Served
from turnwire.gateway.conversation import items_of
from turnwire.gateway.exchange.exchange import Exchange, Outcome
from turnwire.gateway.exchange.responses_relayed import ResponsesRelayed
from turnwire.gateway.exchange.to_responses import ToResponses
from turnwire.gateway.inquiry import REQUEST_ID_HEADER, Inquiry
from turnwire.gateway.recall import recall
from turnwire.gateway.sink import Sink
from turnwire.gateway.store import ResponseStore
from turnwire.gateway.summary import kept_messages, summarising, with_shorter_outputs
from turnwire.gateway.turn import Turn
from turnwire.item import (
    Compaction,
    ResponseItem,
)
from turnwire.wire.answer_decoder import AnswerDecoder
from turnwire.wire.chat import ChatDecoder, ReasoningName, encode_request
from turnwire.wire.responses import (
    Framing,
    ReceivedRequest,
    ResponsesDecoder,
    ResponsesEncoder,
    decode_response_request,
    encode_response_request,
)
from turnwire.wire.responses.usage import encode_usage
from turnwire.wire.sealed import seal, unsealed_item

__all__ = [
    "CompactionByModel",
    "CompactionRelayed",
    "CompactionService",
    "lacks_endpoint",
]

_encode = msgspec.json.Encoder().encode


def lacks_endpoint(error: HttpStatusError) -> bool:
    """Whether a server does not have the path that was asked for."""
    return error.status in (404, 405, 501)


class CompactionByModel(ToResponses):
    """An `Exchange`: the model is asked for a summary, and the client gets a ``compaction`` item.

    Without ``kept`` that is the one item of a response. With it, the document is that of ``/responses/compact``, and
    ``kept`` are the messages in front of the item; that is never streamed.
    """

    reasoning_name: ReasoningName | None = None

    def __init__(
        self,
        received: ReceivedRequest,
        served: Served,
        *,
        response_id: str,
        clock: Callable[[], float],
        framing: Framing = "sse",
        kept: Sequence[ResponseItem] | None = None,
        position: int = 0,
    ) -> None:
        prompt, upstream = summarising(received.prompt), served.upstream
        dropped: tuple[str, ...] = ()
        decoder: AnswerDecoder
        if upstream.wire_api == "chat":
            reasoning_name = upstream.reasoning_names.get(served.model)
            chat = encode_request(prompt, model=served.model, dialect=upstream.dialect, reasoning_name=reasoning_name)
            self.path, self.body, dropped = "chat/completions", chat.body, chat.dropped
            decoder = ChatDecoder(upstream.dialect, refuse_bare_end=True, tools=chat.tools)
        else:
            prompt = replace(prompt, prompt_cache_key=received.prompt_cache_key)
            fields = encode_response_request(prompt, model=served.model).fields
            items = [unsealed_item(item) for item in fields["input"]]
            self.path, self.body = "responses", _encode({**fields, "input": items, "stream": True})
            decoder = ResponsesDecoder()
        encoder = ResponsesEncoder(
            response_id=response_id,
            model=received.model,
            clock=clock,
            request=received.fields,
            framing=framing,
            first_number=position,
        )
        super().__init__(decoder, encoder, streams=received.stream and kept is None)
        self.dropped: Sequence[str] = tuple(dict.fromkeys((*received.dropped, *dropped)))
        self.outcome: Outcome | None = None
        self._kept = kept

    def document(self) -> bytes:
        """The ``response`` object, or the ``response.compaction`` one."""
        if self.outcome is None:
            raise self.error or RetryableError("the summary is not there yet")
        response = self.outcome.response or {}
        if self._kept is None:
            return _encode(response)
        item = self._encoder.response.item
        compacted = {
            "id": response["id"],
            "object": "response.compaction",
            "created_at": response["created_at"],
            "output": [*(item(message, place) for place, message in enumerate(self._kept)), *response["output"]],
            # The API promises counts; where the server gave none there is nothing better to say.
            "usage": response["usage"] or encode_usage(TokenUsage()),
        }
        return _encode(compacted)

    def _take(self, events: Iterable[ResponseEvent]) -> list[bytes]:
        """Waits for the end: of a summary that grows, nothing is told."""
        if self.over:
            return []
        try:
            for event in events:
                if isinstance(event, Completed):
                    return self._complete(event)
        except ApiError as error:
            return self.fail(error)
        return []

    def _complete(self, completed: Completed) -> list[bytes]:
        summary = self._decoder.text.strip()
        if completed.incomplete_reason is not None:
            return self.fail(RetryableError(f"the summary broke off: {completed.incomplete_reason}"))
        if not summary:
            return self.fail(RetryableError("the model was asked for a summary of the conversation and gave none"))
        item = Compaction(encrypted_content=seal("compaction", summary))
        written = self._encoder.encode((OutputItemDone(item), completed))
        response = self._encoder.response.ended(completed)
        self.outcome = Outcome(response["id"], response, completed.token_usage)
        self.over = self.committed = True  # the item is given whole
        return written if self._streams else []


class CompactionRelayed(ResponsesRelayed):
    """An `Exchange`: a Responses upstream folds the conversation itself, and its answer goes on as it came."""

    path = "responses/compact"

    def __init__(self, received: ReceivedRequest, *, model: str, response_id: str, clock: Callable[[], float]) -> None:
        super().__init__(received, model=model, response_id=response_id, clock=clock)
        fields = {key: value for key, value in received.fields.items() if key not in ("previous_response_id", "stream")}
        items = [unsealed_item(item) for item in items_of(fields.get("input"))]
        self.body = _encode({**fields, "model": model, "input": items})


class CompactionService:
    """Answers ``POST /v1/responses/compact``."""

    def __init__(self, answering: Answering, store: ResponseStore) -> None:
        self._answering = answering
        self._store = store

    async def answer(self, fields: Mapping[str, Any], inquiry: Inquiry, sink: Sink) -> None:
        """Answers one request; what is wrong with it is told to the client as well.

        An upstream without an endpoint for it is asked for a summary instead. Where the conversation is too long even
        for that, its longer tool outputs are cut, and the client is told so as of anything that was dropped.
        """
        try:
            recalled = await recall(fields, inquiry.caller.tenant, store=self._store)
            received = replace(decode_response_request(recalled.fields), stream=False)
            turn = await self._answering.turn(inquiry, recalled.fields, received.model)
            await self._compact(received, inquiry, sink, turn)
        except ApiError as error:
            await sink.refuse(error, {REQUEST_ID_HEADER: inquiry.request_id})

    async def _compact(self, received: ReceivedRequest, inquiry: Inquiry, sink: Sink, turn: Turn) -> None:
        response_id = f"resp_{urandom(24).hex()}"

        async def attempt(received: ReceivedRequest, *, relays: bool) -> None:
            def make(served: Served, _position: int) -> Exchange:
                if relays and served.upstream.wire_api == "responses":
                    return CompactionRelayed(received, model=served.model, response_id=response_id, clock=time.time)
                window = served.upstream.context_windows.get(served.model)
                kept = kept_messages(received.prompt.items, context_window=window)
                return CompactionByModel(received, served, response_id=response_id, clock=time.time, kept=kept)

            attempted = _Attempt(sink)
            await self._answering.run(
                make, attempted, inquiry, turn, api="compact", model=received.model, streams=False
            )
            if attempted.refusal is not None:
                raise attempted.refusal

        async def attempt_twice(*, relays: bool) -> None:
            try:
                await attempt(received, relays=relays)
            except ContextWindowExceeded:
                shorter = with_shorter_outputs(received)
                if shorter is None:
                    raise
                await attempt(shorter, relays=relays)

        try:
            await attempt_twice(relays=True)
        except HttpStatusError as error:
            if not lacks_endpoint(error):
                raise
            await attempt_twice(relays=False)


class _Attempt:
    """A `Sink` that keeps a refusal to itself, where something else may be tried."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self.refusal: ApiError | None = None
        self.shows_headers = sink.shows_headers
        self.begin, self.put, self.write, self.end = sink.begin, sink.put, sink.write, sink.end
        self.answer, self.left = sink.answer, sink.left

    async def refuse(self, error: ApiError, headers: Mapping[str, str]) -> None:
        if isinstance(error, HttpStatusError | ContextWindowExceeded):
            self.refusal = error
        else:
            await self._sink.refuse(error, headers)
