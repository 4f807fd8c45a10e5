"""Providers from a file: ``turnwire.toml`` in the working directory or in the user's configuration folder.

::

    [providers.mine]
    preset = "vllm"
    base_url = "http://10.0.0.5:8000/v1"
    api_key_env = "MY_KEY"
    model = "qwen3"
    idle_timeout = 120

Keys stand in the environment, never in the file. What the nearer file says of a provider replaces what the other says.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import msgspec
import platformdirs
from msgspec import UNSET, Struct, UnsetType

from turnwire.client.provider import PROVIDER_PRESETS, Provider
from turnwire.errors import ConfigurationError
from turnwire.wire.chat import ChatDialect

__all__ = ["CONFIGURATION_NAME", "configuration_paths", "find_provider", "load_providers"]

CONFIGURATION_NAME = "turnwire.toml"


class _ProviderTable(Struct, forbid_unknown_fields=True):
    """A ``[providers.NAME]`` table; what it does not name keeps the preset's value, or the default."""

    preset: str | UnsetType = UNSET
    base_url: str | UnsetType = UNSET
    wire_api: Literal["chat", "responses"] | UnsetType = UNSET
    websocket: bool | Literal["auto"] | UnsetType = UNSET
    store: bool | UnsetType = UNSET
    api_key_env: str | UnsetType = UNSET
    api_key_header: str | UnsetType = UNSET
    headers: dict[str, str] | UnsetType = UNSET
    query: dict[str, str] | UnsetType = UNSET
    dialect: str | dict[str, Any] | UnsetType = UNSET
    model: str | UnsetType = UNSET
    idle_timeout: float | UnsetType = UNSET
    open_timeout: float | UnsetType = UNSET
    finish_grace: float | UnsetType = UNSET
    request_max_retries: int | UnsetType = UNSET
    stream_max_retries: int | UnsetType = UNSET
    retry_429: bool | UnsetType = UNSET
    max_retry_delay: float | UnsetType = UNSET
    max_event_size: int | UnsetType = UNSET
    ca_file: str | UnsetType = UNSET


def configuration_paths() -> tuple[Path, ...]:
    """Where files are looked for, the user's first and the working directory's, which outranks it, last."""
    return (platformdirs.user_config_path("turnwire") / CONFIGURATION_NAME, Path(CONFIGURATION_NAME))


def load_providers(paths: Iterable[Path] | None = None) -> dict[str, Provider]:
    """The providers of all files that exist; `ConfigurationError` says what is wrong and in which file."""
    providers: dict[str, Provider] = {}
    for path in configuration_paths() if paths is None else paths:
        if path.is_file():
            providers.update(_load(path))
    return providers


def find_provider(name: str, paths: Iterable[Path] | None = None) -> Provider:
    """The provider of that name: from a file, else the preset; `ConfigurationError` names those there are."""
    providers = load_providers(paths)
    if name in providers:
        return providers[name]
    if name in PROVIDER_PRESETS:
        return Provider.preset(name)
    known = ", ".join(sorted({*providers, *PROVIDER_PRESETS}))
    raise ConfigurationError(f"no provider is called {name!r}; known are {known}")


def _load(path: Path) -> dict[str, Provider]:
    try:
        file = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"{path} can't be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path} is not UTF-8 text") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{path} is not TOML: {error}") from error
    unknown = file.keys() - {"providers"}
    if unknown:
        raise ConfigurationError(f"{path}: {min(unknown)!r} is not known; known is [providers.NAME]")
    tables = file.get("providers", {})
    if not isinstance(tables, dict):
        raise ConfigurationError(f"{path}: providers must be tables, each [providers.NAME]")
    return {name: _provider(name, table, path) for name, table in tables.items()}


def _provider(name: str, table: Any, path: Path) -> Provider:
    try:
        known = msgspec.convert(table, _ProviderTable)
        fields = {field: value for field, value in msgspec.structs.asdict(known).items() if value is not UNSET}
        preset = fields.pop("preset", None)
        if "dialect" in fields:
            fields["dialect"] = _dialect(fields["dialect"], preset)
        if "ca_file" in fields:
            fields["ca_file"] = path.parent / fields["ca_file"]
        if preset is not None:
            return Provider.preset(preset, **{"name": name, **fields})
        return Provider(name, **{"base_url": "", **fields})
    except msgspec.ValidationError as error:
        raise ConfigurationError(f"{path}: [providers.{name}] {_complaint(error)}") from error
    except ConfigurationError as error:
        raise ConfigurationError(f"{path}: [providers.{name}] {error}") from error


def _dialect(value: str | dict[str, Any], preset: str | None) -> ChatDialect:
    """A dialect by name, or a table that changes some fields of one: its own ``preset``, else the provider's."""
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
        raise ConfigurationError(f"dialect.{_complaint(error)}") from error


def _complaint(error: msgspec.ValidationError) -> str:
    """msgspec's sentence with the field in front: ``idle_timeout: expected `float`, got `str```."""
    sentence, _, place = str(error).partition(" - at `$")
    field = place.strip("`").removeprefix(".")
    sentence = sentence[:1].lower() + sentence[1:]
    return f"{field}: {sentence}" if field else sentence
