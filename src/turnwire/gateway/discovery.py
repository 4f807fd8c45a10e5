"""What a model server is, found out by asking it: the API to speak to it in, its dialect, its models.

Which API? What the configuration says. Without a word of it:

* OpenAI's own API and another turnwire gateway are spoken to in Responses, so that nothing need be translated;
* any other server that is known by its list of models or its address speaks Chat Completions. Some of these have
  Responses too, but as a younger side entrance, where tools get lost that Chat Completions carry;
* an unknown server is asked: an empty JSON object at ``chat/completions``, then at ``responses``, is refused with 404
  or 405 where there is no such thing, and with something else where there is. The first of the two that is there
  counts, for the same reason. Who knows better sets ``wire_api``.

Nothing is asked for here that a server would compute, or bill.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from turnwire.client.provider import PROVIDER_PRESETS
from turnwire.errors import ApiError, HttpStatusError, IdleTimeout, ProtocolError
from turnwire.gateway.configuration import WireApi
from turnwire.gateway.upstream import Upstream
from turnwire.wire.chat import ChatDialect

__all__ = ["OWNER", "Found", "discover"]

OWNER = "turnwire-gateway"
"""What a gateway's list of models names as their owner, by which another one knows it."""

_PATIENCE = 10.0
"""Seconds for all of it: whoever starts a gateway waits for them."""
_MAX_NAMES = 10

_SERVERS_BY_OWNER = {
    "llamacpp": "llama.cpp",
    "vllm": "vllm",
    "sglang": "sglang",
    "library": "ollama",
    "organization_owner": "lmstudio",
    OWNER: OWNER,
    "turnwire": "scripted",  # turnwire.testing's, whose script an empty request would advance
}
"""Who some servers say owns their models (Ollama: those of its library)."""
_SERVERS_BY_HOST = {
    host: name
    for name, fields in PROVIDER_PRESETS.items()
    if (host := urlsplit(fields.get("base_url", "")).hostname) not in (None, "127.0.0.1")
}
_SPEAKS_RESPONSES = frozenset({"openai", OWNER})
_DEFAULT_DIALECT = ChatDialect.preset("tolerant")
"""What is spoken to a server that is not recognised."""

_PATHS: Sequence[tuple[WireApi, str]] = (("chat", "chat/completions"), ("responses", "responses"))
_NOT_THERE = frozenset({404, 405, 410, 501})
_KEY_REFUSED = frozenset({401, 403})
_VERSIONED = re.compile(r"/v\d")


class Found(Struct, frozen=True):
    """What is known of an upstream: what its configuration says, and what it said itself."""

    base_url: str
    server: str | None = None
    """The preset that it was recognised as, or what else it is; None for an unknown server."""
    wire_api: WireApi | None = None
    """None where it could not be found out."""
    dialect: ChatDialect = _DEFAULT_DIALECT
    models: Mapping[str, str] = {}
    """The names that clients ask for, and the upstream's own for each."""
    context_windows: Mapping[str, int] = {}
    """Tokens that a model's prompt and answer may have together, by its own name, where the server says so."""
    problems: tuple[str, ...] = ()
    """What is wrong, or odd, one sentence each, with what to do about it."""

    @property
    def usable(self) -> bool:
        """Whether requests can be sent to it."""
        return self.wire_api is not None and bool(self.models)


async def discover(upstream: Upstream) -> Found:
    """Asks an upstream what its configuration leaves open; never raises an `ApiError`, for that is a finding too."""
    try:
        async with asyncio.timeout(_PATIENCE):
            return await _discover(upstream)
    except TimeoutError:
        silence = IdleTimeout(f"no answer within {_PATIENCE:g} s (check that it runs)")
        return _unlisted(upstream, str(upstream.blamed(silence)))


class _Model(Struct):
    """An entry of a list of models: whose it is, and what fits its context, which each server calls differently."""

    id: str
    owned_by: Any = None
    max_model_len: Any = None  # vLLM, SGLang
    context_length: Any = None  # OpenRouter and other providers
    meta: Any = None  # llama.cpp, whose `n_ctx` is that of one slot

    @property
    def context_window(self) -> int | None:
        meta = self.meta if isinstance(self.meta, dict) else {}
        sizes = (self.max_model_len, self.context_length, meta.get("n_ctx"))
        return next((size for size in sizes if isinstance(size, int) and size > 0), None)


class _ModelList(Struct):
    data: list[_Model]


async def _discover(upstream: Upstream) -> Found:
    configuration = upstream.configuration
    listed: list[_Model] = []
    problems: list[str] = []
    try:
        upstream, listed = await _find_list(upstream)
    except ApiError as error:
        if configuration.models is None or not _says_no_list(error):
            return _unlisted(upstream, _advice(upstream, error))
    else:
        problems += _list_problems(upstream, [model.id for model in listed])
    server = _server(upstream, listed)
    wire_api = await _wire_api(upstream, server)
    if wire_api is None:
        problems.append(
            f"upstream {upstream.name!r} seems to have neither chat/completions nor responses: check its base_url, or "
            "set wire_api"
        )
    return Found(
        base_url=upstream.provider.base_url,
        server=server,
        wire_api=wire_api,
        dialect=_dialect(upstream, server),
        models=configuration.models or {model.id: model.id for model in listed},
        context_windows={model.id: size for model in listed if (size := model.context_window) is not None},
        problems=tuple(problems),
    )


