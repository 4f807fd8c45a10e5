"""The demo's forwarder: a turn stays where it began, and bytes pass through unchanged."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import aiohttp
import pytest

from turnwire.cli.demo_forwarder import Forwarding, StickyForwarder
from turnwire.client import ModelClient, Provider
from turnwire.errors import Disconnected, HttpStatusError
from turnwire.testing import ScriptedServer, Stall, Status, Truncate, Turn


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


def provider(forwarder: StickyForwarder, **changes: int) -> Provider:
    return Provider("forwarder", forwarder.base_url, request_max_retries=0, stream_max_retries=0, **changes)


async def answer(client: ModelClient, *prompts: str) -> list[str]:
    """The texts of one session's answers."""
    texts = []
    async with client.new_session() as session:
        for prompt in prompts:
            async with session.stream(prompt) as stream:
                async for _ in stream:
                    pass
                texts.append(stream.text)
    return texts


async def test_a_turn_stays_on_the_replica_that_it_began_on(stack: AsyncExitStack) -> None:
    replicas = [await stack.enter_async_context(ScriptedServer(lambda _, name=name: Turn(text=name))) for name in "AB"]
    forwarder = await stack.enter_async_context(StickyForwarder([replica.base_url for replica in replicas]))
    client = await stack.enter_async_context(ModelClient(provider(forwarder), model="m"))

    assert await answer(client, "1", "2", "3") == ["A", "A", "A"]
    assert await answer(client, "1", "2") == ["B", "B"]
    assert await answer(client, "1") == ["A"]

    first, second, third = (entry.handed_out for entry in forwarder.log if entry.handed_out)
    assert len({first, second, third}) == 3
    assert [(entry.token, entry.replica, entry.handed_out) for entry in forwarder.log] == [
        (None, 0, first),
        (first, 0, None),
        (first, 0, None),
        (None, 1, second),
        (second, 1, None),
        (None, 0, third),
    ]
    assert [
        request for replica in replicas for request in replica.requests if "x-codex-turn-state" in request.headers
    ] == []


async def test_a_token_that_it_did_not_make_counts_as_none(stack: AsyncExitStack) -> None:
    replica = await stack.enter_async_context(ScriptedServer([Turn(text="A")]))
    forwarder = await stack.enter_async_context(StickyForwarder([replica.base_url]))
    session = await stack.enter_async_context(aiohttp.ClientSession(headers={"x-codex-turn-state": "forged"}))
    async with session.get(f"{forwarder.base_url}/models") as response:
        handed_out = response.headers["x-codex-turn-state"]
    assert handed_out not in ("", "forged")
    (entry,) = forwarder.log
    assert entry == Forwarding("forged", 0, handed_out, entry.arrived)


async def test_requests_and_responses_pass_through_unchanged(stack: AsyncExitStack) -> None:
    turns = [
        Turn(text=["Grü", "ezi"]),
        Turn(text=["Grü", "ezi"]),
        Turn(fault=Status(429, headers={"retry-after": "7"})),
    ]
    replica = await stack.enter_async_context(ScriptedServer(lambda _: turns.pop(0)))
    forwarder = await stack.enter_async_context(StickyForwarder([replica.base_url]))
    session = await stack.enter_async_context(aiohttp.ClientSession())
    bodies = []
    for base_url in (replica.base_url, forwarder.base_url):
        async with session.post(
            f"{base_url}/chat/completions?trace=1", json={"stream": True}, headers={"authorization": "Bearer k"}
        ) as response:
            bodies.append(await response.read())
    direct, forwarded = replica.requests
    host = {"host": direct.headers["host"]}
    assert forwarded.headers | host == direct.headers | host
    assert (forwarded.path, forwarded.query, forwarded.body) == (direct.path, direct.query, direct.body)
    assert bodies[1] == bodies[0].replace(b"chatcmpl-1", b"chatcmpl-2")
    async with session.post(f"{forwarder.base_url}/chat/completions", json={}) as response:
        assert (response.status, response.headers["retry-after"]) == (429, "7")


async def test_a_caller_who_leaves_takes_the_upstream_request_along(stack: AsyncExitStack) -> None:
    replica = await stack.enter_async_context(ScriptedServer([Turn(text=["A", "B"], fault=Stall(after=350))]))
    forwarder = await stack.enter_async_context(StickyForwarder([replica.base_url]))
    client = await stack.enter_async_context(ModelClient(provider(forwarder), model="m"))
    async with client.new_session().stream("1") as stream:
        await anext(stream)
    await replica.wait_idle()
    assert replica.abandoned == replica.requests


async def test_a_cut_upstream_is_a_cut_and_no_end(stack: AsyncExitStack) -> None:
    replica = await stack.enter_async_context(ScriptedServer([Turn(text=["A", "B"], fault=Truncate(after=350))]))
    forwarder = await stack.enter_async_context(StickyForwarder([replica.base_url]))
    client = await stack.enter_async_context(ModelClient(provider(forwarder), model="m"))
    with pytest.raises(Disconnected) as caught:
        await answer(client, "1")
    assert caught.value.text == "A"


async def test_a_replica_that_is_gone_is_a_bad_gateway(stack: AsyncExitStack) -> None:
    async with ScriptedServer() as replica:
        gone = replica.base_url
    forwarder = await stack.enter_async_context(StickyForwarder([gone]))
    client = await stack.enter_async_context(ModelClient(provider(forwarder), model="m"))
    with pytest.raises(HttpStatusError, match="answered 502: replica 0 can't be reached"):
        await answer(client, "1")
