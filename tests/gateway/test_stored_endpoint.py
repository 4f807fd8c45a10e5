from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import msgspec
import pytest
import uvicorn
from openai import AsyncOpenAI, BadRequestError, NotFoundError
from starlette.applications import Starlette
from starlette.types import ASGIApp

from tests.gateway.keeping import asked, document, said, turn
from turnwire.errors import RetryableError
from turnwire.gateway.background import Background, BackgroundLimits
from turnwire.gateway.caller import Caller, Unauthorized
from turnwire.gateway.sink import Sink
from turnwire.gateway.sqlite_store import SqliteStore
from turnwire.gateway.store import StoredResponse
from turnwire.gateway.stored_endpoint import send_events, stored_routes
from turnwire.wire.sse import encode_event

pytestmark = pytest.mark.usefixtures("nothing_left")

QUEUED = StoredResponse.of(document("resp_1", status="queued", background=True))
DONE = document("resp_1", said("done"), background=True)


def event(number: int, kind: str, **fields: Any) -> bytes:
    return encode_event(msgspec.json.encode({"type": kind, "sequence_number": number, **fields}), kind)


CREATED = event(0, "response.created", response=document("resp_1", status="in_progress", background=True))
COMPLETED = event(1, "response.completed", response=DONE)


def identify(headers: Mapping[str, str], host: str | None) -> Caller:
    """The key is the tenant."""
    key = headers.get("authorization", "").removeprefix("Bearer ")
    if not key:
        raise Unauthorized("no API key came with the request")
    return Caller("test", key)


class Answer:
    """What an ASGI application answered."""

    def __init__(self) -> None:
        self.messages: list[Any] = []
        self.over = asyncio.Event()

    async def take(self, message: Any) -> None:
        self.messages.append(message)
        if message["type"] == "http.response.body" and not message.get("more_body"):
            self.over.set()

    @property
    def status(self) -> int:
        return self.messages[0]["status"]

    @property
    def headers(self) -> dict[str, str]:
        return {name.decode(): value.decode() for name, value in self.messages[0]["headers"]}

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.messages[1:])

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)

    @property
    def error(self) -> str:
        return self.json["error"]["message"]


async def ask(
    app: ASGIApp, method: str, target: str, *, key: str = "tenant-a", client: Any = ("127.0.0.1", 1)
) -> Answer:
    path, _, query = target.partition("?")
    answer = Answer()

    async def receive() -> dict[str, Any]:
        await answer.over.wait()
        return {"type": "http.disconnect"}

    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": query.encode(),
        "headers": [(b"authorization", f"Bearer {key}".encode())],
        "client": client,
    }
    await app(scope, receive, answer.take)
    return answer


@pytest.fixture
async def store():
    store = SqliteStore(":memory:", ttl=1000, max_size=1_000_000)
    yield store
    await store.close()


@pytest.fixture
async def background(store: SqliteStore):
    background = Background(store, BackgroundLimits(renewal_interval=0.01))
    yield background
    await background.close()


@pytest.fixture
def app(store: SqliteStore, background: Background) -> Starlette:
    return Starlette(routes=stored_routes(store, background, identify))


@pytest.fixture
async def url(app: Starlette) -> AsyncIterator[str]:
    config = uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error", lifespan="off", ws="none")
    config.load()
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    await server.startup()
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/v1"
    await server.shutdown()


async def test_a_response_is_given_as_it_was_kept(app: ASGIApp, store: SqliteStore) -> None:
    await store.put("tenant-a", turn("resp_1", "?", "!"))
    answer = await ask(app, "GET", "/v1/responses/resp_1?include=reasoning.encrypted_content")
    assert answer.json == document("resp_1", said("!"))
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("GET", "/v1/responses/resp_1"),
        ("GET", "/v1/responses/resp_1?stream=true"),
        ("DELETE", "/v1/responses/resp_1"),
        ("GET", "/v1/responses/resp_1/input_items"),
        ("POST", "/v1/responses/resp_1/cancel"),
    ],
)
async def test_what_is_not_kept_for_the_caller_is_not_found(
    app: ASGIApp, store: SqliteStore, method: str, target: str
) -> None:
    await store.put("tenant-b", turn("resp_1", "?", "!"), CREATED)
    answer = await ask(app, method, target)
    assert answer.status == 404
    assert answer.json == {
        "error": {
            "message": "no response 'resp_1' is kept here: it was not stored, has expired, or was deleted",
            "type": "invalid_request_error",
            "param": None,
            "code": None,
        }
    }
    assert await store.get("tenant-b", "resp_1") is not None


@pytest.mark.parametrize("client", [("127.0.0.1", 1), None])
async def test_a_caller_without_a_key_is_refused(app: ASGIApp, client: Any) -> None:
    answer = await ask(app, "GET", "/v1/responses/resp_1", key="", client=client)
    assert (answer.status, answer.error) == (401, "no API key came with the request")


