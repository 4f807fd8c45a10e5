"""The command as a whole: version, help, and what it says where a part of it is not installed."""

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.cli.command import Command, Run
from turnwire.cli.console import duration, percent, usage_words, visible
from turnwire.event import TokenUsage


def test_the_version_is_that_of_the_package(turnwire: Command) -> None:
    assert turnwire.here("--version") == Run(0, f"turnwire {version('turnwire')}\n", "")


def test_the_help_names_the_commands(turnwire: Command) -> None:
    run = turnwire.here("--help")
    assert (run.code, run.stderr) == (0, "")
    assert [name for name in ("ask", "replay", "providers", "demo") if f" {name} " not in run.stdout] == []


def test_an_unknown_option_ends_with_code_2_and_no_traceback(turnwire: Command) -> None:
    run = turnwire.here("ask", "--loudly")
    assert (run.code, run.stdout) == (2, "")
    assert "No such option: --loudly" in run.stderr
    assert "Traceback" not in run.stderr


def test_the_installed_command_is_the_same() -> None:
    script = Path(sys.executable).with_name("turnwire")
    run = subprocess.run([script, "--version"], capture_output=True, text=True, check=True)
    assert run.stdout == f"turnwire {version('turnwire')}\n"


@pytest.mark.parametrize(
    ("missing", "arguments", "sentence"),
    [
        ("typer", ["ask"], 'the command line is an extra of turnwire: pip install "turnwire[cli]"'),
        ("rich", ["ask"], 'the command line is an extra of turnwire: pip install "turnwire[cli]"'),
        ("xllamacpp", ["demo"], 'the demo runs real llama.cpp servers: pip install "turnwire[demo]"'),
    ],
)
def test_a_part_that_is_not_installed_is_one_sentence(
    turnwire: Command, missing: str, arguments: list[str], sentence: str
) -> None:
    program = f"import sys; sys.modules[{missing!r}] = None; from turnwire.cli import main; main()"
    run = subprocess.run(
        [sys.executable, "-c", program, *arguments], env=turnwire.environment(), capture_output=True, text=True
    )
    assert (run.returncode, run.stdout, run.stderr) == (2, "", f"error: {sentence}\n")


def test_a_share_is_100_percent_only_where_it_is_the_whole() -> None:
    table = {0.0: "0%", 0.004: "0%", 0.5: "50%", 0.994: "99%", 0.9999: "99%", 1.0: "100%"}
    assert {share: percent(share) for share in table} == table


def test_a_time_is_told_in_the_unit_that_fits() -> None:
    table = {0.0004: "0 ms", 0.0126: "13 ms", 0.9994: "999 ms", 1.0: "1.00 s", 61.2345: "61.23 s"}
    assert {seconds: duration(seconds) for seconds in table} == table


def test_usage_is_told_in_a_few_words() -> None:
    table = {
        None: "no usage reported",
        TokenUsage(1234, 617, 5, 0, 1239): "1,234 tokens in (50% cached), 5 out",
        TokenUsage(10, 0, 5, 3, 15): "10 tokens in (0% cached), 5 out (3 reasoning)",
    }
    assert {usage: usage_words(usage) for usage in table} == table


def test_only_tab_and_newline_survive_of_the_control_characters() -> None:
    controls = "".join(map(chr, (*range(0x20), *range(0x7F, 0xA0))))
    assert visible(f"{controls}ü🌦").replace("\N{REPLACEMENT CHARACTER}", "") == "\t\nü🌦"
