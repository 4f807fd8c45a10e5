"""The long-lived part: configuration and connections, for any number of turns."""

from __future__ import annotations

import weakref
from types import TracebackType
from typing import Self

from turnwire.client.provider import Provider
from turnwire.client.session import ModelClientSession
from turnwire.client.socket import SocketPool
from turnwire.client.stream import ResponseStream
from turnwire.errors import ConfigurationError
from turnwire.telemetry import RequestTelemetry, SseTelemetry, StreamTelemetry, WebsocketTelemetry
from turnwire.transport.http import HttpTransport
from turnwire.wire.chat import ReasoningName

__all__ = ["ModelClient"]


class ModelClient:
    """A provider and the connections to it, as an async context manager.

    ``provider`` may be the name of a preset. ``model`` is asked for wherever nobody names another. One client serves
    any number of sessions at a time, on one event loop.
    """

    def __init__(
        self,
        provider: Provider | str,
        *,
        model: str | None = None,
        request_telemetry: RequestTelemetry | None = None,
        sse_telemetry: SseTelemetry | None = None,
        websocket_telemetry: WebsocketTelemetry | None = None,
        stream_telemetry: StreamTelemetry | None = None,
    ) -> None:
        self.provider = Provider.preset(provider) if isinstance(provider, str) else provider
        self._model = model
        self._request_telemetry = request_telemetry
        self._sse_telemetry = sse_telemetry
        self._websocket_telemetry = websocket_telemetry
        self._stream_telemetry = stream_telemetry
        self._sockets = SocketPool()
        self._transport: HttpTransport | None = None
        self._streams: weakref.WeakSet[ResponseStream] = weakref.WeakSet()
        # How a server calls its reasoning shows in its answers and is needed in later requests.
        self._reasoning_names: dict[str, ReasoningName] = {}

    def __repr__(self) -> str:
        return f"<ModelClient of {self.provider.name}, {'open' if self._transport else 'closed'}>"

    async def __aenter__(self) -> Self:
        self._sockets = SocketPool()
        self._transport = HttpTransport(open_timeout=self.provider.open_timeout, ca_file=self.provider.ca_file)
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for stream in tuple(self._streams):
            stream.close()
        self._sockets.close()
        transport, self._transport = self._transport, None
        if transport is not None:
            await transport.close()

    def new_session(self) -> ModelClientSession:
        """A session for one user turn, with no token yet."""
        if self._transport is None:
            raise ConfigurationError("the client is not open: use it as `async with ModelClient(…) as client:`")
        return ModelClientSession(
            self.provider,
            self._transport,
            model=self._model,
            request_telemetry=self._request_telemetry,
            sse_telemetry=self._sse_telemetry,
            websocket_telemetry=self._websocket_telemetry,
            stream_telemetry=self._stream_telemetry,
            sockets=self._sockets,
            streams=self._streams,
            reasoning_names=self._reasoning_names,
        )
