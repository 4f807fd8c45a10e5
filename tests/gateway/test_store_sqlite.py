from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
import sys
import threading
from pathlib import Path

import pytest

from tests.gateway.keeping import TENANT, Clock, turn
from turnwire.errors import ConfigurationError, ServerOverloaded
from turnwire.gateway import sqlite_store
from turnwire.gateway.sqlite_store import SqliteStore

ONE = turn("resp_1", "first?", "one")


def opened(path: Path | str, **changes: object) -> SqliteStore:
    return SqliteStore(path, **{"ttl": 100, "max_size": 1_000_000, "clock": Clock(), **changes})  # type: ignore[arg-type]


async def test_a_file_and_its_folder_are_made_for_their_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "state" / "responses.db"
    store = opened(path)
    await store.put(TENANT, ONE)
    assert {name.name: stat.S_IMODE(name.stat().st_mode) for name in (path.parent, *path.parent.iterdir())} == {
        "state": 0o700,
        "responses.db": 0o600,
        "responses.db-wal": 0o600,
        "responses.db-shm": 0o600,
    }
    await store.close()
    assert [name.name for name in path.parent.iterdir()] == ["responses.db"]


async def test_responses_outlive_the_process(tmp_path: Path) -> None:
    store = opened(tmp_path / "responses.db")
    await store.put(TENANT, ONE, b"data: {}\n\n")
    await store.close()
    store = opened(tmp_path / "responses.db")
    assert await store.get(TENANT, "resp_1") == ONE
    assert await store.events(TENANT, "resp_1") == b"data: {}\n\n"
    await store.close()


async def test_two_stores_on_one_file_see_each_others_responses(tmp_path: Path) -> None:
    here, there = opened(tmp_path / "responses.db"), opened(tmp_path / "responses.db")
    await here.put(TENANT, ONE)
    assert await there.get(TENANT, "resp_1") == ONE
    two = turn("resp_2", "second?", "two", previous="resp_1")
    await there.put(TENANT, two)
    assert await here.chain(TENANT, "resp_2") == [ONE, two]
    await here.close()
    await there.close()


async def test_several_processes_may_begin_and_write_at_once(tmp_path: Path) -> None:
    script = """
import asyncio, sys, time
from tests.gateway.keeping import turn
from turnwire.gateway.sqlite_store import SqliteStore

async def main():
    store = SqliteStore(sys.argv[1], ttl=100, max_size=1_000_000, clock=lambda: 1_000_000.0)
    for number in range(20):
        await store.put("tenant-a", turn(f"resp_{sys.argv[2]}_{number}", "?", "!"))
    await store.close()

asyncio.run(main())
"""
    path = tmp_path / "responses.db"
    processes = [
        await asyncio.create_subprocess_exec(sys.executable, "-c", script, str(path), str(number))
        for number in range(3)
    ]
    assert [await process.wait() for process in processes] == [0, 0, 0]
    store = opened(path)
    for process in range(3):
        for number in range(20):
            assert await store.get(TENANT, f"resp_{process}_{number}") is not None
    await store.close()


async def test_the_size_is_that_of_all_that_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "responses.db"
    store = opened(path)
    for name in ("1", "2", "2", "3"):
        await store.put(TENANT, turn(f"resp_{name}", name, name), b"data: {}\n\n" * 100)
    await store.delete(TENANT, "resp_1")
    await store.close()
    with sqlite3.connect(path) as connection:
        counted = connection.execute(
            "SELECT sum(length(document) + length(input) + length(events) + 256) FROM content"
        ).fetchone()
        assert connection.execute("SELECT size FROM total").fetchone() == counted
        assert connection.execute("SELECT count(*) FROM item").fetchone() == (2,)
    connection.close()


async def test_a_write_sweeps_what_has_expired(tmp_path: Path) -> None:
    clock = Clock()
    path = tmp_path / "responses.db"
    store = opened(path, clock=clock)
    for number in range(5):
        await store.put(TENANT, turn(f"resp_{number}", "?", "!"))
    clock.now += 100
    await store.put(TENANT, ONE)
    await store.close()
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT id FROM response").fetchall() == [("resp_1",)]
    connection.close()


async def test_over_its_size_the_store_forgets_what_was_longest_unused(clock: Clock) -> None:
    size = 3 * (len(ONE.document) + len(ONE.input_items) + 256) + 100
    store = opened(":memory:", max_size=size, clock=clock)
    for name in ("1", "2", "3"):
        clock.now += 1
        await store.put(TENANT, turn(f"resp_{name}", name, name))
    clock.now += 1
    await store.put(TENANT, turn("resp_4", "4", "4", previous="resp_1"))
    kept = [name for name in ("1", "2", "3", "4") if await store.get(TENANT, f"resp_{name}") is not None]
    assert kept == ["1", "3", "4"]
    await store.close()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"this is a note of somebody's, and no database at all" * 100, "file is not a database"),
        ("CREATE TABLE somebody (name TEXT)", "it is a database of another application"),
        (
            f"PRAGMA application_id = {0x74776972}; PRAGMA user_version = 7; CREATE TABLE response (id TEXT)",
            "its tables are of version 7, and this turnwire knows version 1",
        ),
    ],
)
def test_a_file_that_is_something_else_is_refused_and_left_alone(
    tmp_path: Path, content: bytes | str, reason: str
) -> None:
    path = tmp_path / "responses.db"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        with sqlite3.connect(path) as connection:
            connection.executescript(content)
        connection.close()
    with pytest.raises(ConfigurationError) as caught:
        opened(path)
    assert str(caught.value) == (
        f"the response store {path} can't be used: {reason}; name another file in store_path, or remove this one"
    )
    if isinstance(content, bytes):
        assert path.read_bytes() == content


@pytest.mark.parametrize("place", ["file/responses.db", "folder"])
def test_a_place_that_can_not_be_written_is_refused(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    with pytest.raises(ConfigurationError, match=r"the response store .* can't be used: .*store_path"):
        opened(tmp_path / place)


async def test_a_store_that_another_process_keeps_locked_is_busy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_store, "_BUSY_TIMEOUT", 0.01)
    path = tmp_path / "responses.db"
    store = opened(path)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(ServerOverloaded, match=r"the response store .* can't be used now: database is locked"):
        await store.put(TENANT, ONE)
    other.execute("ROLLBACK")
    other.close()
    await store.put(TENANT, ONE)
    assert await store.get(TENANT, "resp_1") == ONE
    await store.close()


async def test_a_write_that_fails_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "responses.db"
    store = opened(path)
    await store.put(TENANT, ONE)
    with sqlite3.connect(path) as connection:
        connection.execute("DROP TABLE item")
    connection.close()
    with pytest.raises(ServerOverloaded, match="no such table"):
        await store.put(TENANT, turn("resp_1", "again?", "again"))
    assert await store.get(TENANT, "resp_1") == ONE
    await store.close()


async def test_a_closed_store_leaves_no_thread_and_no_file_open(tmp_path: Path, nothing_left: None) -> None:
    path = tmp_path / "responses.db"
    store = opened(path)
    assert repr(store) == f"<SqliteStore {path}>"
    await store.put(TENANT, ONE)
    await store.close()
    assert str(path) not in _open_files()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("turnwire-store")]


def _open_files() -> set[str]:
    return {os.readlink(file) for file in Path("/proc/self/fd").glob("*") if file.is_symlink()}