async def _find_list(upstream: Upstream) -> tuple[Upstream, list[_Model]]:
    """The list of models, and the upstream at the address where it is: ``/v1`` may have been left out.

    Raises the error of the address that is configured.
    """
    try:
        return upstream, await _list(upstream)
    except (HttpStatusError, ProtocolError) as error:
        base_url = upstream.provider.base_url.rstrip("/")
        if _status(error) in _KEY_REFUSED or _VERSIONED.search(urlsplit(base_url).path):
            raise
        elsewhere = upstream.at(f"{base_url}/v1")
        try:
            return elsewhere, await _list(elsewhere)
        except ApiError as other:
            if _status(other) in _KEY_REFUSED:
                raise  # that is the address, then
            raise error from None


async def _list(upstream: Upstream) -> list[_Model]:
    document = await upstream.get_json("models")
    try:
        return msgspec.convert(document, _ModelList).data
    except msgspec.ValidationError:
        raise upstream.blamed(
            ProtocolError("its answer to GET models is no list of models (check the base_url)")
        ) from None


def _unlisted(upstream: Upstream, problem: str) -> Found:
    """What is known of an upstream without its list; of one that was asked before, all that it said then."""
    server = _server(upstream, ())
    return Found(
        base_url=upstream.provider.base_url,
        server=server,
        wire_api=upstream.configuration.wire_api or (None if server is None else _wire_api_of(server)),
        dialect=_dialect(upstream, server),
        models=upstream.models,
        context_windows=upstream.context_windows,
        problems=(problem,),
    )


def _server(upstream: Upstream, listed: Sequence[_Model]) -> str | None:
    """The preset that fits, by the models' owners or by the address."""
    owners = {model.owned_by for model in listed if isinstance(model.owned_by, str)}
    by_owner = (server for owner, server in _SERVERS_BY_OWNER.items() if owner in owners)
    return next(by_owner, _SERVERS_BY_HOST.get(urlsplit(upstream.provider.base_url).hostname or ""))


def _dialect(upstream: Upstream, server: str | None) -> ChatDialect:
    if upstream.configuration.dialect is None and server in PROVIDER_PRESETS:
        return ChatDialect.preset(server)
    return upstream.dialect


def _wire_api_of(server: str) -> WireApi:
    return "responses" if server in _SPEAKS_RESPONSES else "chat"


async def _wire_api(upstream: Upstream, server: str | None) -> WireApi | None:
    if upstream.configuration.wire_api is not None:
        return upstream.configuration.wire_api
    if server is not None:
        return _wire_api_of(server)
    for wire_api, path in _PATHS:
        if await _is_there(upstream, path):
            return wire_api
    return None


async def _is_there(upstream: Upstream, path: str) -> bool:
    """Whether the server has an endpoint, by how it refuses an empty request."""
    try:
        response = await upstream.post(path, b"{}")
    except ApiError as error:
        if error.response is None:
            return False
        # A 404 may as well be about the model that the request does not name.
        return error.response.status not in _NOT_THERE or "model" in error.response.body.lower()
    response.close()
    return response.content_type in ("application/json", "text/event-stream")


def _list_problems(upstream: Upstream, listed: Sequence[str]) -> list[str]:
    """What is odd about a list of models, and about where it was found."""
    configuration, where = upstream.configuration, f"upstream {upstream.name!r}"
    problems = []
    if upstream.provider.base_url != configuration.base_url:
        problems.append(f"{where} lists its models at {upstream.provider.base_url}: write that as its base_url")
    if not listed and configuration.models is None:
        problems.append(f"{where} lists no model: load one, or name those that it can load under models")
    missing = sorted(set((configuration.models or {}).values()) - set(listed))
    if missing and listed:
        more = f" and {len(listed) - _MAX_NAMES} more" if len(listed) > _MAX_NAMES else ""
        problems.append(
            f"{where} does not list {', '.join(missing)}: check the names under models; it lists "
            f"{', '.join(listed[:_MAX_NAMES])}{more}"
        )
    return problems


def _says_no_list(error: ApiError) -> bool:
    """Whether a server may be sound but for its list of models."""
    return _status(error) in _NOT_THERE or isinstance(error, ProtocolError)


def _advice(upstream: Upstream, error: ApiError) -> str:
    """An error's sentence with what whoever configured the upstream can do."""
    status = _status(error)
    if status in _KEY_REFUSED:
        env = upstream.configuration.api_key_env
        if env is None:
            return f"upstream {upstream.name!r} wants a key: set api_key_env to the environment variable that holds one"
        return f"upstream {upstream.name!r} refused the key in {env}: check it, and what it may use"
    if status in _NOT_THERE:
        return f"upstream {upstream.name!r} lists no models: check its base_url, or name its models under models"
    return str(error)


def _status(error: ApiError) -> int | None:
    return None if error.response is None else error.response.status
