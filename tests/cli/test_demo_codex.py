"""Where the demo's Codex comes from, and all the reasons for which there is none."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from turnwire.cli import demo_codex
from turnwire.cli.codex_config import CodexConfiguration
from turnwire.cli.demo_codex import CODEX_VERSION, Codex, CodexLeftOut, find_codex
from turnwire.cli.demo_screen import Screen

Program: TypeAlias = Callable[[str, str], Path]

SAYS_VERSION = "print('codex-cli 1.2.3')"
INSTALLS = f"""
import pathlib, sys
prefix = next(argument.partition("=")[2] for argument in sys.argv if argument.startswith("--prefix="))
assert sys.argv[1] == "install" and sys.argv[-1] == "@openai/codex@{CODEX_VERSION}"
codex = pathlib.Path(prefix, "node_modules", ".bin", "codex")
codex.parent.mkdir(parents=True)
codex.write_text("#!{sys.executable}\\n{SAYS_VERSION}\\n")
codex.chmod(0o755)
"""
NPM_ERROR = """
import sys
sys.exit("npm warn old config\\nnpm error code ECONNREFUSED\\nnpm error syscall connect\\nthe log is elsewhere")
"""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setattr(demo_codex.platformdirs, "user_cache_path", lambda name: folder / name)
    return folder / "turnwire"


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path) -> Program:
    """Puts a program on the PATH, which leads nowhere else."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))

    def put(name: str, python: str) -> Path:
        path = folder / name
        path.write_text(f"#!{sys.executable}\n{python}\n")
        path.chmod(0o755)
        return path

    return put


def contents(folder: Path) -> list[str]:
    return os.listdir(folder) if folder.exists() else []


def never(folder: Path) -> None:
    raise AssertionError(f"nothing is to be fetched into {folder}")


async def no_event(event: Any) -> None:
    raise AssertionError(f"{event} is not expected")


async def test_the_codex_on_the_path_comes_first(program: Program) -> None:
    codex = program("codex", SAYS_VERSION)
    program("npm", NPM_ERROR)
    assert await find_codex(never) == Codex(codex, "1.2.3")


async def test_npm_fetches_codex_once(program: Program, cache: Path) -> None:
    npm = program("npm", INSTALLS)
    told: list[Path] = []
    found = await find_codex(told.append)
    kept = cache / f"codex-{CODEX_VERSION}"
    assert (found, told) == (Codex(kept / "node_modules" / ".bin" / "codex", "1.2.3"), [kept])
    npm.unlink()
    assert await find_codex(never) == found
    assert contents(cache) == [kept.name]


def test_what_npm_will_fetch_is_told_before(capsys: pytest.CaptureFixture[str]) -> None:
    Screen().installing(Path("/cache/codex"))
    told = f"""
npm fetches Codex {CODEX_VERSION} into /cache/codex: 170 MB, once,
and 400 MB on disk. TURNWIRE_DEMO_CODEX=no leaves it out.
"""
    assert capsys.readouterr().out == told


async def test_there_may_be_neither(program: Program) -> None:
    with pytest.raises(CodexLeftOut, match="there is neither codex nor npm on the PATH"):
        await find_codex(never)


@pytest.mark.parametrize(
    ("npm", "reason"),
    [
        (NPM_ERROR, "npm failed: npm error code ECONNREFUSED"),
        ("import sys; sys.exit('it snows')", "npm failed: it snows"),
        ("import sys; sys.exit(3)", "npm failed: code 3"),
        ("import time; time.sleep(60)", "npm took more than 0.05 s"),
    ],
)
async def test_what_npm_could_not_install_is_not_kept(
    program: Program, cache: Path, monkeypatch: pytest.MonkeyPatch, npm: str, reason: str
) -> None:
    program("npm", npm)
    if "sleep" in npm:
        monkeypatch.setattr(demo_codex, "_INSTALL_TIMEOUT", 0.05)
    with pytest.raises(CodexLeftOut) as caught:
        await find_codex(lambda _: None)
    assert (str(caught.value), contents(cache)) == (reason, [])


async def test_a_cache_that_can_not_be_written_is_named(program: Program, cache: Path) -> None:
    program("npm", INSTALLS)
    cache.parent.write_text("a file is no folder")
    with pytest.raises(CodexLeftOut) as caught:
        await find_codex(lambda _: None)
    assert str(caught.value) == f"{cache / f'codex-{CODEX_VERSION}'} can't be written: Not a directory"


async def test_a_codex_that_this_machine_can_not_run_is_left_out(program: Program) -> None:
    codex = program("codex", "")
    codex.write_bytes(b"\x7fELF, of another kind of machine")
    with pytest.raises(CodexLeftOut) as caught:
        await find_codex(never)
    assert str(caught.value) == f"{codex} can't be run: Exec format error"


async def test_a_codex_without_a_version_is_one_all_the_same(program: Program) -> None:
    codex = program("codex", "")
    assert await find_codex(never) == Codex(codex, "")


async def test_codex_gets_a_home_and_a_workspace_and_nothing_of_the_users(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    tells = "import json, os, sys; print(json.dumps([sys.argv[1:], dict(os.environ), os.getcwd(), open('a').read()]))"
    events: list[Any] = []

    async def on_event(event: Any) -> None:
        events.append(event)

    pointed = CodexConfiguration("http://127.0.0.1:1/v1", "m")
    await Codex(program("codex", tells), "1").exec("Hello?", pointed, files={"a": "grüezi"}, on_event=on_event)
    ((arguments, environment, workspace, text),) = events
    given = {arguments[place + 1] for place, name in enumerate(arguments) if name == "-c"}
    assert given >= {'model="m"', 'model_providers.turnwire.base_url="http://127.0.0.1:1/v1"', "features.plugins=false"}
    assert arguments[-5:] == ["exec", "--json", "--skip-git-repo-check", "--", "Hello?"]
    home = environment["HOME"]
    own = {"CODEX_HOME": home, "HOME": home, "PATH": os.environ["PATH"], "TURNWIRE_API_KEY": "none"}
    assert {name: value for name, value in environment.items() if not name.startswith(("LC_", "COV"))} == own
    assert (text, Path(workspace).parent) == ("grüezi", Path(home).parent)
    assert contents(Path(workspace)) == []


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (json.dumps({"type": "turn.failed", "error": {"message": "no such model"}}), "its turn failed: no such model"),
        ("Hello!", "its events can't be read: JSON is malformed: invalid character (byte 0)"),
    ],
)
async def test_a_turn_that_fails_is_left_out(program: Program, said: str, reason: str) -> None:
    codex = Codex(program("codex", f"print({said!r}, flush=True)\nimport time; time.sleep(60)"), "1")
    with pytest.raises(CodexLeftOut) as caught:
        await codex.exec("Hello?", CodexConfiguration(), files={}, on_event=no_event)
    assert str(caught.value) == reason


def test_the_demo_runs_the_codex_that_the_end_to_end_tests_run() -> None:
    package = json.loads((Path(__file__).parents[2] / "e2e" / "package.json").read_text())
    assert package["dependencies"]["@openai/codex"] == CODEX_VERSION
