"""``POST /v1/responses/input_tokens``: how many tokens a request's prompt is, by the server that would answer it.

A Responses upstream may have an endpoint of its own for it. Any other is given the request itself, with as short an
answer as there is, and the count is what its usage says of the prompt: made by its own tokenizer and chat template.
The prompt then lies in its cache, for the request to come.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from turnwire.errors import ApiError, HttpStatusError, IdleTimeout, InvalidPrompt
from turnwire.gateway.answering import Answering
from turnwire.gateway.catalog import Served
from turnwire.gateway.compaction import lacks_endpoint
from turnwire.gateway.conversation import items_of
from turnwire.gateway.dropped import DROPPED_HEADER, dropped_header
from turnwire.gateway.forwarding import request_headers
from turnwire.gateway.inquiry import REQUEST_ID_HEADER, Inquiry
from turnwire.gateway.recall import recall
from turnwire.gateway.sink import Sink
from turnwire.gateway.store import ResponseStore
from turnwire.gateway.upstream import Upstream
from turnwire.wire.chat import encode_request
from turnwire.wire.failure import failure_from_object
from turnwire.wire.responses import ReceivedRequest, decode_response_request
from turnwire.wire.sealed import unsealed_item
from turnwire.wire.token_count import token_count

__all__ = ["TokenCountingService"]

_log = logging.getLogger("turnwire.gateway")

_encode = msgspec.json.Encoder().encode

_LEFT_OUT = frozenset({"previous_response_id", "stream"})
_SHORTEST_COMPLETION = 1
_SHORTEST_RESPONSE = 16
"""Tokens of the shortest answer that can be asked for; over Responses, OpenAI's server takes no lower bound."""


class _Count(Struct, frozen=True):
    """The tokens of a prompt, and what of it could not be counted, in a few words each."""

    tokens: int
    dropped: Sequence[str] = ()


class TokenCountingService:
    """Answers ``POST /v1/responses/input_tokens``."""

    def __init__(self, answering: Answering, store: ResponseStore) -> None:
        self._answering = answering
        self._store = store

    async def answer(self, fields: Mapping[str, Any], inquiry: Inquiry, sink: Sink) -> None:
        """Answers one request; what is wrong with it is told to the client as well."""
        headers = {REQUEST_ID_HEADER: inquiry.request_id}
        try:
            recalled = await recall(fields, inquiry.caller.tenant, store=self._store)
            received = decode_response_request(recalled.fields)
            turn = await self._answering.turn(inquiry, recalled.fields, received.model)
            with await self._answering.pool.lease(received.model, turn.key, held_by=turn.held_by) as lease:
                served = lease.served
                token = turn.upstream_token(lease.name)
                asked = _Asked(served.upstream, request_headers(inquiry.headers), token)
                try:
                    count = await _unless_left(_count(received, served, asked), sink)
                except ApiError as error:
                    lease.failed(error)
                    raise
                lease.succeeded()
        except ApiError as error:
            await sink.refuse(error, headers)
            return
        if count is None:
            return
        if count.dropped:
            headers[DROPPED_HEADER] = dropped_header(count.dropped)
        _log.info("%s token count for %s by %s", inquiry.request_id, inquiry.caller.name, lease.name)
        await sink.answer(_encode({"object": "response.input_tokens", "input_tokens": count.tokens}), headers)


class _Asked(Struct, frozen=True):
    """An upstream, and what every request to it brings."""

    upstream: Upstream
    headers: Mapping[str, str]
    token: str | None

    async def document(self, path: str, body: bytes) -> dict[str, Any]:
        """The JSON object that it answers with; the errors are those of `Upstream.post`."""
        upstream = self.upstream
        response = await upstream.post(path, body, headers=self.headers, token=self.token)
        try:
            async with asyncio.timeout(upstream.idle_timeout):
                document = await upstream.read_json(response)
        except TimeoutError:
            silence = IdleTimeout(f"it did not end its answer within idle_timeout, {upstream.idle_timeout:g} s")
            raise upstream.blamed(silence) from None
        finally:
            response.close()
        if not isinstance(document, dict):
            return {}
        if document.get("error"):
            raise upstream.blamed(failure_from_object(document["error"]))
        return document


async def _count(received: ReceivedRequest, served: Served, asked: _Asked) -> _Count:
    if served.upstream.wire_api == "responses":
        return _Count(await _count_over_responses(received, served, asked))
    request = encode_request(
        replace(received.prompt, max_output_tokens=_SHORTEST_COMPLETION),
        model=served.model,
        dialect=served.upstream.dialect,
        reasoning_name=served.upstream.reasoning_names.get(served.model),
        stream=False,
    )
    answer = await asked.document("chat/completions", request.body)
    dropped = tuple(dict.fromkeys((*received.dropped, *request.dropped)))
    return _Count(_tokens(answer.get("usage"), "prompt_tokens", served), dropped)


async def _count_over_responses(received: ReceivedRequest, served: Served, asked: _Asked) -> int:
    fields = {name: value for name, value in received.fields.items() if name not in _LEFT_OUT}
    fields |= {"model": served.model, "input": [unsealed_item(item) for item in items_of(fields["input"])]}
    try:
        answer = await asked.document("responses/input_tokens", _encode(fields))
        return _tokens(answer, "input_tokens", served)
    except HttpStatusError as error:
        if not lacks_endpoint(error):
            raise
    fields |= {"max_output_tokens": _SHORTEST_RESPONSE, "store": False, "stream": False}
    answer = await asked.document("responses", _encode(fields))
    return _tokens(answer.get("usage"), "input_tokens", served)


def _tokens(counts: Any, name: str, served: Served) -> int:
    """The count of that name; no prompt is empty, so a server that does not count says nothing or 0."""
    tokens = token_count(counts, name)
    if not tokens:
        raise InvalidPrompt(
            f"tokens can't be counted for {served.model!r}: upstream {served.upstream.name!r} does not say in its "
            "usage how many a prompt has"
        )
    return tokens


async def _unless_left(counting: Coroutine[Any, Any, _Count], sink: Sink) -> _Count | None:
    """What a coroutine gives; None where the client leaves first, and then it is cancelled."""
    tasks = count, left = asyncio.create_task(counting), asyncio.create_task(sink.left())
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return count.result() if count.done() else None
    finally:
        count.cancel()
        left.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
