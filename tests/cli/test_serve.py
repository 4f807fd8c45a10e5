"""``turnwire serve``: what it says at its start, how it ends, and what ``--check`` finds."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys

import pytest

from tests.cli.command import Command
from tests.cli.serve_process import ServedProcess, plain, serving
from tests.gateway.redis_server import RedisServer
from turnwire.cli.serve_screen import Screen
from turnwire.gateway.caller import CallerKey, key_hash
from turnwire.gateway.configuration import GatewayConfiguration, upstream_at
from turnwire.gateway.discovery import Found
from turnwire.gateway.server import listen
from turnwire.testing import ScriptedServer, Turn

KEYLESS = "API keys   none: programs on this machine are served, with any key or without\n"


async def test_it_says_where_it_is_what_it_found_and_who_may_call(turnwire: Command) -> None:
    async with (
        ScriptedServer([Turn(text="hello")], models=["qwen3", "gemma"]) as upstream,
        serving(turnwire, "--upstream", upstream.base_url) as gateway,
    ):
        assert plain(gateway.shown) == (
            "listening  http://127.0.0.1:PPPPP\n"
            "base_url   http://127.0.0.1:PPPPP/v1\n"
            + KEYLESS
            + "upstream   127.0.0.1:PPPPP, http://127.0.0.1:PPPPP/v1: chat, dialect tolerant\n"
            "           models qwen3, gemma\n"
        )
        reader, writer = await gateway.ask()
        assert b"event: response.completed\n" in await reader.read()
        writer.close()
        gateway.process.send_signal(signal.SIGINT)
        log = await gateway.end()
        assert gateway.process.returncode == 0
    assert re.sub("req_[0-9a-f]+", "REQUEST", log) == (
        "INFO REQUEST responses of local by 127.0.0.1:PPPPP completed\nINFO stopping on SIGINT\n"
    )


async def test_an_answer_under_way_ends_by_itself_when_it_is_told_to_stop(turnwire: Command) -> None:
    async with (
        ScriptedServer([Turn(text=["word "] * 100, interval=0.01)], models=["qwen3"]) as upstream,
        serving(turnwire, "--upstream", upstream.base_url) as gateway,
    ):
        reader, writer = await gateway.ask()
        await reader.readuntil(b"event: response.output_text.delta\n")
        gateway.process.send_signal(signal.SIGTERM)
        with pytest.raises(ConnectionError):  # nothing new is taken, and soon
            await gateway.knock()
        assert b"event: response.completed\n" in await reader.read()
        writer.close()
        await gateway.process.wait()
        assert gateway.process.returncode == 0


async def test_an_answer_that_takes_too_long_is_told_of_the_end(turnwire: Command) -> None:
    async with ScriptedServer([Turn(text=["word "] * 1000, interval=0.01)], models=["qwen3"]) as upstream:
        turnwire.configure(
            f'[[upstreams]]\nname = "slow"\nbase_url = "{upstream.base_url}"\n[gateway]\ndrain_timeout = 0\n'
        )
        async with serving(turnwire, "--log-level", "warning") as gateway:
            reader, writer = await gateway.ask()
            await reader.readuntil(b"event: response.output_text.delta\n")
            gateway.process.send_signal(signal.SIGTERM)
            rest = await reader.read()
            writer.close()
            assert b"event: response.failed\n" in rest
            assert b"event: response.completed\n" not in rest
            assert re.sub("req_[0-9a-f]+", "REQUEST", await gateway.end()) == (
                "WARNING answers cut off that did not end by themselves: 1\n"
                "WARNING REQUEST responses of local by slow left: ServerOverloaded\n"
            )
            assert gateway.process.returncode == 0


async def test_with_keys_only_their_callers_are_served(turnwire: Command) -> None:
    async with ScriptedServer([Turn(text="hello")], models=["qwen3"]) as upstream:
        (turnwire.folder / "mine.toml").write_text(
            f'[[upstreams]]\nname = "gpu"\nbase_url = "{upstream.base_url}"\ndialect = "vllm"\nwire_api = "chat"\n'
            f'models = {{ qwen3 = "qwen3", other = "none" }}\n[gateway.callers]\nlaptop = "{key_hash("tw-1")}"\n'
        )
        async with serving(turnwire, "--config", "mine.toml", lines=6) as gateway:
            assert plain(gateway.shown) == (
                "listening  http://127.0.0.1:PPPPP\n"
                "base_url   http://127.0.0.1:PPPPP/v1\n"
                "API keys   laptop\n"
                "upstream   gpu, http://127.0.0.1:PPPPP/v1: chat, dialect vllm\n"
                "           models qwen3, other\n"
                "           upstream 'gpu' does not list none: check the names under models; it lists qwen3\n"
            )
            for headers, status in (({}, b"401"), ({"authorization": "Bearer tw-1"}, b"200")):
                reader, writer = await gateway.ask(**headers)
                assert (await reader.read()).split()[1] == status
                writer.close()


async def test_each_answer_becomes_a_line_of_the_access_log(turnwire: Command) -> None:
    async with (
        ScriptedServer([Turn(text="hello")], models=["qwen3"]) as upstream,
        serving(turnwire, "--upstream", upstream.base_url, "--access-log", "answers.jsonl") as gateway,
    ):
        await gateway.answered()
        gateway.process.send_signal(signal.SIGTERM)
        log = await gateway.end()
    (line,) = (turnwire.folder / "answers.jsonl").read_text().splitlines()
    entry = json.loads(plain(line))
    told = ("caller", "api", "model", "upstreams", "held", "end", "status", "error")
    assert {name: entry[name] for name in told} == {
        "caller": "local",
        "api": "responses",
        "model": "qwen3",
        "upstreams": ["127.0.0.1:PPPPP"],
        "held": "key",
        "end": "completed",
        "status": 200,
        "error": None,
    }
    assert f"INFO {entry['request_id']} responses of local" in log


async def test_it_serves_also_where_nobody_reads_its_screen(turnwire: Command) -> None:
    (probe,) = listen("127.0.0.1", 0)
    with probe:
        port = probe.getsockname()[1]
    reading, writing = os.pipe()
    os.close(reading)
    options = ("--port", str(port), "--log-level", "warning", "--upstream", "http://127.0.0.1:1/v1")
    process = await turnwire.start("serve", *options, stdout=writing, XDG_STATE_HOME=str(turnwire.folder))
    os.close(writing)
    gateway = ServedProcess(process, f"listening  http://127.0.0.1:{port}\n")
    while True:
        try:
            response = await gateway.get("/healthz")
            break
        except ConnectionRefusedError:
            await asyncio.sleep(0.02)
    assert response.startswith("HTTP/1.1 200 ")
    process.send_signal(signal.SIGTERM)
    assert await process.communicate() == (None, b"")
    assert process.returncode == 0


async def test_what_is_in_the_way_of_serving_is_one_sentence(turnwire: Command) -> None:
    (taken,) = listen("127.0.0.1", 0)
    with taken:
        port = taken.getsockname()[1]
        run = await turnwire("serve", "--upstream", "http://127.0.0.1:1/v1", "--port", str(port))
    assert (run.code, run.stdout) == (1, "")
    assert run.stderr == f"error: can't listen on 127.0.0.1 port {port}: address already in use\n"


async def test_a_store_that_can_t_be_opened_is_one_sentence(turnwire: Command) -> None:
    turnwire.configure('[gateway]\nstore_path = "turnwire.toml"\n')
    run = await turnwire(
        "serve", "--upstream", "http://127.0.0.1:1/v1", "--port", "0", XDG_STATE_HOME=str(turnwire.folder)
    )
    assert run.code == 2
    assert run.stderr.splitlines()[-1].startswith("error: the response store turnwire.toml can't be used: ")
    assert "Traceback" not in run.stderr


@pytest.mark.parametrize(
    ("options", "file", "sentence"),
    [
        (
            [],
            "",
            "no upstream is configured: give a model server's address with --upstream, or write an [[upstreams]] table "
            "into turnwire.toml",
        ),
        (["--config", "none.toml"], "", "none.toml can't be read: No such file or directory"),
        (["--dialect", "vllm"], "", "--dialect is for a server given with --upstream; in a file each has its own"),
        (
            ["--api-key-env", "KEY"],
            "",
            "--api-key-env is for a server given with --upstream; in a file each has its own",
        ),
        (
            ["--upstream", "127.0.0.1"],
            "",
            "upstream '127.0.0.1' can't be used: base_url '127.0.0.1' is not an http or https address",
        ),
        (
            ["--upstream", "http://127.0.0.1:1/v1", "--host", "0.0.0.0"],
            "",
            "host '0.0.0.0' is reached from other machines, and there is no caller's key: make one with `turnwire key` "
            "and put its hash into [gateway.callers]; without any, only loopback is served",
        ),
        (
            ["--upstream", "http://127.0.0.1:1/v1", "--check"],
            "[gateway]\ntoken_secrets_env = ['MISSING']\n",
            "token_secrets_env: MISSING is not set, and a secret needs 32 or more; `openssl rand -hex 32` makes one",
        ),
        ([], "[gateway]\nport = 'x'\n", "turnwire.toml: [gateway] port: expected `int`, got `str`"),
    ],
)
def test_what_is_not_right_is_one_sentence(options: list[str], file: str, sentence: str, turnwire: Command) -> None:
    turnwire.configure(file)
    run = turnwire.here("serve", *options)
    assert (run.code, run.stdout, run.stderr) == (2, "", f"error: {sentence}\n")


async def checked(turnwire: Command, *options: str, **environment: str) -> tuple[int, str]:
    # In a thread, for the upstreams live on this one's loop.
    state = str(turnwire.folder)
    run = await asyncio.to_thread(turnwire.here, "serve", "--check", *options, XDG_STATE_HOME=state, **environment)
    assert run.stderr == ""
    return run.code, plain(run.stdout)


async def test_check_says_what_each_upstream_is_and_serves_nothing(turnwire: Command) -> None:
    async with (
        ScriptedServer([], models=["qwen3"], api_key="secret") as first,
        ScriptedServer([], models=[f"model-{number}" for number in range(10)]) as second,
    ):
        turnwire.configure(
            f'[[upstreams]]\nname = "first"\nbase_url = "{first.base_url}"\napi_key_env = "MY_SECRET"\n'
            f'dialect = {{ bare_end = "end" }}\n'
            f'[[upstreams]]\nname = "second"\nbase_url = "{second.base_url}"\nwire_api = "responses"\n'
        )
        assert await checked(turnwire, MY_SECRET="secret") == (
            0,
            "upstream   first, http://127.0.0.1:PPPPP/v1: chat, dialect custom\n"
            "           models qwen3\n"
            "upstream   second, http://127.0.0.1:PPPPP/v1: responses, dialect tolerant\n"
            "           models model-0, model-1, model-2, model-3, model-4, model-5, model-6, model-7 and 2 more\n",
        )
        code, shown = await checked(turnwire, MY_SECRET="wrong")
        assert code == 1
        assert "upstream 'first' refused the key in MY_SECRET" in shown
        assert "upstream   second, " in shown
        code, shown = await checked(turnwire)
        assert code == 1
        assert "set the environment variable MY_SECRET" in shown


async def test_check_says_that_an_upstream_is_not_there(turnwire: Command) -> None:
    assert await checked(turnwire, "--upstream", "http://127.0.0.1:1/v1", "--dialect", "vllm") == (
        1,
        "upstream   127.0.0.1:PPPPP, http://127.0.0.1:PPPPP/v1: unknown API, dialect vllm\n"
        "           no models\n"
        "           can't connect to upstream '127.0.0.1:PPPPP': connection refused\n",
    )


async def test_check_says_that_the_store_s_server_is_not_there(turnwire: Command) -> None:
    turnwire.configure("[gateway]\nstore_url_env = 'CHECKED_REDIS'\ntoken_secrets_env = ['CHECKED_SECRET']\n")
    options = ("serve", "--check", "--upstream", "http://127.0.0.1:1/v1")
    variables = {"CHECKED_REDIS": "unix://:hush@/nowhere", "CHECKED_SECRET": "of all machines: 0123456789abcdef"}
    run = await asyncio.to_thread(turnwire.here, *options, **variables)
    assert (run.code, run.stdout) == (2, "")
    assert run.stderr == (
        "error: store_url_env: CHECKED_REDIS: the response store unix:///nowhere can't be used now: Error 2 connecting "
        "to /nowhere. No such file or directory; see that it runs, and that its URL is right\n"
    )
    with RedisServer() as server:
        code, shown = await checked(turnwire, *options[2:], **variables | {"CHECKED_REDIS": server.url})
    assert (code, shown.splitlines()[0][:8]) == (1, "upstream")


def test_a_gateway_for_other_machines_is_shown_by_an_address_that_can_be_used(
    capsys: pytest.CaptureFixture[str],
) -> None:
    callers = (CallerKey("ci", key_hash("a")), CallerKey("laptop", key_hash("b")))
    configuration = GatewayConfiguration((upstream_at("http://127.0.0.1:1/v1"),), host="0.0.0.0", callers=callers)
    Screen().gateway("http://0.0.0.0:8088", configuration)
    assert capsys.readouterr().out == (
        "listening  http://0.0.0.0:8088\n"
        "base_url   http://127.0.0.1:8088/v1 here, by this machine's name elsewhere\n"
        "API keys   ci, laptop\n"
    )


def test_what_is_found_early_is_shown_behind_the_gateway_s_address(capsys: pytest.CaptureFixture[str]) -> None:
    screen, upstream = Screen(), upstream_at("http://127.0.0.1:1/v1")
    screen.found(upstream, Found(upstream.base_url, problems=("it is \x1b[2Jgone",)))
    assert capsys.readouterr().out == ""
    screen.gateway("http://127.0.0.1:8088", GatewayConfiguration((upstream,)))
    assert capsys.readouterr().out == (
        "listening  http://127.0.0.1:8088\n"
        "base_url   http://127.0.0.1:8088/v1\n"
        + KEYLESS
        + "upstream   127.0.0.1:1, http://127.0.0.1:1/v1: unknown API, dialect tolerant\n"
        "           no models\n"
        "           it is \N{REPLACEMENT CHARACTER}[2Jgone\n"
    )


def test_a_package_that_is_missing_is_one_sentence(turnwire: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    run = turnwire.here("serve", "--upstream", "http://127.0.0.1:1/v1")
    assert (run.code, run.stdout) == (2, "")
    assert run.stderr == 'error: the gateway is an extra of turnwire: pip install "turnwire[gateway]"\n'
