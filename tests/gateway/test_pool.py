import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.gateway.serving import MODEL, upstream_at
from turnwire.errors import ConnectError, InvalidPrompt, ServerOverloaded, StreamError
from turnwire.gateway.catalog import Catalog
from turnwire.gateway.health import EJECT_AFTER, FIRST_PAUSE
from turnwire.gateway.pool import Lease, Pool, QueueLimits
from turnwire.gateway.refusal import UnknownModel
from turnwire.gateway.routing import LOAD_BOUND, conversation_key, order
from turnwire.gateway.upstream import Upstream

KEY = conversation_key("test", "1")
ABSENT = ConnectError("can't connect")


class Clock:
    """Time that goes on when it is told to; it counts from the loop's, for waits are the loop's."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return asyncio.get_running_loop().time() + self.ahead


@asynccontextmanager
async def pool_of(
    *names: str, clock: Clock | None = None, length: int = 4, timeout: float = 5.0, **fields: Any
) -> AsyncIterator[Pool]:
    catalog = Catalog([Upstream(upstream_at("http://127.0.0.1:9/v1", name=name, **fields)) for name in names])
    try:
        yield Pool(catalog, limits=QueueLimits(length, timeout), clock=clock or Clock())
    finally:
        await catalog.close()


def preferred(*names: str) -> list[str]:
    return order(KEY, dict.fromkeys(names, 1.0))


async def waiting(pool: Pool, number: int = 1) -> None:
    while pool.waiting < number:  # noqa: ASYNC110
        await asyncio.sleep(0)


async def test_a_conversation_gets_the_replica_that_its_key_prefers() -> None:
    async with pool_of("a", "b", "c") as pool:
        for _ in range(3):
            with await pool.lease(MODEL, KEY) as lease:
                assert lease.name == preferred("a", "b", "c")[0]
        assert (pool.open, pool.load(lease.name)) == (0, 0)


async def test_a_turn_stays_where_it_is_held_however_busy() -> None:
    async with pool_of("a", "b") as pool:
        other = preferred("a", "b")[1]
        leases = [await pool.lease(MODEL, KEY, held_by=other) for _ in range(20)]
        assert {lease.name for lease in leases} == {other}


async def test_new_turns_pass_over_a_replica_that_is_too_busy() -> None:
    async with pool_of("a", "b") as pool:
        leases = [await pool.lease(MODEL, KEY) for _ in range(100)]
        share = 50.0
        assert max(pool.load(name) for name in "ab") <= share + LOAD_BOUND * share**0.5 + 1
        for lease in leases:
            lease.end()


async def test_what_was_tried_is_not_tried_again_and_in_the_end_nobody_is_left() -> None:
    async with pool_of("a", "b") as pool:
        first, second = preferred("a", "b")
        assert (await pool.lease(MODEL, KEY, tried={first})).name == second
        with pytest.raises(ServerOverloaded, match="no other upstream serves the model 'm'"):
            await pool.lease(MODEL, KEY, tried={first, second})


async def test_an_unknown_model_is_told_as_the_catalog_tells_it() -> None:
    async with pool_of("a") as pool:
        with pytest.raises(UnknownModel):
            await pool.lease("gpt-9", KEY)


async def test_a_dead_replica_is_replaced_by_the_next_of_the_key_s_order_and_comes_back() -> None:
    clock = Clock()
    async with pool_of("a", "b", "c", clock=clock) as pool:
        first, second, _ = preferred("a", "b", "c")
        lease = await pool.lease(MODEL, KEY, held_by=first)
        lease.failed(ABSENT)
        assert lease.lost.done()
        lease.end()
        assert (await pool.lease(MODEL, KEY, held_by=first)).name == second
        clock.ahead += FIRST_PAUSE
        assert (await pool.lease(MODEL, KEY, held_by=first)).name == second  # on trial: others are well
        pool.probed(first)
        assert (await pool.lease(MODEL, KEY, held_by=first)).name == first


async def test_another_is_one_that_is_well_and_was_not_tried() -> None:
    async with pool_of("a", "b") as pool:
        assert pool.has_other(MODEL, ["a"])
        assert not pool.has_other(MODEL, ["a", "b"])
        pool.failed("b", ABSENT)
        assert not pool.has_other(MODEL, ["a"])


async def test_where_none_is_well_one_that_may_be_is_tried() -> None:
    clock = Clock()
    async with pool_of("a", "b", clock=clock) as pool:
        pool.failed("a", ABSENT)
        clock.ahead += FIRST_PAUSE
        pool.failed("b", ABSENT)
        assert (await pool.lease(MODEL, KEY)).name == "a"
        pool.failed("a", ABSENT)
        assert (await pool.lease(MODEL, KEY)).name in {"a", "b"}


async def test_only_failures_in_a_row_that_are_its_own_eject_a_replica() -> None:
    async with pool_of("a") as pool:
        lease = await pool.lease(MODEL, KEY)
        for _ in range(EJECT_AFTER - 1):
            lease.failed(StreamError("cut"))
            lease.failed(InvalidPrompt("the caller's fault"))
        lease.succeeded()
        lease.failed(StreamError("cut"))
        assert not lease.lost.done()
        for _ in range(EJECT_AFTER):
            lease.failed(StreamError("cut"))
        assert lease.lost.done()


async def test_who_waits_is_served_in_order() -> None:
    async with pool_of("a", max_concurrency=1) as pool:
        first = await pool.lease(MODEL, KEY)
        waiters: list[asyncio.Task[Lease]] = []
        for number in (1, 2):
            waiters.append(asyncio.create_task(pool.lease(MODEL, KEY)))
            await waiting(pool, number)
        first.end()
        second = await waiters[0]
        assert not waiters[1].done()
        second.end()
        (await waiters[1]).end()
        assert (pool.open, pool.waiting, pool.load("a")) == (0, 0, 0)


async def test_a_new_turn_takes_whichever_replica_has_room_and_a_held_one_waits_for_its_own() -> None:
    async with pool_of("a", "b", max_concurrency=1) as pool:
        first, second = preferred("a", "b")
        held = await pool.lease(MODEL, KEY, held_by=first)
        other = await pool.lease(MODEL, KEY)
        assert other.name == second
        waiter = asyncio.create_task(pool.lease(MODEL, KEY, held_by=first))
        await waiting(pool)
        other.end()
        await asyncio.sleep(0)
        assert not waiter.done()
        held.end()
        assert (await waiter).name == first


async def test_who_waits_for_a_replica_that_dies_goes_to_another() -> None:
    async with pool_of("a", "b", max_concurrency=1) as pool:
        first, second = preferred("a", "b")
        held = await pool.lease(MODEL, KEY, held_by=first)
        waiter = asyncio.create_task(pool.lease(MODEL, KEY, held_by=first))
        await waiting(pool)
        held.failed(ABSENT)
        assert (await waiter).name == second


async def test_the_queue_is_bounded_in_length_and_in_time() -> None:
    async with pool_of("a", max_concurrency=1, length=1, timeout=0.01) as pool:
        lease = await pool.lease(MODEL, KEY)
        waiter = asyncio.create_task(pool.lease(MODEL, KEY))
        await waiting(pool)
        with pytest.raises(ServerOverloaded, match="1 requests wait for a replica already"):
            await pool.lease(MODEL, KEY)
        with pytest.raises(ServerOverloaded, match=r"no replica had room within 0.01 s: a"):
            await waiter
        lease.end()
        assert (pool.waiting, pool.load("a")) == (0, 0)


async def test_whoever_stops_waiting_gives_back_what_it_was_promised() -> None:
    async with pool_of("a", max_concurrency=1) as pool:
        lease = await pool.lease(MODEL, KEY)
        early = asyncio.create_task(pool.lease(MODEL, KEY))
        await waiting(pool)
        early.cancel()
        await asyncio.wait((early,))
        assert pool.waiting == 0
        late = asyncio.create_task(pool.lease(MODEL, KEY))
        await waiting(pool)
        lease.end()  # the room is promised to `late`, which leaves before it hears so
        late.cancel()
        await asyncio.wait((late,))
        assert (pool.load("a"), pool.open) == (0, 0)


async def test_a_lease_is_given_back_once() -> None:
    async with pool_of("a") as pool:
        lease = await pool.lease(MODEL, KEY)
        lease.end()
        lease.end()
        assert pool.load("a") == 0
        assert repr(lease) == "<Lease of a, over>"
        assert repr(pool) == "<Pool of 1 replicas, 0 leases, 0 waiting>"
