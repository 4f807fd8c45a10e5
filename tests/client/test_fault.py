"""Every fault of the scripted server: the error it becomes, what that carries, and that nothing is left."""

from __future__ import annotations

from typing import NamedTuple, get_args

import msgspec
import pytest

from tests.client.hearing import HELLO, HELLO_ITEM, HELLO_TEXT, Heard, chunk, hear, hello_events, session_with, size_of
from turnwire import (
    ApiError,
    ContextWindowExceeded,
    Disconnected,
    HttpStatusError,
    IdleTimeout,
    InvalidPrompt,
    OutputItemAdded,
    OutputTextDelta,
    ProtocolError,
    QuotaExceeded,
    RateLimited,
    ResponseEvent,
    RetryableError,
    ServerOverloaded,
    StreamError,
    UsageNotIncluded,
)
from turnwire.item import Message, ResponseItem
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
    WrongType,
)
from turnwire.wire.sse import encode_event

pytestmark = pytest.mark.usefixtures("nothing_left")

ONE_DELTA = size_of(HELLO, parts=2)
TWO_DELTAS = size_of(HELLO, parts=3)
ALL_DELTAS = size_of(HELLO, parts=4)
WHOLE = size_of(HELLO, parts=6)

OPENED = OutputItemAdded(Message("assistant", ()))


class Failure(NamedTuple):
    """An error, and what it carries."""

    kind: type[ApiError]
    events: list[ResponseEvent]
    text: str = ""
    items: tuple[ResponseItem, ...] = ()

    @classmethod
    def of(cls, heard: Heard) -> Failure:
        """What was heard; that the caller was given something must be what ``committed`` says."""
        error = heard.error
        assert error is not None, heard.events
        assert error.committed == bool(heard.events)
        return cls(type(error), heard.events, error.text, error.items)


def after_one_delta(kind: type[ApiError]) -> Failure:
    return Failure(kind, [OPENED, OutputTextDelta("Grüezi")], "Grüezi")


def after_two_deltas(kind: type[ApiError]) -> Failure:
    return Failure(kind, [OPENED, OutputTextDelta("Grüezi"), OutputTextDelta(" mitenand")], "Grüezi mitenand")


FAILURES: list[tuple[Fault, Failure]] = [
    (Status(400), Failure(InvalidPrompt, [])),
    (Status(400, code="context_length_exceeded"), Failure(ContextWindowExceeded, [])),
    (Status(401), Failure(HttpStatusError, [])),
    (Status(402), Failure(QuotaExceeded, [])),
    (Status(403, code="usage_not_included"), Failure(UsageNotIncluded, [])),
    (Status(404), Failure(HttpStatusError, [])),
    (Status(418, body=b"<html>short and stout</html>"), Failure(HttpStatusError, [])),
    (Status(429), Failure(RateLimited, [])),
    (Status(429, code="insufficient_quota"), Failure(QuotaExceeded, [])),
    (Status(500), Failure(HttpStatusError, [])),
    (Status(500, body=b"\xff" * 100_000), Failure(HttpStatusError, [])),
    (Status(503), Failure(ServerOverloaded, [])),
    (Status(307, headers={"location": "http://127.0.0.1:1/"}), Failure(HttpStatusError, [])),
    (DropBeforeHead(), Failure(Disconnected, [])),
    (NotHttp(), Failure(ProtocolError, [])),
    (NotHttp(b"\x16\x03\x01\x00\x00"), Failure(ProtocolError, [])),
    (WrongType(), Failure(ProtocolError, [])),
    (EmptyBody(), Failure(StreamError, [])),
    (ResetAfter(0), Failure(Disconnected, [])),
    (ResetAfter(ONE_DELTA), after_one_delta(Disconnected)),
    (ResetAfter(TWO_DELTAS + 20), after_two_deltas(Disconnected)),
    (Truncate(0), Failure(Disconnected, [])),
    (Truncate(ONE_DELTA), after_one_delta(Disconnected)),
    (Truncate(TWO_DELTAS - 1), after_one_delta(Disconnected)),
    (CutCleanly(0), Failure(StreamError, [])),
    (CutCleanly(ONE_DELTA), after_one_delta(StreamError)),
    (CutCleanly(TWO_DELTAS + 20), after_two_deltas(StreamError)),
    (CutCleanly(ALL_DELTAS), Failure(StreamError, hello_events()[:4], HELLO_TEXT)),
    (Stall(0), Failure(IdleTimeout, [])),
    (Stall(ONE_DELTA), after_one_delta(IdleTimeout)),
    (Stall(ONE_DELTA + 20, comments_every=0.02), after_one_delta(IdleTimeout)),
    (Garbage(), Failure(StreamError, [])),
    (Garbage(b"\x00\x01\x02"), Failure(StreamError, [])),
    (HugeEvent(200_000), Failure(ProtocolError, [])),
    (ErrorEvent(0), Failure(RetryableError, [])),
    (ErrorEvent(1), after_one_delta(RetryableError)),
    (ErrorEvent(2, message="overloaded", code="server_is_overloaded"), after_two_deltas(ServerOverloaded)),
    (ErrorEvent(1, message="too long", code="context_length_exceeded"), after_one_delta(ContextWindowExceeded)),
    (
        Garbage(
            b"".join(chunk({"content": text}) for text in ("Grüezi", " mitenand", "!"))
            + chunk({}, "stop")
            + encode_event('{"error":{"message":"died at the last moment"}}')
        ),
        Failure(RetryableError, hello_events()[:5], HELLO_TEXT, (HELLO_ITEM,)),
    ),
]

