"""Every fault over WebSocket and over Responses by HTTP: the error it becomes, what that carries, what is left."""

from __future__ import annotations

from typing import Any, NamedTuple, get_args

import pytest
from msgspec.structs import replace

from tests.client.hearing import Heard, hear, session_with
from tests.client.wires import SOCKET, SSE
from turnwire import (
    ApiError,
    Completed,
    ContextWindowExceeded,
    Created,
    Disconnected,
    FunctionCall,
    HttpStatusError,
    IdleTimeout,
    InvalidPrompt,
    ProtocolError,
    QuotaExceeded,
    RateLimited,
    RetryableError,
    ServerOverloaded,
    StreamError,
    UsageNotIncluded,
)
from turnwire.errors import ConnectionExpired, PreviousResponseNotFound
from turnwire.testing import (
    Close,
    Comments,
    ConnectionLimit,
    CutCleanly,
    DropBeforeHead,
    EmptyBody,
    ErrorEvent,
    Failed,
    Fault,
    Garbage,
    HangAfterFinish,
    HugeEvent,
    NoSentinel,
    NotHttp,
    ResetAfter,
    ScriptedServer,
    Stall,
    Status,
    Trickle,
    Truncate,
    Turn,
    WrongType,
)
from turnwire.testing.asked import AskedResponse
from turnwire.testing.responses_answer import answer_frames, answer_response

pytestmark = pytest.mark.usefixtures("nothing_left")

TURN = Turn(text=["Grü", "ezi"], calls=[FunctionCall("get_weather", "{}", "call_1")])
ASKED = AskedResponse({"model": "scripted", "stream": True, "store": False})
FRAMES = answer_frames(TURN, ASKED, token=None, place="after_created", response_id="resp_1").frames
PARTS = answer_response(TURN, ASKED, headers={}, response_id="resp_1").parts


def size(pieces: Any, deltas: int) -> int:
    """Bytes up to the end of so many deltas."""
    last = [at for at, piece in enumerate(pieces) if piece.kind == "delta"][deltas - 1]
    return sum(len(piece.data) for piece in pieces[: last + 1])


class Failure(NamedTuple):
    """An error, and how much of the answer it carries."""

    kind: type[ApiError]
    text: str = ""
    items: int = 0

    @classmethod
    def of(cls, heard: Heard) -> Failure:
        error = heard.error
        assert error is not None, heard.events
        assert error.committed == any(not isinstance(event, Created) for event in heard.events)
        return cls(type(error), error.text, len(error.items))


FRAME_ONE, FRAME_TWO = size(FRAMES, 1), size(FRAMES, 2)
PART_ONE, PART_TWO = size(PARTS, 1), size(PARTS, 2)
ITEM = sum(len(frame.data) for frame in FRAMES[:9])  # up to output_item.done of the message
EARLY_LIMIT = Failed("rate_limit_exceeded", "Slow down. Please try again in 1.5s.")

