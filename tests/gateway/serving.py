"""The whole gateway, for one test: its real server on a free port of loopback, in the test's own event loop.

::

    async with ScriptedServer([Turn(text="Hi")]) as upstream, serving(upstream.base_url) as gateway:
        ...  # speak to gateway.base_url, ask for MODEL
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from prometheus_client import CollectorRegistry

from turnwire.gateway.answering import Answering
from turnwire.gateway.application import create_application
from turnwire.gateway.attempt import Patience
from turnwire.gateway.catalog import Catalog
from turnwire.gateway.configuration import GatewayConfiguration, UpstreamConfiguration
from turnwire.gateway.metrics import Metrics
from turnwire.gateway.pool import Pool
from turnwire.gateway.server import GatewayServer
from turnwire.gateway.turn import Turns
from turnwire.gateway.turn_token import TurnTokens
from turnwire.gateway.upstream import Upstream
from turnwire.testing import RecordedRequest, ScriptedServer

__all__ = ["MODEL", "ServedGateway", "answered", "answering_of", "serving", "upstream_at"]

MODEL = "m"
"""What clients call the model, and upstreams too unless `upstream_at` is told otherwise."""


class ServedGateway:
    """A gateway that runs, and its address."""

    def __init__(self, server: GatewayServer) -> None:
        self.server = server
        self.base_url = f"{server.url}/v1"
        """What a client is configured with."""
        self.socket_url = f"{self.base_url}/responses".replace("http", "ws", 1)
        """Where its WebSockets are opened."""
        self.task = asyncio.create_task(server.serve())

    def stop(self) -> None:
        """What the first signal does, and the second."""
        self.server.handle_exit(15, None)

    async def close(self) -> None:
        """Stops it at once, unless it has ended already."""
        if not self.task.done():
            self.stop()
            self.stop()
        await self.task


def upstream_at(
    base_url: str, *, name: str = "upstream", wire_api: Any = "chat", model: str = MODEL, **fields: Any
) -> UpstreamConfiguration:
    """An upstream that need not be asked what it is; ``model`` is its own name for `MODEL`."""
    fields = {"models": {MODEL: model}, "idle_timeout": 5.0, "open_timeout": 2.0, **fields}
    return UpstreamConfiguration(name, base_url, wire_api=wire_api, **fields)


@asynccontextmanager
async def serving(*upstreams: str | UpstreamConfiguration, **fields: Any) -> AsyncIterator[ServedGateway]:
    """A gateway in front of upstreams, of which a bare address speaks chat; ``fields`` are its configuration's.

    Its store is a file that goes with it, and it waits for nobody at its end.
    """
    configured = tuple(
        upstream_at(one, name=f"upstream-{number}") if isinstance(one, str) else one
        for number, one in enumerate(upstreams)
    )
    with TemporaryDirectory() as folder:
        fields = {"port": 0, "drain_timeout": 0.2, "store_path": Path(folder) / "responses.sqlite", **fields}
        configuration = GatewayConfiguration(configured, **fields)
        ready = asyncio.Event()
        server = GatewayServer(configuration, create_application(configuration), on_ready=ready.set)
        gateway = ServedGateway(server)
        try:
            async with asyncio.timeout(10):
                await ready.wait()
            yield gateway
        finally:
            await gateway.close()


def answering_of(upstream: Upstream, tokens: TurnTokens) -> Answering:
    """What services answer with, in front of one upstream and without a server."""
    metrics = Metrics(CollectorRegistry())
    return Answering(Pool(Catalog([upstream])), Turns(tokens, metrics), metrics, Patience())


def answered(server: ScriptedServer) -> list[RecordedRequest]:
    """The requests that a scripted upstream got for answers: without those for its list of models."""
    return [request for request in server.requests if request.wire is not None]
