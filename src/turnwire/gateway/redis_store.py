"""Responses kept in a Redis or Valkey server, which the gateway's processes on any number of machines share.

A response is one hash, an output item one key that names its response; both expire by themselves. What must not be
torn apart is a script that the server runs as one step. Large values are only passed through scripts on their way in,
and only commands are used that Redis 6.2 and Valkey both have. All keys of a tenant have its name in braces, so that
they stay together wherever keys are spread by a hash.

How much may be kept is the server's to say. Every key has an expiry, and a response that is used gets a new one, so
with the policy ``volatile-ttl`` a full server gives up the longest unused first.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from msgspec import Struct
from redis.asyncio import BlockingConnectionPool, Redis, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from turnwire.errors import ConfigurationError, InvalidPrompt, ServerOverloaded
from turnwire.gateway.store import (
    MAX_CHAIN,
    MAX_HISTORY,
    StoredResponse,
    output_items,
    pack_events,
    unpack_events,
)

__all__ = ["RedisStore"]

_LAYOUT = 1
"""Part of every key: another version's are not read, and expire."""
_MAX_CONNECTIONS = 16
_MAX_RECORD = 128 * 1024 * 1024
"""Bytes of one response: the largest request, and the events of a large answer. A server takes 512 MiB in one value."""
_SLACK = 0.01
"""The share of the time to live that a response may be short of because a later one did not renew it again."""

# What a script is told besides values to be kept is one JSON object, a `_Keeping` or a `_Walk`: `the` in the script.

_KEEP = """
local the = cjson.decode(ARGV[1])
if the.finishes and redis.call('HEXISTS', KEYS[1], 'running_until') == 0 then
    return 0
end
-- A full server refuses a script's first write where it may need memory, and none behind it.
redis.call('HSET', KEYS[1], 'renewed', the.now)

local function renew_from(id)
    for _ = 1, the.depth do
        local key = the.responses .. id
        local kept = redis.call('HMGET', key, 'previous', 'items')
        if redis.call('PEXPIRE', key, the.ttl) == 0 then
            return
        end
        for _, item in ipairs(cjson.decode(kept[2])) do
            redis.call('PEXPIRE', the.items .. item, the.ttl)
        end
        if not kept[1] then
            return
        end
        id = kept[1]
    end
end

-- `renewed` tells when all that a response goes on from was last renewed: a long conversation is not walked each time.
local renewed = the.now
if the.previous then
    local before = redis.call('HGET', the.responses .. the.previous, 'renewed')
    if before and tonumber(before) > the.now - the.slack then
        renewed = before
    else
        renew_from(the.previous)
    end
end
redis.call('UNLINK', KEYS[1])
redis.call('HSET', KEYS[1], 'renewed', renewed, 'items', cjson.encode(the.output), unpack(ARGV, 2))
redis.call('PEXPIRE', KEYS[1], the.ttl)
for _, item in ipairs(the.output) do
    redis.call('SET', the.items .. item, the.id, 'PX', the.ttl)
end
return 1
"""

_RENEW = """
if redis.call('HEXISTS', KEYS[1], 'running_until') == 0 then
    return 0
end
redis.call('PEXPIRE', KEYS[1], ARGV[2])  -- first, so that a full server takes the next one too
redis.call('HSET', KEYS[1], 'running_until', ARGV[1])
return 1
"""

_WALK = """
local the = cjson.decode(ARGV[1])
local found, id, room = {}, the.id, the.room
while id and #found < the.depth do
    local key = the.responses .. id
    local size = redis.call('HSTRLEN', key, 'document') + redis.call('HSTRLEN', key, 'input')
    room = room - size
    if size == 0 or (room < 0 and #found > 0) then
        break
    end
    found[#found + 1] = id
    id = redis.call('HGET', key, 'previous')
end
return found
"""

_PROBE = StoredResponse("probe", b"{}")
"""What a server is tried with, as nobody's: no tenant is called by the empty name."""
_RECORD = ("document", "input", "previous", "running_until")


class _Keeping(Struct, omit_defaults=True):
    """What ``_KEEP`` is told besides the response's own fields."""

    id: str
    responses: str
    """What the keys of the tenant's responses begin with."""
    items: str
    """What the keys of the tenant's output items begin with."""
    output: list[str]
    """The ids of the response's own output items."""
    now: float
    ttl: int
    """Milliseconds."""
    slack: float
    depth: int
    previous: str | None = None
    finishes: bool = False


class _Walk(Struct):
    """What ``_WALK`` is told."""

    id: str
    responses: str
    depth: int
    room: int
    """Bytes."""


