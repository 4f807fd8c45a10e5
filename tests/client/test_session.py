"""The token over real sockets: it lives exactly as long as its turn."""

from __future__ import annotations

import asyncio
from typing import Any, NamedTuple
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.client.hearing import HELLO, hear, hello_events, impatient, session_with
from turnwire import FunctionCall, FunctionCallOutput, InputText, Message, ModelClient, Prompt
from turnwire.client import TURN_STATE_HEADER
from turnwire.errors import ConfigurationError, InvalidPrompt
from turnwire.testing import (
    DropBeforeHead,
    Fault,
    RecordedRequest,
    ResetAfter,
    ScriptedServer,
    Stall,
    Status,
    Truncate,
    Turn,
)

pytestmark = pytest.mark.usefixtures("nothing_left")


def tokens(server: ScriptedServer) -> list[str | None]:
    """The token that each request brought."""
    return [request.headers.get(TURN_STATE_HEADER) for request in server.requests]


async def test_the_token_goes_out_with_the_follow_up_of_a_tool_and_not_with_the_next_turn() -> None:
    call = FunctionCall("get_weather", '{"city":"Zürich"}', "call_1")
    question = Message("user", [InputText("How warm is it?")])
    script = [Turn(calls=[call], token="replica-1"), Turn(text="21 °C", token="replica-2"), HELLO]
    async with ScriptedServer(script) as server, ModelClient(impatient(server.base_url)) as client:
        async with client.new_session() as turn:
            await hear(turn.stream(Prompt([question])))
            await hear(turn.stream(Prompt([question, call, FunctionCallOutput("call_1", "21 °C")])))
            assert turn.turn_state.get() == "replica-1"
        async with client.new_session() as turn:
            assert (await hear(turn.stream("Hello"))).events == hello_events(3)
            assert turn.turn_state.get() is None
    assert tokens(server) == [None, "replica-1", None]
    assert server.errors == []


@pytest.mark.parametrize(
    ("fault", "expected"),
    [(Status(503), [0.2]), (Status(500), [0.2]), (DropBeforeHead(), [])],
    ids=["503", "500", "a kept connection that is closed"],
)
async def test_the_token_goes_out_with_a_repeated_request(
    fault: Fault, expected: list[float], pauses: list[float]
) -> None:
    script = [Turn(text="one", token="first"), Turn(fault=fault), Turn(text="two")]
    async with ScriptedServer(script) as server, session_with(server, request_max_retries=1) as session:
        await hear(session.stream("one"))
        await hear(session.stream("two"))
    assert tokens(server) == [None, "first", "first"]
    assert pauses == expected


@pytest.mark.parametrize("fault", [ResetAfter(0), Truncate(0)], ids=["reset", "cut"])
async def test_a_response_that_breaks_before_its_first_event_has_given_its_token(
    fault: Fault, pauses: list[float]
) -> None:
    script = [Turn(text="lost", token="first", fault=fault), HELLO]
    async with ScriptedServer(script) as server, session_with(server, stream_max_retries=1) as session:
        assert await hear(session.stream("Hello")) == (hello_events(2), None)
    assert tokens(server) == [None, "first"]
    assert pauses == [0.2]


async def test_a_token_that_only_the_second_response_gives_goes_out_with_the_third_request() -> None:
    script = [HELLO, Turn(text="two", token="late"), HELLO]
    async with ScriptedServer(script) as server, session_with(server) as session:
        for _ in range(3):
            await hear(session.stream("Hello"))
    assert tokens(server) == [None, None, "late"]


@pytest.mark.parametrize(
    "value",
    ["", "x" * 8193, "a b", "a\tb", "a\x7fb", "caf\xe9"],
    ids=["empty", "oversized", "space", "tab", "del", "é"],
)
async def test_a_value_that_is_no_token_is_not_taken(value: str) -> None:
    def script(request: RecordedRequest) -> Turn:
        # "" would mean to the script that no header is sent
        return Turn(text="x", token="", headers={TURN_STATE_HEADER: value})

    async with ScriptedServer(script) as server, session_with(server) as session:
        await hear(session.stream("one"))
        assert session.turn_state.get() is None
        await hear(session.stream("two"))
    assert tokens(server) == [None, None]


