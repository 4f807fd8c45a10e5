"""``turnwire key``: shown once, and let in by what it says."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.cli.command import Command
from turnwire.gateway.caller import CallerKey, Callers, key_hash
from turnwire.gateway.configuration import load_gateway_configuration

UPSTREAM = "[[upstreams]]\nname = 'a'\nbase_url = 'http://127.0.0.1:1/v1'\n"


def test_a_key_is_written_with_what_the_gateway_is_told(turnwire: Command) -> None:
    run = turnwire.here("key", "laptop")
    key, _, table = run.stdout.partition("\n")
    assert re.fullmatch(r"tw-[\w-]{43}", key)
    assert table == f'[gateway.callers]\nlaptop = "{key_hash(key)}"\n'
    assert run.stderr == (
        "the key goes to the client, as its API key, and is not shown again:\n"
        "\nand this into the gateway's turnwire.toml:\n"
    )
    assert run.code == 0


@pytest.mark.parametrize("name", ["client", "my laptop", 'the "ci"', "a.b", "Zürich", "back\\slash"])
def test_what_the_gateway_is_told_lets_the_key_in(name: str, turnwire: Command, tmp_path: Path) -> None:
    key, _, table = turnwire.here("key", name).stdout.partition("\n")
    file = tmp_path / "turnwire.toml"
    file.write_text(UPSTREAM + table)
    configuration = load_gateway_configuration([file])
    assert configuration.callers == (CallerKey(name, key_hash(key)),)
    assert Callers(configuration.callers).identify({"api-key": key}, None).name == name


def test_a_key_without_a_name_is_the_client_s(turnwire: Command) -> None:
    assert "\nclient = " in turnwire.here("key").stdout


def test_a_key_can_be_had_as_json(turnwire: Command) -> None:
    run = turnwire.here("key", "ci", "--json")
    fields = json.loads(run.stdout)
    assert fields == {"name": "ci", "key": fields["key"], "key_hash": key_hash(fields["key"])}
    assert (run.stdout.count("\n"), run.stderr) == (1, "")


def test_two_keys_are_never_the_same(turnwire: Command) -> None:
    assert turnwire.here("key").stdout != turnwire.here("key").stdout


def test_a_name_that_can_t_be_shown_is_refused(turnwire: Command) -> None:
    run = turnwire.here("key", "a\nb")
    assert (run.code, run.stdout) == (2, "")
    assert run.stderr == "error: caller 'a\\nb' needs a name that can be printed\n"
