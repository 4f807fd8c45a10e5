"""The demo's second client: the real Codex, from the PATH or from npm.

The demo can do without it: whatever is in the way is told in one sentence, which is `CodexLeftOut`.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import msgspec
import platformdirs
from msgspec import Struct

from turnwire.cli.codex_config import KEY_VARIABLE, CodexConfiguration, Value, overrides
from turnwire.cli.demo_process import end

__all__ = ["CODEX_SWITCH", "CODEX_VERSION", "Codex", "CodexLeftOut", "find_codex"]

CODEX_VERSION = "0.169.0"
"""The one that npm is asked for; the end-to-end tests run the same."""

CODEX_SWITCH = "TURNWIRE_DEMO_CODEX"
"""The environment variable that says ``no`` to all this."""

_INSTALL_TIMEOUT = 300.0
_RUN_TIMEOUT = 60.0
_NPM_OPTIONS = ("--include=optional", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")

# What keeps Codex from speaking to anybody but the gateway. Plugins it looks for on GitHub.
_QUIET: Mapping[str, Value] = {
    "analytics.enabled": False,
    "check_for_update_on_startup": False,
    "features.plugins": False,
    "otel.metrics_exporter": "none",
    "web_search": "disabled",
}


class CodexLeftOut(Exception):
    """Why there is no Codex, or no more of it."""


class Codex(Struct, frozen=True):
    """A Codex that runs on this machine."""

    program: Path
    version: str

    async def exec(
        self,
        prompt: str,
        configuration: CodexConfiguration,
        *,
        files: Mapping[str, str],
        on_event: Callable[[Any], Awaitable[None]],
    ) -> None:
        """One user turn by ``codex exec``, in a folder with ``files``; ``on_event`` gets what ``--json`` tells.

        Its home is another new folder: the user's own is not seen and not touched. Raises `CodexLeftOut` where the
        turn fails.
        """

        async def on_line(line: bytes) -> None:
            match msgspec.json.decode(line):
                case {"type": "turn.failed", "error": {"message": message}}:
                    raise CodexLeftOut(f"its turn failed: {message}")
                case event:
                    await on_event(event)

        settings = overrides({**configuration.settings(), **_QUIET})
        with _rooms(files) as (home, work):
            command = [str(self.program), *settings, "exec", "--json", "--skip-git-repo-check", "--", prompt]
            try:
                await _run(command, folder=work, environment=_environment(home), timeout=_RUN_TIMEOUT, on_line=on_line)
            except ValueError as error:
                raise CodexLeftOut(f"its events can't be read: {error}") from None


async def find_codex(before_install: Callable[[Path], None]) -> Codex:
    """The Codex on the PATH, or else the one of `CODEX_VERSION` from npm, which is fetched once and kept.

    ``before_install`` is told where to. Raises `CodexLeftOut` where there is neither, or none that runs.
    """
    found = shutil.which("codex")
    program = await _installed(before_install) if found is None else Path(found)
    said: list[str] = []

    async def on_line(line: bytes) -> None:
        said.extend(line.decode().split())

    with _rooms() as (home, work):
        command = [str(program), "--version"]
        await _run(command, folder=work, environment=_environment(home), timeout=_RUN_TIMEOUT, on_line=on_line)
    return Codex(program, said[-1] if said else "")


async def _installed(before_install: Callable[[Path], None]) -> Path:
    kept = platformdirs.user_cache_path("turnwire") / f"codex-{CODEX_VERSION}"
    program = kept / "node_modules" / ".bin" / "codex"
    if program.exists():
        return program
    npm = shutil.which("npm")
    if npm is None:
        raise CodexLeftOut("there is neither codex nor npm on the PATH")
    before_install(kept)
    try:
        with _draft(kept) as draft:
            command = [npm, "install", f"--prefix={draft}", *_NPM_OPTIONS, f"@openai/codex@{CODEX_VERSION}"]
            await _run(command, folder=draft, environment=os.environ, timeout=_INSTALL_TIMEOUT)
    except OSError as error:
        raise CodexLeftOut(f"{kept} can't be written: {error.strerror}") from None
    return program


@contextmanager
def _draft(place: Path) -> Iterator[Path]:
    """A folder to fill: it comes to its place when it is whole, and not at all where that fails."""
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place.parent, prefix="codex-") as folder:
        draft = Path(folder, "draft")
        draft.mkdir()
        yield draft
        draft.rename(place)


@contextmanager
def _rooms(files: Mapping[str, str] = {}) -> Iterator[tuple[Path, Path]]:
    """Two new folders: a home, and one to work in, with files by their names."""
    with tempfile.TemporaryDirectory(prefix="turnwire-", ignore_cleanup_errors=True) as folder:
        home, work = Path(folder, "home"), Path(folder, "work")
        home.mkdir()
        work.mkdir()
        for name, text in files.items():
            (work / name).write_text(text, encoding="utf-8")
        yield home, work


def _environment(home: Path) -> dict[str, str]:
    """Nothing of the user's but the way to programs."""
    return {
        "CODEX_HOME": str(home),
        "HOME": str(home),
        "PATH": os.environ.get("PATH", os.defpath),
        KEY_VARIABLE: "none",
    }


async def _run(
    command: Sequence[str],
    *,
    folder: Path,
    environment: Mapping[str, str],
    timeout: float,
    on_line: Callable[[bytes], Awaitable[None]] | None = None,
) -> None:
    """Runs a program to its end; each line of its output goes to ``on_line``. Raises `CodexLeftOut` where it fails."""
    name = Path(command[0]).name
    with tempfile.TemporaryFile() as log:
        try:
            process = await asyncio.create_subprocess_exec(
                *command, cwd=folder, env=environment, stdin=DEVNULL, stdout=PIPE, stderr=log
            )
        except OSError as error:
            raise CodexLeftOut(f"{command[0]} can't be run: {error.strerror}") from None
        assert process.stdout is not None  # noqa: S101 - it is a pipe
        try:
            async with asyncio.timeout(timeout):
                async for line in process.stdout:
                    if on_line is not None:
                        await on_line(line)
                code = await process.wait()
        except TimeoutError:
            raise CodexLeftOut(f"{name} took more than {timeout:g} s") from None
        finally:
            await end(process)
        if code:
            raise CodexLeftOut(f"{name} failed: {_complaint(log) or f'code {code}'}")


def _complaint(log: IO[bytes]) -> str:
    """The line that says what went wrong: the first that calls itself an error, or else the last."""
    log.seek(0)
    lines = [line for line in log.read().decode(errors="replace").splitlines() if line.strip()]
    return next((line for line in lines if "error" in line.lower()), lines[-1] if lines else "")
