"""What is found out about model servers, sound ones and odd ones."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from tests.transport.serving import RawServer, silence
from turnwire.gateway.configuration import UpstreamConfiguration
from turnwire.gateway.discovery import Found, discover
from turnwire.gateway.upstream import Upstream
from turnwire.testing import LlamaServer, ScriptedServer
from turnwire.wire.chat import ChatDialect

TOLERANT = ChatDialect.preset("tolerant")
NO_JSON = "upstream 'gpu': JSON was expected, and {} came (check the base_url)"


async def found_at(base_url: str, **changes: Any) -> Found:
    """What is found at an address, by an upstream called gpu."""
    upstream = Upstream(UpstreamConfiguration("gpu", base_url, **changes))
    try:
        return await discover(upstream)
    finally:
        await upstream.close()


class OddServer:
    """Answers each request with what the test wrote down for its method and path, else with 404; keeps the requests."""

    def __init__(self, answers: Mapping[str, Any]) -> None:
        self._answers = answers
        self.requests: list[str] = []

    async def answer(self, request: web.Request) -> web.Response:
        asked = f"{request.method} {request.path}"
        self.requests.append(asked)
        assert await request.text() == ("{}" if request.method == "POST" else "")
        match self._answers.get(asked, 404):
            case int(status):
                return web.json_response({"error": {"message": "says no"}}, status=status)
            case str(page):
                return web.Response(text=page, content_type="text/html")
            case (int(status), document):
                return web.json_response(document, status=status)
            case document:
                return web.json_response(document)


@asynccontextmanager
async def odd_server(answers: Mapping[str, Any]) -> AsyncIterator[tuple[str, OddServer]]:
    server = OddServer(answers)
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", server.answer)
    runner = web.AppRunner(application)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}", server
    finally:
        await runner.cleanup()


def models(*names: str, **fields: Any) -> dict[str, Any]:
    return {"object": "list", "data": [{"id": name, "object": "model", **fields} for name in names]}


async def test_a_real_llama_cpp_is_known_by_its_list() -> None:
    async with LlamaServer(context_size=4096) as server:
        expected = Found(
            base_url=server.base_url,
            server="llama.cpp",
            wire_api="chat",
            dialect=ChatDialect.preset("llama.cpp"),
            models={"scripted": "scripted"},
            context_windows={"scripted": 4096},
        )
        assert await found_at(server.base_url) == expected
        assert expected.usable


async def test_the_context_window_of_a_llama_cpp_is_that_of_one_request() -> None:
    async with LlamaServer(parallel=2, context_size=2048) as server, aiohttp.ClientSession() as session:  # -c 4096
        found = await found_at(server.base_url)
        assert found.context_windows == {"scripted": 2048}
        async with session.get(server.base_url.removesuffix("v1") + "props") as response:
            assert (await response.json())["default_generation_settings"]["n_ctx"] == 2048
        # A byte is a token, and the template adds some.
        for size, status in ((2000, 200), (2100, 400)):
            body = {"model": "scripted", "messages": [{"role": "user", "content": "x" * size}], "max_tokens": 1}
            async with session.post(f"{server.base_url}/chat/completions", json=body) as response:
                assert response.status == status


async def test_a_scripted_server_loses_no_turn_to_it() -> None:
    async with ScriptedServer(models=["a", "b"]) as server:
        assert await found_at(server.base_url) == Found(
            server.base_url, "scripted", "chat", TOLERANT, {"a": "a", "b": "b"}
        )
        assert [request.path for request in server.requests] == ["/v1/models"]
    assert server.errors == []


@pytest.mark.parametrize(
    ("fields", "server", "dialect", "wire_api", "context_window"),
    [
        ({"owned_by": "llamacpp", "meta": {"n_ctx": 8192, "n_ctx_train": 131072}}, "llama.cpp", None, "chat", 8192),
        ({"owned_by": "vllm", "max_model_len": 32768}, "vllm", None, "chat", 32768),
        ({"owned_by": "sglang", "max_model_len": None}, "sglang", None, "chat", None),
        ({"owned_by": "library"}, "ollama", None, "chat", None),
        ({"owned_by": "organization_owner"}, "lmstudio", None, "chat", None),
        ({"owned_by": "turnwire-gateway"}, "turnwire-gateway", "tolerant", "responses", None),
        ({"owned_by": "vllm", "context_length": 0, "meta": "odd"}, "vllm", None, "chat", None),
    ],
)
async def test_servers_are_known_by_who_they_say_owns_their_models(
    fields: dict[str, Any], server: str, dialect: str | None, wire_api: Any, context_window: int | None
) -> None:
    async with odd_server({"GET /v1/models": models("m", **fields)}) as (url, asked):
        assert await found_at(f"{url}/v1") == Found(
            base_url=f"{url}/v1",
            server=server,
            wire_api=wire_api,
            dialect=ChatDialect.preset(dialect or server),
            models={"m": "m"},
            context_windows={} if context_window is None else {"m": context_window},
        )
        assert asked.requests == ["GET /v1/models"]


@pytest.mark.parametrize(
    ("answers", "wire_api"),
    [
        ({"POST /v1/chat/completions": 400}, "chat"),
        ({"POST /v1/chat/completions": 422, "POST /v1/responses": 422}, "chat"),
        ({"POST /v1/chat/completions": 500}, "chat"),
        ({"POST /v1/chat/completions": (404, {"error": {"message": "The model `None` does not exist."}})}, "chat"),
        ({"POST /v1/chat/completions": (200, {"choices": []})}, "chat"),
        ({"POST /v1/chat/completions": 405, "POST /v1/responses": 400}, "responses"),
        ({"POST /v1/chat/completions": "<title>Home</title>", "POST /v1/responses": 400}, "responses"),
    ],
)
async def test_an_unknown_server_is_asked_what_it_speaks(answers: dict[str, Any], wire_api: Any) -> None:
    async with odd_server({"GET /v1/models": models("m", owned_by=7), **answers}) as (url, _):
        assert await found_at(f"{url}/v1") == Found(f"{url}/v1", None, wire_api, TOLERANT, {"m": "m"})


async def test_a_server_that_speaks_neither_is_told() -> None:
    async with odd_server({"GET /v1/models": models("m")}) as (url, _):
        found = await found_at(f"{url}/v1")
    assert found == Found(
        f"{url}/v1",
        models={"m": "m"},
        problems=(
            "upstream 'gpu' seems to have neither chat/completions nor responses: check its base_url, or set wire_api",
        ),
    )
    assert not found.usable


async def test_what_the_configuration_says_outranks_what_is_found() -> None:
    dialect = ChatDialect.preset("mistral")
    async with odd_server({"GET /v1/models": models("qwen", "llama", owned_by="vllm")}) as (url, asked):
        found = await found_at(f"{url}/v1", wire_api="responses", dialect=dialect, models={"fast": "qwen"})
        assert found == Found(f"{url}/v1", "vllm", "responses", dialect, {"fast": "qwen"})
        assert asked.requests == ["GET /v1/models"]


@pytest.mark.parametrize(
    "answer", [404, {"error": "Unexpected endpoint or method. (GET /models)"}, "<title>Home</title>"]
)
async def test_a_v1_that_was_left_out_is_found_and_told(answer: Any) -> None:
    async with odd_server({"GET /models": answer, "GET /v1/models": models("m", owned_by="library")}) as (url, _):
        assert await found_at(f"{url}/") == Found(
            base_url=f"{url}/v1",
            server="ollama",
            wire_api="chat",
            dialect=ChatDialect.preset("ollama"),
            models={"m": "m"},
            problems=(f"upstream 'gpu' lists its models at {url}/v1: write that as its base_url",),
        )


@pytest.mark.parametrize(
    ("path", "answers", "problem"),
    [
        (
            "/v1",
            {},
            "upstream 'gpu' lists no models: check its base_url, or name its models under models",
        ),
        ("", {}, "upstream 'gpu' lists no models: check its base_url, or name its models under models"),
        ("/v1", {"GET /v1/models": "<html>"}, NO_JSON.format("text/html")),
        ("", {"GET /models": "<html>", "GET /v1/models": 500}, NO_JSON.format("text/html")),
        (
            "/v1",
            {"GET /v1/models": {"models": []}},
            "upstream 'gpu': its answer to GET models is no list of models (check the base_url)",
        ),
        (
            "/v1",
            {"GET /v1/models": 401},
            "upstream 'gpu' wants a key: set api_key_env to the environment variable that holds one",
        ),
        (
            "",
            {"GET /v1/models": 403},
            "upstream 'gpu' wants a key: set api_key_env to the environment variable that holds one",
        ),
        (
            "",
            {"GET /models": 401},
            "upstream 'gpu' wants a key: set api_key_env to the environment variable that holds one",
        ),
        ("/v1", {"GET /v1/models": 503}, "upstream 'gpu': says no"),
        ("/v1", {"GET /v1/models": 500}, "upstream 'gpu' answered 500: says no"),
    ],
)
async def test_a_server_without_a_list_of_models_is_told(path: str, answers: dict[str, Any], problem: str) -> None:
    async with odd_server(answers) as (url, _):
        found = await found_at(url + path)
        assert found == Found(url + path, problems=(problem,))
        assert not found.usable


async def test_a_key_that_is_refused_is_named_by_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPU_KEY", "wrong")
    async with ScriptedServer(api_key="right") as server:
        found = await found_at(server.base_url, api_key_env="GPU_KEY")
    assert found.problems == ("upstream 'gpu' refused the key in GPU_KEY: check it, and what it may use",)


async def test_a_server_whose_models_are_configured_need_not_list_them() -> None:
    async with odd_server({"POST /v1/chat/completions": 400}) as (url, _):
        assert await found_at(f"{url}/v1", models={"m": "m"}) == Found(f"{url}/v1", wire_api="chat", models={"m": "m"})


async def test_an_empty_list_is_told_unless_models_are_configured() -> None:
    async with odd_server({"GET /v1/models": models(), "POST /v1/chat/completions": 400}) as (url, _):
        assert await found_at(f"{url}/v1") == Found(
            f"{url}/v1",
            wire_api="chat",
            problems=("upstream 'gpu' lists no model: load one, or name those that it can load under models",),
        )
        assert (await found_at(f"{url}/v1", models={"m": "m"})).problems == ()


async def test_configured_models_that_are_not_listed_are_told() -> None:
    names = [f"m{number}" for number in range(12)]
    async with odd_server({"GET /v1/models": models(*names, owned_by="vllm")}) as (url, _):
        found = await found_at(f"{url}/v1", models={"a": "m1", "b": "qwen", "c": "llama", "d": "qwen"})
    assert found.problems == (
        "upstream 'gpu' does not list llama, qwen: check the names under models; it lists m0, m1, m2, m3, m4, m5, m6, "
        "m7, m8, m9 and 2 more",
    )
    assert found.usable


async def test_a_server_that_is_not_there_is_told() -> None:
    async with ScriptedServer() as server:
        base_url = server.base_url
    problem = "can't connect to upstream 'gpu': connection refused"
    assert await found_at(base_url) == Found(base_url, problems=(problem,))
    configured = await found_at(base_url, wire_api="chat", models={"m": "m"})
    assert configured == Found(base_url, wire_api="chat", models={"m": "m"}, problems=(problem,))


async def test_a_server_that_breaks_off_while_it_is_asked_speaks_nothing() -> None:
    async def listing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if b"GET" in server.requests[-1]:
            body = b'{"data":[{"id":"m"}]}'
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n")
            writer.write(b"content-length: %d\r\n\r\n%b" % (len(body), body))

    async with RawServer(listing) as server:
        found = await found_at(f"{server.url}/v1")
    assert (found.wire_api, len(found.problems), found.models) == (None, 1, {"m": "m"})


async def test_a_silent_server_is_not_waited_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("turnwire.gateway.discovery._PATIENCE", 0.02)
    async with RawServer(silence) as server:
        assert await found_at(server.url) == Found(
            server.url, problems=("upstream 'gpu': no answer within 0.02 s (check that it runs)",)
        )


@pytest.mark.parametrize(
    ("host", "wire_api", "preset"),
    [
        ("api.openai.com", "responses", "openai"),
        ("openrouter.ai", "chat", "openrouter"),
        ("api.groq.com", "chat", "groq"),
    ],
)
async def test_well_known_servers_are_known_by_their_address(
    host: str, wire_api: Any, preset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TURNWIRE_NO_SUCH_KEY", raising=False)
    base_url = f"https://{host}/v1"
    found = await found_at(base_url, api_key_env="TURNWIRE_NO_SUCH_KEY")  # without which nothing is sent
    assert found == Found(
        base_url,
        preset,
        wire_api,
        ChatDialect.preset(preset),
        problems=(
            "upstream 'gpu' can't be used: its key is missing: set the environment variable TURNWIRE_NO_SUCH_KEY",
        ),
    )


async def test_an_upstream_that_went_away_keeps_what_it_said_before() -> None:
    upstream = Upstream(UpstreamConfiguration("gpu", "http://127.0.0.1:1/v1"))
    dialect = ChatDialect.preset("vllm")
    upstream.settle(wire_api="chat", dialect=dialect, models={"m": "m"}, context_windows={"m": 5})
    found = await discover(upstream)
    await upstream.close()
    assert (found.wire_api, found.dialect, found.models, found.context_windows) == (None, dialect, {"m": "m"}, {"m": 5})
    assert len(found.problems) == 1
