"""The ways in which Codex is pointed at the gateway, and what Codex itself thinks of it."""

import asyncio
import json
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE
from pathlib import Path

from e2e.codex import BINARY
from e2e.conftest import RigMaker
from e2e.model import says
from e2e.rig import MODEL, Rig, rig

GATEWAY_CHECKS = (
    "auth.credentials",
    "config.load",
    "network.provider_reachability",
    "network.websocket_reachability",
)


async def output(made: Rig, *command: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=made.codex.folder,
        env={**made.codex.environment(), "PATH": f"{BINARY.parent}{os.pathsep}{os.environ['PATH']}"},
        stdin=DEVNULL,
        stdout=PIPE,
        stderr=PIPE,
    )
    stdout, stderr = await process.communicate()
    assert process.returncode is not None
    return process.returncode, stdout.decode(), stderr.decode()


async def test_turnwire_codex_runs_codex_with_the_only_model_and_leaves_the_configuration_alone(tmp_path: Path) -> None:
    async with rig(tmp_path, "websocket", says("Grüezi.")) as made:
        own = made.codex.folder / ".codex" / "config.toml"
        own.write_text('model = "another"\n')
        command = [sys.executable, "-m", "turnwire", "codex", "--gateway", f"http://{made.tap.address}/v1", "--"]
        code, stdout, _ = await output(made, *command, "exec", "--skip-git-repo-check", "Say hello")
        assert (code, stdout) == (0, "Grüezi.\n")
        assert own.read_text() == 'model = "another"\n'
        assert [(asked.wire, asked.body["model"]) for asked in made.asked()] == [("websocket", MODEL)]


async def test_one_command_runs_codex_on_a_model_server_that_only_knows_chat(tmp_path: Path) -> None:
    async with rig(tmp_path, "websocket", says("Grüezi."), turns=0) as made:  # past the rig's own gateway
        command = [sys.executable, "-m", "turnwire", "codex", "--upstream", made.upstream.base_url, "--"]
        code, stdout, _ = await output(made, *command, "exec", "--skip-git-repo-check", "Say hello")
        assert (code, stdout) == (0, "Grüezi.\n")


async def test_what_codex_config_prints_is_a_profile_of_codex(tmp_path: Path) -> None:
    async with rig(tmp_path, "websocket", says("Grüezi.")) as made:
        gateway = ["--gateway", f"http://{made.tap.address}/v1", "--model", MODEL]
        code, toml, _ = await output(made, sys.executable, "-m", "turnwire", "codex-config", *gateway)
        assert code == 0
        (made.codex.folder / ".codex" / "turnwire.config.toml").write_text(toml)
        code, stdout, _ = await output(
            made, str(BINARY), "exec", "--strict-config", "--profile", "turnwire", "--skip-git-repo-check", "Say hello"
        )
        assert (code, stdout) == (0, "Grüezi.\n")


async def test_codex_knows_the_model_from_the_gateways_own_listing(over: RigMaker) -> None:
    async with over(says("Grüezi.")) as rig:
        run = await rig.codex.exec("Say hello")
        assert (run.code, run.items("error")) == (0, [])


async def test_codex_doctor_finds_the_gateway_in_good_health(tmp_path: Path) -> None:
    async with rig(tmp_path, "websocket", turns=0) as made:
        code, stdout, _ = await made.codex.run("doctor", "--json")
        found = {name: check["status"] for name, check in json.loads(stdout)["checks"].items()}
        assert (code, {name: found[name] for name in GATEWAY_CHECKS}) == (0, dict.fromkeys(GATEWAY_CHECKS, "ok"))
        assert [name for name, status in found.items() if status == "fail"] == []
