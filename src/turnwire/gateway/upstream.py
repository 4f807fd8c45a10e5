"""One model server behind the gateway: its address, what it speaks, and requests to it.

Nothing is tried twice here: whether another upstream, or the same one again, is asked is decided above. Nothing is
translated either; a request's body goes out and a response comes back as they are.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.request import getproxies

import msgspec
from msgspec import UNSET, UnsetType

from turnwire.client.provider import Provider
from turnwire.client.requester import USER_AGENT, read_refusal
from turnwire.client.turn_state import TURN_STATE_HEADER
from turnwire.errors import ApiError, IdleTimeout, ProtocolError
from turnwire.gateway.configuration import UpstreamConfiguration, WireApi
from turnwire.transport.direct import DirectTransport
from turnwire.transport.http import HttpTransport, proxy_for
from turnwire.transport.message import HttpRequest, HttpResponse, Transport, read_whole
from turnwire.wire.chat import ChatDialect, ReasoningName

__all__ = ["Upstream"]

_MAX_DOCUMENT = 16 * 1024 * 1024
"""Bytes of a document that `Upstream.read_json` takes."""
_HEADERS = {
    "accept": "text/event-stream, application/json",
    "content-type": "application/json",
    "user-agent": USER_AGENT,
}


class Upstream:
    """A model server and the connections to it; made on the event loop that it serves.

    What its configuration leaves open is found out later (`turnwire.gateway.discovery`) and told with `settle`; until
    then it counts as one that speaks Chat Completions and serves the models that the configuration names, if any.
    """

    def __init__(self, configuration: UpstreamConfiguration, *, transport: Transport | None = None) -> None:
        provider = configuration.provider
        self.configuration = configuration
        self.name = configuration.name
        self.provider: Provider = provider
        self.wire_api: WireApi = configuration.wire_api or "chat"
        self.models: Mapping[str, str] = configuration.models or {}
        """The names that clients ask for, and the upstream's own for each."""
        self.context_windows: Mapping[str, int] = {}
        """Tokens that a model's prompt and answer may have together, by the upstream's own name, where it said so."""
        self.reasoning_names: dict[str, ReasoningName] = {}
        """What the server was seen to call its reasoning, by its own model name."""
        self._transport = transport or _transport(provider)

    def __repr__(self) -> str:
        return f"<Upstream {self.name}, {self.wire_api}, {len(self.models)} models>"

    @property
    def dialect(self) -> ChatDialect:
        """How it speaks Chat Completions."""
        return self.provider.dialect

    @property
    def idle_timeout(self) -> float:
        """Seconds that it may be silent: until its response begins, and between any two reads of it."""
        return self.provider.idle_timeout

    def settle(
        self,
        *,
        base_url: str | UnsetType = UNSET,
        wire_api: WireApi | UnsetType = UNSET,
        dialect: ChatDialect | UnsetType = UNSET,
        models: Mapping[str, str] | UnsetType = UNSET,
        context_windows: Mapping[str, int] | UnsetType = UNSET,
    ) -> None:
        """Takes what was found out; what is not given stays as it is."""
        if base_url is not UNSET:
            self.provider = self.provider.with_changes(base_url=base_url)
        if dialect is not UNSET:
            self.provider = self.provider.with_changes(dialect=dialect)
        if wire_api is not UNSET:
            self.wire_api = wire_api
        if models is not UNSET:
            self.models = models
        if context_windows is not UNSET:
            self.context_windows = context_windows

    def at(self, base_url: str) -> Upstream:
        """The same upstream at another address, over the same connections: to look whether it is there."""
        other = Upstream(self.configuration, transport=self._transport)
        other.settle(base_url=base_url)
        return other

    async def ask(
        self,
        path: str,
        body: bytes,
        *,
        headers: Mapping[str, str] = {},
        token: str | None = None,
        method: str = "POST",
    ) -> HttpResponse:
        """A response with a success status, its head read and its body not; how long that may take is the caller's say.

        ``headers`` are the client's that may cross; the gateway's own, its key among them, outrank them. ``token`` is
        the upstream's own turn state. Raises the `ApiError` that fits a refusal or a lost connection; its sentence
        names the upstream.
        """
        try:
            sent = {**_HEADERS, **headers, **await self.provider.request_headers()}
            if token is not None:
                sent[TURN_STATE_HEADER] = token
            response = await self._transport.send(HttpRequest(self.provider.url(path), sent, body, method))
            if 200 <= response.status < 300:
                return response
            raise await read_refusal(response, where=self._where)
        except ApiError as error:
            raise self.blamed(error) from None

    async def post(
        self, path: str, body: bytes, *, headers: Mapping[str, str] = {}, token: str | None = None
    ) -> HttpResponse:
        """The response that `ask` gives; `IdleTimeout` where its head does not come within `idle_timeout`."""
        async with self._in_time():
            return await self.ask(path, body, headers=headers, token=token)

    async def get(self, path: str) -> HttpResponse:
        """The response to a GET, as for `post`."""
        async with self._in_time():
            return await self.ask(path, b"", method="GET")

    async def get_json(self, path: str) -> Any:
        """The JSON document there; `ProtocolError` for anything else, and the errors of `post`."""
        async with self._in_time():
            response = await self.ask(path, b"", method="GET")
            try:
                return await self.read_json(response)
            finally:
                response.close()

    async def read_json(self, response: HttpResponse) -> Any:
        """The JSON document that a response's body is; `ProtocolError` for anything else, `Disconnected` if cut."""
        try:
            body = await read_whole(response, _MAX_DOCUMENT)
        except ApiError as error:
            raise self.blamed(error) from None
        try:
            return msgspec.json.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            kind = response.content_type or "something without a type"
            raise self.blamed(ProtocolError(f"JSON was expected, and {kind} came (check the base_url)")) from None

    def blamed(self, error: ApiError) -> ApiError:
        """The same error, with a sentence that names this upstream, in place of its address where that stands there.

        For failures of a response's body: those of `post` have such sentences.
        """
        where = self._where
        address = re.escape(self.provider.base_url.rstrip("/")) + r"(?:/[\w/-]*)?"
        message = re.sub(address, lambda _: where, error.message).replace(f"provider {self.name!r}", where)
        if where not in message:
            message = f"{where}: {message}"
        error.message = message
        error.args = (message,)
        return error

    async def close(self) -> None:
        """Closes all connections."""
        await self._transport.close()

    @property
    def _where(self) -> str:
        return f"upstream {self.name!r}"

    @asynccontextmanager
    async def _in_time(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self.idle_timeout):
                yield
        except ApiError:
            raise
        except TimeoutError:
            message = f"{self._where} did not answer within idle_timeout, {self.idle_timeout:g} s"
            raise IdleTimeout(message) from None


def _transport(provider: Provider) -> Transport:
    """The direct one, but where the environment puts a proxy in between."""
    if proxy_for(provider.base_url, getproxies()) is None:
        return DirectTransport(open_timeout=provider.open_timeout, ca_file=provider.ca_file)
    return HttpTransport(open_timeout=provider.open_timeout, ca_file=provider.ca_file)
