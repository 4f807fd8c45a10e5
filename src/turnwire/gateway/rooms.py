"""What serves one configuration: its upstreams, its callers, its services and their paths.

Another configuration gets rooms of its own on the same `Ground`. Requests that began in the old ones end there.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import TypeAlias

import msgspec
from msgspec import Struct
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.types import ASGIApp

from turnwire.gateway.access_log import Fingerprints
from turnwire.gateway.account import configured_tracing
from turnwire.gateway.answering import Answering
from turnwire.gateway.attempt import Patience
from turnwire.gateway.background import Background
from turnwire.gateway.caller import Callers
from turnwire.gateway.catalog import Catalog
from turnwire.gateway.chat_service import ChatService
from turnwire.gateway.compaction import CompactionService
from turnwire.gateway.configuration import GatewayConfiguration
from turnwire.gateway.drain import draining
from turnwire.gateway.http_endpoint import PostEndpoint
from turnwire.gateway.inquiry import plain_headers
from turnwire.gateway.metered_store import MeteredStore
from turnwire.gateway.metrics import Metrics
from turnwire.gateway.openapi import DESCRIPTION
from turnwire.gateway.pool import Pool, QueueLimits
from turnwire.gateway.prober import keep_probing
from turnwire.gateway.refusal import NotServed
from turnwire.gateway.responses_service import ResponsesService
from turnwire.gateway.socket_endpoint import SocketEndpoint, SocketService
from turnwire.gateway.stored_endpoint import stored_routes
from turnwire.gateway.token_counting import TokenCountingService
from turnwire.gateway.turn import Turns
from turnwire.gateway.turn_token import TurnTokens
from turnwire.gateway.workers import SHARED_COUNTS

__all__ = ["Endpoints", "Ground", "Rooms"]

Endpoints: TypeAlias = Mapping[tuple[str, str], ASGIApp]
"""Applications by the scope that each takes: its type and its path."""
_Handler = Callable[[Request], Awaitable[Response]]

_SOCKET_ONLY = NotServed(
    "a request goes here by POST, or over a WebSocket", status=426, headers={"upgrade": "websocket", "allow": "POST"}
)


class Ground(Struct, frozen=True):
    """What one configuration hands on to the next."""

    store: MeteredStore
    background: Background
    secrets: tuple[str, ...]
    metrics: Metrics
    pool: Pool
    streams: Counter[str]
    """How many answers each caller has under way, by its tenant."""


class Rooms:
    """The services of one configuration, over a catalog of its upstreams. `open` has them serve, `close` ends that."""

    def __init__(
        self, configuration: GatewayConfiguration, catalog: Catalog, ground: Ground, sockets: SocketEndpoint
    ) -> None:
        self.configuration = configuration
        self.catalog = catalog
        self._ground = ground
        self._callers = Callers(configuration.callers)
        self._answering = Answering(
            ground.pool,
            Turns(TurnTokens(ground.secrets, max_age=configuration.token_lifetime), ground.metrics),
            ground.metrics,
            Patience(keepalive_interval=configuration.keepalive_interval, client_timeout=configuration.client_timeout),
            max_streams=configuration.max_streams,
            streams=ground.streams,
            fingerprints=Fingerprints(ground.secrets[0]),
            tracing=configured_tracing(),
        )
        responses = ResponsesService(self._answering, ground.store, ground.background)
        self.socket_service = SocketService(configuration, self._callers, responses)
        post = partial(PostEndpoint, configuration, self._callers)
        posts = {
            "/v1/responses": post(responses.answer, other_methods=_SOCKET_ONLY),
            "/v1/responses/compact": post(CompactionService(self._answering, ground.store).answer),
            "/v1/responses/input_tokens": post(TokenCountingService(self._answering, ground.store).answer),
            "/v1/chat/completions": post(ChatService(self._answering).answer),
        }
        self.endpoints: Endpoints = {
            ("websocket", "/v1/responses"): sockets,
            **{("http", path): endpoint for path, endpoint in posts.items()},
        }
        """What answers."""
        self._tasks: list[asyncio.Task[None]] = []

    def open(self) -> list[BaseRoute]:
        """Takes over the pool, begins to look after the upstreams, and gives the paths."""
        configuration, catalog, ground = self.configuration, self.catalog, self._ground
        ground.pool.change(catalog, QueueLimits(configuration.queue_length, configuration.queue_timeout))
        names = [upstream.name for upstream in catalog.upstreams]
        looking_after = (
            _keep_asking(catalog),
            keep_probing(catalog, ground.pool, configuration.probe_interval),
            ground.metrics.keep_reading(ground.pool, names, ground.store.failures),
        )
        self._tasks = [asyncio.create_task(work) for work in looking_after]
        return self._routes()

    async def close(self) -> None:
        """Looks after the upstreams no more; their connections are whoever's who made them."""
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)

    def _routes(self) -> list[BaseRoute]:
        store, background = self._ground.store, self._ground.background
        configuration, identify = self.configuration, self._callers.identify
        return [
            *(
                Route(path, endpoint) if kind == "http" else WebSocketRoute(path, endpoint)
                for (kind, path), endpoint in self.endpoints.items()
            ),
            *stored_routes(store, background, identify, client_timeout=configuration.client_timeout),
            Route("/v1/models", self._known(self._models)),
            Route("/v1/models/{model:path}", self._known(self._model)),
            Route("/metrics", self._known(self._scrape)),
            Route("/healthz", self._health),
            Route("/readyz", self._readiness),
            Route("/openapi.json", self._description),
        ]

    def _known(self, handler: _Handler) -> _Handler:
        """A handler for callers alone."""

        async def handle(request: Request) -> Response:
            client = request.client
            self._callers.identify(plain_headers(request.headers.raw), None if client is None else client.host)
            return await handler(request)

        return handle

    async def _models(self, _: Request) -> Response:
        await self.catalog.asked()
        return _json(self.catalog.listing())

    async def _model(self, request: Request) -> Response:
        await self.catalog.asked()
        name = request.path_params["model"]
        if name not in self.catalog.models:
            raise NotServed(f"no upstream serves the model {name!r}")
        return _json(self.catalog.entry(name))

    async def _scrape(self, _: Request) -> Response:
        ground = self._ground
        ground.metrics.read(ground.pool, [upstream.name for upstream in self.catalog.upstreams], ground.store.failures)
        return Response(_scraped(ground.metrics.registry), headers={"content-type": CONTENT_TYPE_LATEST})

    async def _description(self, _: Request) -> Response:
        return _json(DESCRIPTION)

    async def _health(self, _: Request) -> Response:
        return _json({"status": "ok"})

    async def _readiness(self, request: Request) -> Response:
        if draining(request.scope).is_set():
            return _json({"status": "draining"}, 503)
        if not (self.catalog.ready and self._ground.pool.ready):
            return _json({"status": "waiting for an upstream"}, 503)
        return _json({"status": "ready"})


async def _keep_asking(catalog: Catalog) -> None:
    """Looks what the upstreams are from time to time, once they have been asked for the first time."""
    await catalog.asked()
    await catalog.keep_asking()


def _scraped(registry: CollectorRegistry) -> bytes:
    """The counts of this process, or of all that count together."""
    if SHARED_COUNTS in os.environ:
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry)


def _json(document: object, status: int = 200) -> Response:
    return Response(msgspec.json.encode(document), status, media_type="application/json")
