"""What only a store on a server has: an address, a password, connections, neighbours, and a server that may be gone."""

from __future__ import annotations

import asyncio
import ssl
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme
from msgspec.structs import replace
from redis.asyncio import Redis

from tests.gateway.keeping import TENANT, Clock, RedisShelf, document, said, turn
from tests.gateway.redis_server import RedisServer
from turnwire.errors import ConfigurationError, ServerOverloaded
from turnwire.gateway.redis_store import RedisStore
from turnwire.gateway.store import ResponseStore, StoredResponse

ONE = turn("resp_1", "first?", "one")
TWO = turn("resp_2", "second?", "two", previous="resp_1")
RUNNING = StoredResponse.of(document("resp_r", status="in_progress"), running_until=1_000_030.0)

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

pytestmark = pytest.mark.usefixtures("nothing_left")


@pytest.fixture
async def shelf(redis_server: RedisServer, clock: Clock) -> AsyncIterator[RedisShelf]:
    shelf = RedisShelf(clock, redis_server.url)
    yield shelf
    await shelf.close()


@asynccontextmanager
async def opened(url: str, **options: Any) -> AsyncIterator[RedisStore]:
    store = RedisStore(url, ttl=100, **options)
    try:
        yield store
    finally:
        await store.close()


@asynccontextmanager
async def listening(handle: Handler, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """A server of the test's own: its host and port."""
    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=tls)
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("redis://10.0.0.5", "redis://10.0.0.5:6379/0"),
        ("redis://user:hush@cache.example:7000/2?health_check_interval=30", "redis://cache.example:7000/2"),
        ("rediss://:hush@[::1]:6380", "rediss://[::1]:6380/0"),
        ("unix://:hush@/run/redis.sock?db=3", "unix:///run/redis.sock"),
        ("redis://:12/hush@cache.example", "redis://localhost:12/0"),
        ("unix://", "unix://"),
    ],
)
async def test_a_store_shows_where_it_is_and_no_password(url: str, place: str) -> None:
    async with opened(url) as store:
        assert repr(store) == f"<RedisStore {place}>"


@pytest.mark.parametrize(
    "url",
    ["cache.example:6379", "http://hush@cache.example", "redis://:hush/x@cache.example", "redis://hush?hush=1"],
)
def test_a_url_that_can_not_be_read_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(ConfigurationError, match="the response store's URL can't be read: expected redis://") as caught:
        RedisStore(url, ttl=100)
    assert "hush" not in str(caught.value)


async def test_a_password_opens_the_server() -> None:
    with RedisServer("--requirepass", "hush") as server:
        async with opened(server.url.replace("//", "//:hush@")) as store:
            await store.check()
            await store.put(TENANT, ONE)
            assert await store.get(TENANT, "resp_1") == ONE
        async with opened(server.url.replace("//", "//:wrong@")) as store:
            with pytest.raises(ConfigurationError) as caught:
                await store.check()
            assert str(caught.value) == (
                f"the response store {server.url} can't be used now: invalid username-password pair or user is "
                "disabled; see that it runs, and that its URL is right"
            )


async def test_tls_asks_for_a_certificate_that_is_trusted(redis_server: RedisServer, tmp_path: Path) -> None:
    authority = trustme.CA()
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    trusted = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(trusted))
    async with listening(_passing(redis_server.socket), tls) as address:
        async with opened(f"rediss://{address}?ssl_ca_certs={trusted}", prefix="tls") as store:
            await store.put(TENANT, ONE)
            assert await store.get(TENANT, "resp_1") == ONE
        async with opened(f"rediss://{address}") as store:
            with pytest.raises(ServerOverloaded, match="certificate verify failed"):
                await store.get(TENANT, "resp_1")


def _passing(to: Path) -> Handler:
    """Passes bytes on, both ways, to the socket of a server."""

    async def copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        while data := await source.read(65536):
            target.write(data)
        target.close()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            server_reader, server_writer = await asyncio.open_unix_connection(to)
            await asyncio.gather(copy(reader, server_writer), copy(server_reader, writer))
        except OSError:  # a client that leaves in its handshake
            writer.close()

    return handle