async def test_the_longest_token_comes_back_whole() -> None:
    token = "x" * 8192
    async with ScriptedServer([HELLO, HELLO], token=token) as server, session_with(server) as session:
        await hear(session.stream("one"))
        await hear(session.stream("two"))
    assert tokens(server) == [None, token]


@pytest.mark.parametrize("status", [301, 400, 401, 404, 429, 500, 503])
async def test_a_response_that_says_no_hands_out_no_token(status: int) -> None:
    refusal = Status(status, headers={TURN_STATE_HEADER: "of-an-error"})
    async with ScriptedServer([Turn(fault=refusal), HELLO]) as server, session_with(server) as session:
        assert (await hear(session.stream("one"))).error is not None
        assert session.turn_state.get() is None
        await hear(session.stream("two"))
    assert tokens(server) == [None, None]


async def test_parallel_sessions_of_one_client_share_no_token() -> None:
    def script(request: RecordedRequest) -> Turn:
        return Turn(text="x", token=request.json["messages"][-1]["content"])

    async with ScriptedServer(script) as server, ModelClient(impatient(server.base_url)) as client:

        async def turn(name: str) -> None:
            async with client.new_session() as session:
                for number in range(4):
                    await hear(session.stream(f"{name}-{number}"))
                assert session.turn_state.get() == f"{name}-0"

        await asyncio.gather(*(turn(name) for name in "abcdef"))
    sent = {
        (request.json["messages"][-1]["content"], request.headers.get(TURN_STATE_HEADER)) for request in server.requests
    }
    assert sent == {(f"{name}-{n}", f"{name}-0" if n else None) for name in "abcdef" for n in range(4)}


async def test_a_token_that_was_set_by_hand_goes_out_with_the_first_request() -> None:
    async with ScriptedServer([HELLO], token="other") as server, session_with(server) as session:
        assert session.turn_state.set("mine")
        await hear(session.stream("Hello"))
    assert tokens(server) == ["mine"]
    assert session.turn_state.get() == "mine"


class Reply(NamedTuple):
    """What the server does with one request, and the token it hands out with that."""

    kind: str
    token: str | None

    @property
    def turn(self) -> Turn:
        headers = {TURN_STATE_HEADER: self.token} if self.token is not None else {}
        match self.kind:
            case "refused":
                return Turn(fault=Status(500, headers=headers))
            case "cut":
                return Turn(text="lost", headers=headers, fault=Truncate(0))
            case _:
                return Turn(text="x", headers=headers)


TOKENS = st.one_of(st.none(), st.sampled_from(["a", "b", "c", "", "no token"]))
REPLIES = st.builds(Reply, st.sampled_from(["refused", "cut"]), TOKENS)
EXCHANGES = st.tuples(st.lists(REPLIES, max_size=3), st.builds(Reply, st.just("ok"), TOKENS)).map(
    lambda exchange: [*exchange[0], exchange[1]]
)
SESSIONS = st.lists(st.lists(EXCHANGES, max_size=4), max_size=4)


def expected_tokens(sessions: list[list[list[Reply]]]) -> list[str | None]:
    """What the contract says of each request: the first good token of a success in its session, none before."""
    expected: list[str | None] = []
    for session in sessions:
        token = None
        for reply in (reply for exchange in session for reply in exchange):
            expected.append(token)
            if token is None and reply.kind != "refused" and reply.token in ("a", "b", "c"):
                token = reply.token
    return expected


async def _no_pause(_: float, result: Any = None) -> None:
    """Instead of `asyncio.sleep`."""


@given(SESSIONS)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_every_request_brings_the_first_token_that_a_success_of_its_session_gave(
    sessions: list[list[list[Reply]]],
) -> None:
    script = [reply.turn for session in sessions for exchange in session for reply in exchange]
    async with ScriptedServer(script) as server:
        provider = impatient(server.base_url, request_max_retries=3, stream_max_retries=3)
        with patch("asyncio.sleep", _no_pause):
            async with ModelClient(provider) as client:
                for exchanges in sessions:
                    async with client.new_session() as session:
                        for _ in exchanges:
                            assert (await hear(session.stream("Hello"))).error is None
    assert tokens(server) == expected_tokens(sessions)
    assert server.errors == []


