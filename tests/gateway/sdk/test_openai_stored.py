"""The openai SDK and what has an id: responses that are kept, and those that run in the background."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from openai import AsyncOpenAI, NotFoundError
from openai.types.responses import Response

from tests.gateway.sdk.llama_answers import HELLO, TOOLS
from tests.gateway.serving import MODEL, serving
from turnwire.testing import ScriptedServer, Stall, Turn

pytestmark = pytest.mark.usefixtures("nothing_left")


@asynccontextmanager
async def scripted(*turns: Turn) -> AsyncIterator[tuple[AsyncOpenAI, ScriptedServer]]:
    """The SDK, the gateway, and a chat upstream that says what it is told."""
    async with (
        ScriptedServer(turns, models=[MODEL]) as upstream,
        serving(upstream.base_url) as gateway,
        AsyncOpenAI(base_url=gateway.base_url, api_key="any", max_retries=0) as client,
    ):
        yield client, upstream
        assert upstream.errors == []


async def test_what_is_retrieved_is_what_was_answered(client: AsyncOpenAI) -> None:
    whole = await client.responses.create(model=MODEL, input="Hello")
    async with client.responses.stream(model=MODEL, input="What is the weather?", tools=TOOLS) as stream:
        streamed = await stream.get_final_response()
    assert (await client.responses.retrieve(whole.id)).to_dict() == whole.to_dict()
    retrieved = await client.responses.retrieve(streamed.id)
    assert [item.id for item in retrieved.output] == [item.id for item in streamed.output]
    assert (retrieved.output_text, retrieved.usage) == (streamed.output_text, streamed.usage)


async def test_the_input_is_listed_from_the_newest_on(client: AsyncOpenAI) -> None:
    first = await client.responses.create(model=MODEL, input="Hello")
    second = await client.responses.create(model=MODEL, input="Again", previous_response_id=first.id)
    listed: list[Any] = [item async for item in client.responses.input_items.list(second.id, limit=2)]
    assert [item.type for item in listed] == ["message", "message", "reasoning", "message"]
    assert listed[0].content[0].text == "Again"
    assert listed[1].content[0].text == HELLO
    assert listed[-1].content[0].text == "Hello"


async def test_what_was_deleted_is_gone(client: AsyncOpenAI) -> None:
    response = await client.responses.create(model=MODEL, input="Hello")
    await client.responses.delete(response.id)
    with pytest.raises(NotFoundError):
        await client.responses.retrieve(response.id)


async def test_what_was_not_to_be_stored_is_not_there(client: AsyncOpenAI) -> None:
    response = await client.responses.create(model=MODEL, input="Hello", store=False)
    with pytest.raises(NotFoundError) as refused:
        await client.responses.retrieve(response.id)
    assert response.id in refused.value.message


async def test_a_response_in_the_background_is_fetched_when_it_is_done(client: AsyncOpenAI) -> None:
    begun = await client.responses.create(model=MODEL, input="Hello", background=True)
    assert (begun.status, begun.output) in (("queued", []), ("in_progress", []))
    async for _ in await client.responses.retrieve(begun.id, stream=True):
        pass
    done = await client.responses.retrieve(begun.id)
    assert (done.id, done.status, done.output_text, done.background) == (begun.id, "completed", HELLO, True)


async def test_a_stream_in_the_background_goes_on_where_its_client_left_it() -> None:
    async with scripted(Turn(text=["Grü", "ezi", " mitenand"])) as (client, _):
        stream = await client.responses.create(model=MODEL, input="Hello", background=True, stream=True)
        before = []
        async for event in stream:
            before.append(event)
            if event.type == "response.output_text.delta":
                break
        await stream.close()
        response_id = before[0].response.id
        rest = await client.responses.retrieve(response_id, stream=True, starting_after=before[-1].sequence_number)
        events = [*before, *[event async for event in rest]]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == "Grüezi mitenand"
    assert events[-1].type == "response.completed"


async def test_a_response_in_the_background_can_be_cancelled() -> None:
    async with scripted(Turn(text=["Grü"] * 9, fault=Stall(after=1000))) as (client, upstream):
        begun = await client.responses.create(model=MODEL, input="Hello", background=True, stream=True)
        response: Response | None = None
        async for event in begun:
            if event.type == "response.created":
                response = event.response
            if event.type == "response.output_text.delta":
                break
        await begun.close()
        assert response is not None
        cancelled = await client.responses.cancel(response.id)
        assert cancelled.status == "cancelled"
        await upstream.wait_idle()
        assert len(upstream.abandoned) == 1
