"""Stores for the tests that must hold for each kind, and the server that one kind needs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.gateway.keeping import Clock, RedisShelf, Shelf, SqliteShelf
from tests.gateway.redis_server import RedisServer
from turnwire.gateway.store import ResponseStore


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """One for all tests, which leave it running and keep to prefixes of their own."""
    with RedisServer() as server:
        yield server


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["sqlite", "redis"])
async def shelf(request: pytest.FixtureRequest, clock: Clock) -> AsyncIterator[Shelf]:
    """Where a store of each kind can be opened."""
    if request.param == "sqlite":
        shelf: Shelf = SqliteShelf(clock)
    else:
        shelf = RedisShelf(clock, request.getfixturevalue("redis_server").url)
    yield shelf
    await shelf.close()


@pytest.fixture
def store(shelf: Shelf) -> ResponseStore:
    """An empty store of each kind."""
    return shelf.open(ttl=100)
