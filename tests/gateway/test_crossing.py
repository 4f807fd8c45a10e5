"""Which headers cross the gateway, seen from both ends: none of who a client is, and none of a connection."""

from __future__ import annotations

from typing import Any

import pytest

from tests.gateway.asking import FORMS, Form, ask
from tests.gateway.serving import answered, serving, upstream_at
from turnwire.gateway.caller import CallerKey, key_hash
from turnwire.testing import ScriptedServer, Turn

pytestmark = pytest.mark.usefixtures("nothing_left")

KEY = "sk-of-the-caller"
STAYS_WITH_THE_CLIENT = {
    "authorization": f"Bearer {KEY}",
    "proxy-authorization": "Basic c2VjcmV0",
    "cookie": "session=secret",
    "x-api-key": "secret",
    "api-key": "secret",
    "openai-organization": "org-secret",
    "chatgpt-account-id": "secret",
    "x-forwarded-for": "192.0.2.1",
    "forwarded": "for=192.0.2.1",
    "x-real-ip": "192.0.2.1",
    "te": "trailers",
    "keep-alive": "timeout=999",
    "x-hop": "secret",
    "accept-language": "tlh",
    "referer": "https://secret.example/",
    "origin": "https://secret.example",
}
CROSSES = {"originator": "codex_cli_rs", "session-id": "s1", "x-codex-window-id": "w1", "traceparent": "00-1-1-01"}
STAYS_WITH_THE_UPSTREAM = {
    "set-cookie": "upstream=secret",
    "www-authenticate": "Basic realm=secret",
    "server": "secret/1.0",
    "via": "1.1 secret",
    "alt-svc": 'h3=":443"',
    "keep-alive": "timeout=999",
    "x-hop": "secret",
    "openai-model": "other",
    "x-models-etag": "secret",
    "strict-transport-security": "max-age=1",
    "access-control-allow-origin": "*",
}
RETURNS = {"x-codex-primary-used-percent": "12", "openai-processing-ms": "7"}
OF_A_CONNECTION = {"connection", "keep-alive", "te", "trailer", "upgrade", "proxy-authorization", "proxy-authenticate"}


def answer(_: object) -> Turn:
    return Turn(text="hi", headers={**STAYS_WITH_THE_UPSTREAM, **RETURNS, "x-request-id": "u1"})


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("wire_api", ["chat", "responses"])
async def test_headers_of_identity_and_of_connections_stay_where_they_are(
    form: Form, wire_api: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UPSTREAM_KEY", "sk-of-the-gateway")
    callers = (CallerKey("laptop", key_hash(KEY)),)
    async with (
        ScriptedServer(answer) as server,
        serving(
            upstream_at(server.base_url, wire_api=wire_api, api_key_env="UPSTREAM_KEY"), callers=callers
        ) as gateway,
    ):
        told = await ask(gateway, form, headers={**STAYS_WITH_THE_CLIENT, **CROSSES})
        (request,) = answered(server)

    assert told.verdict == "completed"
    sent: dict[str, Any] = dict(request.headers)
    assert sent.pop("authorization") == "Bearer sk-of-the-gateway"
    assert CROSSES.items() <= sent.items()
    assert not sent.keys() & (STAYS_WITH_THE_CLIENT.keys() | OF_A_CONNECTION)
    assert not any("secret" in value or KEY in value for value in sent.values())
    assert "secret" not in str(told.headers)
    assert not told.headers.keys() & (STAYS_WITH_THE_UPSTREAM.keys() | OF_A_CONNECTION)
    if form != "websocket":
        assert RETURNS.items() <= told.headers.items()
        assert told.headers["x-upstream-request-id"] == "u1"
