"""What ``turnwire serve`` shows on standard output."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from ipaddress import ip_address
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from turnwire.cli.terminal import Style, show, visible
from turnwire.gateway.configuration import GatewayConfiguration, UpstreamConfiguration
from turnwire.wire.chat.dialect import PRESETS

if TYPE_CHECKING:
    from turnwire.gateway.discovery import Found

__all__ = ["Screen"]

_WHAT = 11
"""Columns of the left."""
_MAX_MODELS = 8


class Screen:
    """Rows of two columns: what, and what is known of it. Raises `BrokenPipeError` where nobody reads them any more."""

    def __init__(self) -> None:
        self._early: list[tuple[UpstreamConfiguration, Found]] | None = []

    def gateway(self, url: str, configuration: GatewayConfiguration) -> None:
        """Where it is, and how a client gets in."""
        address = urlsplit(url)
        _row("listening", url)
        if ip_address(address.hostname or "").is_unspecified:
            _row("base_url", f"http://127.0.0.1:{address.port}/v1 here, by this machine's name elsewhere")
        else:
            _row("base_url", f"{url}/v1")
        if configuration.callers:
            _row("API keys", _listed([caller.name for caller in configuration.callers]))
        else:
            _row("API keys", "none: programs on this machine are served, with any key or without")
        early, self._early = self._early or [], None
        for upstream, found in early:
            self.upstream(upstream, found)

    def found(self, upstream: UpstreamConfiguration, found: Found) -> None:
        """What an upstream is, once it has been told where the gateway itself is."""
        if self._early is None:
            self.upstream(upstream, found)
        else:
            self._early.append((upstream, found))

    def upstream(self, upstream: UpstreamConfiguration, found: Found) -> None:
        """What an upstream is, and what is wrong with it."""
        wire_api = "unknown API" if found.wire_api is None else found.wire_api
        dialect = next(
            (name for name in (found.server, *PRESETS) if PRESETS.get(name or "") == found.dialect), "custom"
        )
        _row("upstream", f"{upstream.name}, {found.base_url}: {wire_api}, dialect {dialect}")
        _row("", f"models {_listed(list(found.models))}" if found.models else "no models")
        for problem in found.problems:
            _row("", problem, style="yellow" if found.usable else "bold red")


def _row(what: str, words: str, style: Style = "") -> None:
    show(sys.stdout, (what.ljust(_WHAT), "bold"), (visible(words), style))


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MAX_MODELS} more" if len(names) > _MAX_MODELS else ""
    return ", ".join(names[:_MAX_MODELS]) + more
