"""Counting a prompt's tokens: who is asked for the count, and what becomes of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from openai import AsyncOpenAI
from starlette.applications import Starlette
from starlette.routing import Route

from tests.gateway.bare_server import serving
from tests.gateway.serving import answering_of
from tests.transport.serving import RawServer, Reply, saying, silence
from turnwire.errors import ApiError
from turnwire.event import TokenUsage
from turnwire.gateway.caller import Caller, Callers
from turnwire.gateway.configuration import GatewayConfiguration, UpstreamConfiguration
from turnwire.gateway.http_endpoint import PostEndpoint
from turnwire.gateway.inquiry import Inquiry
from turnwire.gateway.refusal import refusal
from turnwire.gateway.sqlite_store import SqliteStore
from turnwire.gateway.store import StoredResponse
from turnwire.gateway.token_counting import TokenCountingService
from turnwire.gateway.turn_token import TurnTicket, TurnTokens
from turnwire.gateway.upstream import Upstream
from turnwire.testing import Fault, LlamaServer, RecordedRequest, ScriptedServer, Stall, Status, Turn
from turnwire.wire.sealed import seal, unsealed_item

pytestmark = pytest.mark.usefixtures("nothing_left")

USAGE = TokenUsage(input_tokens=42, output_tokens=1, total_tokens=43)
CALLER = Caller("alice", "tenant-a")
SEALED = {"type": "compaction", "encrypted_content": seal("compaction", "All was said.")}
HELLO = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hello"}]}
SCHEMA = {"type": "object", "properties": {}}
TOKENS = TurnTokens(["secret"], max_age=3600.0)


class Client:
    """A sink that holds what came, and leaves when it is told to."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: Mapping[str, str] = {}
        self.document: Any = None
        self.leaves = asyncio.Event()

    async def answer(self, document: bytes, headers: Mapping[str, str]) -> None:
        self.status, self.document, self.headers = 200, json.loads(document), headers

    async def refuse(self, error: ApiError, headers: Mapping[str, str]) -> None:
        refused = refusal(error)
        self.status, self.document, self.headers = refused.status, json.loads(refused.body), headers

    async def left(self) -> None:
        await self.leaves.wait()

    @property
    def count(self) -> int:
        assert self.document["object"] == "response.input_tokens"
        return int(self.document["input_tokens"])

    @property
    def refused(self) -> tuple[int, str, str]:
        error = self.document["error"]
        return self.status, error["code"], error["message"]


class Rig:
    """A token counting service in front of one upstream."""

    def __init__(self, upstream: Upstream, store: SqliteStore) -> None:
        self.upstream = upstream
        self.store = store
        self.service = TokenCountingService(answering_of(upstream, TOKENS), store)

    async def ask(
        self, fields: Mapping[str, Any], headers: Mapping[str, str] = {}, client: Client | None = None
    ) -> Client:
        client = client or Client()
        await self.service.answer(fields, Inquiry.of(CALLER, headers), client)  # type: ignore[arg-type]
        return client


@asynccontextmanager
async def rig(base_url: str, folder: Path, **changes: Any) -> AsyncIterator[Rig]:
    changes = {"wire_api": "chat", "models": {"m": "real"}, **changes}
    upstream = Upstream(UpstreamConfiguration("gpu", base_url, **changes))
    store = SqliteStore(folder / "store.sqlite", ttl=60.0, max_size=1_000_000)
    try:
        yield Rig(upstream, store)
    finally:
        await store.close()
        await upstream.close()


def request(**fields: Any) -> dict[str, Any]:
    return {"model": "m", "input": [HELLO], **fields}


def json_reply(document: Any) -> bytes:
    body = json.dumps(document).encode()
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


async def test_a_chat_server_is_given_the_request_with_the_shortest_answer_and_its_usage_is_the_count(
    tmp_path: Path,
) -> None:
    turn = Turn(text="O", usage=USAGE, finish_reason="length")
    async with ScriptedServer([turn]) as server, rig(server.base_url, tmp_path) as gateway:
        tools = [{"type": "function", "name": "look", "parameters": SCHEMA}, {"type": "web_search"}]
        fields = request(instructions="Be brief.", tools=tools, stream=True, truncation="auto", max_output_tokens=900)
        client = await gateway.ask(fields, {"x-codex-window-id": "w", "authorization": "Bearer mine"})
    assert (client.status, client.document) == (200, {"object": "response.input_tokens", "input_tokens": 42})
    assert client.headers["x-request-id"].startswith("req_")
    assert client.headers["x-turnwire-dropped"] == "truncation; tool of type 'web_search'"
    (asked,) = server.requests
    assert (asked.headers["x-codex-window-id"], "authorization" in asked.headers) == ("w", False)
    assert asked.json == {
        "model": "real",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}],
        "tools": [{"type": "function", "function": {"name": "look", "parameters": SCHEMA}}],
        "max_tokens": 1,
        "stream": False,
    }