HARMLESS: list[Fault] = [
    ResetAfter(WHOLE),  # with the finish and [DONE] everything is there
    Truncate(WHOLE),
    Truncate(WHOLE - len(b"data: [DONE]\n\n")),
    CutCleanly(WHOLE),
    Garbage(after=ONE_DELTA),
    Trickle(size=1),
    Trickle(size=7, interval=0.001),
    Comments(),
    NoSentinel(),
    HangAfterFinish(),
]


@pytest.mark.parametrize(("fault", "failure"), FAILURES, ids=lambda value: repr(value)[:60])
async def test_a_fault_is_a_typed_error_with_what_came_before_it(fault: Fault, failure: Failure) -> None:
    turn = msgspec.structs.replace(HELLO, fault=fault)
    changes = {"idle_timeout": 0.15, "max_event_size": 100_000}
    async with ScriptedServer([turn]) as server:
        async with session_with(server, **changes) as session:
            stream = session.stream("Hello")
            assert Failure.of(await hear(stream)) == failure
            assert (stream.committed, stream.text, stream.items) == (bool(failure.events), failure.text, failure.items)
            await server.wait_idle()
        assert len(server.requests) == 1


@pytest.mark.parametrize("fault", HARMLESS, ids=lambda value: repr(value)[:60])
async def test_a_fault_that_takes_nothing_away_changes_no_event(fault: Fault) -> None:
    turn = msgspec.structs.replace(HELLO, fault=fault)
    async with ScriptedServer([turn]) as server, session_with(server, finish_grace=0.05) as session:
        assert await hear(session.stream("Hello")) == (hello_events(), None)
        await server.wait_idle()


def test_the_tables_know_every_fault() -> None:
    tested = {type(fault) for fault, _ in FAILURES} | {type(fault) for fault in HARMLESS}
    tested |= {Close, ConnectionLimit, Failed}  # which Chat Completions don't have
    kinds = {kind for alternative in get_args(Fault) for kind in (get_args(alternative) or (alternative,))}
    assert tested == kinds


async def test_a_failed_stream_is_over() -> None:
    turn = msgspec.structs.replace(HELLO, fault=Truncate(ONE_DELTA))
    async with ScriptedServer([turn]) as server, session_with(server) as session:
        stream = session.stream("Hello")
        assert (await hear(stream)).error is not None
        assert await hear(stream) == ([], None)
        assert repr(stream) == "<ResponseStream over from scripted, committed=True>"


async def test_a_refusal_carries_the_response_that_told_it() -> None:
    refusal = Status(404, message="no such thing", headers={"retry-after": "3", "set-cookie": "a=b", "x-more": "1"})
    turn = msgspec.structs.replace(HELLO, fault=refusal)
    async with ScriptedServer([turn]) as server, session_with(server) as session:
        error = (await hear(session.stream("Hello"))).error
    assert isinstance(error, HttpStatusError)
    response = error.response
    assert response.headers == {
        "content-type": "application/json",
        "retry-after": "3",
        "x-more": "1",
        "transfer-encoding": "chunked",
    }
    assert (error.status, response.retry_after, response.request_id) == (404, 3.0, None)
    assert msgspec.json.decode(response.body)["error"]["message"] == "no such thing"


async def test_of_a_long_refusal_the_beginning_is_kept() -> None:
    turn = msgspec.structs.replace(HELLO, fault=Status(500, body=b"x" * 100_000))
    async with ScriptedServer([turn]) as server, session_with(server) as session:
        error = (await hear(session.stream("Hello"))).error
    assert error is not None
    assert error.response is not None
    assert error.response.body == "x" * 16_384
