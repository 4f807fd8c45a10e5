"""A turn's token, from its first response to its last request, over every transport."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from websockets.asyncio.client import connect

from tests.gateway.asking import FORMS, Form, Told, ask, ask_socket, body_for
from tests.gateway.serving import MODEL, answered, serving, upstream_at
from turnwire.client.turn_state import TURN_STATE_HEADER as TOKEN
from turnwire.gateway.caller import CallerKey, key_hash
from turnwire.testing import ScriptedServer, Status, Turn

pytestmark = pytest.mark.usefixtures("nothing_left")

HI = Turn(text="hi")
STREAMS: tuple[Form, ...] = ("responses", "websocket", "chat")


def token_of(told: Told) -> str | None:
    """The token that an answer hands out: in its head, or right behind the first event."""
    if told.payloads[0].get("type") == "response.created" and len(told.payloads) > 1:
        metadata = told.payloads[1] if told.payloads[1]["type"] == "response.metadata" else {"headers": {}}
        return metadata["headers"].get(TOKEN) or told.headers.get(TOKEN)
    return told.headers.get(TOKEN)


def repeating(form: Form, token: str) -> dict[str, Any]:
    """What a request repeats a token in."""
    return {"client_metadata": {TOKEN: token}} if form == "websocket" else {"headers": {TOKEN: token}}


@pytest.mark.parametrize("wire", ["chat", "responses"])
async def test_the_first_answer_hands_out_a_token_and_the_later_ones_do_not(wire: str) -> None:
    async with (
        ScriptedServer([HI] * 3 * len(FORMS), models=[MODEL]) as upstream,
        serving(upstream_at(upstream.base_url, wire_api=wire)) as gateway,
    ):
        for form in FORMS:
            token = token_of(await ask(gateway, form))
            assert token is not None
            assert (len(token) < 1024, token.isascii(), token.isprintable()) == (True, True, True)
            again = await ask(gateway, form, **repeating(form, token))
            assert (again.verdict, token_of(again)) == ("completed", None)
            assert token_of(await ask(gateway, form)) not in (None, token)
            for request in answered(upstream):
                assert request.token is None
                assert token.encode() not in request.body


@pytest.mark.parametrize("wire", ["chat", "responses"])
async def test_an_upstreams_own_token_travels_inside_of_ours_over_every_transport(wire: str) -> None:
    ways = list(itertools.product(STREAMS, STREAMS))
    async with (
        ScriptedServer([HI] * 2 * len(ways), token="theirs", models=[MODEL]) as upstream,
        serving(upstream_at(upstream.base_url, wire_api=wire)) as gateway,
    ):
        for first, then in ways:
            told = await ask(gateway, first)
            token = token_of(told)
            assert token is not None
            assert "theirs" not in str((told.headers, told.payloads))
            await ask(gateway, then, **repeating(then, token))
            assert [request.token for request in answered(upstream)[-2:]] == [None, "theirs"]


async def test_a_refusal_hands_out_no_token() -> None:
    refused = Turn(fault=Status(429))
    async with (
        ScriptedServer([refused] * len(FORMS), token="theirs", models=[MODEL]) as upstream,
        serving(upstream.base_url) as gateway,
    ):
        for form in FORMS:
            told = await ask(gateway, form)
            assert (told.status, told.headers.get(TOKEN)) == (429, None)


@pytest.mark.parametrize("form", STREAMS)
async def test_a_token_that_is_not_the_callers_counts_as_none(form: Form, caplog: Any) -> None:
    caplog.set_level("INFO", "turnwire.gateway")
    keys = tuple(CallerKey(name, key_hash(name)) for name in ("one", "other"))
    async with (
        ScriptedServer([HI] * 3, token="theirs", models=[MODEL]) as upstream,
        serving(upstream.base_url, callers=keys) as gateway,
    ):
        headers = {"authorization": "Bearer one"}
        token = token_of(await ask(gateway, form, headers=headers))
        assert token is not None
        for bad in (token[:-4] + "AAAA", token):
            caller = "other" if bad == token else "one"
            fields = repeating(form, bad)
            own = {"authorization": f"Bearer {caller}", **fields.pop("headers", {})}
            assert token_of(await ask(gateway, form, headers=own, **fields)) not in (None, token)
        assert [request.token for request in answered(upstream)] == [None] * 3
    reasons = [message.rpartition(" ")[2] for message in caplog.messages if "turn token" in message]
    assert reasons == ["forged", "forged"]


async def test_a_warm_ups_token_is_the_turns() -> None:
    async with (
        ScriptedServer([HI], models=[MODEL]) as upstream,
        serving(upstream.base_url) as gateway,
        connect(gateway.socket_url, proxy=None) as client,
    ):
        told = await ask_socket(client, **body_for("websocket", generate=False))
        token = token_of(told)
        assert token is not None
        again = await ask_socket(client, **body_for("websocket", client_metadata={TOKEN: token}))
        assert token_of(again) is None


async def test_an_empty_token_counts_as_absent() -> None:
    async with ScriptedServer([HI] * 2, models=[MODEL]) as upstream, serving(upstream.base_url) as gateway:
        for form in ("responses", "websocket"):
            assert token_of(await ask(gateway, form, **repeating(form, ""))) is not None
