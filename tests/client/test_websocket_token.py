"""The routing token over Responses, by WebSocket and by HTTP: it lives exactly as long as its turn."""

from __future__ import annotations

from typing import Any

import pytest

from tests.client.hearing import hear, impatient, session_with
from tests.client.wires import AUTO, SOCKET, SSE, Conversation, connections, conversation, tokens, wires
from turnwire import FunctionCall, ModelClient, Prompt, StreamError
from turnwire.testing import Close, CutCleanly, Fault, ResetAfter, ScriptedServer, Status, Truncate, Turn
from turnwire.testing.responses_answer import TokenPlace

pytestmark = pytest.mark.usefixtures("nothing_left")

HEADER = "x-codex-turn-state"
CALL = Turn(calls=[FunctionCall("get_weather", "{}", "call_1")])
HELLO = Turn(text=["Grü", "ezi"])
PLACES: list[TokenPlace] = ["after_created", "before_created", "late", "array", "handshake"]


@pytest.mark.parametrize("place", PLACES)
async def test_a_socket_s_token_goes_out_with_every_later_request(place: TokenPlace) -> None:
    async with (
        ScriptedServer([CALL, CALL, HELLO], token="replica-7", token_place=place) as server,
        conversation(server, **SOCKET) as turn,
    ):
        for _ in range(3):
            await turn.ask()
        first = "replica-7" if place == "handshake" else None
        assert tokens(server) == [first, "replica-7", "replica-7"]
        assert connections(server) == [0, 0, 0]


async def test_an_http_token_goes_out_in_the_header_of_every_later_request() -> None:
    async with ScriptedServer([CALL, CALL, HELLO], token="replica-7") as server, conversation(server, **SSE) as turn:
        for _ in range(3):
            await turn.ask()
        assert tokens(server) == [None, "replica-7", "replica-7"]
        assert [HEADER in str(request.body) for request in server.requests] == [False] * 3


@pytest.mark.parametrize("wire", [SSE, SOCKET], ids=["responses", "websocket"])
async def test_the_next_turn_begins_without_a_token(wire: dict[str, Any]) -> None:
    async with ScriptedServer([CALL, HELLO] * 2, token="replica-7") as server:
        async with ModelClient(impatient(server.base_url, **wire)) as client:
            for _ in range(2):
                async with client.new_session() as session:
                    turn = Conversation(session)
                    await turn.ask()
                    await turn.ask()
        assert tokens(server) == [None, "replica-7"] * 2
        assert connections(server) == [0] * 4  # one connection, which carries no token over
        assert HEADER not in server.requests[2].json.get("client_metadata", {})


@pytest.mark.parametrize("wire", [SSE, SOCKET], ids=["responses", "websocket"])
async def test_of_two_tokens_the_first_wins(wire: dict[str, Any]) -> None:
    script = [Turn(token="first"), Turn(token="second"), HELLO]
    async with ScriptedServer(script) as server, conversation(server, **wire) as turn:
        for text in ("a", "b", "c"):
            await turn.ask()
            turn.say(text)
        assert tokens(server) == [None, "first", "first"]


@pytest.mark.parametrize("wire", [SSE, SOCKET], ids=["responses", "websocket"])
async def test_a_token_that_only_the_second_response_gives_is_repeated_from_the_third_request_on(
    wire: dict[str, Any],
) -> None:
    script = [Turn(), Turn(token="late"), Turn(), HELLO]
    async with ScriptedServer(script) as server, conversation(server, **wire) as turn:
        for text in ("a", "b", "c", "d"):
            await turn.ask()
            turn.say(text)
        assert tokens(server) == [None, None, "late", "late"]


