"""The gateway as an ASGI application: its rooms joined, its paths, its beginning and its end.

`create_application` takes a configuration; `application` is a factory for servers that take none, and reads
``turnwire.toml``::

    uvicorn --factory turnwire.gateway.application:application --ws websockets-sansio
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial

import msgspec
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, WebSocketRoute

from turnwire.errors import ApiError
from turnwire.gateway.answering import Answering
from turnwire.gateway.background import Background
from turnwire.gateway.caller import Callers
from turnwire.gateway.catalog import Catalog, OnFound
from turnwire.gateway.chat_service import ChatService
from turnwire.gateway.compaction import CompactionService
from turnwire.gateway.configuration import GatewayConfiguration, load_gateway_configuration
from turnwire.gateway.drain import draining
from turnwire.gateway.http_endpoint import PostEndpoint
from turnwire.gateway.inquiry import plain_headers
from turnwire.gateway.metrics import Metrics
from turnwire.gateway.openapi import DESCRIPTION
from turnwire.gateway.pool import Pool, QueueLimits
from turnwire.gateway.prober import keep_probing
from turnwire.gateway.refusal import NotServed, refusal
from turnwire.gateway.relay import Patience
from turnwire.gateway.responses_service import ResponsesService
from turnwire.gateway.secret import token_secrets
from turnwire.gateway.socket_endpoint import SocketEndpoint
from turnwire.gateway.store_choice import open_store
from turnwire.gateway.stored_endpoint import stored_routes
from turnwire.gateway.token_counting import TokenCountingService
from turnwire.gateway.turn import Turns
from turnwire.gateway.turn_token import TurnTokens
from turnwire.gateway.upstream import Upstream

__all__ = ["application", "create_application"]

_PATHS = (
    "/v1/responses (and /compact, /input_tokens, /{id}), /v1/chat/completions, /v1/models, /healthz, /readyz, "
    "/metrics, /openapi.json"
)

_Handler = Callable[[Request], Awaitable[Response]]


def application() -> Starlette:
    """The gateway that ``turnwire.toml`` describes; raises `ConfigurationError`."""
    return create_application(load_gateway_configuration())


def create_application(configuration: GatewayConfiguration, *, on_found: OnFound | None = None) -> Starlette:
    """The gateway of a configuration. It opens its files and connections when its server starts it up.

    ``on_found`` is told what each upstream turns out to be, in the place of the log. Raises `ConfigurationError` for
    secrets that can't be had.
    """
    secrets = token_secrets(configuration.token_secrets_env)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            app.router.routes.extend(await _routes(configuration, secrets, stack, on_found))
            yield
        app.router.routes.clear()

    refusals = {HTTPException: _refuse_path, ApiError: _refuse, Exception: _refuse_defect}
    return Starlette(lifespan=lifespan, exception_handlers=refusals)


async def _routes(
    configuration: GatewayConfiguration, secrets: tuple[str, ...], stack: AsyncExitStack, on_found: OnFound | None
) -> list[BaseRoute]:
    """The paths, over rooms that are open for as long as the stack is."""
    store = await open_store(configuration)
    stack.push_async_callback(store.close)
    catalog = Catalog([Upstream(upstream) for upstream in configuration.upstreams], on_found=on_found)
    stack.push_async_callback(catalog.close)
    background = Background(store)
    stack.push_async_callback(background.close)
    asking = asyncio.create_task(_ask(catalog))
    stack.push_async_callback(_end, asking)

    callers = Callers(configuration.callers)
    metrics = Metrics(CollectorRegistry())
    patience = Patience(
        keepalive_interval=configuration.keepalive_interval, client_timeout=configuration.client_timeout
    )
    turns = Turns(TurnTokens(secrets, max_age=configuration.token_lifetime), metrics)
    pool = Pool(catalog, limits=QueueLimits(configuration.queue_length, configuration.queue_timeout))
    probing = asyncio.create_task(keep_probing(catalog, pool, configuration.probe_interval))
    stack.push_async_callback(_end, probing)
    answering = Answering(pool, turns, metrics, patience, max_streams=configuration.max_streams)
    responses = ResponsesService(answering, store, background)
    chat = ChatService(answering)
    post = partial(PostEndpoint, configuration, callers)

    def known(handler: _Handler) -> _Handler:
        """A handler for callers alone."""

        async def handle(request: Request) -> Response:
            callers.identify(plain_headers(request.headers.raw), request.client.host if request.client else None)
            return await handler(request)

        return handle

    async def models(_: Request) -> Response:
        await catalog.asked()
        return _json(catalog.listing())

    async def model(request: Request) -> Response:
        await catalog.asked()
        name = request.path_params["model"]
        if name not in catalog.models:
            raise NotServed(f"no upstream serves the model {name!r}")
        return _json(catalog.entry(name))

    async def scrape(_: Request) -> Response:
        return Response(generate_latest(metrics.registry), headers={"content-type": CONTENT_TYPE_LATEST})

    async def description(_: Request) -> Response:
        return _json(DESCRIPTION)

    async def health(_: Request) -> Response:
        return _json({"status": "ok"})

    async def readiness(request: Request) -> Response:
        if draining(request.scope).is_set():
            return _json({"status": "draining"}, 503)
        if not (catalog.ready and pool.ready):
            return _json({"status": "waiting for an upstream"}, 503)
        return _json({"status": "ready"})

    return [
        Route("/v1/responses", post(responses.answer, other_methods=_SOCKET_ONLY)),
        WebSocketRoute("/v1/responses", SocketEndpoint(configuration, callers, responses)),
        Route("/v1/responses/compact", post(CompactionService(answering, store).answer)),
        Route("/v1/responses/input_tokens", post(TokenCountingService(answering, store).answer)),
        *stored_routes(store, background, callers.identify, client_timeout=configuration.client_timeout),
        Route("/v1/chat/completions", post(chat.answer)),
        Route("/v1/models", known(models)),
        Route("/v1/models/{model:path}", known(model)),
        Route("/metrics", known(scrape)),
        Route("/healthz", health),
        Route("/readyz", readiness),
        Route("/openapi.json", description),
    ]


_SOCKET_ONLY = NotServed(
    "a request goes here by POST, or over a WebSocket", status=426, headers={"upgrade": "websocket", "allow": "POST"}
)


async def _ask(catalog: Catalog) -> None:
    """Finds out what the upstreams are, and keeps looking."""
    await catalog.ask()
    await catalog.keep_asking()


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def _refuse(_: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)  # noqa: S101 - it is registered for those
    refused = refusal(error)
    return Response(refused.body, refused.status, dict(refused.headers))


def _refuse_defect(request: Request, _: Exception) -> Response:
    return _refuse(request, ApiError("the gateway failed on this request; its log says more"))


def _refuse_path(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - it is registered for those
    path, method = request.url.path, request.method
    if error.status_code == 405:
        return _refuse(request, NotServed(f"{path} does not take {method}", status=405, headers=error.headers or {}))
    return _refuse(request, NotServed(f"there is nothing at {path}; known are {_PATHS}"))


def _json(document: object, status: int = 200) -> Response:
    return Response(msgspec.json.encode(document), status, media_type="application/json")