async def test_leaving_a_session_closes_its_open_streams() -> None:
    script = [Turn(text=["one", "two"], fault=Stall(400)) for _ in range(2)]
    async with ScriptedServer(script) as server, ModelClient(impatient(server.base_url)) as client:
        async with client.new_session() as session:
            streams = [session.stream("Hello"), session.stream("Hello")]
            for stream in streams:
                await anext(stream)
            assert server.open_streams == 2
        async with asyncio.timeout(5):
            await server.wait_idle()
        assert server.abandoned == server.requests
        assert [[event async for event in stream] for stream in streams] == [[], []]


async def test_leaving_the_client_closes_the_open_streams_of_all_sessions() -> None:
    script = [Turn(text=["one", "two"], fault=Stall(400)) for _ in range(2)]
    async with ScriptedServer(script) as server:
        async with ModelClient(impatient(server.base_url)) as client:
            streams = [client.new_session().stream("Hello") for _ in range(2)]
            for stream in streams:
                await anext(stream)
        async with asyncio.timeout(5):
            await server.wait_idle()
        assert server.abandoned == server.requests
        assert [repr(stream) for stream in streams] == ["<ResponseStream over from scripted, committed=True>"] * 2


async def test_a_session_whose_client_is_closed_says_so() -> None:
    async with ScriptedServer() as server:
        async with ModelClient(impatient(server.base_url)) as client:
            session = client.new_session()
        heard = await hear(session.stream("Hello"))
        assert isinstance(heard.error, ConfigurationError)
        assert str(heard.error) == (
            f"the request to {server.base_url}/chat/completions can't be sent: the client is closed"
        )


def test_a_client_that_was_not_entered_says_how_to() -> None:
    client = ModelClient("llama.cpp")
    with pytest.raises(ConfigurationError, match=r"^the client is not open: use it as `async with ModelClient\(…\)"):
        client.new_session()


async def test_a_stream_without_a_model_is_refused_before_anything_is_sent() -> None:
    async with ScriptedServer() as server, session_with(server, model=None) as session:
        with pytest.raises(ConfigurationError, match=r"^no model is named for provider 'scripted': give model=…$"):
            session.stream("Hello")
    assert server.requests == []


async def test_a_prompt_that_makes_no_sense_is_refused_before_anything_is_sent() -> None:
    async with ScriptedServer() as server, session_with(server) as session:
        with pytest.raises(InvalidPrompt):
            session.stream(Prompt([Message("captain", [InputText("Ahoy")])]))
    assert server.requests == []


@pytest.mark.parametrize(
    ("client_model", "stream_model", "asked"),
    [(None, None, "of-provider"), ("of-client", None, "of-client"), ("of-client", "of-stream", "of-stream")],
)
async def test_the_model_named_nearest_is_asked_for(
    client_model: str | None, stream_model: str | None, asked: str
) -> None:
    async with ScriptedServer([HELLO]) as server:
        provider = impatient(server.base_url, model="of-provider")
        async with ModelClient(provider, model=client_model) as client, client.new_session() as session:
            await hear(session.stream("Hello", model=stream_model))
    assert [request.json["model"] for request in server.requests] == [asked]


async def test_a_request_says_who_asks_and_what_for() -> None:
    async with ScriptedServer([HELLO], api_key="key") as server:
        changes = {"api_key": "key", "headers": {"X-Team": "blue"}, "query": {"api-version": "1 & 2"}}
        async with session_with(server, **changes) as session:
            assert (await hear(session.stream("Hello"))).error is None
    (request,) = server.requests
    headers = {name: value for name, value in request.headers.items() if name not in ("host", "user-agent")}
    assert headers == {
        "accept": "text/event-stream",
        "accept-encoding": "gzip, deflate",
        "authorization": "Bearer key",
        "content-type": "application/json",
        "content-length": str(len(request.body)),
        "x-team": "blue",
    }
    assert request.headers["user-agent"].startswith("turnwire/")
    assert (request.method, request.path, request.query) == ("POST", "/v1/chat/completions", "api-version=1+%26+2")
    assert request.json == {
        "model": "scripted",
        "messages": [{"role": "user", "content": "Hello"}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }
