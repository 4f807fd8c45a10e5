"""Another configuration for a gateway that runs: what changes, what stays, and what nobody notices."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from websockets.asyncio.client import ClientConnection, connect

from tests.cli.command import Command
from tests.cli.serve_process import ServedProcess, serving
from tests.decoding import DONE, chunk, sse
from tests.gateway.raw_upstream import HEAD, RawUpstream
from tests.gateway.serving import upstream_at
from turnwire.errors import ConfigurationError, ConnectError
from turnwire.gateway.caller import CallerKey, key_hash
from turnwire.gateway.catalog import Catalog
from turnwire.gateway.configuration import GatewayConfiguration
from turnwire.gateway.pool import Pool, QueueLimits
from turnwire.gateway.reload import keep_reloading, reloaded
from turnwire.gateway.upstream import Upstream
from turnwire.testing import ScriptedServer, Turn

UPSTREAMS = (upstream_at("http://127.0.0.1:1/v1"),)
AGAIN = "the configuration was read again"
FAILED = "the configuration can't be used, and the one before goes on: "


# What is read.


def loading(wanted: GatewayConfiguration | ConfigurationError) -> Callable[[], GatewayConfiguration]:
    def load() -> GatewayConfiguration:
        if isinstance(wanted, ConfigurationError):
            raise wanted
        return wanted

    return load


def test_what_a_running_process_can_not_change_stays(caplog: pytest.LogCaptureFixture) -> None:
    running = GatewayConfiguration(UPSTREAMS, store_path=Path("a"))
    wanted = GatewayConfiguration(UPSTREAMS, port=1, workers=2, max_body=5, store_path=Path("a"))
    assert reloaded(loading(wanted), running) == replace(running, max_body=5)
    assert caplog.messages == ["not changed, for that needs a restart: port, workers"]


def test_a_configuration_that_can_not_be_used_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    running = GatewayConfiguration(UPSTREAMS, host="0.0.0.0", callers=(CallerKey("a", key_hash("a")),))
    assert reloaded(loading(ConfigurationError("no")), running) is None
    # That would do for the address that it wants, and not for the one that it has.
    assert reloaded(loading(GatewayConfiguration(UPSTREAMS)), running) is None
    assert caplog.messages[0] == f"{FAILED}no"
    assert caplog.messages[1].startswith(f"{FAILED}host '0.0.0.0' is reached from other machines")


async def test_what_fails_only_where_it_is_used_changes_nothing_either(caplog: pytest.LogCaptureFixture) -> None:
    first, second = GatewayConfiguration(UPSTREAMS, port=1), GatewayConfiguration(UPSTREAMS, port=2)
    adopted = []

    class Application:
        async def reload(self, configuration: GatewayConfiguration) -> None:
            if configuration is first:
                raise ConfigurationError("no")

    class Server:
        def adopt(self, configuration: GatewayConfiguration) -> None:
            adopted.append(configuration)

    async def both() -> AsyncIterator[GatewayConfiguration]:
        yield first
        yield second

    server: Any = Server()
    application: Any = Application()
    with caplog.at_level("INFO"):
        await keep_reloading(server, application, both())
    assert adopted == [second]
    assert caplog.messages == [f"{FAILED}no", "the configuration was read again: new requests are served by it"]


# What the pool keeps.


async def test_replicas_that_stay_keep_their_health_and_their_load() -> None:
    stays, changes, leaves = (Upstream(upstream_at("http://127.0.0.1:1/v1", name=name)) for name in "abc")
    changed = Upstream(upstream_at("http://127.0.0.1:2/v1", name="b"))
    pool = Pool()
    assert not pool.ready
    pool.change(Catalog([stays, changes, leaves]), QueueLimits())
    assert pool.ready
    leases = [await pool.lease("m", b"key", held_by=name) for name in "abc"]
    for lease in leases:
        lease.failed(ConnectError("nobody is there"))
    pool.change(Catalog([stays]), QueueLimits())
    assert not pool.ready
    pool.change(Catalog([stays, changed]), QueueLimits())
    assert pool.ready
    assert [pool.health(name).back_at is None for name in "ab"] == [False, True]
    assert [pool.health(name).ejections for name in "ab"] == [1, 1]
    assert [pool.load(name) for name in "ab"] == [1, 1]
    assert [pool.uses(upstream) for upstream in (stays, changes, changed, leaves)] == [True, True, False, True]
    for lease in leases:
        lease.succeeded()
        lease.end()
    assert not any(pool.uses(upstream) for upstream in (stays, changes, leaves))
    for upstream in (stays, changes, leaves, changed):
        await upstream.close()


# What a process does.


@pytest.fixture
def turnwire(tmp_path: Path) -> Command:
    return Command(tmp_path)


def upstream_table(name: str, server: ScriptedServer | RawUpstream, *lines: str) -> str:
    return "\n".join(["[[upstreams]]", f'name = "{name}"', f'base_url = "{server.base_url}"', *lines, ""])


async def reload(turnwire: Command, gateway: ServedProcess, file: str, words: str = AGAIN) -> str:
    turnwire.configure(file)
    gateway.process.send_signal(signal.SIGHUP)
    return await gateway.logged(words)


async def test_a_stream_goes_on_from_an_upstream_that_is_there_no_more(turnwire: Command) -> None:
    async with (
        ScriptedServer([Turn(text=["word "] * 60, interval=0.01)], models=["qwen3"]) as old,
        ScriptedServer([Turn(text="new")], models=["gemma"]) as new,
    ):
        turnwire.configure(upstream_table("old", old))
        async with serving(turnwire) as gateway:
            reader, writer = await gateway.ask()
            await reader.readuntil(b"event: response.output_text.delta\n")
            await reload(turnwire, gateway, upstream_table("old", old) + upstream_table("new", new))
            listed = await gateway.get("/v1/models")
            assert ('"qwen3"' in listed, '"gemma"' in listed) == (True, True)
            await reload(turnwire, gateway, upstream_table("new", new))
            answer = await gateway.answered("gemma")
            assert ("event: response.completed\n" in answer, "new" in answer) == (True, True)
            assert "HTTP/1.1 400" in await gateway.answered("qwen3")
            assert b"event: response.completed\n" in await reader.read()
            writer.close()
            await gateway.logged("the connections to upstream old, as it was before, are closed")
            assert "no upstream is configured" in await reload(turnwire, gateway, "[gateway]\nport = 1\n", FAILED)
            await reload(turnwire, gateway, upstream_table("new", new, 'ca_file = "none.pem"'), FAILED)
            assert '"gemma"' in await gateway.get("/v1/models")
            gateway.process.send_signal(signal.SIGTERM)
            assert await gateway.process.wait() == 0


async def test_keys_of_upstreams_and_of_callers_change(turnwire: Command) -> None:
    turns = [Turn(text="hello")] * 4
    async with ScriptedServer(turns, models=["qwen3"], api_key="right") as upstream:

        def file(caller: str, env: str) -> str:
            table = upstream_table("gpu", upstream, f'api_key_env = "{env}"', 'models = ["qwen3"]')
            return f'{table}[gateway.callers]\nlaptop = "{key_hash(caller)}"\n'

        turnwire.configure(file("tw-1", "WRONG_KEY"))
        async with serving(turnwire, WRONG_KEY="wrong", RIGHT_KEY="right") as gateway:
            first, second = ({"authorization": f"Bearer tw-{number}"} for number in (1, 2))
            assert "HTTP/1.1 400" in await gateway.answered(**first)
            async with connect(
                f"ws://127.0.0.1:{gateway.port}/v1/responses", additional_headers=first, proxy=None
            ) as socket:
                await reload(turnwire, gateway, file("tw-1", "RIGHT_KEY"))
                assert "HTTP/1.1 200" in await gateway.answered(**first)
                assert (await last_event(socket))["type"] == "response.completed"
                await reload(turnwire, gateway, file("tw-2", "RIGHT_KEY"))
                assert "HTTP/1.1 401" in await gateway.answered(**first)
                assert "HTTP/1.1 200" in await gateway.answered(**second)
                refused = await last_event(socket)
                assert (refused["type"], refused["status"]) == ("error", 401)
            await reload(turnwire, gateway, file("tw-2", "WRONG_KEY"))  # whose end does not wait for what that closes
            gateway.process.send_signal(signal.SIGTERM)
            assert await gateway.process.wait() == 0


async def test_a_callers_answers_under_way_count_against_the_next_configurations_bound(turnwire: Command) -> None:
    go_on = asyncio.Event()

    async def play(writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + sse(chunk(content="begun")))
        await go_on.wait()
        writer.write(sse(chunk("stop")) + DONE)
        writer.close()

    async with RawUpstream(play) as upstream:

        def file(keepalive_interval: int) -> str:
            table = upstream_table("gpu", upstream, 'models = ["qwen3"]', 'wire_api = "chat"')
            return f"{table}[gateway]\nmax_streams = 1\nkeepalive_interval = {keepalive_interval}\n"

        turnwire.configure(file(5))
        async with serving(turnwire) as gateway:
            reader, writer = await gateway.ask()
            await reader.readuntil(b"event: response.output_text.delta\n")
            await reload(turnwire, gateway, file(6))
            async with asyncio.timeout(10):
                assert "HTTP/1.1 429" in await gateway.answered()
            go_on.set()
            assert b"event: response.completed\n" in await reader.read()
            writer.close()
            while "HTTP/1.1 429" in (answer := await gateway.answered()):
                pass  # a client is told before its answer counts no more
            assert "event: response.completed\n" in answer


async def last_event(socket: ClientConnection) -> dict[str, Any]:
    await socket.send(json.dumps({"type": "response.create", "model": "qwen3", "input": "hi"}))
    while True:
        event: dict[str, Any] = json.loads(await socket.recv())
        if event["type"] in ("response.completed", "response.failed", "error"):
            return event
