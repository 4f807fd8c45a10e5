"""Compaction: what the model is asked, what stays, and what a client gets, from each kind of upstream."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from openai import AsyncOpenAI
from openresponses_types.types import CompactResource
from starlette.applications import Starlette
from starlette.routing import Route

from tests.gateway.bare_server import serving
from tests.gateway.serving import answering_of
from turnwire.errors import ApiError, RetryableError
from turnwire.event import TokenUsage
from turnwire.gateway.caller import Caller, Callers
from turnwire.gateway.catalog import Served
from turnwire.gateway.compaction import CompactionByModel, CompactionService
from turnwire.gateway.configuration import GatewayConfiguration, UpstreamConfiguration
from turnwire.gateway.http_endpoint import PostEndpoint
from turnwire.gateway.inquiry import Inquiry
from turnwire.gateway.refusal import refusal
from turnwire.gateway.sqlite_store import SqliteStore
from turnwire.gateway.store import StoredResponse
from turnwire.gateway.summary import asks_for_compaction, kept_messages, summarising
from turnwire.gateway.turn_token import TurnTokens
from turnwire.gateway.upstream import Upstream
from turnwire.item import InputImage, InputText, Message, OtherItem, OutputText, Reasoning, decode_item
from turnwire.prompt import Prompt
from turnwire.testing import (
    CutCleanly,
    ErrorEvent,
    Fault,
    LlamaServer,
    RecordedRequest,
    ScriptedServer,
    Stall,
    Status,
    Turn,
)
from turnwire.wire.responses import ReceivedRequest, decode_response_request
from turnwire.wire.sealed import seal, unseal, unsealed_item
from turnwire.wire.sse import SseDecoder

USAGE = TokenUsage(input_tokens=70, cached_input_tokens=60, output_tokens=7, total_tokens=77)
TRIGGER = {"type": "compaction_trigger"}
CALLER = Caller("alice", "tenant-a")


def said(role: str, text: str, **extra: Any) -> dict[str, Any]:
    kind = "output_text" if role == "assistant" else "input_text"
    return {"type": "message", "role": role, "content": [{"type": kind, "text": text}], **extra}


CALL = {"type": "function_call", "name": "look", "arguments": "{}", "call_id": "c1"}
OUTPUT = {"type": "function_call_output", "call_id": "c1", "output": "three files"}
TOOL = {"type": "function", "name": "look", "parameters": {"type": "object", "properties": {}}}
TASK = [said("developer", "Be brief."), said("user", "Tidy up."), CALL, OUTPUT, said("assistant", "On it.")]
SEALED = {"type": "compaction", "encrypted_content": seal("compaction", "All was said.")}


def request(items: Sequence[Any] = TASK, **fields: Any) -> dict[str, Any]:
    return {"model": "m", "input": list(items), **fields}


def received(items: Sequence[Any] = TASK, **fields: Any) -> ReceivedRequest:
    return decode_response_request(request(items, **fields))


class HeldSink:
    """What a client got, and how it leaves."""

    shows_headers = True

    def __init__(self) -> None:
        self.status = 0
        self.headers: Mapping[str, str] = {}
        self.document: Any = None
        self.leaves = asyncio.Event()

    async def begin(self, headers: Mapping[str, str]) -> None:
        raise AssertionError("a compaction is not streamed")

    def put(self, events: Sequence[bytes]) -> bool:
        raise AssertionError("a compaction is not streamed")

    async def write(self, events: Sequence[bytes]) -> None:
        raise AssertionError("a compaction is not streamed")

    async def end(self) -> None:
        raise AssertionError("a compaction is not streamed")

    async def answer(self, document: bytes, headers: Mapping[str, str]) -> None:
        self.status, self.document, self.headers = 200, json.loads(document), headers

    async def refuse(self, error: ApiError, headers: Mapping[str, str]) -> None:
        refused = refusal(error)
        self.status, self.document, self.headers = refused.status, json.loads(refused.body), headers

    async def left(self) -> None:
        await self.leaves.wait()

    @property
    def summary(self) -> str | None:
        """What the last item of the output holds."""
        return unseal("compaction", self.document["output"][-1]["encrypted_content"])


class Rig:
    """A compaction service in front of one upstream."""

    def __init__(self, upstream: Upstream, store: SqliteStore) -> None:
        self.upstream = upstream
        self.store = store
        self.tokens = TurnTokens(["secret"], max_age=3600.0)
        self.service = CompactionService(answering_of(upstream, self.tokens), store)

    async def ask(self, fields: Mapping[str, Any], headers: Mapping[str, str] = {}, sink: Any = None) -> HeldSink:
        sink = sink or HeldSink()
        await self.service.answer(fields, Inquiry.of(CALLER, headers), sink)
        return sink


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


# What is asked, and what stays.


@pytest.mark.parametrize(
    ("items", "asks"),
    [([*TASK, TRIGGER], True), ([TRIGGER], True), ([TRIGGER, *TASK], False), (TASK, False), ([SEALED], False)],
)
def test_a_request_asks_for_a_compaction_by_its_last_item(items: list[Any], asks: bool) -> None:
    assert asks_for_compaction(received(items)) is asks


def test_the_prompt_for_a_summary_begins_like_the_conversation_and_leaves_the_answers_form_out() -> None:
    prompt = received(
        [*TASK, TRIGGER],
        instructions="Rules.",
        tools=[TOOL],
        tool_choice="required",
        reasoning={"effort": "low"},
        text={"format": {"type": "json_object"}, "verbosity": "low"},
        max_output_tokens=5,
        temperature=0.5,
        stop=["."],
    ).prompt
    asked = summarising(prompt)
    *conversation, question = asked.items
    assert isinstance(question, Message)
    assert (question.role, question.text.startswith("Pause the task here.")) == ("user", True)
    assert conversation == [decode_item(item) for item in TASK]
    assert asked == Prompt(
        asked.items,
        instructions="Rules.",
        tools=[TOOL],
        tool_choice="none",
        reasoning={"effort": "low"},
        include=(),
    )
    assert summarising(Prompt("Hi")).tool_choice is None


def test_of_the_messages_all_that_set_rules_stay_and_of_the_users_the_latest() -> None:
    picture = InputImage(image_url="data:image/png;base64,AA")
    file = OtherItem({"type": "message", "role": "user", "content": [{"type": "input_file", "file_id": "f"}]})
    rules = Message("system", (InputText("r" * 99),))
    items = [
        rules,
        Message("user", (InputText("oldest"),)),
        Message("user", (InputText("abcdefgh"), picture, InputText("ijklmnop"), InputText("out")), id="msg_1"),
        Message("assistant", (OutputText("answer"),)),
        Reasoning(),
        OtherItem(TRIGGER),
        file,
        Message("user", (InputText("latest"),)),
    ]
    cut = [InputText("abcdefgh"), picture, InputText("i\n[6 characters were left out here]\np")]
    kept = [rules, Message("user", cut, id="msg_1"), file, Message("user", (InputText("latest"),))]
    assert kept_messages(items, context_window=16) == kept
    assert kept_messages(items) == [items[0], items[1], items[2], items[6], items[7]]
    assert kept_messages([Message("user", (InputText("x" * 300_000),))])[0].text.startswith("x" * 128_000 + "\n[44000 ")  # type: ignore[union-attr]


def test_only_a_summary_of_our_own_is_unsealed_item() -> None:
    foreign = {"type": "compaction", "encrypted_content": "gAAAA"}
    note = "The conversation so far was replaced by this summary of it:\n\nAll was said."
    items = [SEALED, foreign, TASK[1], {"type": "compaction"}]
    assert [unsealed_item(item) for item in items] == [said("user", note), foreign, TASK[1], {"type": "compaction"}]


# The model's summary as a response.


def exchange_of(request: ReceivedRequest, **fields: Any) -> CompactionByModel:
    upstream = Upstream.__new__(Upstream)
    upstream.wire_api = "chat"
    upstream.provider = UpstreamConfiguration("gpu", "http://127.0.0.1:1/v1").provider
    upstream.reasoning_names = {}
    return CompactionByModel(request, Served(upstream, "real"), response_id="resp_1", clock=lambda: 5.0, **fields)


def chunk(delta: Mapping[str, Any], finish: str | None = None) -> bytes:
    return b"data: %b\n\n" % json.dumps({"choices": [{"delta": delta, "finish_reason": finish}]}).encode()


def payloads(written: Sequence[bytes]) -> list[Any]:
    return [json.loads(event.data) for event in SseDecoder().feed(b"".join(written))]


ITEM = {"type": "compaction", "encrypted_content": seal("compaction", "Tidied."), "id": "cmp_1_0"}


def test_a_trigger_is_answered_by_one_compaction_item_and_nothing_of_the_summary_shows() -> None:
    exchange = exchange_of(received([*TASK, TRIGGER], stream=True, store=False))
    assert [event["type"] for event in payloads(exchange.start({}))] == ["response.created", "response.in_progress"]
    assert exchange.feed(chunk({"reasoning": "Hm."}) + chunk({"content": "Tid"})) == []
    assert [event["type"] for event in payloads(exchange.keepalive())] == ["keepalive"]
    assert (exchange.committed, exchange.over, exchange.ending) == (False, False, "open")
    written = exchange.feed(chunk({"content": "ied.\n"}) + chunk({}, "stop") + b"data: [DONE]\n\n")
    added, done, completed = payloads(written)
    assert (added["type"], done["type"], done["item"]) == (
        "response.output_item.added",
        "response.output_item.done",
        ITEM,
    )
    assert (completed["type"], completed["response"]["output"]) == ("response.completed", [ITEM])
    assert exchange.outcome is not None
    assert exchange.outcome.response == completed["response"]
    assert (exchange.committed, exchange.over, exchange.error) == (True, True, None)
    assert [*exchange.feed(b"data: {}\n\n"), *exchange.feed_eof(), *exchange.fail(RetryableError("late"))] == []


def test_a_trigger_without_a_stream_is_answered_by_a_response_object() -> None:
    exchange = exchange_of(received([*TASK, TRIGGER]))
    body = {"choices": [{"message": {"content": "Tidied."}, "finish_reason": "stop"}]}
    assert [*exchange.start({}), *exchange.keepalive(), *exchange.feed_whole(json.dumps(body).encode())] == []
    document = json.loads(exchange.document())
    assert (document["object"], document["status"], document["output"]) == ("response", "completed", [ITEM])


@pytest.mark.parametrize(
    ("body", "error", "message"),
    [
        (chunk({"content": "Ti"}), "StreamError", "it was cut off"),
        (chunk({}, "stop"), "RetryableError", "gave none"),
        (chunk({"content": "Ti"}, "content_filter"), "RetryableError", "the summary broke off: content_filter"),
        (chunk({"content": "Ti"}, "length"), "ContextWindowExceeded", ""),
        (b'data: {"error": {"message": "died"}}\n\n', "RetryableError", "died"),
    ],
)
def test_what_is_no_whole_summary_is_a_failure(body: bytes, error: str, message: str) -> None:
    exchange = exchange_of(received([TRIGGER, *TASK, TRIGGER], stream=True))
    written = [*exchange.feed(body), *exchange.feed_eof()]
    assert [event["type"] for event in payloads(written)] == ["response.failed"]
    assert (type(exchange.error).__name__, exchange.outcome, exchange.over) == (error, None, True)
    assert message in str(exchange.error)
    with pytest.raises(ApiError):
        exchange.document()


def test_a_document_that_is_asked_for_too_early_is_refused() -> None:
    with pytest.raises(RetryableError, match="not there yet"):
        exchange_of(received([TRIGGER])).document()


# The endpoint.


@pytest.mark.usefixtures("nothing_left")
async def test_a_chat_model_summarises_and_the_client_gets_the_messages_that_stay_and_the_summary(
    tmp_path: Path,
) -> None:
    turn = Turn(reasoning="Hm.", text=["Tidied ", "two of three.\n"], usage=USAGE, token="upstream-token")
    async with ScriptedServer([turn]) as server, rig(server.base_url, tmp_path) as gateway:
        fields = request(tools=[TOOL], prompt_cache_key="thread", reasoning={"effort": "low"}, stream=True)
        sink = await gateway.ask(fields, {"x-codex-window-id": "w", "authorization": "Bearer mine"})
    (asked,) = server.requests
    sent = asked.json
    assert [message["role"] for message in sent["messages"]] == [
        "system",
        "user",
        "assistant",
        "tool",
        "assistant",
        "user",
    ]
    assert (sent["model"], sent["stream"], sent["tool_choice"], sent["reasoning_effort"]) == (
        "real",
        True,
        "none",
        "low",
    )
    assert (asked.headers["x-codex-window-id"], "authorization" in asked.headers) == ("w", False)
    document = sink.document
    stem = document["id"].removeprefix("resp_")
    compaction = {
        "type": "compaction",
        "id": f"cmp_{stem}_0",
        "encrypted_content": seal("compaction", "Tidied two of three."),
    }
    assert document == {
        "id": f"resp_{stem}",
        "object": "response.compaction",
        "created_at": document["created_at"],
        "output": [
            said("developer", "Be brief.", id=f"msg_{stem}_0", status="completed"),
            said("user", "Tidy up.", id=f"msg_{stem}_1", status="completed"),
            compaction,
        ],
        "usage": {
            "input_tokens": 70,
            "input_tokens_details": {"cached_tokens": 60},
            "output_tokens": 7,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": 77,
        },
    }
    CompactResource.model_validate(document)
    ticket = gateway.tokens.read(sink.headers["x-codex-turn-state"], CALLER.tenant)
    assert (getattr(ticket, "upstream", None), getattr(ticket, "upstream_token", None)) == ("gpu", "upstream-token")
    assert sink.headers["x-request-id"].startswith("req_")


@pytest.mark.usefixtures("nothing_left")
async def test_the_openai_sdk_compacts_over_http(tmp_path: Path) -> None:
    async with ScriptedServer([Turn(text="Sum.", usage=USAGE)]) as server, rig(server.base_url, tmp_path) as gateway:
        endpoint = PostEndpoint(
            GatewayConfiguration((gateway.upstream.configuration,)), Callers(()), gateway.service.answer
        )
        application = Starlette(routes=[Route("/v1/responses/compact", endpoint)])
        async with serving(application) as served:
            base_url = f"http://127.0.0.1:{served.port}/v1"
            async with AsyncOpenAI(base_url=base_url, api_key="none", max_retries=0) as client:
                compacted = await client.responses.compact(model="m", input="Tidy up.", instructions="Be brief.")
    assert (compacted.object, compacted.usage.total_tokens) == ("response.compaction", 77)
    assert [item.type for item in compacted.output] == ["message", "compaction"]


@pytest.mark.usefixtures("nothing_left")
async def test_the_turns_token_is_repeated_and_no_other_is_issued(tmp_path: Path) -> None:
    turns = [Turn(text="One.", token="upstream-token"), Turn(text="Two.")]
    async with ScriptedServer(turns) as server, rig(server.base_url, tmp_path) as gateway:
        first = await gateway.ask(request())
        token = first.headers["x-codex-turn-state"]
        second = await gateway.ask(request(), {"x-codex-turn-state": token})
    assert [asked.token for asked in server.requests] == [None, "upstream-token"]
    assert (second.summary, "x-codex-turn-state" in second.headers) == ("Two.", False)


@pytest.mark.usefixtures("nothing_left")
async def test_a_summary_comes_back_as_a_message_and_is_not_kept_beside_the_next_one(tmp_path: Path) -> None:
    async with ScriptedServer([Turn(text="More was said.")]) as server, rig(server.base_url, tmp_path) as gateway:
        sink = await gateway.ask(request([said("user", "Hi"), SEALED, said("user", "And?")]))
    (asked,) = server.requests
    assert asked.input[1]["content"].endswith("\n\nAll was said.")
    assert [item["type"] for item in sink.document["output"]] == ["message", "message", "compaction"]
    assert (sink.summary, sink.document["usage"]["total_tokens"]) == ("More was said.", 0)


@pytest.mark.usefixtures("nothing_left")
async def test_a_kept_response_is_gone_on_from_and_one_that_nobody_knows_is_refused(tmp_path: Path) -> None:
    async with ScriptedServer([Turn(text="Sum.")]) as server, rig(server.base_url, tmp_path) as gateway:
        before = {"id": "resp_0", "status": "completed", "output": [said("assistant", "Yes?")]}
        await gateway.store.put(CALLER.tenant, StoredResponse.of(before, input_items=[said("user", "Hello")]))
        known = await gateway.ask({"model": "m", "previous_response_id": "resp_0"})
        unknown = await gateway.ask({"model": "m", "previous_response_id": "resp_9"})
    assert [message["role"] for message in server.requests[0].input] == ["user", "assistant", "user"]
    assert (known.document["output"][0]["content"][0]["text"], known.summary) == ("Hello", "Sum.")
    assert (unknown.status, unknown.document["error"]["code"]) == (400, "previous_response_not_found")


@pytest.mark.usefixtures("nothing_left")
@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"input": "Hi"}, "model is missing"),
        ({"model": "other", "input": "Hi"}, "no upstream serves the model 'other'"),
        ({"model": "m"}, "input is missing"),
        ({"model": "m", "input": [{"type": "message", "role": "sage", "content": "Hm"}]}, "'sage'"),
    ],
)
async def test_a_request_that_makes_no_sense_is_refused_for_good(
    tmp_path: Path, fields: Mapping[str, Any], message: str
) -> None:
    async with ScriptedServer() as server, rig(server.base_url, tmp_path) as gateway:
        sink = await gateway.ask(fields)
    assert (sink.status, message in sink.document["error"]["message"]) == (400, True)
    assert (list(sink.headers), server.requests) == (["x-request-id"], [])


def stalling(asked: asyncio.Event) -> Callable[[RecordedRequest], Turn]:
    def script(_: RecordedRequest) -> Turn:
        asked.set()
        return Turn(text=["a", "b"], fault=Stall(120))

    return script


TOO_LONG = Status(400, "the prompt is too long", code="context_length_exceeded")


@pytest.mark.usefixtures("nothing_left")
async def test_a_conversation_that_is_too_long_is_tried_once_more_with_its_tool_outputs_cut(tmp_path: Path) -> None:
    long = {**OUTPUT, "output": "a" * 1500 + "b" * 1500}
    parts = [{"type": "input_text", "text": "c" * 2001}, {"type": "input_image", "image_url": "data:,"}]
    second = [{**CALL, "call_id": "c2"}, {**OUTPUT, "call_id": "c2", "output": parts}]
    turns = [Turn(fault=TOO_LONG), Turn(text="Short.")]
    async with ScriptedServer(turns) as server, rig(server.base_url, tmp_path) as gateway:
        sink = await gateway.ask(request([said("user", "Go"), CALL, long, *second, TASK[-1]]))
    outputs = [message["content"] for message in server.requests[1].input if message["role"] == "tool"]
    assert outputs == [
        "a" * 1000 + "\n[1000 characters were left out here]\n" + "b" * 1000,
        "c" * 1000 + "\n[1 characters were left out here]\n" + "c" * 1000,
    ]
    assert (sink.status, sink.summary) == (200, "Short.")
    assert sink.headers["x-turnwire-dropped"] == "all but 2000 characters of longer tool outputs"


@pytest.mark.usefixtures("nothing_left")
@pytest.mark.parametrize("items", [TASK, [*TASK, CALL, {**OUTPUT, "output": "x" * 3000}]])
async def test_a_conversation_that_stays_too_long_is_refused_as_such(tmp_path: Path, items: list[Any]) -> None:
    async with (
        ScriptedServer(lambda _: Turn(fault=TOO_LONG)) as server,
        rig(server.base_url, tmp_path) as gateway,
    ):
        sink = await gateway.ask(request(items))
    assert (sink.status, sink.document["error"]["code"]) == (400, "context_length_exceeded")


@pytest.mark.usefixtures("nothing_left")
@pytest.mark.parametrize(
    ("fault", "status", "message"),
    [
        (Status(429, "slower", headers={"retry-after": "3"}), 429, "slower"),
        (Status(401, "who?"), 400, "the key that the gateway itself uses was refused"),
        (ErrorEvent(1, "died"), 502, "died"),
        (CutCleanly(200), 502, "cut off"),
    ],
)
async def test_an_upstreams_failure_is_told_to_the_client(
    tmp_path: Path, fault: Fault, status: int, message: str
) -> None:
    async with (
        ScriptedServer([Turn(text=["a", "b"], fault=fault)]) as server,
        rig(server.base_url, tmp_path) as gateway,
    ):
        sink = await gateway.ask(request())
    assert (sink.status, message in sink.document["error"]["message"]) == (status, True)


@pytest.mark.usefixtures("nothing_left")
async def test_a_client_that_leaves_takes_the_upstreams_request_along(tmp_path: Path) -> None:
    asked = asyncio.Event()
    async with ScriptedServer(stalling(asked)) as server, rig(server.base_url, tmp_path) as gateway:
        sink = HeldSink()
        asking = asyncio.create_task(gateway.ask(request(), sink=sink))
        await asked.wait()
        sink.leaves.set()
        await asking
        await server.wait_idle()
    assert (len(server.abandoned), sink.status) == (1, 0)


@pytest.mark.usefixtures("nothing_left")
async def test_a_gateway_that_ends_tells_the_client_so(tmp_path: Path) -> None:
    asked = asyncio.Event()
    async with ScriptedServer(stalling(asked)) as server, rig(server.base_url, tmp_path) as gateway:
        sink = HeldSink()
        asking = asyncio.create_task(gateway.ask(request(), sink=sink))
        await asked.wait()
        asking.cancel()
        await asyncio.wait((asking,))
    assert (sink.status, sink.document["error"]["message"]) == (503, "the gateway is shutting down")


@pytest.mark.usefixtures("nothing_left")
async def test_a_responses_upstream_compacts_by_itself(tmp_path: Path) -> None:
    turn = Turn(text="Folded.", usage=USAGE, token="upstream-token")
    async with ScriptedServer([turn]) as server, rig(server.base_url, tmp_path, wire_api="responses") as gateway:
        before = {"id": "resp_0", "status": "completed", "output": [said("assistant", "Yes?")]}
        await gateway.store.put(CALLER.tenant, StoredResponse.of(before, input_items=[said("user", "Hello")]))
        fields = {"model": "m", "previous_response_id": "resp_0", "input": [SEALED], "service_tier": "flex"}
        sink = await gateway.ask({**fields, "stream": True}, {"session-id": "s"})
    (asked,) = server.requests
    assert (asked.path, asked.headers["session-id"]) == ("/v1/responses/compact", "s")
    assert asked.json == {
        "model": "real",
        "input": [said("user", "Hello"), said("assistant", "Yes?"), unsealed_item(SEALED)],
        "service_tier": "flex",
    }
    assert (sink.document["object"], sink.document["output"][0]["content"][0]["text"]) == (
        "response.compaction",
        "Folded.",
    )
    assert "x-codex-turn-state" in sink.headers


@pytest.mark.usefixtures("nothing_left")
@pytest.mark.parametrize("status", [404, 405, 501])
async def test_a_responses_upstream_without_the_endpoint_is_asked_for_a_summary(tmp_path: Path, status: int) -> None:
    turns = [Turn(fault=Status(status)), Turn(text="Summed up.", usage=USAGE)]
    async with (
        ScriptedServer(turns, strict=True) as server,
        rig(server.base_url, tmp_path, wire_api="responses") as gateway,
    ):
        sink = await gateway.ask(request([*TASK, SEALED], prompt_cache_key="thread"))
    assert [asked.path for asked in server.requests] == ["/v1/responses/compact", "/v1/responses"]
    sent = server.requests[1].json
    assert sent["input"][:-1] == [*TASK, unsealed_item(SEALED)]
    assert {key: value for key, value in sent.items() if key != "input"} == {
        "model": "real",
        "store": False,
        "stream": True,
        "prompt_cache_key": "thread",
    }
    assert [item["type"] for item in sink.document["output"]] == ["message", "message", "compaction"]
    assert (sink.summary, sink.document["usage"]["total_tokens"]) == ("Summed up.", 77)


@pytest.mark.usefixtures("nothing_left")
async def test_another_refusal_of_the_endpoint_is_the_clients(tmp_path: Path) -> None:
    async with (
        ScriptedServer([Turn(fault=Status(403, "not you"))]) as server,
        rig(server.base_url, tmp_path, wire_api="responses") as gateway,
    ):
        sink = await gateway.ask(request())
    assert (sink.status, sink.document["error"]["code"], len(server.requests)) == (400, "upstream_refused_key", 1)


@pytest.mark.usefixtures("nothing_left")
async def test_llama_cpp_summarises_a_conversation_and_goes_on_from_it(tmp_path: Path) -> None:
    async with LlamaServer(context_size=8192) as server:
        models = {"m": server.model_name}
        async with rig(server.base_url, tmp_path, models=models) as gateway:
            first = await gateway.ask(request())
            again = await gateway.ask(request([*first.document["output"], said("user", "And now?")]))
    assert first.summary == again.summary == "Hello! Zürich sends you 21 °C and a 🌦 of its own."
    assert again.document["usage"]["input_tokens"] > len("Hello! Zürich sends you")
