"""The gateway's configuration: from ``turnwire.toml``, from the command line, or both.

::

    [[upstreams]]
    name = "gpu"
    base_url = "http://10.0.0.5:8000/v1"
    dialect = "vllm"
    models = { fast = "qwen3-8b" }      # or a list of names; without it the server is asked

    [gateway]
    host = "0.0.0.0"

    [gateway.callers]
    laptop = "sha256:..."               # made by `turnwire key laptop`

The nearest file that says anything of a gateway says all of it: files are not mixed. Keys of upstreams, and secrets,
stand in the environment, never in a file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import inf
from pathlib import Path
from typing import Any, Literal, TypeAlias

import msgspec
from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import replace

from turnwire.client.configuration_file import complaint, configuration_paths, read_dialect, read_tables
from turnwire.client.provider import Provider
from turnwire.errors import ConfigurationError
from turnwire.gateway.access_log import STANDARD_ERROR
from turnwire.gateway.caller import CallerKey, is_loopback
from turnwire.wire.chat import ChatDialect

__all__ = ["GatewayConfiguration", "UpstreamConfiguration", "WireApi", "load_gateway_configuration", "upstream_at"]

WireApi: TypeAlias = Literal["chat", "responses"]

_DEFAULT_DIALECT = "tolerant"
_FROM_PRESET = ("base_url", "api_key_env", "api_key_header", "dialect")
_MAX_PORT = 65535


class UpstreamConfiguration(Struct, frozen=True):
    """A model server behind the gateway. Timeouts are in seconds. Raises `ConfigurationError`."""

    name: str
    """What it is called in the log, in metrics and in answers to clients."""
    base_url: str
    """What stands before ``/chat/completions`` and ``/responses``."""
    wire_api: WireApi | None = None
    """The API that it is spoken to in; None: it is found out."""
    models: Mapping[str, str] | None = None
    """Its models, by the names that clients use; None: those that it lists, by their own names."""
    api_key_env: str | None = None
    """The environment variable that holds its key, read at each request."""
    api_key_header: str = "authorization"
    """``authorization`` is sent as a bearer token, any other header bare."""
    dialect: ChatDialect | None = None
    """How it speaks Chat Completions; None: as it is recognised, else the tolerant dialect."""
    weight: float = 1.0
    """Its share of the work, next to that of the others that serve the same model."""
    max_concurrency: int | None = None
    """How many requests it gets at once, from each gateway process; None: any number."""
    headers: Mapping[str, str] = {}
    """Sent with every request."""
    query: Mapping[str, str] = {}
    """Added to every URL."""
    idle_timeout: float = 300.0
    """How long it may say nothing, before its answer and in the midst of it."""
    open_timeout: float = 15.0
    """How long opening a connection may take, TLS included."""
    ca_file: Path | None = None
    """Certificates to trust instead of the system's, PEM."""

    def __post_init__(self) -> None:
        if not (self.name and self.name.isprintable()):
            raise ConfigurationError(f"upstream {self.name!r} needs a name that can be printed")
        try:
            _ = self.provider  # which checks what they have in common
        except ConfigurationError as error:
            raise ConfigurationError(str(error).replace("provider", "upstream", 1)) from None
        if not 0 < self.weight < inf:
            raise self._refusal(f"weight must be more than 0 and finite, not {self.weight!r}")
        if self.max_concurrency is not None and self.max_concurrency < 1:
            raise self._refusal(f"max_concurrency must be 1 or more, not {self.max_concurrency}")
        if self.models is not None and not self.models:
            raise self._refusal("models is empty: name some, or leave it out for those that the server lists")
        for alias, model in (self.models or {}).items():
            if not (alias and model):
                raise self._refusal(f"models has an empty name: {alias!r} = {model!r}")

    def __repr__(self) -> str:
        # Headers that may hold keys stay out of logs and tracebacks.
        return f"<UpstreamConfiguration {self.name} {self.base_url}>"

    @property
    def provider(self) -> Provider:
        """The same server as the client knows it: addresses and headers of requests; chat, where it is not known."""
        return Provider(
            self.name,
            self.base_url,
            wire_api=self.wire_api or "chat",
            api_key_env=self.api_key_env,
            api_key_header=self.api_key_header,
            headers=self.headers,
            query=self.query,
            dialect=self.dialect or ChatDialect.preset(_DEFAULT_DIALECT),
            idle_timeout=self.idle_timeout,
            open_timeout=self.open_timeout,
            ca_file=self.ca_file,
        )

    def _refusal(self, reason: str) -> ConfigurationError:
        return ConfigurationError(f"upstream {self.name!r} can't be used: {reason}")


