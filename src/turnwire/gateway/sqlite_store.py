"""Responses kept in one SQLite file, which any number of gateway processes on the machine share.

One thread of its own does the work: a connection belongs to one thread at a time, what is asked first is done first,
and neither the event loop nor its threads for name lookups ever wait for a disk. In WAL mode readers don't wait for
writers, and a commit only appends to a file without waiting for the disk: a crash of the machine may lose the last
moments, which is little next to the time to live. So a write takes about a millisecond and may precede a stream's
last event.

Tables: ``response`` is small and is what searches run over; ``content`` has what is large; ``item`` finds an output
item by its id; ``total`` is one row that triggers keep, the bytes of all.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, ParamSpec, TypeAlias, TypeVar

import msgspec

from turnwire.errors import ConfigurationError, InvalidPrompt, ServerOverloaded
from turnwire.gateway.store import (
    MAX_CHAIN,
    MAX_HISTORY,
    StoredResponse,
    output_items,
    pack_events,
    unpack_events,
)

__all__ = ["SqliteStore"]

_IN_MEMORY = ":memory:"
_APPLICATION_ID = 0x74776972
"""Marks the file as ours: ``twir``."""
_SCHEMA_VERSION = 1
_BUSY_TIMEOUT = 5.0
"""Seconds that a write waits for another process to finish its own."""
_ROW_SIZE = 256
"""Bytes that a response is counted for besides its contents."""
_SWEEP = 64
"""Expired responses that one write removes, so that none takes long."""

_SCHEMA = (
    f"PRAGMA application_id = {_APPLICATION_ID}",
    f"PRAGMA user_version = {_SCHEMA_VERSION}",
    """CREATE TABLE response (
        key INTEGER PRIMARY KEY,
        tenant TEXT NOT NULL,
        id TEXT NOT NULL,
        previous TEXT,
        running_until REAL,
        used REAL NOT NULL,
        size INTEGER NOT NULL,
        UNIQUE (tenant, id)
    )""",
    "CREATE INDEX response_used ON response (used)",
    """CREATE TABLE content (
        key INTEGER PRIMARY KEY REFERENCES response ON DELETE CASCADE,
        document BLOB NOT NULL,
        input BLOB NOT NULL,
        events BLOB NOT NULL
    )""",
    """CREATE TABLE item (
        tenant TEXT NOT NULL,
        id TEXT NOT NULL,
        key INTEGER NOT NULL REFERENCES response ON DELETE CASCADE,
        PRIMARY KEY (tenant, id)
    ) WITHOUT ROWID""",
    "CREATE INDEX item_key ON item (key)",
    "CREATE TABLE total (size INTEGER NOT NULL)",
    "INSERT INTO total VALUES (0)",
    """CREATE TRIGGER response_kept AFTER INSERT ON response
        BEGIN UPDATE total SET size = size + new.size; END""",
    """CREATE TRIGGER response_gone AFTER DELETE ON response
        BEGIN UPDATE total SET size = size - old.size; END""",
)

# Nothing of a request stands in these texts.
_RECORD = "SELECT response.id, document, input, response.previous, running_until"
_READ = f"{_RECORD} FROM response JOIN content USING (key) WHERE tenant = ? AND id = ? AND used > ?"
_CHAIN = """WITH RECURSIVE chain (key, previous, depth) AS (
        SELECT key, previous, 1 FROM response WHERE tenant = :tenant AND id = :id AND used > :dead
        UNION ALL
        SELECT response.key, response.previous, depth + 1 FROM chain JOIN response
        ON response.tenant = :tenant AND response.id = chain.previous AND used > :dead
        WHERE depth < :depth
    )"""
_READ_CHAIN = f"{_CHAIN} {_RECORD} FROM chain JOIN response USING (key) JOIN content USING (key) ORDER BY depth"
_RENEW_CHAIN = f"{_CHAIN} UPDATE response SET used = :now WHERE key IN (SELECT key FROM chain)"  # noqa: S608

_Execute: TypeAlias = Callable[..., sqlite3.Cursor]
_P = ParamSpec("_P")
_T = TypeVar("_T")


class SqliteStore:
    """A `turnwire.gateway.store.ResponseStore` in one file.

    ``path`` may be ``:memory:``; a file that is not there is made, with its folder, for its owner's eyes only. ``ttl``
    is in seconds; ``max_size`` bounds the bytes of all that is kept and ``max_history`` those of one conversation;
    ``clock`` gives seconds since 1970. Raises `ConfigurationError` where the file can't be used.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        ttl: float,
        max_size: int,
        max_history: int = MAX_HISTORY,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._path = os.fspath(path)
        self._ttl = ttl
        self._max_size = max_size
        self._max_history = max_history
        self._clock = clock
        self._connection = _open(self._path)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="turnwire-store")

    def __repr__(self) -> str:
        return f"<SqliteStore {self._path}>"

    async def put(self, tenant: str, stored: StoredResponse, events: bytes = b"") -> None:
        """Keeps a response, in the place of one of the same id."""
        await self._do(self._put, tenant, stored, events)

    async def finish(self, tenant: str, stored: StoredResponse, events: bytes = b"") -> bool:
        """Puts a response in the place of the same one running; False where none is."""
        return await self._do(self._finish, tenant, stored, events)

    async def renew(self, tenant: str, response_id: str, running_until: float) -> bool:
        """Says of a running response that it still runs; False where none is."""
        return await self._do(self._renew, tenant, response_id, running_until)

    async def get(self, tenant: str, response_id: str) -> StoredResponse | None:
        """The response of this id, None where there is none."""
        return await self._do(self._get, tenant, response_id)

    async def chain(self, tenant: str, response_id: str) -> Sequence[StoredResponse]:
        """This response and those that it goes on from, the oldest first."""
        return await self._do(self._chain, tenant, response_id)

    async def items(self, tenant: str, item_ids: Sequence[str]) -> Mapping[str, bytes]:
        """Output items as JSON by their ids, those that are kept."""
        return await self._do(self._items, tenant, item_ids)

    async def events(self, tenant: str, response_id: str) -> bytes:
        """The events that a response was kept with."""
        return await self._do(self._events, tenant, response_id)

    async def delete(self, tenant: str, response_id: str) -> bool:
        """Forgets a response; False where there is none."""
        return await self._do(self._delete, tenant, response_id)

    async def close(self) -> None:
        """Closes the file, behind what is still to be written."""
        await self._do(self._connection.close)
        self._thread.shutdown()

    async def _do(self, work: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, partial(work, *args, **kwargs))
        except sqlite3.Error as error:
            raise ServerOverloaded(f"the response store {self._path} can't be used now: {error}") from error

    # From here on: in the thread.

    def _put(self, tenant: str, stored: StoredResponse, events: bytes) -> None:
        packed = pack_events(events)
        with self._transaction() as execute:
            execute("DELETE FROM response WHERE tenant = ? AND id = ?", (tenant, stored.response_id))
            self._insert(execute, tenant, stored, packed)

    def _finish(self, tenant: str, stored: StoredResponse, events: bytes) -> bool:
        packed = pack_events(events)
        with self._transaction() as execute:
            running = execute(
                "DELETE FROM response WHERE tenant = ? AND id = ? AND running_until IS NOT NULL",
                (tenant, stored.response_id),
            )
            if running.rowcount:
                self._insert(execute, tenant, stored, packed)
            return running.rowcount > 0

    def _insert(self, execute: _Execute, tenant: str, stored: StoredResponse, packed: bytes) -> None:
        size = len(stored.document) + len(stored.input_items) + len(packed) + _ROW_SIZE
        if size > self._max_size:
            raise InvalidPrompt(
                f"the response {stored.response_id} takes {size} bytes and can't be kept: "
                f"the response store holds at most {self._max_size} (store_max_size)"
            )
        now = self._clock()
        key = execute(
            "INSERT INTO response (tenant, id, previous, running_until, used, size) VALUES (?, ?, ?, ?, ?, ?)",
            (tenant, stored.response_id, stored.previous_response_id, stored.running_until, now, size),
        ).lastrowid
        execute("INSERT INTO content VALUES (?, ?, ?, ?)", (key, stored.document, stored.input_items, packed))
        for item_id, _ in output_items(stored.document):
            execute("INSERT OR REPLACE INTO item VALUES (?, ?, ?)", (tenant, item_id, key))
        execute(_RENEW_CHAIN, {**self._chain_of(tenant, stored.response_id), "now": now})
        execute(
            "DELETE FROM response WHERE key IN (SELECT key FROM response WHERE used <= ? ORDER BY used LIMIT ?)",
            (now - self._ttl, _SWEEP),
        )
        while execute("SELECT size FROM total").fetchone()[0] > self._max_size:
            execute("DELETE FROM response WHERE key = (SELECT key FROM response ORDER BY used, key LIMIT 1)")

    def _renew(self, tenant: str, response_id: str, running_until: float) -> bool:
        renewed = self._connection.execute(
            "UPDATE response SET running_until = ?, used = ? WHERE tenant = ? AND id = ? AND running_until IS NOT NULL",
            (running_until, self._clock(), tenant, response_id),
        )
        return renewed.rowcount > 0

    def _get(self, tenant: str, response_id: str) -> StoredResponse | None:
        row = self._connection.execute(_READ, (tenant, response_id, self._dead())).fetchone()
        return None if row is None else StoredResponse(*row)

    def _chain(self, tenant: str, response_id: str) -> Sequence[StoredResponse]:
        rows = self._connection.execute(_READ_CHAIN, self._chain_of(tenant, response_id))
        chain: list[StoredResponse] = []
        size = 0
        with closing(rows):
            for row in rows:
                stored = StoredResponse(*row)
                size += len(stored.document) + len(stored.input_items)
                if size > self._max_history and chain:
                    break
                chain.append(stored)
        return chain[::-1]

    def _items(self, tenant: str, item_ids: Sequence[str]) -> Mapping[str, bytes]:
        documents = self._connection.execute(
            """SELECT document FROM content WHERE key IN (
                SELECT item.key FROM item JOIN response USING (key)
                WHERE item.tenant = ? AND item.id IN (SELECT value FROM json_each(?)) AND used > ?
            ) ORDER BY key""",
            (tenant, msgspec.json.encode(item_ids).decode(), self._dead()),
        ).fetchall()
        wanted = frozenset(item_ids)
        return {
            item_id: item for (document,) in documents for item_id, item in output_items(document) if item_id in wanted
        }

    def _events(self, tenant: str, response_id: str) -> bytes:
        row = self._connection.execute(
            "SELECT events FROM response JOIN content USING (key) WHERE tenant = ? AND id = ? AND used > ?",
            (tenant, response_id, self._dead()),
        ).fetchone()
        return b"" if row is None else unpack_events(row[0])

    def _delete(self, tenant: str, response_id: str) -> bool:
        deleted = self._connection.execute(
            "DELETE FROM response WHERE tenant = ? AND id = ? AND used > ?", (tenant, response_id, self._dead())
        )
        return deleted.rowcount > 0

    def _dead(self) -> float:
        """What was last used then, or before, has expired."""
        return self._clock() - self._ttl

    def _chain_of(self, tenant: str, response_id: str) -> dict[str, Any]:
        return {"tenant": tenant, "id": response_id, "dead": self._dead(), "depth": MAX_CHAIN}

    @contextmanager
    def _transaction(self) -> Iterator[_Execute]:
        connection = self._connection
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection.execute
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


