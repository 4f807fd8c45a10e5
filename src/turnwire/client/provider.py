"""Who serves the model: address, key, dialect and patience."""

from __future__ import annotations

import inspect
import os
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias
from urllib.parse import urlencode, urlsplit

from msgspec import Struct
from msgspec.structs import replace

from turnwire.client.retry import RetryPolicy
from turnwire.errors import ConfigurationError
from turnwire.wire.chat import ChatDialect
from turnwire.wire.sse import MAX_EVENT_SIZE

__all__ = ["PROVIDER_PRESETS", "ApiKey", "Provider"]

ApiKey: TypeAlias = str | Callable[[], str | Awaitable[str]]
"""A key, or what gives one for each request."""


class Provider(Struct, frozen=True):
    """A server, and how to treat it. Timeouts are in seconds, sizes in bytes.

    ``base_url`` is what stands before ``/chat/completions``. ``api_key`` is a string or a function, sync or async,
    that gives one; without one, ``api_key_env`` names an environment variable to read at each request. ``query`` is
    added to every URL. Raises `ConfigurationError` where something can't be used.
    """

    name: str
    base_url: str
    wire_api: Literal["chat", "responses"] = "chat"
    api_key: ApiKey | None = None
    api_key_env: str | None = None
    api_key_header: str = "authorization"
    """``authorization`` is sent as a bearer token, any other header bare (Azure: ``api-key``)."""
    headers: Mapping[str, str] = {}
    query: Mapping[str, str] = {}
    dialect: ChatDialect = ChatDialect()
    websocket: bool | Literal["auto"] = False
    """Whether Responses go over WebSocket: never, always, or until the server turns out to have none."""
    store: bool = False
    """Whether the server shall keep answers where a prompt does not say; Azure's Responses need it."""
    model: str | None = None
    """The model to ask for where nobody names one."""
    idle_timeout: float = 300.0
    """How long a stream may stay without an event, and a request without its response's head."""
    open_timeout: float = 15.0
    """How long opening a connection may take, TLS included."""
    finish_grace: float = 1.0
    """How long to wait for usage and ``[DONE]`` once the server has said that it finished."""
    request_max_retries: int = 4
    stream_max_retries: int = 5
    retry_429: bool = False
    max_retry_delay: float = 60.0
    max_event_size: int = MAX_EVENT_SIZE
    ca_file: Path | None = None

    def __post_init__(self) -> None:
        if not self.base_url:
            raise self._refusal("its base_url is missing: say where the server is, or name a preset")
        try:
            address = urlsplit(self.base_url)
            valid = address.scheme in ("http", "https") and address.hostname and address.port != 0
        except ValueError:
            valid = False
        if not valid:
            raise self._refusal(f"base_url {self.base_url!r} is not an http or https address")
        if "@" in address.netloc:
            raise self._refusal("base_url must hold no user or password: put a key into api_key")
        if address.query or address.fragment:
            raise self._refusal("base_url must end before its query; put that into query")
        if self.wire_api not in ("chat", "responses"):
            raise self._refusal(f"wire_api {self.wire_api!r} is not known; known are 'chat' and 'responses'")
        if self.websocket and self.wire_api == "chat":
            raise self._refusal("Chat Completions has no WebSocket; set wire_api to 'responses' or websocket to false")
        for name in ("idle_timeout", "open_timeout", "max_event_size"):
            if not getattr(self, name) > 0:
                raise self._refusal(f"{name} must be more than 0, not {getattr(self, name)!r}")
        for name in ("finish_grace", "request_max_retries", "stream_max_retries", "max_retry_delay"):
            if not getattr(self, name) >= 0:
                raise self._refusal(f"{name} must be 0 or more, not {getattr(self, name)!r}")
        for header, value in self.headers.items():
            if not header or not (header + value).isprintable():
                raise self._refusal(f"header {header!r} has characters that can't be sent")

    def __repr__(self) -> str:
        # Keys, and headers that may hold some, stay out of logs and tracebacks.
        return f"<Provider {self.name} {self.base_url}>"

    @classmethod
    def preset(cls, preset: str, /, **changes: Any) -> Provider:
        """A known server by name, with any field changed; `ConfigurationError` names the known ones."""
        fields = PROVIDER_PRESETS.get(preset)
        if fields is None:
            known = ", ".join(sorted(PROVIDER_PRESETS))
            raise ConfigurationError(f"no provider preset is called {preset!r}; known are {known}")
        if "base_url" not in fields and "base_url" not in changes:
            raise ConfigurationError(f"the preset {preset} is for servers at many addresses: give a base_url")
        return cls(**{"name": preset, "dialect": ChatDialect.preset(preset), **fields, **changes})

    @property
    def retry_policy(self) -> RetryPolicy:
        """The provider's patience as the record that `turnwire.client.retry` decides by."""
        return RetryPolicy(
            request_max_retries=self.request_max_retries,
            stream_max_retries=self.stream_max_retries,
            retry_429=self.retry_429,
            max_delay=self.max_retry_delay,
        )

    def url(self, path: str) -> str:
        """The address of an endpoint, such as ``chat/completions``."""
        query = f"?{urlencode(self.query)}" if self.query else ""
        return f"{self.base_url.rstrip('/')}/{path}{query}"

    async def request_headers(self) -> dict[str, str]:
        """The headers of every request, the key's among them; asks a key function anew each time."""
        headers = {name.lower(): value for name, value in self.headers.items()}
        key = await self._key()
        if key is not None:
            header = self.api_key_header.lower()
            headers[header] = f"Bearer {key}" if header == "authorization" else key
        return headers

    def with_changes(self, **changes: Any) -> Provider:
        """The same provider but for some fields."""
        return replace(self, **changes)

    async def _key(self) -> str | None:
        key: str | Awaitable[str] | None
        if callable(self.api_key):
            key = self.api_key()
            if inspect.isawaitable(key):
                key = await key
        elif self.api_key is None and self.api_key_env is not None:
            key = os.environ.get(self.api_key_env)
            if not key:
                raise self._refusal(f"its key is missing: set the environment variable {self.api_key_env}")
        else:
            key = self.api_key
        if key is not None and not (key.isascii() and key.isprintable() and key.strip()):
            raise self._refusal("its key is empty or has characters that can't be sent")
        return key

    def _refusal(self, reason: str) -> ConfigurationError:
        return ConfigurationError(f"provider {self.name!r} can't be used: {reason}")