async def test_a_kept_response_counts_with_what_goes_on_from_it(tmp_path: Path) -> None:
    async with ScriptedServer([Turn(usage=USAGE)]) as server, rig(server.base_url, tmp_path) as gateway:
        before = {"id": "resp_0", "status": "completed", "output": [{**HELLO, "role": "assistant"}]}
        await gateway.store.put(CALLER.tenant, StoredResponse.of(before, input_items=[HELLO]))
        client = await gateway.ask(request(previous_response_id="resp_0"))
    assert ([message["role"] for message in server.requests[0].input], client.count) == (
        ["user", "assistant", "user"],
        42,
    )


@pytest.mark.parametrize(("upstream", "sent"), [("gpu", "upstream-token"), ("another", None)])
async def test_the_upstreams_own_token_goes_along_where_it_is_the_turns(
    tmp_path: Path, upstream: str, sent: str | None
) -> None:
    token = TOKENS.issue(TurnTicket("turn", upstream, "upstream-token"), CALLER.tenant)
    async with ScriptedServer([Turn(usage=USAGE)]) as server, rig(server.base_url, tmp_path) as gateway:
        await gateway.ask(request(), {"x-codex-turn-state": token})
    assert [asked.token for asked in server.requests] == [sent]


async def test_a_responses_server_is_asked_at_its_own_endpoint(tmp_path: Path) -> None:
    bodies: list[Any] = []

    async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        bodies.append(json.loads(await reader.read(65536)))
        writer.write(json_reply({"object": "response.input_tokens", "input_tokens": 9}))

    async with RawServer(reply) as server, rig(f"{server.url}/v1", tmp_path, wire_api="responses") as gateway:
        client = await gateway.ask(request(input=[HELLO, SEALED], tools=[{"type": "web_search"}], stream=True))
    assert (client.count, "x-turnwire-dropped" in client.headers) == (9, False)
    assert server.requests[0].startswith(b"POST /v1/responses/input_tokens HTTP/1.1\r\n")
    assert bodies == [{"model": "real", "input": [HELLO, unsealed_item(SEALED)], "tools": [{"type": "web_search"}]}]


async def test_a_responses_server_without_the_endpoint_is_given_the_request(tmp_path: Path) -> None:
    async with (
        ScriptedServer([Turn(text="O", usage=USAGE)], strict=True) as server,
        rig(server.base_url, tmp_path, wire_api="responses") as gateway,
    ):
        client = await gateway.ask(request(input="Hello", max_output_tokens=900))
    assert client.count == 42
    assert [asked.path for asked in server.requests] == ["/v1/responses/input_tokens", "/v1/responses"]
    assert server.requests[1].json == {
        "model": "real",
        "input": [{"type": "message", "role": "user", "content": "Hello"}],
        "max_output_tokens": 16,
        "store": False,
        "stream": False,
    }


NO_USAGE = ("tokens can't be counted for 'real': upstream 'gpu' does not say in its usage how many a prompt has",)


@pytest.mark.parametrize("wire_api", ["chat", "responses"])
async def test_a_server_that_gives_no_usage_can_not_count(tmp_path: Path, wire_api: str) -> None:
    async with (
        ScriptedServer([Turn(text="O")]) as server,
        rig(server.base_url, tmp_path, wire_api=wire_api) as gateway,
    ):
        client = await gateway.ask(request())
    assert client.refused == (400, "invalid_prompt", *NO_USAGE)


