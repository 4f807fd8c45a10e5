"""What each fault makes of an answer, as values: no sockets here."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnwire.testing import (
    Comments,
    CutCleanly,
    DropBeforeHead,
    EmptyBody,
    ErrorEvent,
    Fault,
    Garbage,
    HangAfterFinish,
    HugeEvent,
    NoSentinel,
    NotHttp,
    ResetAfter,
    Stall,
    Status,
    Trickle,
    Truncate,
    WrongType,
)
from turnwire.testing.answer import Answer, Part, split
from turnwire.testing.infliction import inflict

START, ONE, TWO = Part(b"start", "start"), Part(b"one", "delta", 0.5), Part(b"two", "delta", 0.5)
FINISH, DONE = Part(b"finish", "finish", 0.5), Part(b"done", "done", 0.5)
PARTS = (START, ONE, TWO, FINISH, DONE)
HEADERS = {"content-type": "text/event-stream", "x-codex-turn-state": "abc"}
SOUND = Answer(headers=HEADERS, parts=PARTS)
JSON = {"content-type": "application/json"}
COMMENT = Part(b": OPENROUTER PROCESSING\n\n")


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (
            Status(429, "slow down", code="rate_limit", kind="requests", headers={"retry-after": "1"}),
            Answer(
                status=429,
                headers={**JSON, "retry-after": "1"},
                parts=(Part(b'{"error":{"message":"slow down","type":"requests","param":null,"code":"rate_limit"}}'),),
            ),
        ),
        (
            Status(502, headers={"content-type": "text/html"}, body=b"<h1>Bad Gateway</h1>"),
            Answer(status=502, headers={"content-type": "text/html"}, parts=(Part(b"<h1>Bad Gateway</h1>"),)),
        ),
        (DropBeforeHead(), Answer(bare=True, ending="close")),
        (NotHttp(b"220 mail ready\r\n"), Answer(bare=True, parts=(Part(b"220 mail ready\r\n"),), ending="close")),
        (WrongType("text/html", b"<p>"), Answer(headers={"content-type": "text/html"}, parts=(Part(b"<p>"),))),
        (EmptyBody(), Answer(headers=HEADERS)),
        (ResetAfter(), Answer(headers=HEADERS, ending="reset")),
        (ResetAfter(6), Answer(headers=HEADERS, parts=(START, Part(b"o", "delta", 0.5)), ending="reset")),
        (Truncate(5), Answer(headers=HEADERS, parts=(START,), ending="close")),
        (Truncate(1000), Answer(headers=HEADERS, parts=PARTS, ending="close")),
        (CutCleanly(8), Answer(headers=HEADERS, parts=(START, ONE))),
        (Stall(8), Answer(headers=HEADERS, parts=(START, ONE), ending="silence")),
        (
            Stall(0, comments_every=15.0),
            Answer(headers=HEADERS, ending="silence", heartbeat=Part(b": keep-alive\n\n", pause=15.0)),
        ),
        (Garbage(b"junk"), Answer(headers=HEADERS, parts=(Part(b"junk"),))),
        (
            Garbage(b"junk", after=7),
            Answer(
                headers=HEADERS,
                parts=(
                    START,
                    Part(b"on", "delta", 0.5),
                    Part(b"junk"),
                    Part(b"e", "delta"),
                    TWO,
                    FINISH,
                    DONE,
                ),
            ),
        ),
        (
            Trickle(8, 0.25),
            Answer(
                headers=HEADERS, parts=(Part(b"startone"), Part(b"twofinis", pause=0.25), Part(b"hdone", pause=0.25))
            ),
        ),
        (
            Comments(),
            Answer(headers=HEADERS, parts=(COMMENT, START, COMMENT, ONE, COMMENT, TWO, COMMENT, FINISH, COMMENT, DONE)),
        ),
        (
            HugeEvent(60),
            Answer(
                headers=HEADERS,
                parts=(START, Part(b'data: {"choices":[{"index":0,"delta":{"content":"'), Part(b"a" * 11)),
            ),
        ),
        (
            ErrorEvent(1),
            Answer(
                headers=HEADERS,
                parts=(
                    START,
                    ONE,
                    Part(
                        b'data: {"error":{"message":"the scripted engine died","type":"InternalServerError",'
                        b'"param":null,"code":500}}\n\n'
                    ),
                    DONE,
                ),
            ),
        ),
        (NoSentinel(), Answer(headers=HEADERS, parts=(START, ONE, TWO, FINISH))),
        (HangAfterFinish(), Answer(headers=HEADERS, parts=(START, ONE, TWO, FINISH), ending="silence")),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, Answer) else "",
)
def test_a_fault_makes_another_answer(fault: Fault, expected: Answer) -> None:
    assert inflict(fault, SOUND) == expected


def test_a_huge_event_has_the_size_it_was_given() -> None:
    answer = inflict(HugeEvent(200_000), SOUND)
    assert sum(len(part.data) for part in answer.parts[1:]) == 200_000


HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (Answer(parts=(START, ONE)), [(0.0, HEAD), (0.0, b"5\r\nstart\r\n"), (0.5, b"3\r\none\r\n0\r\n\r\n")]),
        (Answer(parts=(START, ONE), ending="close"), [(0.0, HEAD), (0.0, b"5\r\nstart\r\n"), (0.5, b"3\r\none\r\n")]),
        (Answer(), [(0.0, HEAD + b"0\r\n\r\n")]),
        (Answer(ending="reset"), [(0.0, HEAD)]),
        (Answer(ending="silence"), [(0.0, HEAD)]),
        (Answer(bare=True, parts=(START,), ending="close"), [(0.0, b"start")]),
        (Answer(bare=True, ending="close"), [(0.0, b"")]),
        (
            Answer(status=799, headers={"x-a": "ä"}),
            [(0.0, b"HTTP/1.1 799 Unknown\r\nx-a: \xe4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n")],
        ),
    ],
)
def test_the_terminator_goes_out_with_the_last_part(answer: Answer, expected: list[tuple[float, bytes]]) -> None:
    assert list(answer.writes()) == expected


@given(pieces=st.lists(st.binary(min_size=1, max_size=5)), offset=st.integers(0, 30))
def test_a_split_loses_nothing(pieces: list[bytes], offset: int) -> None:
    before, after = split([Part(piece) for piece in pieces], offset)
    body = b"".join(pieces)
    assert (b"".join(part.data for part in before), b"".join(part.data for part in after)) == (
        body[:offset],
        body[offset:],
    )