class GatewayConfiguration(Struct, frozen=True):
    """All that a gateway process is told. Timeouts and lifetimes are in seconds, sizes in bytes.

    Raises `ConfigurationError` for what can't be used, and for an address that other machines reach without a key.
    """

    upstreams: tuple[UpstreamConfiguration, ...]
    host: str = "127.0.0.1"
    """Where it listens; every address of a name."""
    port: int = 8088
    """0: one that is free."""
    workers: int = 1
    """How many processes serve it."""
    callers: tuple[CallerKey, ...] = ()
    """Who may call; where there is none, this machine's programs may."""
    max_body: int = 64 * 1024 * 1024
    """How large a request may be, expanded, and a WebSocket's message."""
    max_connections: int = 4096
    """How many connections there may be at once, in each process, idle ones and WebSockets among them."""
    head_timeout: float = 15.0
    """How long a request's head may take once a connection is there."""
    body_timeout: float = 60.0
    """How long a request's body may take once its head is there."""
    keepalive_interval: float = 15.0
    """How long a client hears nothing before it gets a sign of life."""
    client_timeout: float = 60.0
    """How long a client may leave unread what was sent to it."""
    drain_timeout: float = 30.0
    """How long answers may still take once the gateway was told to stop."""
    socket_max_age: float = 3600.0
    """How old a WebSocket may become."""
    queue_length: int = 256
    """How many requests may wait for an upstream that has its max_concurrency."""
    queue_timeout: float = 30.0
    """How long they wait."""
    max_streams: int | None = None
    """How many answers one caller may have under way at once, in each process; None: any number."""
    probe_interval: float = 10.0
    """How often an upstream is asked whether it is there."""
    store_path: Path | None = None
    """The file that keeps answers with ``store``; None: one in the user's state folder."""
    store_url_env: str | None = None
    """The environment variable with the URL of a Redis or Valkey server that keeps them instead, for many machines."""
    store_prefix: str = "turnwire"
    """What every key on that server begins with."""
    store_ttl: float = 30 * 86400.0
    """How long an answer is kept."""
    store_max_size: int = 1024 * 1024 * 1024
    """How large the file may become before the oldest answers go; a server has a bound of its own."""
    token_secrets_env: tuple[str, ...] = ()
    """The environment variables with the secrets that sign turn tokens, the newest first; none: one made here."""
    token_lifetime: float = 86400.0
    """How long a turn's token counts."""
    access_log: Path | None = None
    """The file that gets a line per answer, ``-`` for standard error; None: no such lines."""

    def __post_init__(self) -> None:
        if not self.upstreams:
            raise ConfigurationError(
                "no upstream is configured: give a model server's address with --upstream, or write an [[upstreams]] "
                "table into turnwire.toml"
            )
        _refuse_twins("upstreams are called", [upstream.name for upstream in self.upstreams])
        _refuse_twins("callers are called", [key.name for key in self.callers])
        if len({key.key_hash for key in self.callers}) < len(self.callers):
            raise ConfigurationError("two callers have the same key: make one for each with `turnwire key`")
        if not 0 <= self.port <= _MAX_PORT:
            raise ConfigurationError(f"port must be 0 to {_MAX_PORT}, not {self.port}")
        if self.workers < 1:
            raise ConfigurationError(f"workers must be 1 or more, not {self.workers}")
        for name in _POSITIVE:
            if not 0 < getattr(self, name) < inf:
                raise ConfigurationError(f"{name} must be more than 0 and finite, not {getattr(self, name)!r}")
        if self.queue_length < 0:
            raise ConfigurationError(f"queue_length must be 0 or more, not {self.queue_length}")
        if self.max_streams is not None and self.max_streams < 1:
            raise ConfigurationError(f"max_streams must be 1 or more, not {self.max_streams}")
        if not 0 <= self.drain_timeout < inf:
            raise ConfigurationError(f"drain_timeout must be 0 or more and finite, not {self.drain_timeout!r}")
        if self.store_path is not None and self.store_url_env is not None:
            raise ConfigurationError(
                "answers are kept in one place: give store_path, a file, or store_url_env, a server, not both"
            )
        if self.store_url_env is not None and not self.token_secrets_env:
            raise ConfigurationError(
                "store_url_env is for several machines, and each must know the others' tokens: name the variables that "
                "hold their common secrets in token_secrets_env"
            )
        if not self.store_prefix or not self.store_prefix.isprintable() or set(self.store_prefix) & set("{}"):
            raise ConfigurationError(
                f"store_prefix must be a name that can be printed, without braces, not {self.store_prefix!r}"
            )
        if not self.callers and not is_loopback(self.host):
            raise ConfigurationError(
                f"host {self.host!r} is reached from other machines, and there is no caller's key: make one with "
                "`turnwire key` and put its hash into [gateway.callers]; without any, only loopback is served"
            )


