"""Turns of the real Codex on two model servers, while one dies, the gateway is replaced, and the secret changes.

Both servers take the steps of one script. Which of them a new turn goes to is said by their weights, and turned around
in the midst of the turn: what goes on where it began does so by its token alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from msgspec import Struct

from e2e.codex import CodexRun
from e2e.model import Step, calls, in_order, says
from e2e.rig import MODEL, Rig, Wire, rig
from turnwire.testing import ScriptedServer

WAITS = calls(("exec_command", {"cmd": "touch begun; until [ -e go ]; do sleep 0.02; done; rm begun go; echo >> mark"}))
"""A side effect that can be counted, and that the scenario has to let go on."""

HEAVY, LIGHT = "weight = 1000.0", "weight = 0.001"
SECOND = f"""
[[upstreams]]
name = "second"
base_url = "{{base_url}}"
wire_api = "chat"
models = ["{MODEL}"]
{HEAVY}
"""
SECRETS = 'token_secrets_env = ["TURN_TOKEN_SECRET"]'


class Fleet(Struct, frozen=True):
    """A rig whose gateway has a second model server; at first all new turns go there."""

    rig: Rig
    second: ScriptedServer
    dies: Callable[[], Awaitable[None]]
    """Ends the second server."""

    @property
    def asked(self) -> tuple[int, int]:
        """How many requests for an answer each server got."""
        second = [request for request in self.second.requests if request.wire == "chat"]
        return len(self.rig.prompts()), len(second)

    @property
    def marks(self) -> int:
        return len((self.rig.codex.folder / "mark").read_text().splitlines())

    async def in_the_midst(self, run: asyncio.Task[CodexRun]) -> None:
        """Returns between two requests of a turn: the first was answered, and its call is under way."""
        begun = self.rig.codex.folder / "begun"
        while not begun.exists() and not run.done():  # noqa: ASYNC110 - another process makes it
            await asyncio.sleep(0.02)

    async def let_go_on(self, run: asyncio.Task[CodexRun]) -> None:
        """Lets the call end; the turn has its answer when this returns."""
        (self.rig.codex.folder / "go").touch()
        ended = await run
        assert (ended.code, ended.answer, ended.complaint) == (0, "Done.", None)

    async def replace_gateway(self, **changes: tuple[str, str]) -> None:
        """Kills the gateway and starts another one, whose configuration has other words in some places."""
        file = self.rig.codex.folder.parent / "gateway" / "turnwire.toml"
        text = file.read_text()
        for name, (before, after) in changes.items():
            assert before in text, name
            text = text.replace(before, after)
        file.write_text(text)
        await self.rig.restart_gateway()


@asynccontextmanager
async def fleet(folder: Path, wire: Wire, *steps: Step, turns: int = 1) -> AsyncIterator[Fleet]:
    script = in_order(*steps)
    async with AsyncExitStack() as running:
        second = await running.enter_async_context(ScriptedServer(script, models=[MODEL]))
        either = [script] * len(steps)
        upstream = SECOND.format(base_url=second.base_url)
        async with rig(folder, wire, *either, upstream=upstream, turns=turns) as made:
            yield Fleet(made, second, running.aclose)


async def test_a_turn_whose_model_server_dies_goes_on_at_the_other(tmp_path: Path, wire: Wire) -> None:
    async with fleet(tmp_path, wire, WAITS, says("Done.")) as f:
        run = asyncio.create_task(f.rig.codex.exec("Do it once."))
        await f.in_the_midst(run)
        assert f.asked == (0, 1)
        await f.dies()
        await f.let_go_on(run)
        assert (f.asked, f.marks) == ((1, 1), 1)


async def test_a_turn_whose_gateway_is_replaced_stays_at_its_model_server(tmp_path: Path, wire: Wire) -> None:
    async with fleet(tmp_path, wire, WAITS, says("Done.")) as f:
        run = asyncio.create_task(f.rig.codex.exec("Do it once."))
        await f.in_the_midst(run)
        await f.replace_gateway(weight=(HEAVY, LIGHT))
        await f.let_go_on(run)
        assert (f.asked, f.marks) == ((0, 2), 1)


async def test_turns_go_on_where_they_began_while_the_secret_is_rotated(
    tmp_path: Path, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEW_SECRET", "another secret, which signs the tokens of the turns to come")
    both = SECRETS.replace("[", '["NEW_SECRET", ')
    async with fleet(tmp_path, wire, WAITS, says("Done."), WAITS, says("Done."), turns=2) as f:
        run = asyncio.create_task(f.rig.codex.exec("Do it once."))
        await f.in_the_midst(run)
        await f.replace_gateway(secrets=(SECRETS, both), weight=(HEAVY, LIGHT))
        await f.let_go_on(run)
        assert f.asked == (0, 2)

        run = asyncio.create_task(f.rig.codex.resume("Do it once more."))
        await f.in_the_midst(run)
        assert f.asked == (1, 2)
        await f.replace_gateway(
            secrets=(both, SECRETS.replace("TURN_TOKEN_SECRET", "NEW_SECRET")), weight=(LIGHT, HEAVY)
        )
        await f.let_go_on(run)
        assert (f.asked, f.marks) == ((2, 2), 2)
