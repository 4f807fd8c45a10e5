"""``turnwire key``: a key for a caller of the gateway, and the line that lets it in."""

from __future__ import annotations

import re
from typing import Annotated

import msgspec
import typer

from turnwire.cli.console import note, write
from turnwire.gateway.caller import CallerKey, key_hash, make_key

__all__ = ["key"]

_BARE = re.compile(r"[A-Za-z0-9_-]+")


def key(
    name: Annotated[str, typer.Argument(metavar="[NAME]", help="Who it is for; the log says so.")] = "client",
    as_json: Annotated[bool, typer.Option("--json", help="Write name, key and hash as one JSON object.")] = False,
) -> None:
    """Make a key for the gateway: shown this once, for the client; what the gateway is told is its hash."""
    made = make_key()
    caller = CallerKey(name, key_hash(made))
    if as_json:
        write(msgspec.json.encode({"name": name, "key": made, "key_hash": caller.key_hash}).decode() + "\n")
        return
    note("the key goes to the client, as its API key, and is not shown again:")
    write(f"{made}\n")
    note("\nand this into the gateway's turnwire.toml:")
    write(f"[gateway.callers]\n{_toml_key(name)} = {_toml_text(caller.key_hash)}\n")


def _toml_key(name: str) -> str:
    return name if _BARE.fullmatch(name) else _toml_text(name)


def _toml_text(text: str) -> str:
    """A basic string; what JSON escapes in a printable text, TOML escapes alike."""
    return msgspec.json.encode(text).decode()