ON_BOTH: list[tuple[Fault, Failure]] = [
    (Failed(), Failure(RetryableError)),
    (Failed(after=1), Failure(RetryableError, "Grü")),
    (Failed(after=3), Failure(RetryableError, "Grüezi", 1)),
    (Failed("context_length_exceeded"), Failure(ContextWindowExceeded)),
    (Failed("insufficient_quota"), Failure(QuotaExceeded)),
    (Failed("usage_not_included"), Failure(UsageNotIncluded)),
    (Failed("invalid_prompt"), Failure(InvalidPrompt)),
    (Failed("server_is_overloaded"), Failure(ServerOverloaded)),
    (Failed("slow_down"), Failure(ServerOverloaded)),
    (EARLY_LIMIT, Failure(RateLimited)),
    (Failed("something_new"), Failure(RetryableError)),
    (ErrorEvent(), Failure(RetryableError)),
    (ErrorEvent(1), Failure(RetryableError, "Grü")),
    (ErrorEvent(2, "too much", "rate_limit_exceeded"), Failure(RateLimited, "Grüezi")),
    (ErrorEvent(0, "gone", "previous_response_not_found"), Failure(PreviousResponseNotFound)),
    (DropBeforeHead(), Failure(Disconnected)),
]
SOCKETS: list[tuple[Fault, Failure]] = [
    *ON_BOTH,
    *((Close(code, after=1), Failure(Disconnected, "Grü")) for code in (1000, 1001, 1008, 1009, 1011, 1012, 1013)),
    (Close(1011, "no reason", after=0), Failure(Disconnected)),
    (Close(1000, after=2), Failure(Disconnected, "Grüezi")),
    (ResetAfter(0), Failure(Disconnected)),
    (Truncate(FRAME_ONE), Failure(Disconnected, "Grü")),
    (Truncate(FRAME_TWO - 5), Failure(Disconnected, "Grü")),
    (Truncate(ITEM + 1), Failure(Disconnected, "Grüezi", 1)),
    (CutCleanly(FRAME_TWO - 5), Failure(Disconnected, "Grü")),
    (Stall(0), Failure(IdleTimeout)),
    (Stall(FRAME_ONE), Failure(IdleTimeout, "Grü")),
    (Stall(FRAME_TWO - 5), Failure(IdleTimeout, "Grü")),
    (Stall(FRAME_ONE, comments_every=0.01), Failure(IdleTimeout, "Grü")),
    (HugeEvent(70_000), Failure(ProtocolError)),
    (Garbage(b"{not json"), Failure(ProtocolError)),
    (Garbage(b"[1, 2]", after=FRAME_ONE), Failure(ProtocolError, "Grü")),
    (Garbage(b"\xff\xfe", after=FRAME_ONE), Failure(ProtocolError, "Grü")),
    (Garbage(b"", after=FRAME_ONE), Failure(ProtocolError, "Grü")),
    (Status(429, headers={"retry-after": "7"}), Failure(RateLimited)),
    (Status(500), Failure(RetryableError)),
    (Status(503), Failure(ServerOverloaded)),
    (Status(400, "no such thing"), Failure(InvalidPrompt)),
    (Status(401), Failure(HttpStatusError)),
    (Status(400, body=b'{"type":"error","status":400,"error":"bare words"}'), Failure(InvalidPrompt)),
    (ConnectionLimit(), Failure(ConnectionExpired)),
]
STREAMS: list[tuple[Fault, Failure]] = [
    *ON_BOTH,
    (ResetAfter(0), Failure(Disconnected)),
    (Truncate(PART_ONE), Failure(Disconnected, "Grü")),
    (CutCleanly(PART_TWO - 5), Failure(StreamError, "Grü")),
    (EmptyBody(), Failure(StreamError)),
    (Stall(PART_ONE), Failure(IdleTimeout, "Grü")),
    (Stall(PART_ONE, comments_every=0.01), Failure(IdleTimeout, "Grü")),
    (Garbage(), Failure(StreamError)),
    (HugeEvent(70_000), Failure(ProtocolError)),
    (WrongType(), Failure(ProtocolError)),
    (NotHttp(), Failure(ProtocolError)),
    (Status(429, headers={"retry-after": "7"}), Failure(RateLimited)),
    (Status(500), Failure(HttpStatusError)),
    (Status(400, "no such thing"), Failure(InvalidPrompt)),
]


async def told(fault: Fault, wire: dict[str, Any]) -> Heard:
    turn = replace(TURN, fault=fault)
    impatience = {"idle_timeout": 0.1} if isinstance(fault, Stall) else {}
    # A server that forgot, or whose connection is too old, is asked once more whatever the retries.
    async with ScriptedServer([turn, turn]) as server:
        async with session_with(server, max_event_size=65536, **impatience, **wire) as session:
            heard = await hear(session.stream("Hello"))
        await server.wait_idle()
    return heard


@pytest.mark.parametrize(("fault", "failure"), SOCKETS, ids=lambda value: repr(value)[:60])
async def test_a_fault_over_websocket_is_a_typed_error_that_carries_what_came(fault: Fault, failure: Failure) -> None:
    assert Failure.of(await told(fault, SOCKET)) == failure


