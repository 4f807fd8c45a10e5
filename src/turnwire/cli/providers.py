"""``turnwire providers``: who can be asked, and where that is written down."""

from __future__ import annotations

import os
from typing import Annotated

import msgspec
import typer
from msgspec import Struct
from rich.text import Text

from turnwire.cli.console import Output, write
from turnwire.client import Provider, load_providers
from turnwire.client.configuration import configuration_paths
from turnwire.client.provider import PROVIDER_PRESETS
from turnwire.wire.chat import ChatDialect
from turnwire.wire.chat.dialect import PRESETS

__all__ = ["providers"]

_PRESET = "preset"


class _Entry(Struct, frozen=True):
    """A provider as it is listed; the key itself is no part of it."""

    name: str
    base_url: str | None
    """None where a preset is for servers at many addresses."""
    api_key_env: str | None
    api_key_set: bool
    dialect: str
    model: str | None
    source: str
    """The configuration file, or ``preset``."""


def providers(
    as_json: Annotated[bool, typer.Option("--json", help="Write a JSON object per provider and line.")] = False,
) -> None:
    """List the configured providers and the presets; never shows a key."""
    entries = _entries()
    if as_json:
        for entry in entries:
            write(msgspec.json.encode(entry).decode() + "\n")
    else:
        _show(entries)


def _entries() -> list[_Entry]:
    """Each name once: the nearer file outranks the other, and both the presets."""
    found: dict[str, _Entry] = {}
    for path in configuration_paths():
        for name, provider in load_providers([path]).items():
            found[name] = _entry(provider, str(path))
    for name, fields in PROVIDER_PRESETS.items():
        key = fields.get("api_key_env")
        found.setdefault(name, _Entry(name, fields.get("base_url"), key, _is_set(key), name, None, _PRESET))
    return list(found.values())


def _entry(provider: Provider, source: str) -> _Entry:
    key = provider.api_key_env
    dialect = _dialect_name(provider)
    return _Entry(provider.name, provider.base_url, key, _is_set(key), dialect, provider.model, source)


def _is_set(api_key_env: str | None) -> bool:
    return api_key_env is not None and bool(os.environ.get(api_key_env))


def _dialect_name(provider: Provider) -> str:
    """The dialect's preset; where several are alike, the first of them."""
    if provider.dialect == ChatDialect():
        return "default"
    return next((name for name, dialect in PRESETS.items() if dialect == provider.dialect), "custom")


def _show(entries: list[_Entry]) -> None:
    """Two lines each, which fit any terminal: where it is; its key, its dialect and the source."""
    console = Output(highlight=False, emoji=False, markup=False, soft_wrap=True)
    width = max(len(entry.name) for entry in entries) + 2
    for entry in entries:
        console.print(Text.assemble((entry.name.ljust(width), "bold"), entry.base_url or "yours, by --base-url"))
        source = _PRESET if entry.source == _PRESET else f"from {entry.source}"
        details = (_key(entry), f"dialect {entry.dialect}", *_model(entry), source)
        console.print(Text(" " * width + ", ".join(details), style="dim"))


def _key(entry: _Entry) -> str:
    if entry.api_key_env is None:
        return "no key"
    return f"{entry.api_key_env} is {'set' if entry.api_key_set else 'not set'}"


def _model(entry: _Entry) -> tuple[str, ...]:
    return () if entry.model is None else (f"model {entry.model}",)
