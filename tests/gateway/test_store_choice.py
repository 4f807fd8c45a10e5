"""The store that a configuration means, and a gateway whose store fails it."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from msgspec.structs import replace
from prometheus_client.parser import text_string_to_metric_families

from tests.gateway.asking import ask
from tests.gateway.keeping import TENANT, turn
from tests.gateway.redis_server import RedisServer
from tests.gateway.serving import MODEL, ServedGateway, serving
from turnwire.errors import ConfigurationError
from turnwire.gateway.application import create_application
from turnwire.gateway.configuration import GatewayConfiguration, upstream_at
from turnwire.gateway.redis_store import RedisStore
from turnwire.gateway.server import GatewayServer
from turnwire.gateway.sqlite_store import SqliteStore
from turnwire.gateway.store_choice import open_store
from turnwire.testing import ScriptedServer, Turn

ONE = turn("resp_1", "first?", "one")
UPSTREAMS = (upstream_at("http://127.0.0.1:1/v1"),)
NAME = "TURNWIRE_REDIS_URL"
SECRET = "TURNWIRE_TOKEN_SECRET"
IN_REDIS = GatewayConfiguration(UPSTREAMS, store_url_env=NAME, store_prefix="chosen", token_secrets_env=(SECRET,))

pytestmark = pytest.mark.usefixtures("nothing_left")


@pytest.fixture(autouse=True)
def _common_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SECRET, "of all machines: 0123456789abcdef")


async def test_a_file_is_the_store_where_no_server_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    for path, made in ((tmp_path / "own.db", "own.db"), (None, "turnwire/responses.sqlite")):
        store = await open_store(GatewayConfiguration(UPSTREAMS, store_path=path))
        assert isinstance(store.store, SqliteStore)
        assert (tmp_path / made).exists()
        await store.close()


async def test_a_server_is_the_store_that_the_environment_names(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(NAME, redis_server.url)
    here, there = await open_store(IN_REDIS), await open_store(IN_REDIS)
    assert isinstance(here.store, RedisStore)
    await here.put(TENANT, ONE)
    assert await there.get(TENANT, "resp_1") == ONE
    await here.close()
    await there.close()


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        (None, f"{NAME} is not set; it holds the address of a Redis server, as in redis://10.0.0.5:6379/0"),
        ("", f"{NAME} is not set; it holds the address of a Redis server, as in redis://10.0.0.5:6379/0"),
        (
            "https://:hush@cache.example",
            f"{NAME}: the response store's URL can't be read: expected redis://, rediss:// or unix://, as in "
            "redis://user:password@host:6379/0, with redis-py's options behind a ? and a password's special characters "
            "as %2F and so on",
        ),
        (
            "unix://:hush@/nowhere/socket",
            f"{NAME}: the response store unix:///nowhere/socket can't be used now: Error 2 connecting to "
            "/nowhere/socket. No such file or directory; see that it runs, and that its URL is right",
        ),
    ],
)
async def test_a_server_that_can_not_be_used_is_one_sentence(
    url: str | None, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if url is None:
        monkeypatch.delenv(NAME, raising=False)
    else:
        monkeypatch.setenv(NAME, url)
    with pytest.raises(ConfigurationError) as caught:
        await open_store(IN_REDIS)
    assert str(caught.value) == f"store_url_env: {sentence}"
    configuration = replace(IN_REDIS, port=0)
    server = GatewayServer(configuration, create_application(configuration))
    with pytest.raises(ConfigurationError) as caught:
        await server.serve()
    assert str(caught.value) == f"store_url_env: {sentence}"


@pytest.mark.parametrize("missing", ["redis.asyncio", "turnwire.gateway.store"])
async def test_a_package_that_is_missing_is_one_sentence_and_another_module_a_defect(
    missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "turnwire.gateway.redis_store")
    monkeypatch.setitem(sys.modules, missing, None)
    expected = ConfigurationError if missing == "redis.asyncio" else ModuleNotFoundError
    with pytest.raises(expected, match="pip install" if expected is ConfigurationError else missing):
        await open_store(IN_REDIS)


async def event_types(gateway: ServedGateway, **fields: str) -> AsyncIterator[str]:
    """The types of an answer's events as they come."""
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{gateway.base_url}/responses", json={"model": MODEL, "stream": True, **fields}) as response,
    ):
        async for line in response.content:
            if line.startswith(b"event: "):
                yield line.decode().removeprefix("event: ").rstrip()


async def store_failures(gateway: ServedGateway) -> dict[str, float]:
    """What its store could not do, and how often, by its metrics."""
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{gateway.server.url}/metrics") as response,
    ):
        families = text_string_to_metric_families(await response.text())
        samples = [sample for family in families for sample in family.samples]
    counted = [sample for sample in samples if sample.name == "turnwire_store_failures_total"]
    assert len(counted) == 8  # from the first scrape on, for a rate needs a beginning
    return {sample.labels["operation"]: sample.value for sample in counted if sample.value}


async def test_a_gateway_whose_store_is_killed_answers_what_it_can_and_finds_it_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    turns = [Turn(text="One"), Turn(text=list("streamed"), interval=0.01), Turn(text="Alone"), Turn(text="Back")]
    with RedisServer() as server:
        monkeypatch.setenv(NAME, server.url)
        async with (
            ScriptedServer(turns, models=[MODEL]) as upstream,
            serving(upstream.base_url, store_path=None, store_url_env=NAME, token_secrets_env=(SECRET,)) as gateway,
            serving(upstream.base_url, store_path=None, store_url_env=NAME, token_secrets_env=(SECRET,)) as another,
        ):
            (first,) = (await ask(gateway, "responses whole", input="hello")).payloads
            assert await store_failures(gateway) == {}
            events = event_types(another, input="go on", previous_response_id=first["id"])
            while await anext(events) != "response.output_text.delta":
                pass
            server.stop()
            assert [event async for event in events][-1] == "response.completed"
            (warning,) = caplog.messages
            assert f" could not be stored: the response store {server.url} can't be used now: Error " in warning

            told = await ask(gateway, "responses whole", input="and?", previous_response_id=first["id"])
            assert (told.verdict, told.headers["retry-after"]) == ("503 slow_down", "1")
            assert (await ask(gateway, "responses whole", input="alone")).text == "Alone"
            assert (await ask(gateway, "responses whole", input="later", background=True)).status == 503
            assert [await store_failures(one) for one in (gateway, another)] == [{"chain": 1, "put": 2}, {"put": 1}]

            server.start()
            (back,) = (await ask(gateway, "responses whole", input="hello again")).payloads
            async with (
                aiohttp.ClientSession() as session,
                session.get(f"{another.base_url}/responses/{back['id']}") as response,
            ):
                assert await response.json() == back
            assert not {"hello", "alone"} & set(caplog.text.split())