PROVIDER_PRESETS: dict[str, dict[str, Any]] = {
    "openai": {"base_url": "https://api.openai.com/v1", "api_key_env": "OPENAI_API_KEY"},
    "azure": {"api_key_env": "AZURE_OPENAI_API_KEY", "api_key_header": "api-key"},
    "openrouter": {"base_url": "https://openrouter.ai/api/v1", "api_key_env": "OPENROUTER_API_KEY"},
    "deepseek": {"base_url": "https://api.deepseek.com/v1", "api_key_env": "DEEPSEEK_API_KEY"},
    "mistral": {"base_url": "https://api.mistral.ai/v1", "api_key_env": "MISTRAL_API_KEY"},
    "gemini": {
        "base_url": "https://generativelanguage.googleapis.com/v1beta/openai",
        "api_key_env": "GEMINI_API_KEY",
    },
    "groq": {"base_url": "https://api.groq.com/openai/v1", "api_key_env": "GROQ_API_KEY"},
    "ollama": {"base_url": "http://127.0.0.1:11434/v1"},
    "llama.cpp": {"base_url": "http://127.0.0.1:8080/v1"},
    "vllm": {"base_url": "http://127.0.0.1:8000/v1"},
    "sglang": {"base_url": "http://127.0.0.1:30000/v1"},
    "lmstudio": {"base_url": "http://127.0.0.1:1234/v1"},
    "tolerant": {},
}
"""What is known of each server besides its dialect, which goes by the same name."""
