"""What the real Codex makes of failures behind the gateway, and of the gateway's own."""

import asyncio
from pathlib import Path

import pytest

from e2e.conftest import RigMaker
from e2e.conversation import Answered
from e2e.model import Step, announced, calls, says
from e2e.rig import rig
from turnwire.testing import CutCleanly, DropBeforeHead, ErrorEvent, Fault, ResetAfter, Stall, Status, Truncate, Turn

MARK = calls(("exec_command", {"cmd": "echo done >> mark.txt"}))
"""A side effect that can be counted."""


def marks(folder: Path) -> int:
    return len((folder / "mark.txt").read_text().splitlines())


def broken(fault: Fault) -> Turn:
    return Turn(text=["This is never ", "to be whole."], fault=fault)


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(ResetAfter(300), id="reset"),
        pytest.param(Truncate(300), id="closed"),
        pytest.param(CutCleanly(300), id="ended"),
        pytest.param(ErrorEvent(after=1), id="error event"),
        pytest.param(DropBeforeHead(), id="no answer"),
    ],
)
async def test_a_model_server_that_dies_in_mid_stream_is_asked_again_in_the_same_turn(
    over: RigMaker, fault: Fault
) -> None:
    async with over(MARK, broken(fault), says("Done.")) as rig:
        run = await rig.codex.exec("Do it once.")
        assert (run.code, run.answer, run.complaint) == (0, "Done.", None)
        assert marks(rig.codex.folder) == 1
        assert len(rig.prompts()) == 3


async def test_a_gateway_that_is_killed_and_comes_back_goes_on_with_the_turn(over: RigMaker) -> None:
    asked = asyncio.Event()
    async with over(MARK, announced(broken(Stall(300)), asked), says("Done.")) as rig:
        running = asyncio.create_task(rig.codex.exec("Do it once."))
        await asked.wait()
        await rig.restart_gateway()
        run = await running
        assert (run.code, run.answer) == (0, "Done.")
        assert marks(rig.codex.folder) == 1


async def test_where_websockets_are_refused_the_turn_goes_over_http(tmp_path: Path) -> None:
    async with rig(tmp_path, "websocket", MARK, says("Done.")) as made:
        made.tap.refuses_websockets = True
        run = await made.codex.exec("Do it once.")
        assert (run.code, run.answer) == (0, "Done.")
        assert [asked.wire for asked in made.asked()] == ["http", "http"]


async def test_the_token_stays_when_a_turn_falls_back_from_websocket_to_http(tmp_path: Path) -> None:
    asked = asyncio.Event()
    async with rig(tmp_path, "websocket", MARK, announced(broken(Stall(300)), asked), says("Done.")) as made:
        running = asyncio.create_task(made.codex.exec("Do it once."))
        await asked.wait()
        made.tap.refuses_websockets = True
        await made.restart_gateway()
        run = await running
        assert (run.code, run.answer) == (0, "Done.")
        assert marks(made.codex.folder) == 1
        assert [asked.wire for asked in made.asked()] == ["websocket", "websocket", "http"]


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        pytest.param(429, {"retry-after": "1"}, id="429 with a time"),
        pytest.param(429, {}, id="429"),
        pytest.param(500, {}, id="500"),
        pytest.param(503, {"retry-after": "1"}, id="503 with a time"),
        pytest.param(503, {}, id="503"),
    ],
)
async def test_a_refusal_that_will_pass_is_waited_out(over: RigMaker, status: int, headers: dict[str, str]) -> None:
    async with over(MARK, Turn(fault=Status(status, headers=headers)), says("Done.")) as rig:
        run = await rig.codex.exec("Do it once.")
        assert (run.code, run.answer) == (0, "Done.")
        assert marks(rig.codex.folder) == 1
        assert len(rig.prompts()) == 3
        for answer in [event for event in rig.said() if isinstance(event, Answered) and event.status in (429, 503)]:
            assert int(answer.headers["retry-after"]) >= 1


OVERFLOW = Status(400, "This model's maximum context length is 10 tokens.", code="context_length_exceeded")


@pytest.mark.parametrize(
    ("step", "words"),
    [
        pytest.param(Turn(fault=Status(400, "messages[3] is odd")), "messages[3] is odd", id="400"),
        pytest.param(Turn(fault=Status(401, "wrong key")), "key", id="401"),
        pytest.param(Turn(fault=Status(404, "no such model")), "404", id="404"),
        pytest.param(Turn(fault=OVERFLOW), "context window", id="context overflow"),
        pytest.param(Turn(text="Too lo", finish_reason="length"), "context window", id="cut for its length"),
    ],
)
async def test_what_will_not_pass_ends_the_turn_at_once(over: RigMaker, step: Step, words: str) -> None:
    async with over(MARK, step) as rig:
        run = await rig.codex.exec("Do it once.")
        assert run.code == 1
        assert words in (run.complaint or "")
        assert (len(rig.prompts()), len(rig.asked())) == (2, 2)


async def test_a_model_server_that_falls_silent_is_asked_again(over: RigMaker) -> None:
    async with over(MARK, broken(Stall(300)), says("Done."), upstream="idle_timeout = 0.3") as rig:
        run = await rig.codex.exec("Do it once.")
        assert (run.code, run.answer) == (0, "Done.")
        assert marks(rig.codex.folder) == 1
        assert len(rig.prompts()) == 3


async def test_signs_of_life_keep_codex_waiting_for_a_model_that_thinks_long(over: RigMaker) -> None:
    impatient = {"model_providers.turnwire.stream_idle_timeout_ms": 400}
    slow = Turn(text="Done.", interval=0.7)
    async with over(slow, gateway="keepalive_interval = 0.1", codex=impatient) as rig:
        run = await rig.codex.exec("Think.")
        assert (run.code, run.answer) == (0, "Done.")
        assert len(rig.prompts()) == 1