_POSITIVE = (
    "max_body",
    "max_connections",
    "head_timeout",
    "body_timeout",
    "keepalive_interval",
    "client_timeout",
    "socket_max_age",
    "queue_timeout",
    "probe_interval",
    "store_ttl",
    "store_max_size",
    "token_lifetime",
)


class _UpstreamTable(Struct, forbid_unknown_fields=True):
    """An ``[[upstreams]]`` table; what it does not name keeps the preset's value, or the default."""

    name: str
    preset: str | UnsetType = UNSET
    base_url: str | UnsetType = UNSET
    wire_api: WireApi | UnsetType = UNSET
    models: list[str] | dict[str, str] | UnsetType = UNSET
    api_key_env: str | UnsetType = UNSET
    api_key_header: str | UnsetType = UNSET
    dialect: str | dict[str, Any] | UnsetType = UNSET
    weight: float | UnsetType = UNSET
    max_concurrency: int | UnsetType = UNSET
    headers: dict[str, str] | UnsetType = UNSET
    query: dict[str, str] | UnsetType = UNSET
    idle_timeout: float | UnsetType = UNSET
    open_timeout: float | UnsetType = UNSET
    ca_file: str | UnsetType = UNSET


class _GatewayTable(Struct, forbid_unknown_fields=True):
    """The ``[gateway]`` table; what it does not name keeps the default."""

    host: str | UnsetType = UNSET
    port: int | UnsetType = UNSET
    workers: int | UnsetType = UNSET
    callers: dict[str, str] | UnsetType = UNSET
    """The hash of each caller's key, by the caller's name."""
    max_body: int | UnsetType = UNSET
    max_connections: int | UnsetType = UNSET
    head_timeout: float | UnsetType = UNSET
    body_timeout: float | UnsetType = UNSET
    keepalive_interval: float | UnsetType = UNSET
    client_timeout: float | UnsetType = UNSET
    drain_timeout: float | UnsetType = UNSET
    socket_max_age: float | UnsetType = UNSET
    queue_length: int | UnsetType = UNSET
    queue_timeout: float | UnsetType = UNSET
    max_streams: int | UnsetType = UNSET
    probe_interval: float | UnsetType = UNSET
    store_path: str | UnsetType = UNSET
    store_url_env: str | UnsetType = UNSET
    store_prefix: str | UnsetType = UNSET
    store_ttl: float | UnsetType = UNSET
    store_max_size: int | UnsetType = UNSET
    token_secrets_env: tuple[str, ...] | UnsetType = UNSET
    token_lifetime: float | UnsetType = UNSET
    access_log: str | UnsetType = UNSET


