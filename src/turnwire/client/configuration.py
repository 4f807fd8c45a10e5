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

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import UNSET, Struct, UnsetType

from turnwire.client.configuration_file import complaint, configuration_paths, read_dialect, read_tables
from turnwire.client.provider import PROVIDER_PRESETS, Provider
from turnwire.errors import ConfigurationError

__all__ = ["configuration_paths", "find_provider", "load_providers"]


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
    tables = read_tables(path).get("providers", {})
    if not isinstance(tables, dict):
        raise ConfigurationError(f"{path}: providers must be tables, each [providers.NAME]")
    return {name: _provider(name, table, path) for name, table in tables.items()}


def _provider(name: str, table: Any, path: Path) -> Provider:
    try:
        known = msgspec.convert(table, _ProviderTable)
        fields = {field: value for field, value in msgspec.structs.asdict(known).items() if value is not UNSET}
        preset = fields.pop("preset", None)
        if "dialect" in fields:
            fields["dialect"] = read_dialect(fields["dialect"], preset)
        if "ca_file" in fields:
            fields["ca_file"] = path.parent / fields["ca_file"]
        if preset is not None:
            return Provider.preset(preset, **{"name": name, **fields})
        return Provider(name, **{"base_url": "", **fields})
    except msgspec.ValidationError as error:
        raise ConfigurationError(f"{path}: [providers.{name}] {complaint(error)}") from error
    except ConfigurationError as error:
        raise ConfigurationError(f"{path}: [providers.{name}] {error}") from error