def _open(path: str) -> sqlite3.Connection:
    try:
        if path != _IN_MEMORY:
            Path(path).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with suppress(FileExistsError):
                # SQLite makes the files beside it with the mode of this one.
                os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        connection = sqlite3.connect(path, timeout=_BUSY_TIMEOUT, isolation_level=None, check_same_thread=False)
        try:
            _prepare(connection)
        except BaseException:
            connection.close()
            raise
    except (OSError, sqlite3.Error, ValueError) as error:
        raise ConfigurationError(
            f"the response store {path} can't be used: {error}; name another file in store_path, or remove this one"
        ) from error
    return connection


def _prepare(connection: sqlite3.Connection) -> None:
    """Makes the tables where there are none; raises `ValueError` where there are somebody else's."""
    execute = connection.execute
    execute("PRAGMA journal_mode = WAL")
    execute("PRAGMA synchronous = NORMAL")
    execute("PRAGMA foreign_keys = ON")
    execute("BEGIN IMMEDIATE")  # of several processes that start, one makes the tables
    if execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0:
        for statement in _SCHEMA:
            execute(statement)
    if execute("PRAGMA application_id").fetchone()[0] != _APPLICATION_ID:
        raise ValueError("it is a database of another application")
    version = execute("PRAGMA user_version").fetchone()[0]
    if version != _SCHEMA_VERSION:
        raise ValueError(f"its tables are of version {version}, and this turnwire knows version {_SCHEMA_VERSION}")
    execute("COMMIT")