class RedisStore:
    """A `turnwire.gateway.store.ResponseStore` on a Redis or Valkey server.

    ``url`` begins with ``redis://``, ``rediss://`` (TLS) or ``unix://`` and may hold a password, which is shown
    nowhere. Every key begins with ``prefix``. ``ttl`` and ``timeout`` are in seconds, the latter for one call with all
    its requests to the server; ``max_record`` bounds the bytes of one response and ``max_history`` those of one
    conversation; ``clock`` gives seconds since 1970. Raises `ConfigurationError` for a URL that can't be used.

    Connections are opened when they are needed, and again after they were lost: `check` says whether they can be.
    """

    def __init__(
        self,
        url: str,
        *,
        ttl: float,
        prefix: str = "turnwire",
        max_record: int = _MAX_RECORD,
        max_history: int = MAX_HISTORY,
        timeout: float = 5.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        pool = _pool(url)
        self._place = _place(pool)
        self._prefix = prefix
        self._ttl = ttl
        self._max_record = max_record
        self._max_history = max_history
        self._timeout = timeout
        self._clock = clock
        self._client = Redis.from_pool(pool)
        self._keep = self._client.register_script(_KEEP)
        self._renew = self._client.register_script(_RENEW)
        self._walk = self._client.register_script(_WALK)

    def __repr__(self) -> str:
        return f"<RedisStore {self._place}>"

    async def check(self) -> None:
        """Raises `ConfigurationError` where the server can't be reached, or does not let us keep anything."""
        try:
            await self.put("", _PROBE)
            await self.delete("", _PROBE.response_id)
        except ServerOverloaded as error:
            raise ConfigurationError(f"{error}; see that it runs, and that its URL is right") from error.__cause__

    async def put(self, tenant: str, stored: StoredResponse, events: bytes = b"") -> None:
        """Keeps a response, in the place of one of the same id."""
        await self._write(tenant, stored, events, finishes=False)

    async def finish(self, tenant: str, stored: StoredResponse, events: bytes = b"") -> bool:
        """Puts a response in the place of the same one running; False where none is."""
        return await self._write(tenant, stored, events, finishes=True)

    async def renew(self, tenant: str, response_id: str, running_until: float) -> bool:
        """Says of a running response that it still runs; False where none is."""
        key = self._responses(tenant) + response_id
        async with self._asking():
            return bool(await self._renew(keys=[key], args=[running_until, self._lifetime]))

    async def get(self, tenant: str, response_id: str) -> StoredResponse | None:
        """The response of this id, None where there is none."""
        async with self._asking() as client:
            return _record(response_id, await client.hmget(self._responses(tenant) + response_id, _RECORD))

    async def chain(self, tenant: str, response_id: str) -> Sequence[StoredResponse]:
        """This response and those that it goes on from, the oldest first."""
        responses = self._responses(tenant)
        walk = msgspec.json.encode(_Walk(response_id, responses, MAX_CHAIN, self._max_history))
        async with self._asking() as client:
            found = [found.decode() for found in await self._walk(keys=[responses + response_id], args=[walk])]
            async with client.pipeline(transaction=False) as pipeline:
                for one in found:
                    pipeline.hmget(responses + one, _RECORD)
                rows = await pipeline.execute()
        chain: list[StoredResponse] = []
        for one, row in zip(found, rows, strict=True):
            stored = _record(one, row)
            if stored is None:
                break  # it went in between, and what it went on from can't be reached any more
            chain.append(stored)
        return chain[::-1]

    async def items(self, tenant: str, item_ids: Sequence[str]) -> Mapping[str, bytes]:
        """Output items as JSON by their ids, those that are kept."""
        if not item_ids:
            return {}
        async with self._asking() as client:
            owners = await client.mget([self._items(tenant) + item_id for item_id in item_ids])
            owner_of = {item_id: owner for item_id, owner in zip(item_ids, owners, strict=True) if owner is not None}
            distinct = list(dict.fromkeys(owner_of.values()))
            async with client.pipeline(transaction=False) as pipeline:
                for owner in distinct:
                    pipeline.hget(self._responses(tenant) + owner.decode(), "document")
                documents = await pipeline.execute()
        return {
            item_id: item
            for owner, document in zip(distinct, documents, strict=True)
            if document is not None
            for item_id, item in output_items(document)
            if owner_of.get(item_id) == owner
        }

    async def events(self, tenant: str, response_id: str) -> bytes:
        """The events that a response was kept with."""
        async with self._asking() as client:
            packed = await client.hget(self._responses(tenant) + response_id, "events")
        return await asyncio.to_thread(unpack_events, packed or b"")

    async def delete(self, tenant: str, response_id: str) -> bool:
        """Forgets a response; False where there is none. Its items' keys lead nowhere then, and expire."""
        async with self._asking() as client:
            return bool(await client.unlink(self._responses(tenant) + response_id))

    async def close(self) -> None:
        """Closes the connections."""
        await self._client.aclose()

    async def _write(self, tenant: str, stored: StoredResponse, events: bytes, *, finishes: bool) -> bool:
        fields, output = await asyncio.to_thread(_fields, stored, events)
        size = sum(map(len, fields.values()))
        if size > self._max_record:
            raise InvalidPrompt(
                f"the response {stored.response_id} takes {size} bytes and can't be kept: "
                f"the response store takes one of at most {self._max_record}"
            )
        responses = self._responses(tenant)
        keeping = _Keeping(
            stored.response_id,
            responses,
            self._items(tenant),
            output,
            now=self._clock(),
            ttl=self._lifetime,
            slack=self._ttl * _SLACK,
            depth=MAX_CHAIN,
            previous=stored.previous_response_id,
            finishes=finishes,
        )
        values = [value for field in fields.items() for value in field]
        async with self._asking():
            kept = await self._keep(keys=[responses + stored.response_id], args=[msgspec.json.encode(keeping), *values])
        return bool(kept)

    @property
    def _lifetime(self) -> int:
        """The time to live in milliseconds."""
        return max(int(self._ttl * 1000), 1)

    def _responses(self, tenant: str) -> str:
        return f"{self._prefix}:{_LAYOUT}:{{{tenant}}}:response:"

    def _items(self, tenant: str) -> str:
        return f"{self._prefix}:{_LAYOUT}:{{{tenant}}}:item:"

    @asynccontextmanager
    async def _asking(self) -> AsyncIterator[Any]:
        """The client, for one call; what goes wrong becomes `ServerOverloaded`.

        It gives bytes, which its types leave open.
        """
        try:
            async with asyncio.timeout(self._timeout):
                yield self._client
        except TimeoutError as error:
            raise self._unusable(f"no answer within {self._timeout:g} seconds") from error
        except (RedisError, OSError) as error:
            # Of a command that it does not know, a server repeats the arguments.
            raise self._unusable(str(error).partition(", with args")[0].rstrip(".")) from error

    def _unusable(self, reason: str) -> ServerOverloaded:
        return ServerOverloaded(f"the response store {self._place} can't be used now: {reason}")


def _pool(url: str) -> BlockingConnectionPool:
    try:
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=_MAX_CONNECTIONS,
            protocol=2,
            # One bound for a whole call is set around it.
            timeout=None,
            socket_timeout=None,
            socket_connect_timeout=None,
            # A connection that has waited in the pool may have been closed by the server meanwhile.
            retry=Retry(NoBackoff(), 1, supported_errors=(RedisConnectionError,)),
        )
        pool.connection_class(**pool.connection_kwargs)  # which knows the options; it connects to nothing yet
    except (TypeError, ValueError, RedisError):
        # What was misread may be a part of the password, so it is not repeated.
        raise ConfigurationError(
            "the response store's URL can't be read: expected redis://, rediss:// or unix://, as in "
            "redis://user:password@host:6379/0, with redis-py's options behind a ? and a password's special "
            "characters as %2F and so on"
        ) from None
    return pool