async def test_a_deleted_response_is_gone(app: ASGIApp, store: SqliteStore) -> None:
    await store.put("tenant-a", turn("resp_1", "?", "!"))
    answer = await ask(app, "DELETE", "/v1/responses/resp_1")
    assert (answer.status, answer.json) == (200, {"id": "resp_1", "object": "response", "deleted": True})
    assert (await ask(app, "GET", "/v1/responses/resp_1")).status == 404


ITEMS = [asked(str(number)) | {"type": "message", "id": f"msg_{number}"} for number in range(25)]


def page(names: Sequence[int], *, more: bool) -> dict[str, Any]:
    data = [
        {**ITEMS[name], "status": "completed", "content": [{"type": "input_text", "text": str(name)}]} for name in names
    ]
    first, last = (data[0]["id"], data[-1]["id"]) if data else (None, None)
    return {"object": "list", "data": data, "first_id": first, "last_id": last, "has_more": more}


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", page(range(24, 4, -1), more=True)),
        ("?after=msg_5", page(range(4, -1, -1), more=False)),
        ("?limit=100", page(range(24, -1, -1), more=False)),
        ("?limit=25", page(range(24, -1, -1), more=False)),
        ("?limit=2&order=asc", page([0, 1], more=True)),
        ("?limit=2&order=asc&after=msg_1", page([2, 3], more=True)),
        ("?order=asc&after=msg_24", page([], more=False)),
    ],
)
async def test_input_items_come_in_pages(app: ASGIApp, store: SqliteStore, query: str, expected: Any) -> None:
    await store.put("tenant-a", StoredResponse.of(DONE, input_items=ITEMS))
    answer = await ask(app, "GET", f"/v1/responses/resp_1/input_items{query}")
    assert (answer.status, answer.json) == (200, expected)


async def test_the_input_of_a_response_is_all_that_went_before_it(app: ASGIApp, store: SqliteStore) -> None:
    await store.put("tenant-a", turn("resp_1", "a?", "a"))
    await store.put("tenant-a", turn("resp_2", "b?", "b", previous="resp_1"))
    answer = await ask(app, "GET", "/v1/responses/resp_2/input_items?order=asc")
    assert [(item["id"], item["content"][0]["text"]) for item in answer.json["data"]] == [
        ("msg_in_2_0", "a?"),
        ("msg_a", "a"),
        ("msg_in_2_2", "b?"),
    ]


async def test_an_input_that_is_not_kept_whole_is_not_found(app: ASGIApp, store: SqliteStore) -> None:
    await store.put("tenant-a", turn("resp_2", "b?", "b", previous="resp_1"))
    answer = await ask(app, "GET", "/v1/responses/resp_2/input_items")
    assert (answer.status, answer.error) == (
        404,
        "the input of the response 'resp_2' is not kept whole: it goes on from a response that has expired, or was "
        "deleted",
    )


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("/input_items?limit=0", "limit: expected a whole number from 1 to 100, not '0'"),
        ("/input_items?limit=101", "limit: expected a whole number from 1 to 100, not '101'"),
        ("/input_items?limit=ten", "limit: expected a whole number from 1 to 100, not 'ten'"),
        ("/input_items?order=random", "order: expected asc or desc, not 'random'"),
        ("/input_items?after=msg_x", "after: the list has no item 'msg_x'"),
        ("?stream=maybe", "stream: expected true or false, not 'maybe'"),
        ("?stream=true&starting_after=-1", "starting_after: expected a whole number from 0, not '-1'"),
    ],
)
async def test_a_query_that_makes_no_sense_is_refused(
    app: ASGIApp, store: SqliteStore, target: str, message: str
) -> None:
    await store.put("tenant-a", turn("resp_1", "?", "!"))
    answer = await ask(app, "GET", f"/v1/responses/resp_1{target}")
    assert (answer.status, answer.error) == (400, message)