def load_gateway_configuration(
    paths: Iterable[Path] | None = None, *, upstreams: Sequence[UpstreamConfiguration] = (), **changes: Any
) -> GatewayConfiguration:
    """The configuration of the nearest file that has one; ``upstreams`` and ``changes`` stand for what it says of them.

    ``paths`` are files that must exist, the nearest last; without it the user's and the working directory's are looked
    for. With ``upstreams`` there need not be any. Raises `ConfigurationError`, which names file, table and field.
    """
    files = [path for path in configuration_paths() if path.is_file()] if paths is None else list(paths)
    for path in reversed(files):
        tables = read_tables(path)
        if tables.keys() & {"upstreams", "gateway"}:
            return replace(_from_tables(tables, path, tuple(upstreams)), **changes)
    return GatewayConfiguration(tuple(upstreams), **changes)


def upstream_at(url: str, *, dialect: str | None = None, api_key_env: str | None = None) -> UpstreamConfiguration:
    """The upstream at an address, called by its host and port; API and models are found out."""
    name = url.partition("://")[2].partition("/")[0].rpartition("@")[2]
    preset = None if dialect is None else ChatDialect.preset(dialect)
    return UpstreamConfiguration(name or url, url, dialect=preset, api_key_env=api_key_env)


def _from_tables(
    tables: Mapping[str, Any], path: Path, upstreams: tuple[UpstreamConfiguration, ...]
) -> GatewayConfiguration:
    if not upstreams:
        listed = tables.get("upstreams", [])
        if not isinstance(listed, list):
            raise ConfigurationError(f"{path}: upstreams must be a list of tables, each [[upstreams]]")
        upstreams = tuple(_upstream(table, number, path) for number, table in enumerate(listed, 1))
    try:
        fields = _given(msgspec.convert(tables.get("gateway", {}), _GatewayTable))
        if "callers" in fields:
            fields["callers"] = tuple(CallerKey(name, value) for name, value in fields["callers"].items())
        if "store_path" in fields:
            fields["store_path"] = path.parent / fields["store_path"]
        if "access_log" in fields:
            written = Path(fields["access_log"])
            fields["access_log"] = written if written == STANDARD_ERROR else path.parent / written
        return GatewayConfiguration(upstreams, **fields)
    except msgspec.ValidationError as error:
        raise ConfigurationError(f"{path}: [gateway] {complaint(error)}") from error
    except ConfigurationError as error:
        raise ConfigurationError(f"{path}: [gateway] {error}") from error


def _upstream(table: Any, number: int, path: Path) -> UpstreamConfiguration:
    where = f"{path}: [[upstreams]] {number}:"
    try:
        fields = _given(msgspec.convert(table, _UpstreamTable))
        preset = fields.pop("preset", None)
        if preset is not None:
            address = {"base_url": fields["base_url"]} if "base_url" in fields else {}
            known = Provider.preset(preset, **address)
            fields = {name: getattr(known, name) for name in _FROM_PRESET} | fields
        if isinstance(value := fields.get("dialect"), str | dict):
            fields["dialect"] = read_dialect(value, preset or _DEFAULT_DIALECT)
        if isinstance(models := fields.get("models"), list):
            fields["models"] = {model: model for model in models}
        if "ca_file" in fields:
            fields["ca_file"] = path.parent / fields["ca_file"]
        return UpstreamConfiguration(**{"base_url": "", **fields})
    except msgspec.ValidationError as error:
        raise ConfigurationError(f"{where} {complaint(error)}") from error
    except ConfigurationError as error:
        raise ConfigurationError(f"{where} {error}") from error


def _given(table: Struct) -> dict[str, Any]:
    """The fields that a table names."""
    return {name: value for name, value in msgspec.structs.asdict(table).items() if value is not UNSET}


def _refuse_twins(what: str, names: Sequence[str]) -> None:
    twins = [name for name in names if names.count(name) > 1]
    if twins:
        raise ConfigurationError(f"two {what} {twins[0]!r}: give each a name of its own")
