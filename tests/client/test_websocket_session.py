"""Connections over turns: what is sent on them, who may use them, and when HTTP takes their place."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.client.hearing import hear, impatient, session_with
from tests.client.wires import (
    AUTO,
    SOCKET,
    Conversation,
    connections,
    conversation,
    given,
    sent,
    tokens,
    user,
    wires,
)
from turnwire import (
    ApiError,
    Completed,
    Created,
    FunctionCall,
    HttpStatusError,
    InvalidPrompt,
    ModelClient,
    ModelClientSession,
    OutputTextDelta,
    Prompt,
    Provider,
    RateLimited,
    ServerOverloaded,
)
from turnwire.errors import PreviousResponseNotFound
from turnwire.telemetry import WebsocketConnectRecord, WebsocketPollRecord
from turnwire.testing import (
    Close,
    ConnectionLimit,
    CutCleanly,
    ErrorEvent,
    Failed,
    Fault,
    ResetAfter,
    ScriptedServer,
    Stall,
    Status,
    Truncate,
    Turn,
)

pytestmark = pytest.mark.usefixtures("nothing_left")

CALL = Turn(text="Let me look.", calls=[FunctionCall("get_weather", '{"city":"Zürich"}', "call_1")])
HELLO = Turn(text=["Grü", "ezi"])
CREATED = 1000
"""Bytes after which `Created` has come, and no more."""


async def test_a_follow_up_sends_only_what_is_new_and_the_server_knows_the_rest() -> None:
    async with ScriptedServer([CALL, HELLO, HELLO], strict=True) as server, conversation(server, **SOCKET) as turn:
        await turn.ask()
        await turn.ask()
        turn.say("And tomorrow?")
        await turn.ask()
        assert sent(server) == [(None, 1), ("resp_1", 1), ("resp_2", 1)]
        assert given(server) == [1, 4, 6]
        assert [item["type"] for item in server.requests[1].input] == [
            "message",
            "message",
            "function_call",
            "function_call_output",
        ]
        whole = server.requests[2].input
        assert [item["content"][0]["text"] for item in whole if item["type"] == "message"] == [
            "Hello",
            "Let me look.",
            "Grüezi",
            "And tomorrow?",
        ]


async def test_a_history_that_changed_is_sent_whole() -> None:
    async with ScriptedServer([HELLO] * 3, strict=True) as server, conversation(server, **SOCKET) as turn:
        await turn.ask()
        turn.history[0] = user("Hello again")
        turn.say("more")
        await turn.ask()
        turn.history.pop(1)
        turn.say("more")
        await turn.ask()
        assert sent(server) == [(None, 1), (None, 3), (None, 4)]
        assert connections(server) == [0, 0, 0]


async def test_an_answer_that_is_asked_for_again_is_asked_for_whole() -> None:
    async with ScriptedServer([HELLO] * 2, strict=True) as server, session_with(server, **SOCKET) as session:
        for _ in range(2):
            await hear(session.stream("Hello"))
        assert sent(server) == [(None, 1), (None, 1)]


async def test_after_a_reconnect_all_is_sent(pauses: list[float]) -> None:
    script = [CALL, Turn(fault=Truncate(30)), HELLO]
    async with (
        ScriptedServer(script, strict=True) as server,
        conversation(server, stream_max_retries=1, **SOCKET) as turn,
    ):
        await turn.ask()
        await turn.ask()
        assert sent(server) == [(None, 1), ("resp_1", 1), (None, 4)]
        assert given(server) == [1, 4, 4]
        assert connections(server) == [0, 0, 1]


@pytest.mark.parametrize("retries", [0, 5])
async def test_a_response_that_the_server_forgot_is_made_up_for_at_once(pauses: list[float], retries: int) -> None:
    forgot = Turn(fault=ErrorEvent(0, "no such response", "previous_response_not_found", "invalid_request_error"))
    async with (
        ScriptedServer([CALL, forgot, HELLO], strict=True, token="replica-7") as server,
        conversation(server, stream_max_retries=retries, **SOCKET) as turn,
    ):
        await turn.ask()
        await turn.ask()
        assert sent(server) == [(None, 1), ("resp_1", 1), (None, 4)]
        assert tokens(server) == [None, "replica-7", "replica-7"]
        assert pauses == []


async def test_a_server_that_never_finds_a_response_is_given_up(pauses: list[float]) -> None:
    forgot = Turn(fault=ErrorEvent(0, "no such response", "previous_response_not_found"))
    async with ScriptedServer([forgot] * 2) as server, session_with(server, **SOCKET) as session:
        assert type((await hear(session.stream("Hello"))).error) is PreviousResponseNotFound
        assert len(server.requests) == 2


async def test_a_connection_that_is_too_old_is_replaced_at_once(pauses: list[float]) -> None:
    script = [CALL, Turn(fault=ConnectionLimit()), HELLO]
    async with ScriptedServer(script, strict=True) as server, conversation(server, **SOCKET) as turn:
        await turn.ask()
        await turn.ask()
        assert connections(server) == [0, 0, 1]
        assert sent(server) == [(None, 1), ("resp_1", 1), (None, 4)]
        assert pauses == []


@pytest.mark.parametrize("end", [CutCleanly(10**6), Truncate(10**6), ResetAfter(10**6)], ids=repr)
async def test_a_connection_that_the_server_closed_meanwhile_is_replaced(end: Fault, pauses: list[float]) -> None:
    async with (
        ScriptedServer([Turn(text="hi", fault=end), HELLO], strict=True) as server,
        conversation(server, stream_max_retries=1, **SOCKET) as turn,
    ):
        await turn.ask()
        await server.wait_idle()
        turn.say("more")
        await turn.ask()
        assert connections(server) == [0, 1]
        assert sent(server) == [(None, 1), (None, 3)]


async def test_one_connection_goes_from_turn_to_turn() -> None:
    async with ScriptedServer([HELLO] * 3, strict=True) as server:
        async with ModelClient(impatient(server.base_url, **SOCKET)) as client:
            for text in ("a", "b", "c"):
                async with client.new_session() as session:
                    await hear(session.stream(text))
        assert connections(server) == [0, 0, 0]
        assert sent(server) == [(None, 1)] * 3


async def test_a_busy_connection_is_not_shared_and_frames_do_not_mix() -> None:
    def script(request: Any) -> Turn:
        name = request.input[0]["content"][0]["text"]
        return Turn(text=[f"{name}{number} " for number in range(20)], interval=0.0)

    async with ScriptedServer(script, strict=True) as server:
        async with ModelClient(impatient(server.base_url, **SOCKET)) as client:

            async def one(name: str) -> str:
                async with client.new_session() as session:
                    stream = session.stream(name)
                    assert (await hear(stream)).error is None
                    return stream.text

            names = "abcd"
            texts = await asyncio.gather(*map(one, names))
            assert texts == ["".join(f"{name}{number} " for number in range(20)) for name in names]
            assert sorted(connections(server)) == [0, 1, 2, 3]
            await one("e")
            assert connections(server)[4] in (0, 1, 2, 3)
        assert len(server.handshakes) == 4


async def test_two_streams_of_one_session_have_a_connection_each() -> None:
    async with (
        ScriptedServer([Turn(text=["one", "1"]), Turn(text=["two", "2"])], token="replica-7") as server,
        session_with(server, **SOCKET) as session,
        session.stream("a") as first,
        session.stream("b") as second,
    ):
        heard: dict[str, str] = {"first": "", "second": ""}
        streams = {"first": aiter(first), "second": aiter(second)}
        while streams:
            for name, stream in list(streams.items()):
                try:
                    event = await anext(stream)
                except StopAsyncIteration:
                    del streams[name]
                    continue
                if isinstance(event, OutputTextDelta):
                    heard[name] += event.delta
        assert heard == {"first": "one1", "second": "two2"}
        assert connections(server) == [0, 1]


async def test_a_warm_up_answers_nothing_and_the_turn_goes_on_from_it() -> None:
    async with ScriptedServer([HELLO, HELLO], strict=True) as server:
        async with session_with(server, **SOCKET) as session:
            await session.warm_up("Hello")
            turn = Conversation(session)
            assert (await turn.ask()).text == "Grüezi"
            turn.say("more")
            await turn.ask()
        assert sent(server) == [(None, 1), ("resp_1", 0), ("resp_2", 1)]
        assert given(server) == [1, 1, 3]
        assert [request.json.get("generate") for request in server.requests] == [False, None, None]
        assert connections(server) == [0, 0, 0]


@pytest.mark.parametrize("changes", [{"wire_api": "responses"}, {}, AUTO], ids=["responses", "chat", "given-up"])
async def test_without_a_websocket_nothing_is_warmed_up(changes: dict[str, Any]) -> None:
    async with (
        ScriptedServer([HELLO] * 2, handshakes=Status(426)) as server,
        session_with(server, **changes) as session,
    ):
        if changes is AUTO:
            await hear(session.stream("Hello"))
        before = len(server.requests)
        await session.warm_up("Hello")
        assert len(server.requests) == before


@pytest.mark.parametrize("status", [404, 405, 426])
async def test_a_server_without_a_websocket_is_asked_by_http_at_once_and_for_good(
    status: int, pauses: list[float]
) -> None:
    refusal = Status(status, headers={"upgrade": "websocket"})
    async with ScriptedServer([CALL, HELLO, HELLO], handshakes=refusal, token="replica-7") as server:
        async with ModelClient(impatient(server.base_url, **AUTO)) as client:
            async with client.new_session() as session:
                turn = Conversation(session)
                await turn.ask()
                await turn.ask()
            async with client.new_session() as session:
                await hear(session.stream("Hello"))
        assert wires(server) == ["responses"] * 3
        assert tokens(server) == [None, "replica-7", None]
        assert len(server.handshakes) == 1
        assert pauses == []


@pytest.mark.parametrize(
    ("retries", "handshakes"), [(0, 1), (1, 2), (5, 3)], ids=["no-retries", "one-retry", "more-than-enough"]
)
async def test_handshakes_that_keep_failing_are_given_up_for_http(
    retries: int, handshakes: int, pauses: list[float]
) -> None:
    async with (
        ScriptedServer([HELLO], handshakes=Status(500)) as server,
        session_with(server, request_max_retries=retries, **AUTO) as session,
    ):
        assert (await hear(session.stream("Hello"))).error is None
        assert wires(server) == ["responses"]
        assert len(server.handshakes) == handshakes
        assert len(pauses) == handshakes - 1


async def test_a_handshake_that_fails_once_is_tried_again(pauses: list[float]) -> None:
    async with (
        ScriptedServer([HELLO], handshakes=[Status(503, headers={"retry-after": "3"})]) as server,
        session_with(server, request_max_retries=1, **AUTO) as session,
    ):
        assert (await hear(session.stream("Hello"))).error is None
        assert wires(server) == ["websocket"]
        assert pauses == [3.0]


async def test_answers_that_keep_breaking_off_are_given_up_for_http(pauses: list[float]) -> None:
    async with (
        ScriptedServer([*[Turn(fault=Close(1011))] * 3, HELLO]) as server,
        session_with(server, stream_max_retries=3, **AUTO) as session,
    ):
        assert (await hear(session.stream("Hello"))).error is None
        assert wires(server) == ["websocket"] * 3 + ["responses"]


async def test_breaks_with_an_answer_between_them_are_not_in_a_row(pauses: list[float]) -> None:
    broken = Turn(fault=Close(1011))
    async with (
        ScriptedServer([broken, broken, HELLO, broken, broken, HELLO]) as server,
        session_with(server, stream_max_retries=2, **AUTO) as session,
    ):
        for _ in range(2):
            assert (await hear(session.stream("Hello"))).error is None
        assert wires(server) == ["websocket"] * 6


async def test_who_wants_a_websocket_and_nothing_else_gets_nothing_else(pauses: list[float]) -> None:
    async with (
        ScriptedServer([Turn(fault=Close(1011))] * 5) as server,
        session_with(server, stream_max_retries=4, **SOCKET) as session,
    ):
        assert (await hear(session.stream("Hello"))).error is not None
        assert wires(server) == ["websocket"] * 5


@pytest.mark.parametrize(
    ("refusal", "kind", "sentence"),
    [
        (Status(426), HttpStatusError, "answered 426: the scripted server says no"),
        (Status(404), HttpStatusError, "answered 404: the scripted server says no (check the base_url"),
        (Status(401, "who are you?"), HttpStatusError, "answered 401: who are you? (check the api key)"),
        (Status(400, "no such header"), InvalidPrompt, "no such header"),
        (Status(429, headers={"retry-after": "7"}), RateLimited, "the scripted server says no"),
        (Status(503), ServerOverloaded, "the scripted server says no"),
        (Status(500), HttpStatusError, "(WebSocket) answered 500"),
    ],
    ids=lambda value: repr(value)[:20],
)
async def test_a_refused_handshake_is_told_as_any_refusal(refusal: Status, kind: type[ApiError], sentence: str) -> None:
    async with ScriptedServer(handshakes=refusal) as server, session_with(server, **SOCKET) as session:
        heard = await hear(session.stream("Hello"))
        assert (type(heard.error), heard.events) == (kind, [])
        assert sentence in str(heard.error)
        assert heard.error is not None
        assert heard.error.response is not None
        assert heard.error.response.status == refusal.status
        if isinstance(heard.error, RateLimited):
            assert heard.error.delay == 7


async def test_a_key_function_is_asked_once_more_after_a_401_handshake() -> None:
    keys = iter(["old", "new"])

    async def key() -> str:
        return next(keys)

    async with (
        ScriptedServer([HELLO], api_key="new") as server,
        session_with(server, api_key=key, **SOCKET) as session,
    ):
        assert (await hear(session.stream("Hello"))).error is None
        assert [handshake.headers["authorization"] for handshake in server.handshakes] == ["Bearer old", "Bearer new"]


@pytest.mark.parametrize("wire", [SOCKET, AUTO, {"wire_api": "responses"}], ids=["websocket", "auto", "responses"])
async def test_a_key_that_stays_wrong_is_told_after_one_more_try(wire: dict[str, Any]) -> None:
    asked: list[str] = []

    def key() -> str:
        asked.append("wrong")
        return "wrong"

    async with ScriptedServer(api_key="right") as server, session_with(server, api_key=key, **wire) as session:
        heard = await hear(session.stream("Hello"))
        assert isinstance(heard.error, HttpStatusError)
        assert heard.error.status == 401
        assert len(asked) == 2


async def test_an_error_closes_the_connection_and_the_next_request_is_whole() -> None:
    for fault in (Failed("invalid_prompt"), ErrorEvent(code="invalid_prompt")):
        async with (
            ScriptedServer([CALL, Turn(fault=fault), HELLO], strict=True) as server,
            conversation(server, **SOCKET) as turn,
        ):
            await turn.ask()
            with pytest.raises(InvalidPrompt):
                await turn.ask()
            await turn.ask()
            assert connections(server) == [0, 0, 1]
            assert sent(server)[2] == (None, 4)


async def test_a_cancelled_stream_closes_its_connection() -> None:
    silent = Turn(text="a", fault=Stall(CREATED))
    async with ScriptedServer([silent]) as server, session_with(server, **SOCKET) as session:
        begun = asyncio.Event()

        async def read() -> None:
            async with session.stream("Hello") as stream:
                async for _ in stream:
                    begun.set()

        task = asyncio.create_task(read())
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await server.wait_idle()
        assert server.abandoned == server.requests


async def test_a_stream_that_is_left_early_closes_its_connection() -> None:
    silent = Turn(text="a", fault=Stall(CREATED))
    async with ScriptedServer([silent, HELLO]) as server, session_with(server, **SOCKET) as session:
        async with session.stream("Hello") as stream:
            async for _ in stream:
                break
        await server.wait_idle()
        assert server.abandoned == server.requests
        assert (await hear(session.stream("Hello"))).error is None
        assert connections(server) == [0, 1]


async def test_a_cancelled_handshake_leaves_nothing() -> None:
    opened = asyncio.Event()

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        opened.set()
        await reader.read()  # the handshake, and then the client's end
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        async with ModelClient(impatient(f"http://127.0.0.1:{port}/v1", **SOCKET)) as client:
            task = asyncio.create_task(hear(client.new_session().stream("Hello")))
            await opened.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task


async def test_leaving_the_client_closes_what_is_open() -> None:
    async with ScriptedServer([HELLO, Turn(fault=Stall(CREATED))]) as server:
        async with ModelClient(impatient(server.base_url, **SOCKET)) as client:
            await hear(client.new_session().stream("Hello"))
            stream = client.new_session().stream("Hello")
            assert isinstance(await anext(stream), Created)
        await server.wait_idle()
        assert server.abandoned == server.requests[1:]


async def test_telemetry_is_told_of_handshakes_and_of_waits() -> None:
    class Telemetry:
        def __init__(self) -> None:
            self.connects: list[WebsocketConnectRecord] = []
            self.polls: list[WebsocketPollRecord] = []

        def on_websocket_connect(self, record: WebsocketConnectRecord) -> None:
            self.connects.append(record)

        def on_websocket_poll(self, record: WebsocketPollRecord) -> None:
            self.polls.append(record)

    telemetry = Telemetry()
    async with ScriptedServer([Turn(text="hi")], handshakes=[Status(401)]) as server:
        provider = impatient(server.base_url, api_key=lambda: "k", query={"key": "secret"}, **SOCKET)
        async with (
            ModelClient(provider, websocket_telemetry=telemetry) as client,
            client.new_session() as session,
        ):
            heard = await hear(session.stream("Hello"))
        where = f"{server.base_url}/responses"
    assert [(record.provider, record.url, record.error) for record in telemetry.connects] == [
        ("scripted", where, "HttpStatusError"),
        ("scripted", where, None),
    ]
    assert {poll.outcome for poll in telemetry.polls} == {"events"}
    assert sum(poll.events for poll in telemetry.polls) == len(heard.events)
    assert isinstance(heard.events[0], Created)
    assert isinstance(heard.events[-1], Completed)


def test_a_prompt_that_makes_no_sense_is_refused_before_anything_is_sent() -> None:
    session = ModelClientSession(Provider("p", "http://127.0.0.1:1/v1", model="m", **SOCKET), None)  # type: ignore[arg-type]
    with pytest.raises(InvalidPrompt):
        session.stream(Prompt("Hello", tools=[{"name": "no type"}]))