@pytest.mark.parametrize(("fault", "failure"), STREAMS, ids=lambda value: repr(value)[:60])
async def test_a_fault_over_http_is_a_typed_error_that_carries_what_came(fault: Fault, failure: Failure) -> None:
    assert Failure.of(await told(fault, SSE)) == failure


HARMLESS_FRAMES: list[Fault] = [Trickle(7), Trickle(1), Comments(), Comments("x" * 300), HangAfterFinish()]
HARMLESS_PARTS: list[Fault] = [Trickle(7), Comments(), Garbage(after=PART_ONE), HangAfterFinish(), CutCleanly(10**6)]


@pytest.mark.parametrize(
    ("fault", "wire"),
    [*((fault, SOCKET) for fault in HARMLESS_FRAMES), *((fault, SSE) for fault in HARMLESS_PARTS)],
    ids=lambda value: repr(value)[:50],
)
async def test_a_fault_that_takes_nothing_away_changes_no_event(fault: Fault, wire: dict[str, Any]) -> None:
    async with ScriptedServer([TURN]) as server, session_with(server, **wire) as session:
        sound = await hear(session.stream("Hello"))
    assert isinstance(sound.events[-1], Completed)
    assert await told(fault, wire) == sound


def test_the_tables_know_every_fault() -> None:
    kinds = {kind for alternative in get_args(Fault) for kind in (get_args(alternative) or (alternative,))}
    over_socket = {*(type(fault) for fault, _ in SOCKETS), *(type(fault) for fault in HARMLESS_FRAMES)}
    over_http = {*(type(fault) for fault, _ in STREAMS), *(type(fault) for fault in HARMLESS_PARTS)}
    assert over_socket | {NotHttp, WrongType, EmptyBody, NoSentinel} == kinds
    assert over_http | {Close, ConnectionLimit, NoSentinel} == kinds


@pytest.mark.parametrize("wire", [SOCKET, SSE], ids=["websocket", "responses"])
async def test_a_delay_is_taken_from_the_message(wire: dict[str, Any], pauses: list[float]) -> None:
    async with (
        ScriptedServer([Turn(fault=EARLY_LIMIT), TURN]) as server,
        session_with(server, stream_max_retries=1, **wire) as session,
    ):
        assert (await hear(session.stream("Hello"))).error is None
        assert pauses == [1.5]


async def test_a_delay_is_taken_from_an_error_frame_s_headers(pauses: list[float]) -> None:
    limited = Turn(fault=Status(429, headers={"Retry-After": "7"}))
    async with (
        ScriptedServer([limited, TURN]) as server,
        session_with(server, stream_max_retries=1, **SOCKET) as session,
    ):
        assert (await hear(session.stream("Hello"))).error is None
        assert pauses == [7.0]


@pytest.mark.parametrize("wire", [SOCKET, SSE], ids=["websocket", "responses"])
@pytest.mark.parametrize(
    ("finish_reason", "incomplete_reason"),
    [("length", "max_output_tokens"), ("content_filter", "content_filter"), ("stop", None), (None, None)],
)
async def test_an_incomplete_response_completes_with_its_reason(
    wire: dict[str, Any], finish_reason: str | None, incomplete_reason: str | None
) -> None:
    turn = replace(TURN, finish_reason=finish_reason)
    async with ScriptedServer([turn]) as server, session_with(server, **wire) as session:
        heard = await hear(session.stream("Hello"))
    status = "completed" if incomplete_reason is None else "incomplete"
    assert heard.events[-1] == Completed("resp_1", None, status, incomplete_reason)


async def test_a_broken_answer_begins_anew_where_that_was_asked_for(pauses: list[float]) -> None:
    for wire in (SOCKET, SSE):
        broken = replace(TURN, fault=Failed(after=1))
        async with (
            ScriptedServer([broken, TURN]) as server,
            session_with(server, stream_max_retries=1, **wire) as session,
        ):
            stream = session.stream("Hello", restart=True)
            heard = await hear(stream)
            assert (heard.error, stream.text) == (None, "Grüezi")
            assert [type(event).__name__ for event in heard.events].count("StreamRestarted") == 1
