"""What the Responses API serves for responses that have an id: get, stream again, list the input, cancel, delete."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from turnwire.errors import ApiError, InvalidPrompt, PreviousResponseNotFound
from turnwire.gateway.background import Background
from turnwire.gateway.caller import Caller
from turnwire.gateway.conversation import input_of, listed
from turnwire.gateway.inquiry import plain_headers
from turnwire.gateway.refusal import NotServed, refusal, stream_failure
from turnwire.gateway.sink import HttpSink, Sink
from turnwire.gateway.store import ResponseStore
from turnwire.wire.responses.failure import encode_failure
from turnwire.wire.sse import encode_event

if TYPE_CHECKING:
    from starlette.datastructures import QueryParams
    from starlette.types import Receive, Scope, Send

__all__ = ["send_events", "stored_routes"]

_log = logging.getLogger("turnwire.gateway")

_MAX_PAGE = 100
_DEFAULT_PAGE = 20

_Endpoint: TypeAlias = Callable[["_StoredEndpoint", Request], Awaitable[Response]]


def stored_routes(
    store: ResponseStore,
    background: Background,
    identify: Callable[[Mapping[str, str], str | None], Caller],
    *,
    client_timeout: float = 60.0,
) -> list[Route]:
    """The routes under ``/v1/responses/{response_id}``.

    ``identify`` is that of `turnwire.gateway.caller.Callers`; ``client_timeout`` is how many seconds a client may
    leave unread what was written to it. ``include`` changes nothing, for what is kept is always shown whole.
    """
    endpoint = _StoredEndpoint(store, background, identify, client_timeout)
    path = "/v1/responses/{response_id}"
    return [
        Route(path, endpoint.get, methods=["GET"]),
        Route(path, endpoint.delete, methods=["DELETE"]),
        Route(f"{path}/input_items", endpoint.input_items, methods=["GET"]),
        Route(f"{path}/cancel", endpoint.cancel, methods=["POST"]),
    ]


async def send_events(
    events: AsyncGenerator[Sequence[bytes], None],
    sink: Sink,
    *,
    headers: Mapping[str, str] = {},
    client_timeout: float,
) -> None:
    """Writes events as they come, until their end, or until the client has left or does not read."""
    writing = asyncio.create_task(_write(events, sink, headers, client_timeout))
    left = asyncio.create_task(sink.left())
    try:
        await asyncio.wait((writing, left), return_when=asyncio.FIRST_COMPLETED)
        if writing.done():
            writing.result()
    finally:
        writing.cancel()
        left.cancel()
        await asyncio.wait((writing, left))


def _refusing(endpoint: _Endpoint) -> _Endpoint:
    """The endpoint, with its errors as responses."""

    @wraps(endpoint)
    async def answer(self: _StoredEndpoint, request: Request) -> Response:
        try:
            return await endpoint(self, request)
        except ApiError as error:
            refused = refusal(error)
            return Response(refused.body, refused.status, dict(refused.headers))

    return answer


class _StoredEndpoint:
    def __init__(
        self,
        store: ResponseStore,
        background: Background,
        identify: Callable[[Mapping[str, str], str | None], Caller],
        client_timeout: float,
    ) -> None:
        self._store = store
        self._background = background
        self._identify = identify
        self._client_timeout = client_timeout

    @_refusing
    async def get(self, request: Request) -> Response:
        """The response as it is now; with ``stream=true`` its events, behind the one that ``starting_after`` names."""
        tenant, response_id = self._named(request)
        query = request.query_params
        if _flag(query, "stream"):
            starting_after = _number(query, "starting_after", least=0)
            events = await self._background.events(tenant, response_id, starting_after)
            return _EventResponse(events, self._client_timeout)
        return _json((await self._background.get(tenant, response_id)).document)

    @_refusing
    async def delete(self, request: Request) -> Response:
        """Forgets the response."""
        tenant, response_id = self._named(request)
        await self._background.delete(tenant, response_id)
        return _json({"id": response_id, "object": "response", "deleted": True})

    @_refusing
    async def input_items(self, request: Request) -> Response:
        """One page of all that was the response's input, that of the responses before it included."""
        tenant, response_id = self._named(request)
        await self._background.get(tenant, response_id)
        try:
            items = input_of(response_id, await self._store.chain(tenant, response_id))
        except PreviousResponseNotFound:
            raise NotServed(
                f"the input of the response {response_id!r} is not kept whole: it goes on from a response that has "
                "expired, or was deleted"
            ) from None
        return _json(_page(listed(items, response_id), request.query_params))

    @_refusing
    async def cancel(self, request: Request) -> Response:
        """Ends the response, where it runs in the background."""
        tenant, response_id = self._named(request)
        return _json((await self._background.cancel(tenant, response_id)).document)

    def _named(self, request: Request) -> tuple[str, str]:
        """Whose response is meant, and its id."""
        client = request.client
        caller = self._identify(plain_headers(request.headers.raw), None if client is None else client.host)
        return caller.tenant, request.path_params["response_id"]