@pytest.mark.parametrize(
    ("reply", "refused"),
    [
        (saying(json_reply([1])), (400, "invalid_prompt", *NO_USAGE)),
        (saying(json_reply({"error": {"message": "died"}})), (502, "upstream_failed", "died")),
        (saying(b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\n\r\n<p>"), (502, "upstream_failed", "text/html came")),
        (silence, (504, "upstream_timeout", "within idle_timeout, 0.03 s")),
    ],
)
async def test_an_answer_that_is_none_is_refused(tmp_path: Path, reply: Reply, refused: tuple[int, str, str]) -> None:
    async with RawServer(reply) as server, rig(server.url, tmp_path, idle_timeout=0.03) as gateway:
        client = await gateway.ask(request())
    assert client.refused[:2] == refused[:2]
    assert refused[2] in client.refused[2]


async def test_an_answer_that_does_not_end_is_waited_for_no_longer_than_the_idle_timeout(tmp_path: Path) -> None:
    async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(json_reply({})[:-1])
        await silence(reader, writer)

    async with RawServer(reply) as server, rig(server.url, tmp_path, idle_timeout=0.03) as gateway:
        client = await gateway.ask(request())
    message = "upstream 'gpu': it did not end its answer within idle_timeout, 0.03 s"
    assert client.refused == (504, "upstream_timeout", message)


@pytest.mark.parametrize(
    ("fields", "fault", "refused"),
    [
        ({"input": "Hi"}, None, (400, "invalid_prompt", "model is missing")),
        ({"model": "other", "input": "Hi"}, None, (400, "model_not_found", "'other'")),
        ({"model": "m"}, None, (400, "invalid_prompt", "input is missing")),
        (request(previous_response_id="resp_9"), None, (400, "previous_response_not_found", "resp_9")),
        (request(), Status(400, "too long", code="context_length_exceeded"), (400, "context_length_exceeded", "long")),
        (request(), Status(500), (502, "upstream_failed", "500")),
    ],
)
async def test_what_can_not_be_counted_is_refused(
    tmp_path: Path, fields: Mapping[str, Any], fault: Fault | None, refused: tuple[int, str, str]
) -> None:
    async with ScriptedServer([Turn(fault=fault)]) as server, rig(server.base_url, tmp_path) as gateway:
        client = await gateway.ask(fields)
    assert client.refused[:2] == refused[:2]
    assert refused[2] in client.refused[2]
    assert list(client.headers) == ["x-request-id"]


async def test_a_responses_server_that_refuses_its_endpoint_is_not_asked_again(tmp_path: Path) -> None:
    refusing = saying(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n")
    async with RawServer(refusing) as server, rig(server.url, tmp_path, wire_api="responses") as gateway:
        client = await gateway.ask(request())
    assert (client.refused[:2], len(server.requests)) == ((400, "upstream_refused_key"), 1)


async def test_a_client_that_leaves_takes_the_upstreams_request_along(tmp_path: Path) -> None:
    asked = asyncio.Event()

    def script(_: RecordedRequest) -> Turn:
        asked.set()
        return Turn(fault=Stall())

    async with ScriptedServer(script) as server, rig(server.base_url, tmp_path) as gateway:
        client = Client()
        asking = asyncio.create_task(gateway.ask(request(), client=client))
        await asked.wait()
        client.leaves.set()
        await asking
        await server.wait_idle()
    assert (len(server.abandoned), client.status) == (1, 0)


async def test_the_openai_sdk_counts_over_http(tmp_path: Path) -> None:
    async with ScriptedServer([Turn(usage=USAGE)]) as server, rig(server.base_url, tmp_path) as gateway:
        configuration = GatewayConfiguration((gateway.upstream.configuration,))
        endpoint = PostEndpoint(configuration, Callers(()), gateway.service.answer)
        application = Starlette(routes=[Route("/v1/responses/input_tokens", endpoint)])
        async with serving(application) as served:
            base_url = f"http://127.0.0.1:{served.port}/v1"
            async with AsyncOpenAI(base_url=base_url, api_key="none", max_retries=0) as client:
                counted = await client.responses.input_tokens.count(model="m", input="Hello")
    assert (counted.object, counted.input_tokens) == ("response.input_tokens", 42)


async def test_llama_cpp_counts_by_its_own_template(tmp_path: Path) -> None:
    async with LlamaServer(context_size=4096) as server:
        models = {"m": server.model_name}
        async with rig(server.base_url, tmp_path, models=models) as gateway:
            short = await gateway.ask(request())
            long = await gateway.ask(request(input="Hello" + "o" * 100))
    assert long.count - short.count == 100  # of the scripted model every byte is a token
