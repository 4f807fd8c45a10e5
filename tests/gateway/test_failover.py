"""A request that several replicas could answer: where it goes, and where to when one of them fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import aiohttp
import pytest
from msgspec import Struct
from websockets.asyncio.client import connect

from tests.gateway.asking import FORMS, Form, Told, ask, ask_socket, body_for
from tests.gateway.serving import ServedGateway, answered, serving, upstream_at
from turnwire.client import TURN_STATE_HEADER
from turnwire.gateway.routing import conversation_key, order
from turnwire.testing import (
    EmptyBody,
    ErrorEvent,
    Fault,
    ResetAfter,
    ScriptedServer,
    Stall,
    Status,
    Turn,
)

NAMES = ("a", "b", "c")
KEY = "conversation"
FIRST, SECOND, THIRD = order(conversation_key("named", KEY), dict.fromkeys(NAMES, 1.0))
MIDDLE = 450
"""Bytes by which some of a streamed chat answer has come, and not all."""


class Fleet(Struct, frozen=True):
    """A gateway in front of three replicas, each of which says its name."""

    gateway: ServedGateway
    replicas: dict[str, ScriptedServer]
    running: dict[str, AsyncExitStack]

    async def ask(self, form: Form = "responses", token: str | None = None, **fields: Any) -> Told:
        headers = {} if token is None else {TURN_STATE_HEADER: token}
        return await ask(self.gateway, form, headers=headers, prompt_cache_key=KEY, **fields)

    async def stop(self, name: str) -> None:
        """Ends a replica, and the answers that it is giving."""
        await self.running[name].aclose()

    @property
    def asked(self) -> list[str]:
        """Who was asked for answers, in no order but that of names."""
        return [name for name, replica in self.replicas.items() for _ in answered(replica)]


@asynccontextmanager
async def fleet(
    faults: dict[str, Iterable[Fault | None]] | None = None, *, idle_timeout: float = 5.0, **fields: Any
) -> AsyncIterator[Fleet]:
    """Each replica's ``faults`` are those of its first answers."""
    async with AsyncExitStack() as stack:
        replicas, running = {}, {}
        for name in NAMES:
            first = [Turn(text=f"This is replica {name}.", fault=fault) for fault in (faults or {}).get(name, ())]
            replica = ScriptedServer([*first, *(Turn(text=f"This is replica {name}.") for _ in range(20))])
            running[name] = await stack.enter_async_context(AsyncExitStack())
            replicas[name] = await running[name].enter_async_context(replica)
        upstreams = [
            upstream_at(replica.base_url, name=name, idle_timeout=idle_timeout) for name, replica in replicas.items()
        ]
        yield Fleet(await stack.enter_async_context(serving(*upstreams, **fields)), replicas, running)


@pytest.mark.parametrize("form", FORMS)
async def test_a_conversation_stays_at_one_replica_with_a_token_and_without(form: Form) -> None:
    async with fleet() as f:
        first = await f.ask(form)
        token = first.headers.get(TURN_STATE_HEADER)
        assert (first.text, token is None) == (f"This is replica {FIRST}.", form == "websocket")
        again = [await f.ask(form), await f.ask(form, token)]
        assert [told.text for told in again] == [f"This is replica {FIRST}."] * 2
        assert f.asked == [FIRST] * 3


FAILURES: dict[str, Fault] = {
    "broken": Status(500),
    "overloaded": Status(503),
    "too many requests": Status(429),
    "an error event first": ErrorEvent(after=0),
    "an empty body": EmptyBody(),
}


@pytest.mark.parametrize(
    ("form", "failure"),
    # To a chat client the first chunk of a relayed stream is something of an answer, be it only the role.
    [(form, failure) for form in FORMS for failure in FAILURES if (form, failure) != ("chat", "an error event first")],
)
async def test_before_the_first_of_an_answer_the_next_replica_is_asked_instead(form: Form, failure: str) -> None:
    async with fleet({FIRST: [FAILURES[failure]]}) as f:
        told = await f.ask(form)
        assert (told.verdict, told.text) == ("completed", f"This is replica {SECOND}.")
        assert sorted(f.asked) == sorted([FIRST, SECOND])


async def test_each_replica_is_asked_once_and_the_last_failure_but_one_is_not_told_as_nobody_being_there() -> None:
    async with fleet({name: [Status(500)] for name in NAMES}) as f:
        told = await f.ask()
        assert told.verdict == "502 upstream_failed"
        assert sorted(f.asked) == list(NAMES)
        assert TURN_STATE_HEADER not in told.headers