class _EventResponse(Response):
    """Events, written in the batches in which they come."""

    def __init__(self, events: AsyncGenerator[Sequence[bytes], None], client_timeout: float) -> None:
        super().__init__()
        self._events = events
        self._client_timeout = client_timeout

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send_events(self._events, HttpSink(scope, receive, send), client_timeout=self._client_timeout)


async def _write(
    events: AsyncGenerator[Sequence[bytes], None], sink: Sink, headers: Mapping[str, str], client_timeout: float
) -> None:
    async with aclosing(events), aclosing(_told(events)) as told:
        await sink.begin(headers)
        try:
            async for batch in told:
                async with asyncio.timeout(client_timeout):
                    await sink.write(batch)
        except TimeoutError:
            _log.warning("a client did not read for %g s and was left", client_timeout)
        else:
            await sink.end()


async def _told(events: AsyncGenerator[Sequence[bytes], None]) -> AsyncGenerator[Sequence[bytes], None]:
    """The events, and behind them why there are no more, where that is an error."""
    try:
        async for batch in events:
            yield batch
    except ApiError as error:
        fields = {"type": "error", **encode_failure(stream_failure(error)), "param": None}
        yield [encode_event(msgspec.json.encode(fields), "error")]


def _page(items: Sequence[dict[str, Any]], query: QueryParams) -> dict[str, Any]:
    """The part of a list that a query asks for: behind the item ``after``, at most ``limit``, newest first."""
    limit = _number(query, "limit", least=1, most=_MAX_PAGE) or _DEFAULT_PAGE
    order = query.get("order", "desc")
    if order not in ("asc", "desc"):
        raise InvalidPrompt(f"order: expected asc or desc, not {order!r}")
    ordered = list(items) if order == "asc" else list(reversed(items))
    if (after := query.get("after")) is not None:
        place = next((place for place, item in enumerate(ordered) if item["id"] == after), None)
        if place is None:
            raise InvalidPrompt(f"after: the list has no item {after!r}")
        ordered = ordered[place + 1 :]
    page = ordered[:limit]
    return {
        "object": "list",
        "data": page,
        "first_id": page[0]["id"] if page else None,
        "last_id": page[-1]["id"] if page else None,
        "has_more": len(ordered) > limit,
    }


def _flag(query: QueryParams, name: str) -> bool:
    value = query.get(name, "false").lower()
    if value not in ("true", "false"):
        raise InvalidPrompt(f"{name}: expected true or false, not {value!r}")
    return value == "true"


def _number(query: QueryParams, name: str, *, least: int, most: int | None = None) -> int | None:
    """A whole number of the query, None where it is not there."""
    value = query.get(name)
    if value is None:
        return None
    number = int(value) if value.isascii() and value.isdecimal() and len(value) < 16 else -1
    if number < least or (most is not None and number > most):
        bounds = f"from {least}" if most is None else f"from {least} to {most}"
        raise InvalidPrompt(f"{name}: expected a whole number {bounds}, not {value!r}")
    return number


def _json(document: bytes | dict[str, Any]) -> Response:
    body = document if isinstance(document, bytes) else msgspec.json.encode(document)
    return Response(body, media_type="application/json", headers={"cache-control": "no-store"})
