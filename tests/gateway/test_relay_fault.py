"""Upstreams that fail, behind the whole gateway: in whichever form a client asks, a failure never looks like an answer.

Each fault is played at once for all clients, over Chat Completions and over Responses.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.gateway.asking import FORMS, Form, ask
from tests.gateway.serving import serving, upstream_at
from turnwire.gateway import relay
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
    RecordedRequest,
    ResetAfter,
    ScriptedServer,
    Stall,
    Status,
    Trickle,
    Truncate,
    Turn,
    WrongType,
)
from turnwire.testing.fault import check

MIDDLE = {("chat", True): 450, ("chat", False): 100, ("responses", True): 2600, ("responses", False): 100}
"""Bytes by which some of an answer has come, and not all: by the API, and by whether it is streamed."""

FAULTS: dict[str, tuple[Any, set[str]]] = {
    "refused for now": (Status(503), {"503 slow_down"}),
    "too many requests": (Status(429), {"429 rate_limit_exceeded"}),
    "a bad request": (Status(400, code="invalid_prompt"), {"400 invalid_prompt"}),
    "a wrong key": (Status(401), {"400 upstream_refused_key"}),
    "nothing there": (Status(404), {"400 upstream_refused"}),
    "broken": (Status(500), {"502 upstream_failed"}),
    "too long a prompt": (
        Status(400, "maximum context length is 5"),
        {"400 context_length_exceeded", "failed context_length_exceeded"},
    ),
    "gone before the head": (DropBeforeHead(), {"502 upstream_unreachable"}),
    "another protocol": (NotHttp(), {"502 upstream_failed"}),
    "a web page": (WrongType(), {"502 upstream_failed"}),
    "an empty body": (EmptyBody(), {"502 upstream_failed"}),
    "reset behind the head": (ResetAfter(0), {"502 upstream_unreachable"}),
    "reset in the middle": (ResetAfter, {"502 upstream_unreachable", "failed server_error"}),
    "cut behind the head": (Truncate(0), {"502 upstream_unreachable"}),
    "cut in the middle": (Truncate, {"502 upstream_unreachable", "failed server_error"}),
    "ended behind the head": (CutCleanly(0), {"502 upstream_failed"}),
    "ended in the middle": (CutCleanly, {"502 upstream_failed", "failed server_error"}),
    "silent behind the head": (Stall(0), {"504 upstream_timeout"}),
    "silent but for comments": (Stall(0, comments_every=0.02), {"504 upstream_timeout"}),
    "silent in the middle": (Stall, {"504 upstream_timeout", "failed server_error"}),
    "garbage for an answer": (Garbage(), {"502 upstream_failed", "failed server_error"}),
    "garbage in front": (Garbage(after=0), {"completed", "502 upstream_failed"}),
    "in tiny pieces": (Trickle(7), {"completed"}),
    "among comments": (Comments(), {"completed"}),
    "an event without end": (HugeEvent(17 * 1024 * 1024), {"502 upstream_failed", "failed server_error"}),
    "an error in the middle": (ErrorEvent(after=1), {"502 upstream_failed", "failed server_error", "failed 500"}),
    "no sentinel": (NoSentinel(), {"completed"}),
    "no end behind the finish": (HangAfterFinish(), {"completed"}),
    "failed in the middle": (Failed(after=1), {"502 upstream_failed", "failed server_error"}),
    "failed for now": (
        Failed("rate_limit_exceeded", "try again in 3s", after=1),
        {"429 rate_limit_exceeded", "failed rate_limit_exceeded"},
    ),
    "failed for good": (
        Failed("insufficient_quota", after=1),
        {"400 insufficient_quota", "failed insufficient_quota"},
    ),
}
"""What each client may be told; a stream that has begun can only fail, what has not begun is refused."""

NOT_OVER_HTTP = {Close, ConnectionLimit}


def fault_for(fault: Any, wire: Any, *, streamed: bool) -> Fault | None:
    """The fault as it is played to one request; None where it can't be."""
    played: Fault = fault(MIDDLE[wire, streamed]) if isinstance(fault, type) else fault
    try:
        check(played, wire, streamed=streamed)
    except ValueError:
        return None
    return played


@pytest.mark.parametrize("case", FAULTS)
async def test_a_failing_upstream_is_never_an_answer(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay, "_FINISH_GRACE", 0.05)
    fault, expected = FAULTS[case]
    patience = 0.2 if case.startswith("silent") else 5.0

    def script(request: RecordedRequest) -> Turn:
        played = fault_for(fault, request.wire, streamed=request.json["stream"])
        assert played is not None
        return Turn(text=["one ", "two ", "three"], fault=played, interval=0.002)

    def is_played(form: Form, wire: str) -> bool:
        translated = form.startswith("chat") == (wire == "responses")
        return fault_for(fault, wire, streamed=translated or not form.endswith("whole")) is not None

    async with ScriptedServer(script, models=["chat", "responses"]) as upstream:
        servers = [
            upstream_at(upstream.base_url, name=wire, wire_api=wire, models={wire: wire}, idle_timeout=patience)
            for wire in ("chat", "responses")
        ]
        async with serving(*servers) as gateway:
            asked = [(form, wire) for wire in ("chat", "responses") for form in FORMS if is_played(form, wire)]
            told = await asyncio.gather(*(ask(gateway, form, wire) for form, wire in asked))
            await upstream.wait_idle()
        assert upstream.errors == []
    verdicts = {one: answer.verdict for one, answer in zip(asked, told, strict=True)}
    assert verdicts == {one: verdict for one, verdict in verdicts.items() if verdict in expected}
    for (form, _), answer in zip(asked, told, strict=True):
        if answer.verdict == "completed":
            assert answer.text == "one two three"
        if form.endswith("whole"):
            assert answer.verdict[0].isdigit() or answer.verdict == "completed"
        if answer.status in (429, 502, 503, 504):
            assert int(answer.headers["retry-after"]) >= 1


def test_all_faults_are_played_that_an_upstream_over_http_can_have() -> None:
    played = {fault if isinstance(fault, type) else type(fault) for fault, _ in FAULTS.values()}
    assert played == set(Fault.__args__) - NOT_OVER_HTTP


@pytest.mark.parametrize("form", FORMS)
async def test_an_answer_that_does_not_end_is_not_kept_on_for_ever(form: Form, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay, "_MAX_ANSWER", 20_000)
    async with ScriptedServer([Turn(text="word " * 5_000)]) as upstream, serving(upstream.base_url) as gateway:
        told = await ask(gateway, form)
        assert told.verdict in {"failed server_error", "failed upstream_failed", "502 upstream_failed"}, told.verdict