def _place(pool: BlockingConnectionPool) -> str:
    """Where the server is, without who we are to it."""
    options = pool.connection_kwargs
    if issubclass(pool.connection_class, UnixDomainSocketConnection):
        return f"unix://{options.get('path', '')}"
    scheme = "rediss" if issubclass(pool.connection_class, SSLConnection) else "redis"
    host = options.get("host", "localhost")
    host = f"[{host}]" if ":" in host else host
    return f"{scheme}://{host}:{options.get('port', 6379)}/{options.get('db', 0)}"


def _fields(stored: StoredResponse, events: bytes) -> tuple[dict[str, bytes], list[str]]:
    """A response as the fields of its hash, and the ids of its output items."""
    fields = {"document": stored.document, "input": stored.input_items}
    if stored.previous_response_id is not None:
        fields["previous"] = stored.previous_response_id.encode()
    if stored.running_until is not None:
        fields["running_until"] = repr(stored.running_until).encode()
    if events:
        fields["events"] = pack_events(events)
    return fields, [item_id for item_id, _ in output_items(stored.document)]


def _record(response_id: str, row: Sequence[bytes | None]) -> StoredResponse | None:
    document, input_items, previous, running_until = row
    if document is None or input_items is None:
        return None
    return StoredResponse(
        response_id,
        document,
        input_items,
        None if previous is None else previous.decode(),
        None if running_until is None else float(running_until),
    )
