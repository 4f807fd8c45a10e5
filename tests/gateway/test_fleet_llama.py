"""Three gateway processes that share but a secret, in front of two real llama.cpp servers, and behind round-robin.

Twelve conversations at a time, as Codex holds them: turns of several requests, each with the turn's token and the
conversation's ``prompt_cache_key``. Each request reaches another gateway than the one before.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeAlias

import pytest
import pytest_asyncio

from benchmarks.llama_fleet import NAMES, Fleet, Request, converse, fleet
from turnwire.client import ModelClient
from turnwire.gateway.affinity import conversation_of
from turnwire.gateway.routing import order

pytestmark = pytest.mark.asyncio(loop_scope="module")

Change: TypeAlias = Callable[[Fleet], Awaitable[None]]

WEIGHTS = dict.fromkeys(NAMES, 1.0)


def evenly(count: int) -> list[str]:
    """Keys of so many conversations, of which each replica is preferred by as many."""

    def preferred_by(name: str) -> list[str]:
        every = (f"conversation {number}" for number in itertools.count())
        keys = (key for key in every if order(conversation_of({"prompt_cache_key": key}, {}), WEIGHTS)[0] == name)
        return list(itertools.islice(keys, count // len(NAMES)))

    return [key for name in NAMES for key in preferred_by(name)]


KEYS = evenly(12)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running() -> AsyncIterator[Fleet]:
    async with fleet(idle_timeout=10.0, probe_interval=0.5) as made:
        yield made
        print(*(gateway.log for gateway in made.gateways), sep="\n\n")  # which pytest shows where a test fails


async def interleaved(
    client: ModelClient, *, turns: int, rules: int, on_answer: Callable[[], None] = lambda: None
) -> list[Request]:
    """All requests of twelve conversations at a time."""
    conversations = [
        converse(client, number, turns=turns, rules=rules, key=key, on_answer=on_answer)
        for number, key in enumerate(KEYS)
    ]
    return [request for requests in await asyncio.gather(*conversations) for request in requests]


async def test_follow_ups_find_nine_tenths_of_their_prompts_in_the_cache(running: Fleet) -> None:
    async with asyncio.timeout(60), running.client() as client:
        requests = await interleaved(client, turns=3, rules=70)
    follow_ups = [request.usage for request in requests if request.follows_up]
    assert len(follow_ups) == len(KEYS) * 3
    # By llama.cpp's own count.
    assert sum(usage.cached_input_tokens for usage in follow_ups) >= 0.9 * sum(
        usage.input_tokens for usage in follow_ups
    )
    # And the next turn of a conversation, which has no token yet, finds what the last one left.
    assert all(request.usage.cached_share >= 0.9 for request in requests if request.number and not request.follows_up)
    for gateway in running.gateways:
        assert (await gateway.answers()).keys() == set(NAMES)


async def kill_replica(running: Fleet) -> None:
    running.replicas[0].kill()


async def restart_replica(running: Fleet) -> None:
    await running.restart_replica(0)


async def stall_replica(running: Fleet) -> None:
    running.replicas[1].stall()


async def wake_replica(running: Fleet) -> None:
    running.replicas[1].go_on()


async def kill_gateway(running: Fleet) -> None:
    await running.gateways[1].kill()


async def restart_gateway(running: Fleet) -> None:
    await running.restart_gateway(1)


@pytest.mark.parametrize(
    ("strike", "mend"),
    [
        pytest.param(kill_replica, restart_replica, id="a replica is killed"),
        pytest.param(stall_replica, wake_replica, id="a replica stalls"),
        pytest.param(kill_gateway, restart_gateway, id="a gateway is killed"),
    ],
)
async def test_every_turn_is_answered_and_afterwards_the_load_is_even_again(
    running: Fleet, strike: Change, mend: Change
) -> None:
    in_the_midst = asyncio.Event()
    answers = itertools.count(1)

    def on_answer() -> None:
        if next(answers) == len(KEYS) // 2:
            in_the_midst.set()

    async def strike_in_the_midst() -> None:
        await in_the_midst.wait()
        await strike(running)

    async with asyncio.timeout(60), running.client() as client:
        async with asyncio.TaskGroup() as group:
            talking = group.create_task(interleaved(client, turns=2, rules=5, on_answer=on_answer))
            group.create_task(strike_in_the_midst())
        assert len(talking.result()) == len(KEYS) * 2 * 2

        await mend(running)
        await running.healed()
        before = await running.answers()
        requests = await interleaved(client, turns=1, rules=5)
        counted = await running.answers() - before
        while counted.total() < len(requests):  # an answer is there a moment before it is counted
            counted = await running.answers() - before
        assert counted == Counter(dict.fromkeys(NAMES, len(requests) // len(NAMES)))