@pytest.mark.parametrize("wire", [SSE, SOCKET], ids=["responses", "websocket"])
@pytest.mark.parametrize("empty", ["", "a b", "x" * 8193], ids=["empty", "blank", "long"])
async def test_a_value_that_is_no_token_locks_nothing(wire: dict[str, Any], empty: str) -> None:
    script = [Turn(headers={HEADER: empty}), Turn(), Turn(token="proper"), HELLO]
    async with ScriptedServer(script) as server, conversation(server, **wire) as turn:
        for text in ("a", "b", "c", "d"):
            await turn.ask()
            turn.say(text)
        assert tokens(server) == [None, None, None, "proper"]


@pytest.mark.parametrize("name", ["X-Codex-Turn-State", "X-CODEX-TURN-STATE"])
@pytest.mark.parametrize("wire", [SSE, SOCKET], ids=["responses", "websocket"])
async def test_the_name_counts_in_any_case(wire: dict[str, Any], name: str) -> None:
    async with (
        ScriptedServer([Turn(headers={name: "replica-7"}), HELLO]) as server,
        conversation(server, **wire) as turn,
    ):
        await turn.ask()
        turn.say("more")
        await turn.ask()
        assert tokens(server) == [None, "replica-7"]


async def test_metadata_outrank_a_stale_handshake() -> None:
    script = [Turn(token="fresh"), CALL, HELLO]
    async with (
        ScriptedServer(script, token="stale", token_place="handshake") as server,
        conversation(server, **SOCKET) as turn,
    ):
        await turn.ask()
        turn.say("more")
        await turn.ask()
        await turn.ask()
        assert tokens(server) == ["stale", "fresh", "fresh"]


async def test_a_kept_connection_s_handshake_says_nothing_to_the_next_turn() -> None:
    async with ScriptedServer([HELLO, HELLO], token="stale", token_place="handshake") as server:
        async with ModelClient(impatient(server.base_url, **SOCKET)) as client:
            for _ in range(2):
                async with client.new_session() as session:
                    await Conversation(session).ask()
        assert tokens(server) == ["stale", None]
        assert len(server.handshakes) == 1


BREAKS: list[Fault] = [Truncate(30), ResetAfter(30), CutCleanly(0), Close(1012), Close(1001, after=0)]


@pytest.mark.parametrize("fault", BREAKS, ids=repr)
@pytest.mark.parametrize("place", PLACES[:2])
async def test_the_token_survives_a_reconnect(fault: Fault, place: TokenPlace, pauses: list[float]) -> None:
    script = [Turn(calls=CALL.calls, token="replica-7"), Turn(text="lost", token="", fault=fault), HELLO]
    async with (
        ScriptedServer(script, token_place=place) as server,
        conversation(server, stream_max_retries=1, **SOCKET) as turn,
    ):
        await turn.ask()
        assert (await turn.ask()).text == "Grüezi"
        assert tokens(server) == [None, "replica-7", "replica-7"]
        assert connections(server) == [0, 0, 1]
        assert [handshake.headers.get(HEADER) for handshake in server.handshakes] == [None, "replica-7"]


@pytest.mark.parametrize("status", [500, 503])
@pytest.mark.parametrize("wire", [SSE, SOCKET], ids=["responses", "websocket"])
async def test_the_token_survives_a_refusal_that_passes(wire: dict[str, Any], status: int, pauses: list[float]) -> None:
    busy = Turn(fault=Status(status), token="")
    async with (
        ScriptedServer([Turn(calls=CALL.calls, token="replica-7"), busy, HELLO]) as server,
        conversation(server, stream_max_retries=1, request_max_retries=1, **wire) as turn,
    ):
        await turn.ask()
        await turn.ask()
        assert tokens(server) == [None, "replica-7", "replica-7"]


async def test_a_refusal_hands_out_no_token(pauses: list[float]) -> None:
    busy = Turn(fault=Status(503, headers={HEADER: "of a refusal"}))
    for wire in (SSE, SOCKET):
        async with (
            ScriptedServer([busy, Turn(), HELLO]) as server,
            conversation(server, stream_max_retries=1, request_max_retries=1, **wire) as turn,
        ):
            await turn.ask()
            turn.say("more")
            await turn.ask()
            assert tokens(server) == [None, None, None]


