"""The access log: a line per answer, and what it must never hold."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path
from typing import Any

import pytest

from tests.gateway.asking import FORMS, Form, ask
from tests.gateway.serving import MODEL, answered, serving, upstream_at
from turnwire.client import TURN_STATE_HEADER
from turnwire.errors import ConfigurationError
from turnwire.event import TokenUsage
from turnwire.gateway import access_log
from turnwire.gateway.access_log import STANDARD_ERROR, Fingerprints, opened
from turnwire.gateway.affinity import conversation_of
from turnwire.gateway.caller import CallerKey, key_hash
from turnwire.gateway.routing import order
from turnwire.testing import ResetAfter, ScriptedServer, Stall, Status, Turn

pytestmark = pytest.mark.usefixtures("nothing_left")

SECRET = "horse-battery"
KEYS = (CallerKey("laptop", key_hash(f"{SECRET}-key")),)
HEADERS = {"authorization": f"Bearer {SECRET}-key"}
FIRST, SECOND = order(conversation_of({"prompt_cache_key": f"{SECRET}-thread"}, {}), {"a": 1.0, "b": 1.0})


def lines(file: Path) -> list[Any]:
    return [json.loads(line) for line in file.read_text().splitlines()]


async def asked(upstream: ScriptedServer) -> None:
    """Returns once it was asked for an answer."""
    while not answered(upstream):  # noqa: ASYNC110 - the server says so to nobody
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("form", FORMS)
async def test_an_answer_is_one_line_once_it_is_over(form: Form, tmp_path: Path) -> None:
    file = tmp_path / "access.log"
    turn = Turn(text=f"{SECRET}-answer", usage=TokenUsage(9, 4, 2, 1, 11))
    async with (
        ScriptedServer([turn], models=[MODEL]) as upstream,
        serving(upstream_at(upstream.base_url, name="gpu"), callers=KEYS, access_log=file) as gateway,
    ):
        fields = {"stream_options": {"include_usage": True}} if form == "chat" else {}
        told = await ask(gateway, form, headers=HEADERS, tools=[{"type": "web_search"}], **fields)
    (entry,) = lines(file)
    measured = {name: entry.pop(name) for name in ("time", "first_output", "duration", "bytes")}
    named = {name: entry.pop(name) for name in ("request_id", "turn", "conversation")}
    assert entry == {
        "caller": "laptop",
        "tenant": KEYS[0].caller.tenant,
        "api": form.removesuffix(" whole"),
        "model": MODEL,
        "upstreams": ["gpu"],
        "held": "key",
        "end": "completed",
        "status": 200,
        "error": None,
        "input_tokens": 9,
        "cached_input_tokens": 4,
        "output_tokens": 2,
        "dropped": 0 if form.startswith("chat") else 1,
    }
    if form.endswith("whole"):
        assert measured["first_output"] is None
    else:
        assert 0 < measured["first_output"] <= measured["duration"]
    assert measured["bytes"] > len(turn.text)
    assert measured["time"].endswith("Z")
    assert [len(named["turn"]), len(named["conversation"])] == [12, 12]
    if form != "websocket":
        assert named["request_id"] == told.headers["x-request-id"]
    assert SECRET not in file.read_text()


async def test_the_requests_of_a_turn_and_the_turns_of_a_conversation_have_a_fingerprint_in_common(
    tmp_path: Path,
) -> None:
    file = tmp_path / "access.log"
    async with (
        ScriptedServer([Turn(text="hi")] * 4, models=[MODEL]) as upstream,
        serving(upstream.base_url, access_log=file) as gateway,
    ):
        first = await ask(gateway, "responses", prompt_cache_key="one")
        token = first.headers[TURN_STATE_HEADER]
        await ask(gateway, "responses", prompt_cache_key="one", headers={TURN_STATE_HEADER: token})
        await ask(gateway, "responses", prompt_cache_key="one")
        await ask(gateway, "responses", prompt_cache_key="two")
    entries = lines(file)
    turns = [entry["turn"] for entry in entries]
    conversations = [entry["conversation"] for entry in entries]
    assert [turns.index(turn) for turn in turns] == [0, 0, 2, 3]
    assert [conversations.index(conversation) for conversation in conversations] == [0, 0, 0, 3]
    assert [entry["held"] for entry in entries] == ["key", "token", "key", "key"]
    assert token not in file.read_text()


async def test_it_says_who_was_asked_and_what_was_wrong(tmp_path: Path) -> None:
    file = tmp_path / "access.log"
    turns = {
        FIRST: [Turn(text="hi"), Turn(fault=Status(503)), Turn(fault=Status(503)), Turn(fault=Status(400))],
        SECOND: [Turn(text="hi"), Turn(fault=Status(503)), Turn(text="hi")],
    }
    async with (
        ScriptedServer(turns[FIRST], models=[MODEL]) as first,
        ScriptedServer(turns[SECOND], models=[MODEL]) as second,
        serving(
            upstream_at(first.base_url, name=FIRST), upstream_at(second.base_url, name=SECOND), access_log=file
        ) as gateway,
    ):

        async def request(token: str | None = None) -> Any:
            headers = {} if token is None else {TURN_STATE_HEADER: token}
            return await ask(gateway, "responses", prompt_cache_key=f"{SECRET}-thread", headers=headers)

        token = (await request()).headers[TURN_STATE_HEADER]
        await request(token)
        await request()
        await request(token)
    told = [[entry[name] for name in ("upstreams", "held", "end", "status", "error")] for entry in lines(file)]
    assert told == [
        [[FIRST], "key", "completed", 200, None],
        [[FIRST, SECOND], "moved", "completed", 200, None],
        [[FIRST, SECOND], "moved", "failed", 503, "ServerOverloaded"],
        [[FIRST], "token", "failed", 400, "InvalidPrompt"],
    ]


async def test_who_left_was_told_nothing_or_what_there_was(tmp_path: Path) -> None:
    file = tmp_path / "access.log"
    async with (
        ScriptedServer([Turn(text="hi", fault=Stall())], models=[MODEL]) as upstream,
        serving(upstream.base_url, access_log=file) as gateway,
    ):
        asking = asyncio.create_task(ask(gateway, "responses"))
        await asked(upstream)
        asking.cancel()
        await asyncio.wait((asking,))
    (entry,) = lines(file)
    assert [entry[name] for name in ("upstreams", "end", "error", "status", "bytes", "first_output")] == [
        ["upstream-0"], "left", None, None, 0, None,
    ]  # fmt: skip


async def test_a_request_that_waits_in_vain_was_answered_by_nobody(tmp_path: Path) -> None:
    file = tmp_path / "access.log"
    async with (
        ScriptedServer([Turn(text="hi", interval=0.05), Turn(text="hi")], models=[MODEL]) as upstream,
        serving(upstream_at(upstream.base_url, max_concurrency=1), queue_length=0, access_log=file) as gateway,
    ):
        asking = asyncio.create_task(ask(gateway, "responses"))
        await asked(upstream)
        await ask(gateway, "chat")
        await asking
    told = [[entry[name] for name in ("api", "upstreams", "held", "status", "error")] for entry in lines(file)]
    assert told == [
        ["chat", [], None, 503, "ServerOverloaded"],
        ["responses", ["upstream"], "key", 200, None],
    ]


async def test_no_key_token_or_prompt_stands_in_it(tmp_path: Path) -> None:
    file = tmp_path / "access.log"
    turns = [
        Turn(text=f"{SECRET}-answer", reasoning=f"{SECRET}-thought", token=f"{SECRET}-theirs"),
        Turn(fault=Status(400, f"{SECRET}-echo")),
        Turn(text=f"{SECRET}-answer", fault=ResetAfter(400)),
    ]
    async with (
        ScriptedServer(turns * len(FORMS), models=[MODEL]) as upstream,
        serving(upstream.base_url, callers=KEYS, access_log=file) as gateway,
    ):
        for form in FORMS:
            field = "messages" if form.startswith("chat") else "input"
            prompt = [{"role": "user", "content": f"{SECRET}-prompt"}]
            for _ in turns:
                headers = {**HEADERS, TURN_STATE_HEADER: f"{SECRET}-forged"}
                await ask(gateway, form, headers=headers, **{field: prompt}, user=f"{SECRET}-user")
    assert len(lines(file)) == len(turns) * len(FORMS)
    assert SECRET not in file.read_text()


async def test_it_is_off_unless_it_is_asked_for(capsys: Any) -> None:
    with opened(None):
        assert not access_log.is_kept()
    with opened(STANDARD_ERROR):
        assert access_log.is_kept()
        async with ScriptedServer([Turn(text="hi")], models=[MODEL]) as upstream, serving(upstream.base_url) as gateway:
            await ask(gateway, "responses")
    assert not access_log.is_kept()
    assert json.loads(capsys.readouterr().err)["end"] == "completed"


def test_a_file_that_is_moved_away_is_made_anew(tmp_path: Path) -> None:
    file = tmp_path / "access.log"
    with opened(file):
        logging.getLogger("turnwire.gateway.access").info("one")
        file.rename(tmp_path / "access.log.1")
        logging.getLogger("turnwire.gateway.access").info("two")
    assert [path.read_text() for path in (tmp_path / "access.log.1", file)] == ["one\n", "two\n"]


def test_a_file_that_can_not_be_written_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "nowhere" / "access.log"
    with (
        pytest.raises(ConfigurationError, match=f"^access_log can't be written to {file}: No such file or directory$"),
        opened(file),
    ):
        pass


def test_fingerprints_are_equal_for_equal_things_and_hang_on_the_secret() -> None:
    one, other = Fingerprints("s" * 32), Fingerprints("t" * 32)
    assert one.of(b"key") == Fingerprints("s" * 32).of(b"key")
    assert len({one.of(b"key"), one.of(b"yek"), other.of(b"key")}) == 3
