"""The demo's gateway, as far as the demo itself does not show it."""

import re

import aiohttp
import pytest

from turnwire.cli import demo_gateway
from turnwire.cli.demo_gateway import Answered, DemoGateway, GatewayError, demo_gateways
from turnwire.client import TURN_STATE_HEADER, ModelClient, Provider
from turnwire.event import TokenUsage
from turnwire.testing import ScriptedServer, Turn

USAGE = TokenUsage(100, 80, 5, total_tokens=105)


async def test_what_is_counted_is_told_once_and_by_replica(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # even what the gateway says of its address
    script = [Turn(text="One.", usage=USAGE), Turn(text="Two.", usage=USAGE)]
    async with (
        ScriptedServer(script) as replica,
        DemoGateway([replica.base_url]) as gateway,
        ModelClient(Provider("gateway", gateway.base_url, wire_api="responses"), model="scripted") as client,
    ):
        for _ in script:
            async with client.new_session().stream("Hello") as stream:
                async for _ in stream:
                    pass
        told: list[Answered] = []
        while sum(what.answers for what in told) < len(script):
            told += await gateway.answered()
        assert {what.replica for what in told} == {0}
        assert sum(what.usage.cached_input_tokens for what in told) == 2 * USAGE.cached_input_tokens
        assert sum(what.usage.total_tokens for what in told) == 2 * USAGE.total_tokens
        assert all(what.first_token > 0 for what in told)

        monkeypatch.setattr(demo_gateway, "_COUNT_TIMEOUT", 0.03)
        with pytest.raises(GatewayError, match=re.escape("the gateway has counted no answer for 0.03 s")):
            await gateway.answered()


async def test_gateways_take_each_others_tokens() -> None:
    async with (
        ScriptedServer([Turn(text="One."), Turn(text="Two."), Turn(text="Three.")]) as replica,
        demo_gateways([replica.base_url], count=2) as gateways,
        aiohttp.ClientSession() as session,
    ):

        async def token(gateway: DemoGateway, **headers: str) -> str | None:
            asked = {"model": "scripted", "input": "Hello", "stream": True}
            async with session.post(f"{gateway.base_url}/responses", json=asked, headers=headers) as response:
                assert response.ok
                await response.read()
                return response.headers.get(TURN_STATE_HEADER)

        first = await token(gateways[0])
        assert first is not None
        assert await token(gateways[1], **{TURN_STATE_HEADER: first}) is None  # the turn has one
        assert await token(gateways[1], **{TURN_STATE_HEADER: f"{first}x"}) is not None


async def test_a_gateway_that_is_not_ready_in_time_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_gateway, "_OPEN_TIMEOUT", 0.01)
    with pytest.raises(GatewayError, match=re.escape("the gateway is not ready after 0.01 s")):
        async with DemoGateway(["http://127.0.0.1:1/v1"]):
            pass
