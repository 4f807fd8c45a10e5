"""The real Codex, in a folder of its own, pointed at an address."""

from __future__ import annotations

import asyncio
import os
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from turnwire.cli.codex_config import CodexConfiguration, overrides

__all__ = ["BINARY", "Codex", "CodexRun"]

BINARY = Path(__file__).parent / "node_modules" / ".bin" / "codex"

_PATIENCE = 60.0
"""Seconds that a run may take before it is ended; the longest takes a tenth of that."""

# What would reach out to the world, or makes a test wait.
_QUIET: Mapping[str, Any] = {
    "analytics.enabled": False,
    "check_for_update_on_startup": False,
    "features.plugins": False,
    "otel.metrics_exporter": "none",
    "web_search": "disabled",
}
_EXEC = ("--json", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox")


class CodexRun(Struct, frozen=True):
    """What a run of ``codex exec --json`` came to."""

    code: int
    events: Sequence[Any]
    stderr: str

    def items(self, kind: str) -> list[Any]:
        """The finished items of a kind, such as ``command_execution``."""
        return [
            event["item"]
            for event in self.events
            if event["type"] == "item.completed" and event["item"]["type"] == kind
        ]

    @property
    def answer(self) -> str | None:
        """The last message."""
        messages = self.items("agent_message")
        return messages[-1]["text"] if messages else None

    @property
    def complaint(self) -> str | None:
        """Why the turn failed; None where it did not."""
        failures = [event["error"]["message"] for event in self.events if event["type"] == "turn.failed"]
        return failures[-1] if failures else None

    @property
    def usage(self) -> Any:
        """What Codex counted."""
        return next(event["usage"] for event in reversed(self.events) if event["type"] == "turn.completed")


class Codex:
    """Runs in ``folder``, which is its home and its workspace; the user's own configuration is far away.

    `configuration` is what ``turnwire codex`` starts it with; ``settings`` are added, by their dotted names.
    """

    def __init__(self, folder: Path, configuration: CodexConfiguration, settings: Mapping[str, Any]) -> None:
        self.folder = folder
        self._settings = {**configuration.settings(), **_QUIET, **settings}
        self._home = folder / ".codex"
        self._home.mkdir()

    async def exec(self, prompt: str, *arguments: str) -> CodexRun:
        """One user turn, in a thread of its own."""
        return await self._exec(*_EXEC, *arguments, "--", prompt)

    async def resume(self, prompt: str) -> CodexRun:
        """The next user turn of the last thread."""
        return await self._exec(*_EXEC, "resume", "--last", "--", prompt)

    async def run(self, *arguments: str) -> tuple[int, bytes, str]:
        """Any command of Codex: its exit code, its output and what it wrote besides."""
        process = await asyncio.create_subprocess_exec(
            BINARY,
            *overrides(self._settings),
            *arguments,
            cwd=self.folder,
            env=self.environment(),
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=PIPE,
        )
        try:
            async with asyncio.timeout(_PATIENCE):
                stdout, stderr = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        assert process.returncode is not None
        return process.returncode, stdout, stderr.decode()

    def environment(self) -> dict[str, str]:
        """Nothing of the user's but the way to programs; and no way out to the world, for nobody is at that proxy."""
        return {
            "CODEX_HOME": str(self._home),
            "HOME": str(self.folder),
            "HTTPS_PROXY": "http://127.0.0.1:9",
            "PATH": os.environ["PATH"],
            "TURNWIRE_API_KEY": "none",
        }

    async def _exec(self, *arguments: str) -> CodexRun:
        code, stdout, stderr = await self.run("exec", *arguments)
        print(stdout.decode(), stderr)  # which pytest shows where a scenario fails
        return CodexRun(code, [msgspec.json.decode(line) for line in stdout.splitlines()], stderr)