async def test_every_key_has_the_prefix_and_expires(shelf: RedisShelf, redis_server: RedisServer) -> None:
    store = shelf.open(ttl=100)
    await store.put(TENANT, ONE)
    await store.put(TENANT, TWO, b"data: {}\n\n")
    await store.put("tenant-b", RUNNING)
    await store.renew("tenant-b", "resp_r", 1_000_060.0)
    async with Redis.from_url(redis_server.url) as client:
        keys = [key async for key in client.scan_iter(f"{shelf.prefix}:*")]
        assert sorted(key.decode().removeprefix(shelf.prefix) for key in keys) == [
            ":1:{tenant-a}:item:msg_one",
            ":1:{tenant-a}:item:msg_two",
            ":1:{tenant-a}:response:resp_1",
            ":1:{tenant-a}:response:resp_2",
            ":1:{tenant-b}:response:resp_r",
        ]
        assert all([99_000 < await client.pttl(key) <= 100_000 for key in keys])


async def test_two_prefixes_are_two_stores(redis_server: RedisServer, clock: Clock) -> None:
    here, there = RedisShelf(clock, redis_server.url), RedisShelf(clock, redis_server.url)
    await here.open(ttl=100).put(TENANT, ONE)
    assert await there.open(ttl=100).get(TENANT, "resp_1") is None
    await here.close()
    await there.close()


async def test_checking_a_server_leaves_nothing_there(shelf: RedisShelf, redis_server: RedisServer) -> None:
    await shelf.open(ttl=100).check()
    async with Redis.from_url(redis_server.url) as client:
        assert await client.keys(f"{shelf.prefix}:*") == []


async def test_three_processes_share_a_store_and_one_of_them_finishes_a_response(shelf: RedisShelf) -> None:
    script = """
import asyncio, sys
from msgspec.structs import replace
from tests.gateway.keeping import document, said, turn
from turnwire.gateway.redis_store import RedisStore
from turnwire.gateway.store import StoredResponse

async def main(url, prefix, name):
    store = RedisStore(url, prefix=prefix, ttl=100)
    for number in range(20):
        await store.put("tenant-a", turn(f"resp_{name}_{number}", "?", "!"))
    while await store.get("tenant-a", "resp_r") is None:
        await asyncio.sleep(0.001)
    done = StoredResponse.of(document("resp_r", said(name)))
    print("finished" if await store.finish("tenant-a", done) else "too late")
    await store.close()

asyncio.run(main(*sys.argv[1:]))
"""
    store = shelf.open(ttl=100)
    processes = [
        await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", script, shelf.url, shelf.prefix, name), stdout=asyncio.subprocess.PIPE
        )
        for name in ("a", "b", "c")
    ]
    await store.put(TENANT, RUNNING)
    said_by = {
        name: (await process.communicate())[0].decode().strip()
        for name, process in zip(("a", "b", "c"), processes, strict=True)
    }
    assert sorted(said_by.values()) == ["finished", "too late", "too late"]
    (winner,) = (name for name, word in said_by.items() if word == "finished")
    assert await store.get(TENANT, "resp_r") == StoredResponse.of(document("resp_r", said(winner)))
    for name in ("a", "b", "c"):
        for number in range(20):
            assert await store.get(TENANT, f"resp_{name}_{number}") is not None


async def each_refused(store: ResponseStore, message: str) -> None:
    """Every method says that the store can't be used."""
    for asked in (
        store.put(TENANT, ONE),
        store.finish(TENANT, ONE),
        store.renew(TENANT, "resp_1", 5.0),
        store.get(TENANT, "resp_1"),
        store.chain(TENANT, "resp_1"),
        store.items(TENANT, ["msg_one"]),
        store.events(TENANT, "resp_1"),
        store.delete(TENANT, "resp_1"),
    ):
        with pytest.raises(ServerOverloaded) as caught:
            await asked
        assert message in str(caught.value)


async def test_a_server_that_is_gone_is_asked_again_when_it_is_back() -> None:
    with RedisServer() as server:
        async with opened(server.url) as store:
            await store.put(TENANT, ONE)
            server.stop()
            await each_refused(store, f"the response store {server.url} can't be used now: Error ")
            with pytest.raises(ConfigurationError, match="see that it runs, and that its URL is right"):
                await store.check()
            server.start()
            assert await store.get(TENANT, "resp_1") is None
            await store.put(TENANT, ONE)
            assert await store.get(TENANT, "resp_1") == ONE


async def test_a_server_that_was_started_anew_costs_nothing() -> None:
    with RedisServer() as server:
        async with opened(server.url) as store:
            await store.put(TENANT, ONE)
            server.stop()
            server.start()
            await store.put(TENANT, TWO)  # over a connection that was lost, by a script that is not there
            assert await store.get(TENANT, "resp_2") == TWO


async def test_a_server_that_says_nothing_is_waited_for_so_long() -> None:
    silent = asyncio.Event()

    async def handle(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await silent.wait()
        writer.close()

    async with listening(handle) as address:
        async with opened(f"redis://{address}", timeout=0.02) as store:
            await each_refused(store, f"redis://{address}/0 can't be used now: no answer within 0.02 seconds")
        silent.set()


async def test_what_is_no_such_server_can_not_be_used() -> None:
    async def handle(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with listening(handle) as address, opened(f"redis://{address}") as store:
        with pytest.raises(ServerOverloaded, match="can't be used now: Protocol Error"):
            await store.get(TENANT, "resp_1")


async def test_a_server_that_does_not_know_a_command_has_nothing_of_the_conversation_repeated() -> None:
    with RedisServer("--rename-command", "EVALSHA", "") as server:
        async with opened(server.url) as store:
            with pytest.raises(ServerOverloaded) as caught:
                await store.put(TENANT, ONE)
            assert str(caught.value) == f"the response store {server.url} can't be used now: unknown command 'EVALSHA'"


async def test_a_full_server_takes_nothing_and_loses_nothing() -> None:
    with RedisServer() as server:
        async with opened(server.url) as store, Redis.from_url(server.url) as client:
            await store.put(TENANT, ONE)
            await store.put(TENANT, RUNNING)
            await client.config_set("maxmemory", 1)
            with pytest.raises(ServerOverloaded, match="command not allowed when used memory > 'maxmemory'"):
                await store.put(TENANT, turn("resp_1", "again?", "again"))
            assert await store.get(TENANT, "resp_1") == ONE
            assert await store.renew(TENANT, "resp_r", 1_000_060.0) is True


async def test_a_cancelled_call_leaves_its_answer_to_nobody_else(redis_server: RedisServer) -> None:
    async with opened(f"{redis_server.url}?max_connections=1", prefix="cancelled") as store:
        for stored in (ONE, TWO):
            await store.put(TENANT, stored)
        for steps in range(30):
            call = asyncio.create_task(store.get(TENANT, "resp_1"))
            for _ in range(steps):
                await asyncio.sleep(0)
            call.cancel()
            assert await store.get(TENANT, "resp_2") == TWO


async def test_a_response_that_goes_while_a_conversation_is_read_begins_it(
    shelf: RedisShelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = shelf.open(ttl=100)
    three = turn("resp_3", "third?", "three", previous="resp_2")
    for stored in (ONE, TWO, three):
        await store.put(TENANT, stored)
    walk = store._walk

    async def walk_and_lose(**arguments: Any) -> Any:
        found = await walk(**arguments)
        await store.delete(TENANT, "resp_2")
        return found

    monkeypatch.setattr(store, "_walk", walk_and_lose)
    assert await store.chain(TENANT, "resp_3") == [three]


async def test_no_number_of_calls_at_once_is_too_large(shelf: RedisShelf) -> None:
    store = shelf.open(ttl=100)
    turns = [replace(ONE, response_id=f"resp_{number}") for number in range(200)]
    await asyncio.gather(*(store.put(TENANT, stored) for stored in turns))
    assert await asyncio.gather(*(store.get(TENANT, stored.response_id) for stored in turns)) == turns
