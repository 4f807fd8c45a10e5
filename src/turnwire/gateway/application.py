"""The gateway as an ASGI application: what outlasts a configuration, and the way from one to the next.

`create_application` takes a configuration; `application` is a factory for servers that take none, and reads
``turnwire.toml``::

    uvicorn --factory turnwire.gateway.application:application --ws websockets-sansio
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager, suppress

from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from turnwire.errors import ApiError
from turnwire.gateway import access_log
from turnwire.gateway.background import Background
from turnwire.gateway.catalog import Catalog, OnFound
from turnwire.gateway.configuration import GatewayConfiguration, load_gateway_configuration
from turnwire.gateway.metrics import Metrics
from turnwire.gateway.pool import Pool
from turnwire.gateway.refusal import NotServed, refusal
from turnwire.gateway.rooms import Endpoints, Ground, Rooms
from turnwire.gateway.secret import token_secrets
from turnwire.gateway.socket_endpoint import SocketEndpoint
from turnwire.gateway.store_choice import open_store
from turnwire.gateway.upstream import Upstream

__all__ = ["GatewayApplication", "application", "create_application"]

_log = logging.getLogger("turnwire.gateway")

_PATHS = (
    "/v1/responses (and /compact, /input_tokens, /{id}), /v1/chat/completions, /v1/models, /healthz, /readyz, "
    "/metrics, /openapi.json"
)
_LOOK = 0.5
"""Seconds between two looks whether an upstream that left is still in use."""


def application() -> GatewayApplication:
    """The gateway that ``turnwire.toml`` describes; raises `ConfigurationError`."""
    return create_application(load_gateway_configuration())


def create_application(configuration: GatewayConfiguration, *, on_found: OnFound | None = None) -> GatewayApplication:
    """The gateway of a configuration. It opens its files and connections when its server starts it up.

    ``on_found`` is told what each upstream turns out to be, in the place of the log. Raises `ConfigurationError` for
    secrets that can't be had.
    """
    return GatewayApplication(configuration, on_found)


class GatewayApplication(Starlette):
    """The gateway; `reload` gives it another configuration while it serves."""

    def __init__(self, configuration: GatewayConfiguration, on_found: OnFound | None = None) -> None:
        self._first = configuration
        self._on_found = on_found
        self._secrets = token_secrets(configuration.token_secrets_env)
        self._rooms: Rooms
        self._endpoints: Endpoints = {}
        self._ground: Ground
        self._sockets = SocketEndpoint(lambda: self._rooms.socket_service)
        self._retiring: set[asyncio.Task[None]] = set()
        refusals = {HTTPException: _refuse_path, ApiError: _refuse, Exception: _refuse_defect}
        super().__init__(lifespan=lambda _: self._live(), exception_handlers=refusals)

    async def reload(self, configuration: GatewayConfiguration) -> None:
        """Serves every request that comes from now on by another configuration.

        New upstreams are asked what they are first, so that nobody has to wait for them. What began before ends as it
        began; the connections to an upstream that is there no more close after the last answer. The same upstream, by
        its configuration, keeps its connections, its health and its load. Not for the configuration's addresses, store
        and secrets, which the caller sees to. Raises `ConfigurationError`, and changes nothing then.
        """
        before = self._rooms
        async with AsyncExitStack() as opened:
            upstreams: list[Upstream] = []
            for wanted in configuration.upstreams:
                upstream = before.catalog.upstream(wanted.name)
                if upstream is None or upstream.configuration != wanted:
                    upstream = Upstream(wanted)
                    opened.push_async_callback(upstream.close)
                upstreams.append(upstream)
            catalog = Catalog(upstreams)
            catalog.found.update(
                (upstream.name, found)
                for upstream in upstreams
                if upstream in before.catalog.upstreams and (found := before.catalog.found.get(upstream.name))
            )
            await catalog.ask()
            opened.pop_all()
        self._enter(Rooms(configuration, catalog, self._ground, self._sockets))
        self._retire(upstream for upstream in before.catalog.upstreams if upstream not in upstreams)
        await before.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request, or lives for as long as its server does.

        Requests for answers go straight to their endpoint, which asks for nothing that Starlette puts around the
        others: somebody waits for the first word, and routes and middlewares take a tenth of a millisecond each time.
        Middlewares that were added stand before all of them.
        """
        endpoint = None if self.user_middleware else self._endpoints.get((scope["type"], scope.get("path", "")))
        await (endpoint or super().__call__)(scope, receive, send)

    def _enter(self, rooms: Rooms) -> None:
        self._rooms = rooms
        self._endpoints = rooms.endpoints
        self.router.routes = rooms.open()

    def _retire(self, upstreams: Iterable[Upstream]) -> None:
        """Closes upstreams that are there no more, each once the last answer from it has ended."""
        for upstream in upstreams:
            task = asyncio.create_task(_close_unused(upstream, self._ground.pool))
            self._retiring.add(task)
            task.add_done_callback(self._retiring.discard)

    @asynccontextmanager
    async def _live(self) -> AsyncIterator[None]:
        """Holds what the gateway needs open for as long as it serves."""
        async with AsyncExitStack() as stack:
            stack.enter_context(access_log.opened(self._first.access_log))
            store = await open_store(self._first)
            stack.push_async_callback(store.close)
            background = Background(store)
            metrics = Metrics(CollectorRegistry())
            self._ground = Ground(store, background, self._secrets, metrics, Pool(), Counter())
            catalog = Catalog([Upstream(upstream) for upstream in self._first.upstreams], on_found=self._on_found)
            stack.push_async_callback(self._leave)
            self._enter(Rooms(self._first, catalog, self._ground, self._sockets))
            stack.push_async_callback(background.close)
            asking = asyncio.create_task(catalog.ask())
            stack.push_async_callback(_end, asking)
            yield

    async def _leave(self) -> None:
        self.router.routes, self._endpoints = [], {}
        await self._rooms.close()
        for task in tuple(self._retiring):
            await _end(task)
        await self._rooms.catalog.close()


async def _close_unused(upstream: Upstream, pool: Pool) -> None:
    try:
        while True:
            await asyncio.sleep(_LOOK)  # also at first: a request that waited for it may just have been given it
            if not pool.uses(upstream):
                _log.info("the connections to upstream %s, as it was before, are closed", upstream.name)
                return
    finally:
        await upstream.close()


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
