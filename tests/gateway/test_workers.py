"""Several processes behind one address."""

from __future__ import annotations

import asyncio
import io
import os
import pickle
import re
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.cli.command import Command
from tests.cli.serve_process import ServedProcess, serving
from tests.gateway.serving import upstream_at
from turnwire.cli.serve import LogLevel
from turnwire.cli.serve_worker import arguments
from turnwire.client.turn_state import TURN_STATE_HEADER
from turnwire.gateway.configuration import GatewayConfiguration
from turnwire.gateway.workers import Workers, first_configuration
from turnwire.testing import ScriptedServer, Turn

WORKERS = 2
ASKED = 24
"""Requests of which each worker gets some, by all that is likely: none with a chance of one in eight million."""


@pytest.fixture
def turnwire(tmp_path: Path) -> Command:
    return Command(tmp_path)


def workers_of(process: Process) -> dict[str, int]:
    """The process of each worker, by its number."""
    found = {}
    for child in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
        words = Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")
        if b"turnwire.cli.serve_worker" in words:
            found[words[3].decode()] = int(child)
    return found


async def others(gateway: ServedProcess, gone: int) -> dict[str, int]:
    """The workers, once there are as many as should be, and not this one among them."""
    async with asyncio.timeout(20):
        while True:
            workers = workers_of(gateway.process)
            if len(workers) == WORKERS and gone not in workers.values():
                return workers
            await asyncio.sleep(0.02)


async def all_counted(gateway: ServedProcess, answers: int) -> None:
    """Returns once so many answers are counted, each a moment after its client has had it."""
    async with asyncio.timeout(20):
        while await counted(gateway) != answers:
            pass


async def counted(gateway: ServedProcess) -> float:
    text = await gateway.get("/metrics")
    return sum(map(float, re.findall(r'turnwire_answers_total\{.*end="completed".*\} (\S+)', text)))


async def log_of(gateway: ServedProcess) -> str:
    gateway.process.send_signal(signal.SIGTERM)
    return await gateway.end()


async def test_all_answer_for_one_gateway(turnwire: Command) -> None:
    async with (
        ScriptedServer([Turn(text="hi")] * (2 * ASKED), models=["qwen3"]) as upstream,
        serving(turnwire, "--upstream", upstream.base_url, "--workers", str(WORKERS)) as gateway,
    ):
        first = await gateway.answered()
        token = re.findall(rf"(?i){TURN_STATE_HEADER}: (\S+)", first)[0]
        answers = [await gateway.answered(**{TURN_STATE_HEADER: token}) for _ in range(ASKED - 1)]
        # The token is the turn's in every worker, so that none gives another one out.
        assert [TURN_STATE_HEADER in answer.partition("\r\n\r\n")[0].lower() for answer in answers] == [False] * (
            ASKED - 1
        )
        await all_counted(gateway, ASKED)
        assert [await counted(gateway) for _ in range(ASKED)] == [ASKED] * ASKED
        assert "turnwire_refused_tokens_total{" not in await gateway.get("/metrics")
        log = await log_of(gateway)
        assert gateway.process.returncode == 0
    assert {number for number in "12" if f"INFO worker {number} req_" in log} == {"1", "2"}
    assert log.count("upstream") == 0  # which the screen shows, once


async def test_one_that_is_killed_is_replaced_while_the_others_go_on(turnwire: Command) -> None:
    turns = [Turn(text="hi")] * (2 * ASKED)
    async with ScriptedServer(turns, models=["qwen3"]) as upstream:
        turnwire.configure(f'[[upstreams]]\nname = "gpu"\nbase_url = "{upstream.base_url}"\n[gateway]\nworkers = 2\n')
        async with serving(turnwire) as gateway:
            for _ in range(ASKED):
                await gateway.answered()
            await all_counted(gateway, ASKED)
            before = workers_of(gateway.process)
            os.kill(before["2"], signal.SIGKILL)
            after = await others(gateway, before["2"])
            assert (after.keys(), after["1"]) == ({"1", "2"}, before["1"])
            answers = [await gateway.answered() for _ in range(ASKED)]
            assert all("response.completed" in answer for answer in answers)
            await all_counted(gateway, 2 * ASKED)
            # A second end so soon makes it wait; the signal does not.
            os.kill(after["2"], signal.SIGKILL)
            assert "was ended by SIGKILL; another starts in 1 s" in await gateway.logged("1 s")
            log = await log_of(gateway)
            assert gateway.process.returncode == 0
    assert "stopping 1 workers on SIGTERM" in log


