"""Responses over HTTP, and compaction: what is sent, what the head says, what a whole answer becomes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.client.hearing import hear, impatient, session_with
from tests.client.wires import SOCKET, SSE, user
from turnwire import (
    ApiError,
    Completed,
    ConfigurationError,
    Created,
    Disconnected,
    HttpStatusError,
    IdleTimeout,
    InvalidPrompt,
    Message,
    ModelClient,
    OutputItemAdded,
    OutputItemDone,
    OutputTextDelta,
    Prompt,
    ProtocolError,
    RateLimited,
    TokenUsage,
)
from turnwire.event import ModelsEtag, RateLimits, ServerModel
from turnwire.item import OutputText
from turnwire.testing import ResetAfter, ScriptedServer, Stall, Status, Truncate, Turn, WrongType

pytestmark = pytest.mark.usefixtures("nothing_left")

HELLO = Turn(text=["Grü", "ezi"], usage=TokenUsage(4, 0, 2, 0, 6))


def message(item_id: str, *, status: str, **text: Any) -> Message:
    content = [OutputText(text["text"], extra={"annotations": [], "logprobs": []})] if text else []
    return Message("assistant", content, item_id, extra={"status": status})


async def test_an_answer_over_http() -> None:
    async with ScriptedServer([HELLO], strict=True) as server, session_with(server, **SSE) as session:
        assert await hear(session.stream("Hello")) == (
            [
                Created("resp_1"),
                OutputItemAdded(message("msg_1_0", status="in_progress")),
                OutputTextDelta("Grü"),
                OutputTextDelta("ezi"),
                OutputItemDone(message("msg_1_0", status="completed", text="Grüezi")),
                Completed("resp_1", TokenUsage(4, 0, 2, 0, 6), "completed"),
            ],
            None,
        )
        (request,) = server.requests
        assert (request.method, request.path, request.wire) == ("POST", "/v1/responses", "responses")
        assert request.json == {
            "stream": True,
            "model": "scripted",
            "input": [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hello"}]}],
            "store": False,
        }


async def test_what_the_head_says_comes_first_and_commits_to_nothing() -> None:
    headers = {
        "x-codex-primary-used-percent": "12.5",
        "x-ratelimit-remaining-requests": "3",
        "x-models-etag": "v7",
        "openai-model": "scripted-2",
    }
    async with ScriptedServer([Turn(text="hi", headers=headers)]) as server, session_with(server, **SSE) as session:
        async with session.stream("Hello") as stream:
            events = [await anext(stream) for _ in range(4)]
            assert not stream.committed
        assert events == [
            RateLimits({"primary-used-percent": "12.5", "remaining-requests": "3"}),
            ModelsEtag("v7"),
            ServerModel("scripted-2"),
            Created("resp_1"),
        ]


async def test_an_answer_that_is_no_stream_gives_the_same_items() -> None:
    def script(request: Any) -> Turn:
        return HELLO

    async with ScriptedServer(script) as server, session_with(server, **SSE) as session:
        streamed, whole = session.stream("Hello"), session.stream(Prompt("Hello", extra={"stream": False}))
        for stream in (streamed, whole):
            heard = await hear(stream)
            assert isinstance(heard.events[-1], Completed)
            assert heard.events[-1].token_usage == HELLO.usage
        assert streamed.text == whole.text == "Grüezi"
        assert [request.json["stream"] for request in server.requests] == [True, False]


async def test_a_connection_is_kept_for_the_next_turn() -> None:
    async with ScriptedServer([HELLO, HELLO]) as server:
        async with ModelClient(impatient(server.base_url, **SSE)) as client:
            for _ in range(2):
                async with client.new_session() as session:
                    await hear(session.stream("Hello"))
        assert [request.connection for request in server.requests] == [0, 0]


async def test_azure_stores_and_says_so() -> None:
    async with ScriptedServer([HELLO]) as server, session_with(server, store=True, **SSE) as session:
        await hear(session.stream("Hello"))
        assert server.requests[0].json["store"] is True


@pytest.mark.parametrize("wire", [SSE, SOCKET], ids=["responses", "websocket"])
async def test_a_compaction_gives_the_items_to_go_on_with(wire: dict[str, Any]) -> None:
    async with (
        ScriptedServer([Turn(text="What was said so far."), HELLO], strict=True) as server,
        session_with(server, **wire) as session,
    ):
        prompt = Prompt([user("Hello"), user("Still there?")], instructions="Be brief.", reasoning={"effort": "low"})
        items = await session.compact(prompt)
        assert items == (message("msg_1_0", status="completed", text="What was said so far."),)
        assert (await hear(session.stream(Prompt([*items, user("Go on.")])))).error is None
        compaction, follow_up = server.requests
        assert (compaction.path, compaction.wire) == ("/v1/responses/compact", "responses")
        assert sorted(compaction.json) == ["input", "instructions", "model", "reasoning"]
        assert [item["content"][0]["text"] for item in follow_up.input] == ["What was said so far.", "Go on."]


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (Status(404), HttpStatusError),
        (Status(400, "nothing to fold"), InvalidPrompt),
        (Status(429, headers={"retry-after": "7"}), RateLimited),
        (WrongType(), ProtocolError),
        (WrongType("application/json", b'{"output":"none"}'), ProtocolError),
        (WrongType("application/json", b'{"output":[1]}'), ProtocolError),
        (WrongType("application/json", b"[]"), ProtocolError),
        (Truncate(5), Disconnected),
        (ResetAfter(5), Disconnected),
    ],
    ids=lambda value: repr(value)[:50],
)
async def test_a_compaction_that_fails_is_a_typed_error(fault: Any, kind: type[ApiError]) -> None:
    async with ScriptedServer([Turn(fault=fault)]) as server, session_with(server, **SSE) as session:
        with pytest.raises(ApiError) as caught:
            await session.compact("Hello")
        assert type(caught.value) is kind


async def test_a_compaction_that_stalls_is_an_idle_timeout() -> None:
    async with (
        asyncio.timeout(5),
        ScriptedServer([Turn(fault=Stall(5))]) as server,
        session_with(server, idle_timeout=0.1, **SSE) as session,
    ):
        with pytest.raises(IdleTimeout) as caught:
            await session.compact("Hello")
        assert str(caught.value) == "no whole answer from scripted within idle_timeout, 0.1 s"


async def test_chat_completions_cannot_compact() -> None:
    async with ScriptedServer() as server, session_with(server) as session:
        with pytest.raises(ConfigurationError, match="that takes the Responses API"):
            await session.compact("Hello")


async def test_a_key_function_is_asked_once_more_after_a_401() -> None:
    keys = iter(["old", "new"])
    async with (
        ScriptedServer([HELLO], api_key="new") as server,
        session_with(server, api_key=lambda: next(keys), **SSE) as session,
    ):
        assert (await hear(session.stream("Hello"))).error is None
        assert [request.headers["authorization"] for request in server.requests] == ["Bearer old", "Bearer new"]
