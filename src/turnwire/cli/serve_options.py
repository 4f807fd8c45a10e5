"""What stands on the command line of ``turnwire serve``, and the configuration that it makes.

The process that serves is another than the one that read the command line, and is given the options as words:
``upstream=http://127.0.0.1:8080/v1 port=0``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import msgspec
from msgspec import Struct

from turnwire.cli.serve_log import LogLevel
from turnwire.errors import ConfigurationError
from turnwire.gateway.configuration import GatewayConfiguration, load_gateway_configuration, upstream_at

__all__ = ["ServeOptions"]


class ServeOptions(Struct, frozen=True):
    """The options by their names; None: not given."""

    upstream: tuple[str, ...] = ()
    dialect: str | None = None
    api_key_env: str | None = None
    config: str | None = None
    host: str | None = None
    port: int | None = None
    workers: int | None = None
    log_level: LogLevel = LogLevel.INFO
    access_log: str | None = None

    @classmethod
    def of(cls, words: Sequence[str]) -> Self:
        """The options that these are the `words` of."""
        given = [word.partition("=")[::2] for word in words]
        upstreams = [value for name, value in given if name == "upstream"]
        return msgspec.convert({**dict(given), "upstream": upstreams}, cls, strict=False)

    def words(self) -> list[str]:
        """What was given, a word for each option; it stays visible to whoever lists processes."""
        given: dict[str, Any] = msgspec.structs.asdict(self)
        words = [f"upstream={url}" for url in given.pop("upstream")]
        return words + [f"{name}={value}" for name, value in given.items() if value is not None]

    def configuration(self) -> GatewayConfiguration:
        """The configuration as the file says now, with these in its place; raises `ConfigurationError`."""
        for option, value in (("--dialect", self.dialect), ("--api-key-env", self.api_key_env)):
            if value is not None and not self.upstream:
                raise ConfigurationError(f"{option} is for a server given with --upstream; in a file each has its own")
        changes = {
            "host": self.host,
            "port": self.port,
            "workers": self.workers,
            "access_log": None if self.access_log is None else Path(self.access_log),
        }
        return load_gateway_configuration(
            None if self.config is None else [Path(self.config)],
            upstreams=[upstream_at(url, dialect=self.dialect, api_key_env=self.api_key_env) for url in self.upstream],
            **{name: value for name, value in changes.items() if value is not None},
        )
