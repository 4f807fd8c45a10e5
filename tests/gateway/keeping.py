"""What tests of kept responses share: stores of each kind, a clock that is set by hand, responses in a few words."""

from __future__ import annotations

import secrets
from typing import Any, Protocol

from redis.asyncio import Redis

from turnwire.gateway.redis_store import RedisStore
from turnwire.gateway.sqlite_store import SqliteStore
from turnwire.gateway.store import MAX_HISTORY, ResponseStore, StoredResponse

TENANT = "tenant-a"


class Clock:
    """Seconds since 1970, as the test says."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


class Shelf(Protocol):
    """Where stores of one kind are opened, all with the same contents, and time passes as the test says."""

    clock: Clock

    def open(self, *, ttl: float, max_size: int = 10_000, max_history: int = MAX_HISTORY) -> ResponseStore:
        """A store that keeps no response larger than ``max_size``; `close` closes it."""

    async def wait(self, seconds: float) -> None:
        """Lets so much time go by, for the clock and for what expires."""

    async def close(self) -> None:
        """Closes what was opened."""


class SqliteShelf:
    """Stores in memory, of which there can be but one."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self._opened: list[SqliteStore] = []

    def open(self, *, ttl: float, max_size: int = 10_000, max_history: int = MAX_HISTORY) -> SqliteStore:
        store = SqliteStore(":memory:", ttl=ttl, max_size=max_size, max_history=max_history, clock=self.clock)
        self._opened.append(store)
        return store

    async def wait(self, seconds: float) -> None:
        self.clock.now += seconds

    async def close(self) -> None:
        for store in self._opened:
            await store.close()


_AGE = """
for _, key in ipairs(redis.call('KEYS', ARGV[1])) do
    redis.call('PEXPIRE', key, redis.call('PTTL', key) - ARGV[2])
end
"""


class RedisShelf:
    """Stores on a server, under a prefix that no other test has."""

    def __init__(self, clock: Clock, url: str) -> None:
        self.clock = clock
        self.prefix = f"test-{secrets.token_hex(8)}"
        self.url = url
        self._opened: list[RedisStore] = []

    def open(self, *, ttl: float, max_size: int = 10_000, max_history: int = MAX_HISTORY) -> RedisStore:
        store = RedisStore(
            self.url, prefix=self.prefix, ttl=ttl, max_record=max_size, max_history=max_history, clock=self.clock
        )
        self._opened.append(store)
        return store

    async def wait(self, seconds: float) -> None:
        # The server's own clock can't be set: what is to expire does so that much earlier.
        self.clock.now += seconds
        async with Redis.from_url(self.url) as client:
            await client.eval(_AGE, 0, f"{self.prefix}:*", int(seconds * 1000))

    async def close(self) -> None:
        for store in self._opened:
            await store.close()


def said(text: str, item_id: str = "") -> dict[str, Any]:
    """An assistant's message."""
    content = [{"type": "output_text", "text": text, "annotations": []}]
    return {
        "type": "message",
        "id": item_id or f"msg_{text}",
        "role": "assistant",
        "status": "completed",
        "content": content,
    }


def asked(text: str) -> dict[str, Any]:
    """A user's message, in the API's short form."""
    return {"role": "user", "content": text}


def document(response_id: str, *output: dict[str, Any], status: str = "completed", **fields: Any) -> dict[str, Any]:
    """A ``response`` object."""
    return {"id": response_id, "object": "response", "status": status, "output": list(output), **fields}


def turn(response_id: str, question: str, answer: str, previous: str | None = None) -> StoredResponse:
    """A kept response: one question, one answer."""
    return StoredResponse.of(
        document(response_id, said(answer)), input_items=[asked(question)], previous_response_id=previous
    )