@pytest.mark.parametrize(
    ("fault", "verdict"),
    [
        (Status(400, code="invalid_prompt"), "400 invalid_prompt"),
        (Status(400, "maximum context length is 5"), "failed context_length_exceeded"),
        (Status(401), "400 upstream_refused_key"),
    ],
)
async def test_what_is_the_request_s_own_fault_goes_nowhere_else(fault: Fault, verdict: str) -> None:
    async with fleet({FIRST: [fault]}) as f:
        assert (await f.ask()).verdict == verdict
        assert f.asked == [FIRST]


@pytest.mark.parametrize("form", ["responses", "chat"])
async def test_after_the_first_of_an_answer_nothing_is_repeated(form: Form) -> None:
    async with fleet({FIRST: [ResetAfter(MIDDLE)]}) as f:
        told = await f.ask(form)
        assert told.verdict.startswith("failed ")
        assert f.asked == [FIRST]


async def test_a_whole_answer_that_broke_off_is_asked_for_elsewhere() -> None:
    async with fleet({FIRST: [ResetAfter(MIDDLE)]}) as f:
        told = await f.ask("responses whole")
        assert (told.verdict, told.text) == ("completed", f"This is replica {SECOND}.")


@pytest.mark.parametrize("form", ["responses", "websocket", "chat"])
async def test_a_replica_that_is_silent_is_left_while_its_client_gets_signs_of_life(form: Form) -> None:
    """The stream has begun by then: what the next replica says goes on in it."""
    async with fleet({FIRST: [Stall(0)]}, idle_timeout=0.3, keepalive_interval=0.05) as f:
        told = await f.ask(form)
        assert (told.verdict, told.text) == ("completed", f"This is replica {SECOND}.")
        if form != "chat":
            numbers = [payload["sequence_number"] for payload in told.payloads if "sequence_number" in payload]
            assert numbers == list(range(len(numbers)))
            assert [payload["type"] for payload in told.payloads].count("response.created") == 1
            assert len({payload["response"]["id"] for payload in told.payloads if "response" in payload}) == 1


async def test_a_request_that_waits_for_a_replica_that_died_meanwhile_moves_on() -> None:
    async with fleet({FIRST: [Stall(0)]}, probe_interval=0.05) as f:
        asking = asyncio.create_task(f.ask())
        while not f.asked:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        await f.stop(FIRST)
        told = await asking
        assert (told.verdict, told.text) == ("completed", f"This is replica {SECOND}.")


async def test_a_turn_whose_replica_died_keeps_its_token_and_every_gateway_sends_it_to_the_same_next_one() -> None:
    async with fleet() as f:
        token = (await f.ask()).headers[TURN_STATE_HEADER]
        await f.stop(FIRST)
        for _ in range(3):
            told = await f.ask(token=token)
            assert (told.text, TURN_STATE_HEADER in told.headers) == (f"This is replica {SECOND}.", False)


async def test_a_caller_has_so_many_answers_at_once_and_no_more() -> None:
    async with fleet({FIRST: [Stall(MIDDLE)]}, max_streams=1) as f:
        first = asyncio.create_task(f.ask())
        while not f.asked:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        told = await f.ask()
        assert (told.verdict, told.headers["retry-after"]) == ("429 rate_limit_exceeded", "1")
        first.cancel()
        await asyncio.wait((first,))


async def test_a_client_that_knows_only_the_handshake_s_token_stays_at_its_replica_by_it() -> None:
    """As clients did before there were metadata events: one connection for each request of a turn."""
    async with fleet() as f:
        body = {"type": "response.create", **body_for("websocket", prompt_cache_key=KEY)}
        async with connect(f.gateway.socket_url, proxy=None, additional_headers={"session_id": KEY}) as socket:
            assert socket.response is not None
            token = socket.response.headers[TURN_STATE_HEADER]
            assert (await ask_socket(socket, **body)).text == f"This is replica {FIRST}."
        nameless = {name: value for name, value in body.items() if name != "prompt_cache_key"}
        for name in (FIRST, SECOND):
            async with connect(
                f.gateway.socket_url, proxy=None, additional_headers={TURN_STATE_HEADER: token}
            ) as socket:
                assert socket.response is not None
                assert TURN_STATE_HEADER not in socket.response.headers
                assert (await ask_socket(socket, **nameless)).text == f"This is replica {name}."
            await f.stop(FIRST)


async def test_it_is_ready_as_long_as_one_upstream_is() -> None:
    async with fleet(probe_interval=0.02) as f, aiohttp.ClientSession() as session:
        url = f.gateway.base_url.removesuffix("/v1") + "/readyz"
        for name in NAMES:
            assert (await session.get(url)).status == 200
            await f.stop(name)
        while (await session.get(url)).status == 200:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
