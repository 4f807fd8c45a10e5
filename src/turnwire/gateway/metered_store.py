"""A store whose failures are counted, by what was asked of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Literal, TypeAlias, get_args

from turnwire.errors import InvalidPrompt
from turnwire.gateway.store import ResponseStore, StoredResponse

__all__ = ["MeteredStore"]

_Operation: TypeAlias = Literal["put", "finish", "renew", "get", "chain", "items", "events", "delete"]


class MeteredStore:
    """A `ResponseStore` that asks another one, whose errors go through."""

    def __init__(self, store: ResponseStore) -> None:
        self.store = store
        """The one that is asked."""
        self.failures: dict[str, int] = dict.fromkeys(get_args(_Operation), 0)
        """How often it failed, by the method's name. A response that is too large to be kept is no failure of it."""

    async def put(self, tenant: str, stored: StoredResponse, events: bytes = b"") -> None:
        """As `ResponseStore.put`."""
        with self._counting("put"):
            await self.store.put(tenant, stored, events)

    async def finish(self, tenant: str, stored: StoredResponse, events: bytes = b"") -> bool:
        """As `ResponseStore.finish`."""
        with self._counting("finish"):
            return await self.store.finish(tenant, stored, events)

    async def renew(self, tenant: str, response_id: str, running_until: float) -> bool:
        """As `ResponseStore.renew`."""
        with self._counting("renew"):
            return await self.store.renew(tenant, response_id, running_until)

    async def get(self, tenant: str, response_id: str) -> StoredResponse | None:
        """As `ResponseStore.get`."""
        with self._counting("get"):
            return await self.store.get(tenant, response_id)

    async def chain(self, tenant: str, response_id: str) -> Sequence[StoredResponse]:
        """As `ResponseStore.chain`."""
        with self._counting("chain"):
            return await self.store.chain(tenant, response_id)

    async def items(self, tenant: str, item_ids: Sequence[str]) -> Mapping[str, bytes]:
        """As `ResponseStore.items`."""
        with self._counting("items"):
            return await self.store.items(tenant, item_ids)

    async def events(self, tenant: str, response_id: str) -> bytes:
        """As `ResponseStore.events`."""
        with self._counting("events"):
            return await self.store.events(tenant, response_id)

    async def delete(self, tenant: str, response_id: str) -> bool:
        """As `ResponseStore.delete`."""
        with self._counting("delete"):
            return await self.store.delete(tenant, response_id)

    async def close(self) -> None:
        """As `ResponseStore.close`."""
        await self.store.close()

    @contextmanager
    def _counting(self, operation: _Operation) -> Iterator[None]:
        try:
            yield
        except InvalidPrompt:
            raise
        except Exception:
            self.failures[operation] += 1
            raise
