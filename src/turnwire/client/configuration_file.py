"""A configuration file: where it stands, which tables it may hold, and the sentences for what is wrong in it.

``turnwire.toml`` serves the client (``[providers.NAME]``) and the gateway (``[[upstreams]]``, ``[gateway]``): each
reads its own tables and leaves the other's alone.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import msgspec
import platformdirs

from turnwire.errors import ConfigurationError
from turnwire.wire.chat import ChatDialect

__all__ = ["CONFIGURATION_NAME", "complaint", "configuration_paths", "read_dialect", "read_tables"]

CONFIGURATION_NAME = "turnwire.toml"

_TABLES = frozenset({"providers", "upstreams", "gateway"})


def configuration_paths() -> tuple[Path, ...]:
    """Where files are looked for, the user's first and the working directory's, which outranks it, last."""
    return (platformdirs.user_config_path("turnwire") / CONFIGURATION_NAME, Path(CONFIGURATION_NAME))


def read_tables(path: Path) -> dict[str, Any]:
    """A file's tables by their names, which are known ones; `ConfigurationError` says why it can't be read."""
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"{path} can't be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path} is not UTF-8 text") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{path} is not TOML: {error}") from error
    unknown = tables.keys() - _TABLES
    if unknown:
        raise ConfigurationError(
            f"{path}: {min(unknown)!r} is not known; known are [providers.NAME], [[upstreams]] and [gateway]"
        )
    return tables


def read_dialect(value: str | dict[str, Any], preset: str | None) -> ChatDialect:
    """A dialect by name, or a table that changes some fields of one: its own ``preset``, else the one given.

    `ConfigurationError` names the field that can't be used.
    """
    if isinstance(value, str):
        return ChatDialect.preset(value)
    changes = dict(value)
    preset = changes.pop("preset", preset)
    if not isinstance(preset, str | None):
        raise ConfigurationError(f"dialect.preset: expected a name, got {preset!r}")
    base = ChatDialect.preset(preset) if preset else ChatDialect()
    unknown = changes.keys() - set(ChatDialect.__struct_fields__)
    if unknown:
        known = ", ".join(ChatDialect.__struct_fields__)
        raise ConfigurationError(f"dialect has no field {min(unknown)!r}; known are {known}")
    try:
        return msgspec.convert({**msgspec.structs.asdict(base), **changes}, ChatDialect)
    except msgspec.ValidationError as error:
        raise ConfigurationError(f"dialect.{complaint(error)}") from error


def complaint(error: msgspec.ValidationError) -> str:
    """msgspec's sentence with the field in front: ``idle_timeout: expected `float`, got `str```."""
    sentence, _, place = str(error).partition(" - at `$")
    field = place.strip("`").removeprefix(".")
    sentence = sentence[:1].lower() + sentence[1:]
    return f"{field}: {sentence}" if field else sentence
