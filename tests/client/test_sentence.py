"""What a person reads who got something wrong: one clear sentence, with what was expected and what to do."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from tests.client.hearing import HELLO, hear, impatient
from tests.transport.serving import RawServer, saying, silence
from turnwire import (
    ApiError,
    ConfigurationError,
    ConnectError,
    HttpStatusError,
    ModelClient,
    ProtocolError,
    RateLimited,
)
from turnwire.testing import NotHttp, ScriptedServer, Status, Turn, WrongType

pytestmark = pytest.mark.usefixtures("nothing_left")


async def failure(base_url: str, **changes: Any) -> ApiError:
    async with ModelClient(impatient(base_url, **changes)) as client:
        error = (await hear(client.new_session().stream("Hello"))).error
    assert error is not None
    return error


def told(error: ApiError) -> tuple[type[ApiError], str]:
    return type(error), str(error)


async def test_a_server_that_is_not_there() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        where = f"http://127.0.0.1:{unused.getsockname()[1]}/v1"
        error = await failure(where)
    assert told(error) == (ConnectError, f"can't connect to {where}/chat/completions: connection refused")


async def test_a_path_that_the_server_does_not_have() -> None:
    async with ScriptedServer() as server:
        where = server.base_url.removesuffix("/v1")
        error = await failure(where)
    assert told(error) == (
        HttpStatusError,
        f"{where}/chat/completions answered 404: POST /chat/completions is not served; served are "
        "POST /v1/chat/completions, POST /v1/responses, POST /v1/responses/compact, GET /v1/responses, GET /v1/models "
        "(check the base_url and the model's name)",
    )


async def test_a_wrong_key() -> None:
    async with ScriptedServer([HELLO], api_key="right") as server:
        where = f"{server.base_url}/chat/completions"
        error = await failure(server.base_url, api_key="wrong")
    assert told(error) == (
        HttpStatusError,
        f"{where} answered 401: the API key is missing or not the right one (check the api key)",
    )


async def test_an_unknown_model() -> None:
    async with ScriptedServer([HELLO], models=["known"]) as server:
        where = f"{server.base_url}/chat/completions"
        error = await failure(server.base_url, model="unknown")
    assert told(error) == (
        HttpStatusError,
        f"{where} answered 404: the model 'unknown' does not exist (check the base_url and the model's name)",
    )


async def test_a_web_page() -> None:
    async with ScriptedServer([Turn(fault=WrongType())]) as server:
        where, error = server.base_url, await failure(server.base_url)
    assert told(error) == (
        ProtocolError,
        f"{where} answered with a web page instead of an event stream: check the base_url",
    )


async def test_a_page_that_says_no() -> None:
    page = Status(403, body=b"<!doctype html><title>Forbidden</title>", headers={"content-type": "text/html"})
    async with ScriptedServer([Turn(fault=page)]) as server:
        where, error = f"{server.base_url}/chat/completions", await failure(server.base_url)
    assert told(error) == (
        HttpStatusError,
        f"{where} answered 403 (check the api key and what it may use)",
    )


async def test_another_protocol() -> None:
    async with ScriptedServer([Turn(fault=NotHttp())]) as server:
        where, error = f"{server.base_url}/chat/completions", await failure(server.base_url)
    assert told(error) == (ProtocolError, f"{where} did not answer in proper HTTP: bad status line")


async def test_a_redirect() -> None:
    moved = Status(308, message="moved", headers={"location": "https://elsewhere.invalid/v1"})
    async with ScriptedServer([Turn(fault=moved)]) as server:
        where, error = f"{server.base_url}/chat/completions", await failure(server.base_url)
    assert told(error) == (
        HttpStatusError,
        f"{where} answered 308: moved (it points to https://elsewhere.invalid/v1, and redirects are not followed: "
        "set the base_url to where it should go)",
    )


async def test_a_server_that_fails_without_a_word() -> None:
    async with RawServer(saying(b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n")) as server:
        where, error = f"{server.url}/chat/completions", await failure(server.url)
    assert told(error) == (HttpStatusError, f"{where} answered 502")


async def test_a_refusal_that_does_not_end(monkeypatch: pytest.MonkeyPatch) -> None:
    async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 100\r\n\r\nyour key")
        await silence(reader, writer)

    monkeypatch.setattr("turnwire.client.requester._ERROR_BODY_TIMEOUT", 0.05)
    async with RawServer(reply) as server:
        where, error = f"{server.url}/chat/completions", await failure(server.url)
    assert told(error) == (HttpStatusError, f"{where} answered 401 (check the api key)")


async def test_too_many_requests() -> None:
    async with ScriptedServer([Turn(fault=Status(429, message="Slow down, please."))]) as server:
        error = await failure(server.base_url)
    assert told(error) == (RateLimited, "Slow down, please.")


async def test_a_key_that_is_not_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    async with ScriptedServer() as server:
        error = await failure(server.base_url, api_key_env="NO_SUCH_KEY")
        assert server.requests == []
    assert told(error) == (
        ConfigurationError,
        "provider 'scripted' can't be used: its key is missing: set the environment variable NO_SUCH_KEY",
    )