async def test_the_token_survives_the_fall_back_to_http(pauses: list[float]) -> None:
    async with (
        ScriptedServer(
            [CALL, Turn(fault=Truncate(0)), HELLO], token="replica-7", handshakes=[None, Status(426)]
        ) as server,
        conversation(server, stream_max_retries=1, **AUTO) as turn,
    ):
        await turn.ask()
        await turn.ask()
        assert wires(server) == ["websocket", "websocket", "responses"]
        assert tokens(server) == [None, "replica-7", "replica-7"]


async def test_a_warm_up_s_token_belongs_to_its_turn() -> None:
    async with ScriptedServer([HELLO, HELLO], token="replica-7") as server:
        async with ModelClient(impatient(server.base_url, **SOCKET)) as client:
            async with client.new_session() as session:
                await session.warm_up("Hello")
                await Conversation(session).ask()
            async with client.new_session() as session:
                await Conversation(session).ask()
        assert tokens(server) == [None, "replica-7", None]


async def test_a_compaction_is_within_the_turn_s_token() -> None:
    for wire in (SSE, SOCKET):
        async with ScriptedServer([CALL, Turn(text="so far"), HELLO], token="replica-7") as server:
            async with session_with(server, **wire) as session:
                turn = Conversation(session)
                await turn.ask()
                turn.history = [*await session.compact(Prompt(turn.history))]
                assert [item.text for item in turn.history] == ["so far"]  # type: ignore[union-attr]
                turn.say("more")
                await turn.ask()
            assert tokens(server) == [None, "replica-7", "replica-7"]
            assert server.requests[1].path == "/v1/responses/compact"


async def test_the_prompt_s_own_client_metadata_stay_beside_the_token() -> None:
    async with ScriptedServer([Turn(token="replica-7"), HELLO]) as server, session_with(server, **SOCKET) as session:
        for text in ("a", "b"):
            await hear(session.stream(Prompt(text, client_metadata={"thread": "1"})))
        assert [request.json["client_metadata"] for request in server.requests] == [
            {"thread": "1"},
            {"thread": "1", HEADER: "replica-7"},
        ]


async def test_turns_at_the_same_time_share_no_token() -> None:
    def script(request: Any) -> Turn:
        return Turn(text="hi", token=f"of-{request.input[0]['content'][0]['text']}")

    async with ScriptedServer(script) as server:
        async with ModelClient(impatient(server.base_url, **SOCKET)) as client:
            sessions = [client.new_session() for _ in range(3)]
            turns = [Conversation(session, f"turn-{number}") for number, session in enumerate(sessions)]
            for _ in range(2):
                for turn in turns:
                    await turn.ask()
                    turn.say("more")
        assert tokens(server) == [None, None, None, "of-turn-0", "of-turn-1", "of-turn-2"]


async def test_a_cut_after_the_token_keeps_it(pauses: list[float]) -> None:
    """Metadata that came before the cut count, be the rest of the answer lost."""
    async with (
        ScriptedServer([Turn(text="lost", token="replica-7", fault=Close(1011)), HELLO], token="other") as server,
        conversation(server, stream_max_retries=1, **SOCKET) as turn,
    ):
        await turn.ask()
        assert tokens(server) == [None, "replica-7"]


async def test_a_body_that_ends_early_keeps_its_header_s_token(pauses: list[float]) -> None:
    cut = Turn(text="lost", token="replica-7", fault=CutCleanly(0))
    async with ScriptedServer([cut, HELLO]) as server, session_with(server, **SSE) as session:
        heard = await hear(session.stream("Hello"))
        assert isinstance(heard.error, StreamError)
        await hear(session.stream("Hello"))
        assert tokens(server) == [None, "replica-7"]
