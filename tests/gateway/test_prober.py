import asyncio
from contextlib import suppress

from tests.gateway.serving import MODEL, upstream_at
from turnwire.gateway.catalog import Catalog
from turnwire.gateway.health import EJECT_AFTER
from turnwire.gateway.pool import Pool
from turnwire.gateway.prober import keep_probing, probe
from turnwire.gateway.routing import conversation_key
from turnwire.gateway.upstream import Upstream
from turnwire.testing import ScriptedServer

KEY = conversation_key("test", "1")


async def test_a_server_that_answers_is_well() -> None:
    async with ScriptedServer() as server:
        upstream = Upstream(upstream_at(server.base_url))
        pool = Pool(Catalog([upstream]))
        pool.health("upstream").failed(0.0, absent=True)
        await probe(upstream, pool, timeout=5.0)
        assert pool.ready
        await upstream.close()


async def test_a_server_that_has_no_list_of_models_answers_as_well() -> None:
    async with ScriptedServer() as server:
        upstream = Upstream(upstream_at(f"{server.base_url}/nowhere"))
        pool = Pool(Catalog([upstream]))
        await probe(upstream, pool, timeout=5.0)
        assert pool.ready
        await upstream.close()


async def test_a_server_that_is_not_there_is_left_out_at_once() -> None:
    upstream = Upstream(upstream_at("http://127.0.0.1:9/v1"))
    pool = Pool(Catalog([upstream]))
    await probe(upstream, pool, timeout=5.0)
    assert not pool.ready
    await upstream.close()


async def test_a_server_that_is_silent_is_left_out_after_a_few_probes() -> None:
    served: list[asyncio.Task[None] | None] = []

    async def serve_silently(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served.append(asyncio.current_task())
        with suppress(ConnectionError):
            await reader.read()
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

    server = await asyncio.start_server(serve_silently, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    upstream = Upstream(upstream_at(f"http://127.0.0.1:{port}/v1"))
    pool = Pool(Catalog([upstream]))
    lease = await pool.lease(MODEL, KEY)
    for number in range(EJECT_AFTER):
        assert (pool.ready, lease.lost.done()) == (True, False), number
        await probe(upstream, pool, timeout=0.05)
    assert (pool.ready, lease.lost.done()) == (False, True)
    await upstream.close()
    server.close()
    await asyncio.gather(*filter(None, served))


async def test_one_that_was_left_out_is_probed_as_soon_as_it_may_be_back() -> None:
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            raise RuntimeError("enough")
        await asyncio.sleep(0)

    async with ScriptedServer() as server:
        upstream = Upstream(upstream_at(server.base_url))
        catalog = Catalog([upstream])
        now = 100.0
        pool = Pool(catalog, clock=lambda: now)
        pool.health("upstream").failed(now, absent=True)
        with suppress(ExceptionGroup):
            await keep_probing(catalog, pool, 10.0, clock=lambda: now, sleep=sleep)
        await upstream.close()
    first, second, _ = pauses
    assert 1.0 <= first <= 1.2
    assert 10.0 <= second <= 12.0
    assert pool.ready
