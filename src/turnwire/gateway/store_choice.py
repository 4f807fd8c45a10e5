"""The store that a configuration means, opened: a server that an environment variable names, else a file."""

from __future__ import annotations

import os

import platformdirs

from turnwire.errors import ConfigurationError
from turnwire.gateway.configuration import GatewayConfiguration
from turnwire.gateway.metered_store import MeteredStore
from turnwire.gateway.sqlite_store import SqliteStore
from turnwire.gateway.store import ResponseStore

__all__ = ["open_store"]

_FILE_NAME = "responses.sqlite"


async def open_store(configuration: GatewayConfiguration) -> MeteredStore:
    """The store, ready for use; the caller closes it. Raises `ConfigurationError` where it can't be used."""
    if configuration.store_url_env is not None:
        return MeteredStore(await _open_redis(configuration, configuration.store_url_env))
    return MeteredStore(
        SqliteStore(
            configuration.store_path or platformdirs.user_state_path("turnwire") / _FILE_NAME,
            ttl=configuration.store_ttl,
            max_size=configuration.store_max_size,
        )
    )


async def _open_redis(configuration: GatewayConfiguration, name: str) -> ResponseStore:
    try:
        from turnwire.gateway.redis_store import RedisStore
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "redis":
            raise
        raise ConfigurationError(
            'store_url_env: a store in Redis is an extra of turnwire: pip install "turnwire[gateway,redis]"'
        ) from None
    url = os.environ.get(name)
    if not url:
        raise ConfigurationError(
            f"store_url_env: {name} is not set; it holds the address of a Redis server, as in redis://10.0.0.5:6379/0"
        )
    try:
        store = RedisStore(url, ttl=configuration.store_ttl, prefix=configuration.store_prefix)
        await store.check()
    except ConfigurationError as error:
        raise ConfigurationError(f"store_url_env: {name}: {error}") from error.__cause__
    return store