async def test_a_reload_reaches_all_and_those_that_come_later(turnwire: Command) -> None:
    async with (
        ScriptedServer([], models=["qwen3"]) as old,
        ScriptedServer([], models=["gemma"]) as new,
    ):
        turnwire.configure(f'[[upstreams]]\nname = "old"\nbase_url = "{old.base_url}"\n')
        async with serving(turnwire, "--workers", str(WORKERS)) as gateway:
            assert '"qwen3"' in await gateway.get("/v1/models")
            workers = await others(gateway, 0)
            turnwire.configure(f'[[upstreams]]\nname = "new"\nbase_url = "{new.base_url}"\n')
            gateway.process.send_signal(signal.SIGHUP)
            for _ in range(WORKERS):
                await gateway.logged("the configuration was read again")
            turnwire.configure("[gateway]\nport = 0\n")
            gateway.process.send_signal(signal.SIGHUP)
            await gateway.logged("the configuration can't be used, and the one before goes on: ")
            os.kill(workers["1"], signal.SIGKILL)
            await others(gateway, workers["1"])
            listed = [await gateway.get("/v1/models") for _ in range(ASKED)]
            assert all('"gemma"' in models for models in listed)
            await log_of(gateway)
            assert gateway.process.returncode == 0


async def test_answers_under_way_end_by_themselves_and_a_second_signal_ends_them(turnwire: Command) -> None:
    turns = [Turn(text=["word "] * 3000, interval=0.01)] * 4
    async with (
        ScriptedServer(turns, models=["qwen3"]) as upstream,
        serving(turnwire, "--upstream", upstream.base_url, "--workers", str(WORKERS)) as gateway,
    ):
        asked = [await gateway.ask() for _ in range(len(turns))]
        for reader, _ in asked:
            await reader.readuntil(b"event: response.output_text.delta\n")
        gateway.process.send_signal(signal.SIGINT)
        with pytest.raises(ConnectionError):
            await gateway.knock()
        for reader, _ in asked:
            await reader.readuntil(b"event: response.output_text.delta\n")
        gateway.process.send_signal(signal.SIGINT)
        for reader, writer in asked:
            assert b"event: response.failed\n" in await reader.read()
            writer.close()
        await gateway.end()
        assert gateway.process.returncode == 0


async def test_workers_end_when_their_parent_has_gone(turnwire: Command) -> None:
    async with (
        ScriptedServer([], models=["qwen3"]) as upstream,
        serving(turnwire, "--upstream", upstream.base_url, "--workers", str(WORKERS)) as gateway,
    ):
        await others(gateway, 0)
        gateway.process.kill()
        log = await gateway.end()  # which reads until nobody holds its end any more
    assert sorted(log.splitlines()) == [f"INFO worker {number} stopping on SIGTERM" for number in "12"]


async def test_one_that_ends_at_its_start_again_and_again_is_given_more_and_more_time(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("turnwire.gateway.workers._LONGEST_PAUSE", 0.01)
    started = []

    def command(number: int, first: bool, descriptors: Sequence[int]) -> list[str]:
        started.append((number, first, len(descriptors)))
        if len(started) == 4:
            workers.stop(signal.SIGTERM)  # which is told to a process that is being started, too
        return [
            sys.executable,
            "-S",
            "-c",
            "import time; time.sleep(60)" if len(started) == 4 else "raise SystemExit(3)",
        ]

    workers = Workers(GatewayConfiguration((upstream_at("http://127.0.0.1:1/v1"),), port=0), command)
    assert await workers.run(never())
    assert started == [(1, True, 1), (1, False, 1), (1, False, 1), (1, False, 1)]
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    ends = [re.sub(r"process \d+", "process N", message) for message in warnings]
    assert ends == [f"worker 1, process N, ended with code 3; another starts in {pause} s" for pause in (0, 0.01, 0.01)]


async def never() -> AsyncIterator[GatewayConfiguration]:
    await asyncio.Event().wait()
    yield GatewayConfiguration(())


async def test_what_keeps_a_worker_from_serving_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("no store")
    upstreams = (upstream_at("http://127.0.0.1:1/v1"),)
    written = pickle.dumps(GatewayConfiguration(upstreams, port=0, store_path=tmp_path / "store"))
    assert await run_worker(tmp_path, b"") == (0, "")
    code, log = await run_worker(tmp_path, len(written).to_bytes(4) + written)
    assert code == 1
    assert "ERROR worker 1 the response store" in log.splitlines()[-1]
    assert "Traceback" not in log


async def run_worker(folder: Path, sent: bytes) -> tuple[int | None, str]:
    process = await asyncio.create_subprocess_exec(
        *arguments(1, True, [], LogLevel.INFO),
        stdin=PIPE,
        stderr=PIPE,
        env=os.environ | {"XDG_STATE_HOME": str(folder)},
    )
    _, log = await process.communicate(sent)
    return process.returncode, log.decode()


@pytest.mark.parametrize("sent", [b"", b"\0\0", b"\0\0\0\5abc"])
def test_a_worker_whose_parent_has_gone_already_is_told_nothing(sent: bytes) -> None:
    file: Any = io.BytesIO(sent)
    with pytest.raises(EOFError):
        first_configuration(file)
