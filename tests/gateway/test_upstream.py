"""Requests to an upstream: what goes out, what comes back, and whom an error's sentence blames."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.transport.serving import HEAD, RawServer, Reply, saying, silence
from turnwire.client.requester import USER_AGENT
from turnwire.errors import (
    ApiError,
    ConfigurationError,
    ConnectError,
    ContextWindowExceeded,
    Disconnected,
    HttpStatusError,
    IdleTimeout,
    InvalidPrompt,
    ProtocolError,
    RateLimited,
)
from turnwire.gateway.configuration import UpstreamConfiguration
from turnwire.gateway.upstream import Upstream
from turnwire.testing import DropBeforeHead, ScriptedServer, Status, Truncate, Turn
from turnwire.wire.chat import ChatDialect

pytestmark = pytest.mark.usefixtures("nothing_left")

BODY = b'{"messages":[],"stream":true}'


@asynccontextmanager
async def upstream_at(base_url: str, **changes: Any) -> AsyncIterator[Upstream]:
    upstream = Upstream(UpstreamConfiguration("gpu", base_url, **changes))
    try:
        yield upstream
    finally:
        await upstream.close()


async def test_a_request_goes_out_with_the_gateways_key_the_clients_headers_and_the_upstreams_token(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GPU_KEY", "secret")
    async with (
        ScriptedServer([Turn(text="Hello")], api_key="secret", token="upstream-token") as server,
        upstream_at(server.base_url, api_key_env="GPU_KEY", headers={"x-own": "1"}, query={"v": "2"}) as upstream,
    ):
        forwarded = {"user-agent": "codex", "x-codex-window-id": "w", "authorization": "Bearer caller"}
        response = await upstream.post("chat/completions", BODY, headers=forwarded, token="token")
        assert (response.status, response.headers["x-codex-turn-state"]) == (200, "upstream-token")
        await response.finish()
    (request,) = server.requests
    expected = {
        "accept": "text/event-stream, application/json",
        "content-type": "application/json",
        "authorization": "Bearer secret",
        "user-agent": "codex",
        "x-codex-window-id": "w",
        "x-own": "1",
        "x-codex-turn-state": "token",
    }
    assert {name: request.headers.get(name) for name in expected} == expected
    assert (request.path, request.query, request.body) == ("/v1/chat/completions", "v=2", BODY)


async def test_without_any_of_these_a_request_says_who_it_comes_from() -> None:
    async with ScriptedServer([Turn(text="Hello")]) as server, upstream_at(server.base_url) as upstream:
        await (await upstream.post("chat/completions", BODY)).finish()
    (request,) = server.requests
    assert request.headers["user-agent"] == USER_AGENT
    assert request.headers.keys().isdisjoint({"authorization", "x-codex-turn-state"})


@pytest.mark.parametrize(
    ("fault", "kind", "sentence"),
    [
        (Status(400, "bad field"), InvalidPrompt, "upstream 'gpu': bad field"),
        (
            Status(400, "too long", code="context_length_exceeded"),
            ContextWindowExceeded,
            "upstream 'gpu': too long",
        ),
        (Status(401, "bad key"), HttpStatusError, "upstream 'gpu' answered 401: bad key (check the api key)"),
        (Status(429, "slow", headers={"retry-after": "3"}), RateLimited, "upstream 'gpu': slow"),
        (Status(500, "died"), HttpStatusError, "upstream 'gpu' answered 500: died"),
        (DropBeforeHead(), Disconnected, "the connection to upstream 'gpu' was lost before the response was whole"),
    ],
    ids=lambda value: repr(value)[:24],
)
async def test_a_refusal_is_a_typed_error_that_names_the_upstream_and_is_not_tried_again(
    fault: Any, kind: type[ApiError], sentence: str
) -> None:
    async with ScriptedServer([Turn(fault=fault)]) as server, upstream_at(server.base_url) as upstream:
        with pytest.raises(kind) as caught:
            await upstream.post("chat/completions", BODY)
    assert (type(caught.value), str(caught.value), caught.value.message) == (kind, sentence, sentence)
    assert len(server.requests) == 1


async def test_an_upstreams_token_does_not_show_in_its_refusal() -> None:
    fault = Status(500, headers={"x-codex-turn-state": "secret", "set-cookie": "secret"})
    async with ScriptedServer([Turn(fault=fault)]) as server, upstream_at(server.base_url) as upstream:
        with pytest.raises(HttpStatusError) as caught:
            await upstream.post("chat/completions", BODY)
    assert "secret" not in str(caught.value.response.headers)


async def test_a_refusal_that_does_not_end_is_told_by_its_status(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("turnwire.client.requester._ERROR_BODY_TIMEOUT", 0.02)

    async def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 500 No\r\ncontent-length: 50\r\n\r\nthe engine")
        await silence(reader, writer)

    async with RawServer(begin) as server, upstream_at(server.url) as upstream:
        with pytest.raises(HttpStatusError, match=r"^upstream 'gpu' answered 500$"):
            await upstream.post("chat/completions", BODY)


async def test_an_upstream_that_is_not_there_is_named_and_its_address_is_not() -> None:
    async with ScriptedServer() as server:
        base_url = server.base_url
    async with upstream_at(base_url) as upstream:
        with pytest.raises(ConnectError, match=r"^can't connect to upstream 'gpu': connection refused$"):
            await upstream.post("chat/completions", BODY)


async def test_an_upstream_that_does_not_answer_in_time_has_failed() -> None:
    async with RawServer(silence) as server, upstream_at(server.url, idle_timeout=0.02) as upstream:
        with pytest.raises(IdleTimeout, match=r"^upstream 'gpu' did not answer within idle_timeout, 0\.02 s$"):
            await upstream.post("chat/completions", BODY)


async def test_a_key_that_is_missing_is_told() -> None:
    async with upstream_at("http://127.0.0.1:1", api_key_env="TURNWIRE_NO_SUCH_KEY") as upstream:
        with pytest.raises(ConfigurationError, match=r"^upstream 'gpu' can't be used: its key is missing: set the"):
            await upstream.post("chat/completions", BODY)


async def test_leaving_in_the_midst_of_a_request_closes_its_connection() -> None:
    asked, left = asyncio.Event(), asyncio.Event()

    async def wait_for_leaving(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()
        await silence(reader, writer)
        left.set()

    async with RawServer(wait_for_leaving) as server, upstream_at(server.url) as upstream:
        task = asyncio.create_task(upstream.post("chat/completions", BODY))
        async with asyncio.timeout(5):
            await asked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with asyncio.timeout(5):
            await left.wait()


async def test_a_cut_body_blames_the_upstream_by_its_name() -> None:
    turn = Turn(text="Hello", fault=Truncate(10))
    async with ScriptedServer([turn]) as server, upstream_at(server.base_url) as upstream:
        response = await upstream.post("chat/completions", BODY)
        assert await response.read()
        with pytest.raises(Disconnected) as caught:
            await response.read()
        response.close()
        blamed = upstream.blamed(caught.value)
    assert blamed is caught.value
    assert str(blamed) == "upstream 'gpu' broke off in the middle of its response"
    assert str(upstream.blamed(blamed)) == "upstream 'gpu' broke off in the middle of its response"


async def test_a_json_document_is_read() -> None:
    async with ScriptedServer(models=["m"]) as server, upstream_at(server.base_url) as upstream:
        document = await upstream.get_json("models")
    assert document["data"][0]["id"] == "m"


def answering(body: bytes, *, kind: bytes = b"application/json", length: int | None = None) -> Reply:
    size = b"%d" % (len(body) if length is None else length)
    return saying(b"HTTP/1.1 200 OK\r\ncontent-type: " + kind + b"\r\ncontent-length: " + size + b"\r\n\r\n" + body)


NO_JSON = "upstream 'gpu': JSON was expected, and {} came (check the base_url)"


@pytest.mark.parametrize(
    ("reply", "kind", "sentence"),
    [
        (answering(b"<html>", kind=b"text/html; charset=utf-8"), ProtocolError, NO_JSON.format("text/html")),
        (answering(b"{"), ProtocolError, NO_JSON.format("application/json")),
        (answering(b'"\xff"'), ProtocolError, NO_JSON.format("application/json")),
        (answering(b"[" * 100_000), ProtocolError, NO_JSON.format("application/json")),
        (answering(b"", kind=b""), ProtocolError, NO_JSON.format("something without a type")),
        (answering(b"{}", length=9), Disconnected, "upstream 'gpu' broke off in the middle of its response"),
    ],
    ids=["a web page", "half a document", "no UTF-8", "nested too deep", "nothing", "cut"],
)
async def test_what_is_no_json_document_is_an_error(reply: Reply, kind: type[ApiError], sentence: str) -> None:
    async with RawServer(reply) as server, upstream_at(server.url) as upstream:
        with pytest.raises(kind) as caught:
            await upstream.get_json("models")
    assert str(caught.value) == sentence


async def test_a_document_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("turnwire.gateway.upstream._MAX_DOCUMENT", 10)
    async with RawServer(answering(b'"%b"' % (b"x" * 20))) as server, upstream_at(server.url) as upstream:
        with pytest.raises(ProtocolError, match=r"^upstream 'gpu': the answer takes more than 10 bytes$"):
            await upstream.get_json("models")


async def test_a_document_that_does_not_end_in_time_is_an_error() -> None:
    async def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + b"content-length: 5\r\n\r\n{")
        await silence(reader, writer)

    async with RawServer(begin) as server, upstream_at(server.url, idle_timeout=0.05) as upstream:
        with pytest.raises(IdleTimeout):
            await upstream.get_json("models")


async def test_what_the_configuration_leaves_open_is_chat_without_models_until_it_is_settled() -> None:
    async with upstream_at("http://127.0.0.1:1") as upstream:
        assert (upstream.wire_api, upstream.models, upstream.idle_timeout) == ("chat", {}, 300.0)
        assert upstream.dialect == ChatDialect.preset("tolerant")
        assert repr(upstream) == "<Upstream gpu, chat, 0 models>"
        upstream.settle()
        assert repr(upstream) == "<Upstream gpu, chat, 0 models>"
        dialect = ChatDialect.preset("vllm")
        upstream.settle(
            base_url="http://127.0.0.1:2/v1",
            wire_api="responses",
            dialect=dialect,
            models={"fast": "qwen"},
            context_windows={"qwen": 4096},
        )
        assert (upstream.wire_api, upstream.models, upstream.context_windows) == (
            "responses",
            {"fast": "qwen"},
            {"qwen": 4096},
        )
        assert (upstream.provider.base_url, upstream.dialect) == ("http://127.0.0.1:2/v1", dialect)


async def test_what_the_configuration_says_holds_from_the_start() -> None:
    async with upstream_at("http://127.0.0.1:1", wire_api="responses", models={"a": "b"}) as upstream:
        assert (upstream.wire_api, upstream.models) == ("responses", {"a": "b"})
