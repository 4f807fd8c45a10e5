"""What the openai SDK raises, and reads in headers, where the gateway or its upstream says no."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from openai import (
    APIError,
    APIStatusError,
    AsyncOpenAI,
    AuthenticationError,
    BadRequestError,
    InternalServerError,
    NotFoundError,
    RateLimitError,
)
from openai.types.chat import ChatCompletion
from openai.types.responses import Response

from tests.gateway.sdk.llama_answers import TOOLS
from tests.gateway.serving import MODEL, ServedGateway, answered, serving
from turnwire.gateway.caller import CallerKey, key_hash, make_key
from turnwire.testing import CutCleanly, DropBeforeHead, ScriptedServer, Status, Turn

pytestmark = pytest.mark.usefixtures("nothing_left")


async def ask_responses(client: AsyncOpenAI, **fields: Any) -> Response:
    return await client.responses.create(**{"model": MODEL, "input": "Hello", **fields})


async def ask_chat(client: AsyncOpenAI, **fields: Any) -> ChatCompletion:
    return await client.chat.completions.create(
        **{"model": MODEL, "messages": [{"role": "user", "content": "Hello"}], **fields}
    )


def sdk(gateway: ServedGateway, *, api_key: str = "any", max_retries: int = 0) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=gateway.base_url, api_key=api_key, max_retries=max_retries)


@asynccontextmanager
async def scripted(*turns: Turn, **fields: Any) -> AsyncIterator[tuple[AsyncOpenAI, ScriptedServer]]:
    """The SDK, a gateway of that configuration, and a chat upstream that says what it is told."""
    async with (
        ScriptedServer(turns, models=[MODEL]) as upstream,
        serving(upstream.base_url, **fields) as gateway,
        sdk(gateway) as client,
    ):
        yield client, upstream
        assert upstream.errors == []


REFUSALS: list[tuple[Status, type[APIStatusError], int, str, str | None]] = [
    (Status(400, "no such field"), BadRequestError, 400, "invalid_prompt", None),
    (Status(401, "bad key"), BadRequestError, 400, "upstream_refused_key", None),
    (Status(404, "no such model"), BadRequestError, 400, "upstream_refused", None),
    (Status(429, headers={"retry-after": "7"}), RateLimitError, 429, "rate_limit_exceeded", "7"),
    (Status(429), RateLimitError, 429, "rate_limit_exceeded", "1"),
    (Status(500), InternalServerError, 502, "upstream_failed", "1"),
    (Status(503, headers={"retry-after": "3"}), InternalServerError, 503, "slow_down", "3"),
    (Status(400, code="context_length_exceeded"), BadRequestError, 400, "context_length_exceeded", None),
]


@pytest.mark.parametrize(("fault", "kind", "status", "code", "retry_after"), REFUSALS)
async def test_an_upstreams_refusal_is_told_with_the_status_that_fits(
    fault: Status, kind: type[APIStatusError], status: int, code: str, retry_after: str | None
) -> None:
    async with scripted(Turn(fault=fault), Turn(fault=fault)) as (client, _):
        for ask in (ask_responses, ask_chat):
            with pytest.raises(kind) as refused:
                await ask(client)
            assert (refused.value.status_code, refused.value.code) == (status, code)
            assert refused.value.response.headers.get("retry-after") == retry_after


async def test_an_unknown_model_is_refused_for_good() -> None:
    async with scripted() as (client, upstream):
        for ask in (ask_responses, ask_chat):
            with pytest.raises(BadRequestError) as refused:
                await ask(client, model="gpt-nobody")
            assert (refused.value.code, refused.value.param) == ("model_not_found", "model")
            assert "'gpt-nobody'" in refused.value.message
        assert answered(upstream) == []


async def test_a_request_that_makes_no_sense_is_refused_in_a_sentence() -> None:
    async with scripted() as (client, _):
        with pytest.raises(BadRequestError, match="a tool's name is None; expected a text") as refused:
            await ask_responses(client, tools=[{"type": "function"}])
        assert refused.value.type == "invalid_request_error"


async def test_callers_without_a_known_key_are_refused() -> None:
    key = make_key()
    async with (
        ScriptedServer([Turn(text="Hi")], models=[MODEL]) as upstream,
        serving(upstream.base_url, callers=(CallerKey("laptop", key_hash(key)),)) as gateway,
        sdk(gateway, api_key=key) as known,
        sdk(gateway, api_key="another") as unknown,
    ):
        for ask in (ask_responses, ask_chat, lambda client: client.responses.retrieve("resp_1")):
            with pytest.raises(AuthenticationError) as refused:
                await ask(unknown)
            assert refused.value.code == "invalid_api_key"
        response = await ask_responses(known)
        assert response.output_text == "Hi"
        assert (await known.responses.retrieve(response.id)).id == response.id
        (asked,) = answered(upstream)
        assert "authorization" not in asked.headers


async def test_responses_that_nobody_knows_are_not_found() -> None:
    async with scripted() as (client, _):
        for ask in (client.responses.retrieve, client.responses.delete, client.responses.cancel):
            with pytest.raises(NotFoundError, match="resp_1"):
                await ask("resp_1")
        with pytest.raises(BadRequestError) as refused:
            await ask_responses(client, previous_response_id="resp_1")
        assert refused.value.code == "previous_response_not_found"


async def test_the_sdk_asks_again_where_that_may_help() -> None:
    turns = [Turn(fault=Status(503)), Turn(fault=DropBeforeHead()), Turn(text="Hi")]
    async with (
        ScriptedServer(turns, models=[MODEL]) as upstream,
        serving(upstream.base_url) as gateway,
        sdk(gateway, max_retries=2) as client,
    ):
        client._calculate_retry_timeout = lambda *_: 0.0  # it would wait for the second that the gateway names
        assert (await ask_responses(client)).output_text == "Hi"
        assert len(answered(upstream)) == 3


async def test_what_the_sdk_asks_again_is_counted() -> None:
    turns = [Turn(fault=Status(503)), Turn(fault=Status(503)), Turn(text="Hi")]
    async with (
        ScriptedServer(turns, models=[MODEL]) as upstream,
        serving(upstream.base_url) as gateway,
        sdk(gateway, max_retries=2) as client,
    ):
        client._calculate_retry_timeout = lambda *_: 0.0
        assert (await ask_responses(client)).output_text == "Hi"
        scraped = await client.with_options(base_url=gateway.server.url).get("/metrics", cast_to=str)
    assert 'turnwire_client_retries_total{api="responses"} 2.0' in scraped.splitlines()


async def test_an_upstream_that_is_cut_before_it_says_anything_is_refused() -> None:
    cut = Turn(text="Grüezi", fault=CutCleanly(0))
    async with scripted(*[cut] * 4) as (client, _):
        for ask in (ask_responses, ask_chat):
            for streams in (True, False):
                with pytest.raises(InternalServerError) as refused:
                    await ask(client, stream=streams)
                assert refused.value.status_code == 502


async def test_an_answer_that_is_cut_is_none() -> None:
    cut = Turn(text=["Grü"] * 9, fault=CutCleanly(1000))
    async with scripted(*[cut] * 3) as (client, _):
        with pytest.raises(InternalServerError) as refused:
            await ask_responses(client)
        assert refused.value.status_code == 502
        events = [event async for event in await client.responses.create(model=MODEL, input="Hi", stream=True)]
        last = events[-1]
        assert last.type == "response.failed"
        assert last.response.status == "failed"
        assert last.response.error is not None
        assert last.response.error.code == "server_error"
        chunks: Any = await ask_chat(client, stream=True)
        with pytest.raises(APIError, match="cut off"):
            async for _ in chunks:
                pass


async def test_what_could_not_be_carried_over_is_named_in_a_header() -> None:
    async with scripted(Turn(text="Hi"), Turn(text="Hi")) as (client, upstream):
        tools = [*TOOLS, {"type": "web_search"}]
        raw = await client.responses.with_raw_response.create(model=MODEL, input="Hi", tools=tools)
        assert raw.headers["x-turnwire-dropped"] == "tool of type 'web_search'"
        assert [tool["function"]["name"] for tool in answered(upstream)[0].json["tools"]] == [
            "get_weather",
            "get_time",
        ]
        raw = await client.responses.with_raw_response.create(model=MODEL, input="Hi", tools=TOOLS)
        assert "x-turnwire-dropped" not in raw.headers
