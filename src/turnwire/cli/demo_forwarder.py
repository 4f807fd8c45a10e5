"""A sticky forwarder: the least that can stand in front of several model servers and keep a turn on one of them.

A request without a token goes to the next server in turn, and its response hands out a token. A request that carries
the token goes to the server that the token was made for. All else passes through unchanged.
"""

from __future__ import annotations

import itertools
import secrets
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

import aiohttp
from aiohttp import web
from msgspec import Struct

from turnwire.client import TURN_STATE_HEADER
from turnwire.wire.chat.response import encode_error

__all__ = ["Forwarding", "StickyForwarder"]

_MAX_BODY = 64 * 1024 * 1024
# RFC 9110, section 7.6.1.
_HOP_BY_HOP = ("connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade")
_NOT_FORWARDED = frozenset((*_HOP_BY_HOP, "content-length", "host", TURN_STATE_HEADER))


class Forwarding(Struct, frozen=True):
    """Where one request went, and why."""

    token: str | None
    """The token that the request carried; None where it carried none."""
    replica: int
    """The server that got it, counted from 0."""
    handed_out: str | None
    """The token that the response brought; None where the request had one."""
    arrived: float
    """When it came, by `time.perf_counter`."""


class StickyForwarder:
    """Forwards to ``upstreams``, base URLs that end in ``/v1``; an async context manager, on loopback.

    Tokens mean nothing outside of it and live as long as it does; one that it did not make counts as none.
    """

    def __init__(self, upstreams: Sequence[str]) -> None:
        self._upstreams = tuple(upstreams)
        self._turn = itertools.cycle(range(len(self._upstreams)))
        self._replicas: dict[str, int] = {}
        self.log: list[Forwarding] = []
        """Every request in the order in which they came."""

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=None), auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar()
        )
        application = web.Application(client_max_size=_MAX_BODY)
        application.router.add_route("*", "/v1/{path:.*}", self._forward)
        # With cancellation, a caller who leaves takes the request behind the forwarder along.
        self._runner = web.AppRunner(application, access_log=None, handler_cancellation=True, shutdown_timeout=0)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._runner.cleanup()
        await self._session.close()

    @property
    def base_url(self) -> str:
        """What a client is configured with."""
        host, port = self._runner.addresses[0]
        return f"http://{host}:{port}/v1"

    def _route(self, token: str | None) -> Forwarding:
        arrived = time.perf_counter()
        if token is not None and token in self._replicas:
            return Forwarding(token, self._replicas[token], None, arrived)
        replica, new_token = next(self._turn), secrets.token_hex(12)
        self._replicas[new_token] = replica
        return Forwarding(token, replica, new_token, arrived)

    async def _forward(self, request: web.Request) -> web.StreamResponse:
        forwarding = self._route(request.headers.get(TURN_STATE_HEADER))
        self.log.append(forwarding)
        url = f"{self._upstreams[forwarding.replica]}/{request.match_info['path']}"
        headers, body = _end_to_end(request.headers), await request.read()
        response: web.StreamResponse | None = None
        try:
            async with self._session.request(
                request.method, url, params=request.query, headers=headers, data=body
            ) as upstream:
                response = web.StreamResponse(status=upstream.status, headers=_end_to_end(upstream.headers))
                if forwarding.handed_out is not None:
                    response.headers[TURN_STATE_HEADER] = forwarding.handed_out
                await response.prepare(request)
                async for data in upstream.content.iter_any():
                    await response.write(data)
        except aiohttp.ClientError as error:
            if response is None:
                message = f"replica {forwarding.replica} can't be reached: {error}"
                return web.Response(status=502, body=encode_error(message, kind="server_error"))
            if request.transport is not None:
                request.transport.abort()  # a cut behind the forwarder is one in front of it, and no end
        return response


def _end_to_end(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower() not in _NOT_FORWARDED}
