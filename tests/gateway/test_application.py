"""The gateway as a whole: its paths, what it counts and logs of what passes through it, and what it never tells."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.gateway.asking import FORMS, Told, ask
from tests.gateway.raw_upstream import RawUpstream
from tests.gateway.serving import MODEL, serving, upstream_at
from turnwire.client.turn_state import TURN_STATE_HEADER
from turnwire.errors import ConfigurationError
from turnwire.event import TokenUsage
from turnwire.gateway.application import application, create_application
from turnwire.gateway.caller import CallerKey, key_hash
from turnwire.gateway.configuration import GatewayConfiguration
from turnwire.item import FunctionCall
from turnwire.testing import ErrorEvent, ScriptedServer, Status, Turn

pytestmark = pytest.mark.usefixtures("nothing_left")

NOBODY = "http://127.0.0.1:1/v1"


async def get(url: str, method: str = "GET", **headers: str) -> tuple[int, Any, dict[str, str]]:
    """Status, body and headers of a request without a body of its own."""
    async with aiohttp.ClientSession() as session, session.request(method, url, headers=headers) as response:
        body = await response.text()
        head = {name.lower(): value for name, value in response.headers.items()}
        return response.status, json.loads(body) if "json" in head["content-type"] else body, head


async def test_health_is_told_to_everybody_and_readiness_as_soon_as_an_upstream_is_there() -> None:
    async with ScriptedServer([], models=[MODEL]) as upstream, serving(upstream.base_url) as gateway:
        assert (await get(f"{gateway.server.url}/healthz"))[:2] == (200, {"status": "ok"})
        assert (await get(f"{gateway.server.url}/readyz"))[1]["status"] in ("ready", "waiting for an upstream")
        await ask(gateway, "responses")  # which waits until the upstreams have been asked
        assert (await get(f"{gateway.server.url}/readyz"))[:2] == (200, {"status": "ready"})


async def test_a_gateway_without_an_upstream_is_not_ready() -> None:
    async with serving(upstream_at(NOBODY, wire_api=None, models=None)) as gateway:
        told = (503, {"status": "waiting for an upstream"})
        assert (await get(f"{gateway.server.url}/readyz"))[:2] == told


async def test_models_are_listed_for_callers() -> None:
    keys = (CallerKey("laptop", key_hash("k")),)
    upstream = upstream_at(NOBODY, models={"org/one": "1", "two": "2"})
    async with serving(upstream, callers=keys) as gateway:
        url = f"{gateway.base_url}/models"
        for path in (url, f"{url}/two", f"{gateway.server.url}/metrics"):
            status, body, _ = await get(path)
            assert (status, body["error"]["code"]) == (401, "invalid_api_key")
        known = {"authorization": "Bearer k"}
        status, listing, _ = await get(url, **known)
        assert (status, [model["id"] for model in listing["data"]]) == (200, ["org/one", "two"])
        assert [model["slug"] for model in listing["models"]] == ["org/one", "two"]
        entries = {model["id"]: model for model in listing["data"]}
        assert (await get(f"{url}/org/one", **known))[:2] == (200, entries["org/one"])
        status, body, _ = await get(f"{url}/three", **known)
        assert (status, "'three'" in body["error"]["message"]) == (404, True)


@pytest.mark.parametrize(
    ("method", "path", "status", "header"),
    [
        ("GET", "/nothing", 404, None),
        ("GET", "/v1/chat/completions", 405, ("allow", "POST")),
        ("POST", "/healthz", 405, ("allow", "GET")),
        ("GET", "/v1/responses", 426, ("upgrade", "websocket")),
        ("HEAD", "/healthz", 200, None),
    ],
)
async def test_what_is_not_there_is_told_in_json(
    method: str, path: str, status: int, header: tuple[str, str] | None
) -> None:
    async with (
        serving(NOBODY) as gateway,
        aiohttp.ClientSession() as session,
        session.request(method, f"{gateway.server.url}{path}") as response,
    ):
        assert response.status == status
        if status != 200:
            assert (await response.json())["error"]["type"] == "invalid_request_error"
        if header is not None:
            name, value = header
            assert value in response.headers[name]


async def test_answers_are_counted() -> None:
    usage = TokenUsage(9, 4, 2, 0, 11)
    turns = [Turn(text="hi", usage=usage), Turn(text="hi", usage=usage), Turn(fault=Status(400))]
    async with (
        ScriptedServer(turns, models=["own"]) as upstream,
        serving(upstream_at(upstream.base_url, name="gpu", model="own")) as gateway,
    ):
        await ask(gateway, "responses", tools=[{"type": "web_search"}])
        await ask(gateway, "websocket", client_metadata={TURN_STATE_HEADER: "forged.x.y"})
        await ask(gateway, "responses whole")
        status, text, _ = await get(f"{gateway.server.url}/metrics")
    assert status == 200
    samples = {line for line in text.splitlines() if line.startswith("turnwire_")}
    route = f'model="{MODEL}",upstream="gpu"'
    assert samples >= {
        f'turnwire_answers_total{{api="responses",end="completed",{route}}} 1.0',
        f'turnwire_answers_total{{api="websocket",end="completed",{route}}} 1.0',
        f'turnwire_answers_total{{api="responses",end="failed",{route}}} 1.0',
        'turnwire_answers_open{api="responses"} 0.0',
        f"turnwire_first_output_seconds_count{{{route}}} 2.0",
        f"turnwire_input_tokens_total{{{route}}} 18.0",
        f"turnwire_cached_input_tokens_total{{{route}}} 8.0",
        f"turnwire_output_tokens_total{{{route}}} 4.0",
        'turnwire_dropped_features_total{feature="tool of type …"} 1.0',
    }
    assert any(sample.startswith("turnwire_refused_tokens_total") for sample in samples)


async def test_what_can_not_be_carried_over_is_named_to_the_client_and_in_the_log(caplog: Any) -> None:
    async with ScriptedServer([Turn(text="hi")] * 2, models=[MODEL]) as upstream, serving(upstream.base_url) as gateway:
        fields = {"tools": [{"type": "web_search"}], "truncation": "auto"}
        named = "truncation; tool of type 'web_search'"
        assert (await ask(gateway, "responses", **fields)).headers["x-turnwire-dropped"] == named
        told = await ask(gateway, "websocket", **fields)
        assert told.payloads[1]["headers"]["x-turnwire-dropped"] == named
    assert [message.partition(" ")[2] for message in caplog.messages] == [f"could not take along: {named}"] * 2


async def test_each_answer_has_a_name_that_the_log_knows_it_by(caplog: Any) -> None:
    caplog.set_level(logging.INFO, "turnwire.gateway")
    turns = [Turn(text="hi", headers={"x-request-id": "req_theirs"}), Turn(fault=Status(400))]
    async with ScriptedServer(turns, models=[MODEL]) as upstream, serving(upstream.base_url) as gateway:
        told = [await ask(gateway, "responses") for _ in turns]
    for answer, end in zip(told, ("completed", "failed"), strict=True):
        (line,) = [message for message in caplog.messages if message.startswith(answer.headers["x-request-id"])]
        assert f"responses of local by upstream-0 {end}" in line
    assert told[0].headers["x-upstream-request-id"] == "req_theirs"


SECRET = "s3cr3t"
"""Part of all that must not be told."""


async def test_no_key_token_or_prompt_is_ever_logged(monkeypatch: Any, caplog: Any) -> None:
    """All forms, over both APIs, answered, refused and broken off: at the lowest level, whoever logs."""
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("UPSTREAM_KEY", f"{SECRET}-upstream-key")
    call = FunctionCall("f", json.dumps({"a": f"{SECRET}-argument"}), "c1")
    turns = (
        Turn(text=f"{SECRET}-answer", reasoning=f"{SECRET}-thought", calls=[call], token=f"{SECRET}-their-token"),
        Turn(fault=Status(400, f"{SECRET}-echoed-prompt")),
        Turn(text=f"{SECRET}-answer", fault=ErrorEvent(after=1, message=f"{SECRET}-echo"), interval=0.01),
    )
    keys = (CallerKey("laptop", key_hash(f"{SECRET}-key")),)
    answers: list[Told] = []
    async with ScriptedServer(lambda request: turns[len(answers) % 3], models=["c", "r"]) as upstream:
        servers = [
            upstream_at(
                upstream.base_url, name=wire, wire_api=wire, models={wire[0]: wire[0]}, api_key_env="UPSTREAM_KEY"
            )
            for wire in ("chat", "responses")
        ]
        async with serving(*servers, callers=keys) as gateway:
            token = f"{SECRET}-forged"
            for form in FORMS:
                for model in ("c", "r"):
                    for _ in turns:
                        headers = {"authorization": f"Bearer {SECRET}-key", TURN_STATE_HEADER: token}
                        asked = "messages" if form.startswith("chat") else "input"
                        message = {"role": "user", "content": f"{SECRET}-prompt"}
                        answers.append(await ask(gateway, form, model, headers=headers, **{asked: [message]}))
                        token = answers[-1].headers.get(TURN_STATE_HEADER, token)
            headers = {"authorization": f"Bearer {SECRET}-wrong-key"}
            assert (await ask(gateway, "responses", headers=headers)).status == 401
    assert {"completed", "400 invalid_prompt"} <= {answer.verdict for answer in answers}
    assert token not in ("", f"{SECRET}-forged")
    formatter = logging.Formatter()
    lines = [formatter.format(record) for record in caplog.records if record.name != "websockets.client"]
    assert [line for line in lines if SECRET in line or token in line] == []
    assert len(lines) > len(answers)


def test_the_factory_reads_the_nearest_file(tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "turnwire.toml").write_text('[[upstreams]]\nname = "gpu"\nbase_url = "http://127.0.0.1:1/v1"\n')
    monkeypatch.chdir(tmp_path)
    assert application().router.routes == []  # until it is started
    (tmp_path / "turnwire.toml").write_text("[gateway]\nport = 1\n")
    with pytest.raises(ConfigurationError, match="no upstream is configured"):
        application()


def test_a_secret_that_is_not_there_keeps_the_gateway_from_being_made() -> None:
    configuration = GatewayConfiguration((upstream_at(NOBODY),), token_secrets_env=("NOWHERE",))
    with pytest.raises(ConfigurationError, match="NOWHERE"):
        create_application(configuration)


async def test_an_upstreams_address_is_not_for_clients_to_know() -> None:
    async def play(writer: Any) -> None:
        writer.transport.abort()

    async with RawUpstream(play) as upstream, serving(upstream.base_url) as gateway:
        told = await ask(gateway, "responses")
        assert told.verdict == "502 upstream_unreachable"
        assert upstream.base_url.partition("://")[2].partition("/")[0] not in str((told.payloads, told.headers))