async def test_a_stream_is_read_again_from_any_event(app: ASGIApp, store: SqliteStore) -> None:
    await store.put("tenant-a", StoredResponse.of(DONE), CREATED + COMPLETED)
    whole = await ask(app, "GET", "/v1/responses/resp_1?stream=true")
    assert (whole.status, whole.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
    assert whole.body == CREATED + COMPLETED
    assert (await ask(app, "GET", "/v1/responses/resp_1?stream=true&starting_after=0")).body == COMPLETED
    assert (await ask(app, "GET", "/v1/responses/resp_1?stream=false&starting_after=0")).json == DONE


async def test_a_response_that_does_not_run_can_not_be_cancelled(app: ASGIApp, store: SqliteStore) -> None:
    await store.put("tenant-a", turn("resp_1", "?", "!"))
    answer = await ask(app, "POST", "/v1/responses/resp_1/cancel")
    assert answer.status == 400
    assert "only one that was created with background can" in answer.error


async def waiting(sink: Sink) -> None:
    await sink.write([CREATED])
    await asyncio.Event().wait()


async def test_a_cancelled_response_says_so(app: ASGIApp, background: Background) -> None:
    await background.start("tenant-a", QUEUED, waiting)
    for _ in range(2):  # twice is as good as once
        answer = await ask(app, "POST", "/v1/responses/resp_1/cancel")
        assert (answer.status, answer.json["status"]) == (200, "cancelled")


async def test_a_client_that_leaves_is_no_longer_written_to(background: Background) -> None:
    await background.start("tenant-a", QUEUED, waiting)
    written, gone = asyncio.Event(), asyncio.Event()

    class Client(Answer):
        async def begin(self, headers: Mapping[str, str]) -> None:
            pass

        async def write(self, events: Sequence[bytes]) -> None:
            written.set()

        async def left(self) -> None:
            await gone.wait()

    events = await background.events("tenant-a", "resp_1")
    following = asyncio.create_task(send_events(events, Client(), client_timeout=60))  # type: ignore[arg-type]
    await written.wait()
    gone.set()
    await following


async def test_a_client_that_does_not_read_is_left(
    app: ASGIApp, store: SqliteStore, background: Background, caplog: pytest.LogCaptureFixture
) -> None:
    routes = stored_routes(store, background, identify, client_timeout=0.01)
    await store.put("tenant-a", StoredResponse.of(DONE), CREATED + COMPLETED)

    class Deaf(Answer):
        async def take(self, message: Any) -> None:
            await super().take(message)
            if message["type"] == "http.response.body":
                await asyncio.Event().wait()

    deaf = Deaf()
    scope = {
        "type": "http",
        "method": "GET",
        "path": "/v1/responses/resp_1",
        "query_string": b"stream=true",
        "headers": [(b"authorization", b"Bearer tenant-a")],
        "client": None,
    }
    with caplog.at_level(logging.WARNING):
        await Starlette(routes=routes)(scope, asyncio.Event().wait, deaf.take)  # type: ignore[arg-type]
    assert not deaf.over.is_set()
    assert [record.message for record in caplog.records] == ["a client did not read for 0.01 s and was left"]


async def test_a_stream_that_breaks_off_says_why(store: SqliteStore) -> None:
    async def sleep(_: float) -> None:
        await store.delete("tenant-a", "resp_1")

    await store.put("tenant-a", StoredResponse.of(document("resp_1", status="queued"), running_until=2e10))
    app = Starlette(routes=stored_routes(store, Background(store, sleep=sleep), identify))
    answer = await ask(app, "GET", "/v1/responses/resp_1?stream=true")
    assert (answer.status, answer.body) == (
        200,
        b'event: keepalive\ndata: {"type":"keepalive"}\n\n'
        b'event: error\ndata: {"type":"error","code":"server_error","message":"no response \'resp_1\' is kept here: '
        b'it was not stored, has expired, or was deleted","param":null}\n\n',
    )


async def test_a_defect_while_writing_is_not_hidden() -> None:
    class Broken(Answer):
        async def begin(self, headers: Mapping[str, str]) -> None:
            raise RetryableError("broken")

        async def left(self) -> None:
            await asyncio.Event().wait()

    async def events() -> Any:
        yield [CREATED]

    with pytest.raises(RetryableError, match="broken"):
        await send_events(events(), Broken(), client_timeout=60)  # type: ignore[arg-type]


async def test_the_sdk_retrieves_lists_follows_cancels_and_deletes(
    url: str, store: SqliteStore, background: Background
) -> None:
    full = {"created_at": 1.0, "model": "m", "parallel_tool_calls": True, "tool_choice": "auto", "tools": []}
    await store.put("tenant-a", StoredResponse.of({**DONE, **full}, input_items=ITEMS), CREATED + COMPLETED)
    await background.start("tenant-a", StoredResponse.of(document("resp_2", status="queued", **full)), waiting)
    async with AsyncOpenAI(base_url=url, api_key="tenant-a", max_retries=0) as client:
        assert (await client.responses.retrieve("resp_1")).output_text == "done"
        listed = [item.id async for item in client.responses.input_items.list("resp_1", limit=10, order="asc")]
        assert listed == [item["id"] for item in ITEMS]
        async with await client.responses.retrieve("resp_1", stream=True, starting_after=0) as stream:
            assert [event.type async for event in stream] == ["response.completed"]
        async with await client.responses.retrieve("resp_2", stream=True) as stream:
            assert (await anext(aiter(stream))).type == "response.created"
        assert (await client.responses.cancel("resp_2")).status == "cancelled"
        await client.responses.delete("resp_1")
        with pytest.raises(NotFoundError, match="no response 'resp_1' is kept here"):
            await client.responses.retrieve("resp_1")
        await store.put("tenant-a", turn("resp_3", "?", "!"))
        with pytest.raises(BadRequestError, match="can't be cancelled"):
            await client.responses.cancel("resp_3")
