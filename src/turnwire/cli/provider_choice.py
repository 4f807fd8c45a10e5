"""Which server and which model a command speaks to, from its options, the configuration and the server itself."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
from msgspec import Struct

from turnwire.client import Provider, find_provider, load_providers
from turnwire.client.provider import PROVIDER_PRESETS
from turnwire.client.requester import USER_AGENT, read_refusal
from turnwire.errors import ConfigurationError, IdleTimeout
from turnwire.transport.http import HttpTransport
from turnwire.transport.message import HttpRequest, read_whole
from turnwire.wire.chat import ChatDialect

__all__ = ["choose_provider", "only_model", "served_models"]

_MAX_LIST = 4 * 1024 * 1024
_MAX_NAMES = 10
_UNLISTED = frozenset({404, 405, 501})


class _Model(Struct):
    id: str


class _ModelList(Struct):
    data: list[_Model]


def choose_provider(name: str | None, **changes: Any) -> Provider:
    """The provider of that name with some fields changed; without a name the only configured one, or a ``base_url``'s.

    Changes that are None are none. A bare ``base_url`` is spoken to in the tolerant dialect, and gets no key that
    nobody named. Raises `ConfigurationError`.
    """
    changes = {field: value for field, value in changes.items() if value is not None}
    if name is None and "base_url" in changes:
        return Provider(**{"name": changes["base_url"], "dialect": ChatDialect.preset("tolerant"), **changes})
    configured = load_providers()
    if name is None:
        return _only_provider(configured).with_changes(**changes)
    if name in configured:
        return configured[name].with_changes(**changes)
    if name in PROVIDER_PRESETS:
        return Provider.preset(name, **changes)
    return find_provider(name)  # which says what names there are


async def only_model(provider: Provider) -> str:
    """The one model that the server lists; `ConfigurationError` where it has another number of them, or no list."""
    names = await served_models(provider)
    if len(names) == 1:
        return names[0]
    if not names:
        raise ConfigurationError(f"{provider.name} serves no model: load one, or name one with --model")
    more = f" and {len(names) - _MAX_NAMES} more" if len(names) > _MAX_NAMES else ""
    listed = ", ".join(names[:_MAX_NAMES])
    raise ConfigurationError(f"{provider.name} serves {len(names)} models, name one with --model: {listed}{more}")


async def served_models(provider: Provider) -> list[str]:
    """The names at ``GET {base_url}/models``, in the server's order; `ConfigurationError` where it gives no list."""
    url = provider.url("models")
    where = url.partition("?")[0]
    headers = {"user-agent": USER_AGENT, **await provider.request_headers()}
    try:
        async with (
            asyncio.timeout(provider.idle_timeout),
            HttpTransport(open_timeout=provider.open_timeout, ca_file=provider.ca_file) as transport,
        ):
            response = await transport.send(HttpRequest(url, headers, b"", "GET"))
            if response.status in _UNLISTED:
                raise ConfigurationError(
                    f"{where} answered {response.status} "
                    "(check the base_url; where it is right, name a model with --model)"
                )
            if response.status != 200:
                raise await read_refusal(response, where=where)
            body = await read_whole(response, _MAX_LIST)
    except TimeoutError:
        raise IdleTimeout(f"no list of models from {where} within {provider.idle_timeout:g} s") from None
    try:
        return [model.id for model in msgspec.json.decode(body, type=_ModelList).data]
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise ConfigurationError(
            f"{where} gave no list of models (check the base_url; where it is right, name a model with --model)"
        ) from None


def _only_provider(configured: dict[str, Provider]) -> Provider:
    if not configured:
        raise ConfigurationError(
            "no provider is configured: name a preset with --provider, give a server's address with --base-url, "
            "or write a [providers.NAME] table into turnwire.toml"
        )
    if len(configured) > 1:
        names = ", ".join(configured)
        raise ConfigurationError(f"{len(configured)} providers are configured, choose one with --provider: {names}")
    return next(iter(configured.values()))
