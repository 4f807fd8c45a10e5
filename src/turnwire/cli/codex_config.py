"""How Codex is pointed at a gateway, as one record; and ``turnwire codex-config``, which writes it down as TOML."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, TypeAlias

import msgspec
import typer
from msgspec import Struct

from turnwire.cli.console import write

__all__ = ["DEFAULT_GATEWAY", "KEY_VARIABLE", "CodexConfiguration", "codex_config", "overrides"]

DEFAULT_GATEWAY = "http://127.0.0.1:8088/v1"
"""Where ``turnwire serve`` listens unless it is told otherwise."""
KEY_VARIABLE = "TURNWIRE_API_KEY"
"""The environment variable that holds the caller's key of the gateway."""

_ID = "turnwire"
"""The provider's name in Codex's configuration."""
_PROVIDER = f"model_providers.{_ID}"

# By Codex 0.169: it asks model_catalog_url only where the provider has a key, of whatever value.
_REASONS = {
    "web_search": "A tool of OpenAI's servers, which other models can't be given.",
    "model_reasoning_summary": "Other models show their reasoning itself, or none.",
    f"{_PROVIDER}.env_key": "The variable with a key of the gateway; anything will do where the gateway wants none.",
    f"{_PROVIDER}.supports_websockets": "One connection for all requests of a thread; each sends only what is new.",
    f"{_PROVIDER}.model_catalog_url": "Here Codex learns what the models can do: their context window and their tools.",
}
_HEADING = f"""\
# Points Codex at a turnwire gateway. As a profile it changes nothing of yours:
#   turnwire codex-config > ~/.codex/{_ID}.config.toml
#   export {KEY_VARIABLE}=none
#   codex --profile {_ID}
# To have it for good, put these lines into ~/.codex/config.toml.
"""

Value: TypeAlias = str | bool | int | Sequence[str]


class CodexConfiguration(Struct, frozen=True):
    """What Codex has to know: where the gateway is, and which of its models to use (None: as the user configured)."""

    base_url: str = DEFAULT_GATEWAY
    model: str | None = None
    websocket: bool = True

    def settings(self) -> dict[str, Value]:
        """The settings by their dotted names, as ``codex -c name=value`` takes them, too."""
        base_url = self.base_url.rstrip("/")
        model: dict[str, Value] = {} if self.model is None else {"model": self.model}
        return model | {
            "model_provider": _ID,
            "web_search": "disabled",
            "model_reasoning_summary": "none",
            f"{_PROVIDER}.name": "turnwire",
            f"{_PROVIDER}.base_url": base_url,
            f"{_PROVIDER}.wire_api": "responses",
            f"{_PROVIDER}.env_key": KEY_VARIABLE,
            f"{_PROVIDER}.supports_websockets": self.websocket,
            f"{_PROVIDER}.model_catalog_url": f"{base_url}/models",
        }

    def toml(self) -> str:
        """The settings as a file, with a word on those that don't speak for themselves."""
        return "\n".join([_HEADING, *self._lines(), ""])

    def _lines(self) -> Iterator[str]:
        if self.model is None:
            yield '# model = "NAME"  # one that the gateway serves'
        table = ""
        for dotted, value in self.settings().items():
            place, _, name = dotted.rpartition(".")
            if place != table:
                yield f"\n[{place}]"
                table = place
            if dotted in _REASONS:
                yield f"# {_REASONS[dotted]}"
            yield f"{name} = {_toml(value)}"


def codex_config(
    gateway: Annotated[str, typer.Option(metavar="URL", help="Where the gateway is.")] = DEFAULT_GATEWAY,
    model: Annotated[str | None, typer.Option(metavar="NAME", help="The model that Codex shall use.")] = None,
    websocket: Annotated[bool, typer.Option(help="Speak over one WebSocket, or in HTTP requests.")] = True,
) -> None:
    """Print the configuration that points Codex at the gateway."""
    write(CodexConfiguration(gateway, model, websocket).toml())


def overrides(settings: Mapping[str, Value]) -> list[str]:
    """Settings as the arguments that ``codex`` takes them by."""
    return [part for name, value in settings.items() for part in ("-c", f"{name}={_toml(value)}")]


def _toml(value: Value) -> str:
    """TOML takes these values as JSON writes them, but for a DEL that stands for itself."""
    return msgspec.json.encode(value).decode().replace("\x7f", "\\u007f")
