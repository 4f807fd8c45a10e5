"""What a provider is made of, and the sentence for each one that can't be used."""

from __future__ import annotations

from typing import Any

import pytest

from turnwire import ConfigurationError, ModelClient, Provider
from turnwire.client.provider import PROVIDER_PRESETS
from turnwire.client.retry import RetryPolicy
from turnwire.wire.chat import ChatDialect
from turnwire.wire.chat.dialect import PRESETS

URL = "http://127.0.0.1:8080/v1"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"base_url": ""}, "its base_url is missing: say where the server is, or name a preset"),
        ({"base_url": "127.0.0.1:8080"}, "base_url '127.0.0.1:8080' is not an http or https address"),
        ({"base_url": "ftp://host/v1"}, "base_url 'ftp://host/v1' is not an http or https address"),
        ({"base_url": "http://"}, "base_url 'http://' is not an http or https address"),
        ({"base_url": "http://[::1/v1"}, "base_url 'http://[::1/v1' is not an http or https address"),
        ({"base_url": "http://host:99999"}, "base_url 'http://host:99999' is not an http or https address"),
        ({"base_url": "http://host:port"}, "base_url 'http://host:port' is not an http or https address"),
        ({"base_url": f"{URL}?key=secret"}, "base_url must end before its query; put that into query"),
        ({"base_url": f"{URL}#top"}, "base_url must end before its query; put that into query"),
        (
            {"base_url": "http://user:secret@host/v1"},
            "base_url must hold no user or password: put a key into api_key",
        ),
        ({"wire_api": "grpc"}, "wire_api 'grpc' is not known; known are 'chat' and 'responses'"),
        ({"idle_timeout": 0}, "idle_timeout must be more than 0, not 0"),
        ({"idle_timeout": float("nan")}, "idle_timeout must be more than 0, not nan"),
        ({"open_timeout": -1.0}, "open_timeout must be more than 0, not -1.0"),
        ({"max_event_size": 0}, "max_event_size must be more than 0, not 0"),
        ({"finish_grace": -0.5}, "finish_grace must be 0 or more, not -0.5"),
        ({"request_max_retries": -1}, "request_max_retries must be 0 or more, not -1"),
        ({"stream_max_retries": -1}, "stream_max_retries must be 0 or more, not -1"),
        ({"max_retry_delay": float("nan")}, "max_retry_delay must be 0 or more, not nan"),
        ({"headers": {"": "x"}}, "header '' has characters that can't be sent"),
        ({"headers": {"x-team": "a\r\nb: c"}}, "header 'x-team' has characters that can't be sent"),
        ({"headers": {"x\n": "a"}}, r"header 'x\n' has characters that can't be sent"),
    ],
    ids=str,
)
def test_a_provider_that_can_t_be_used_says_why(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Provider("mine", **{"base_url": URL, **changes})
    assert str(caught.value) == f"provider 'mine' can't be used: {sentence}"


@pytest.mark.parametrize(
    ("base_url", "query", "url"),
    [
        ("http://host/v1", {}, "http://host/v1/chat/completions"),
        ("http://host/v1/", {}, "http://host/v1/chat/completions"),
        ("https://host", {"api-version": "1 & 2"}, "https://host/chat/completions?api-version=1+%26+2"),
        ("http://[::1]:8080/v1", {}, "http://[::1]:8080/v1/chat/completions"),
    ],
)
def test_an_endpoint_s_address_is_the_base_url_with_its_path(base_url: str, query: dict[str, str], url: str) -> None:
    assert Provider("mine", base_url, query=query).url("chat/completions") == url


async def later() -> str:
    return "key"


@pytest.mark.parametrize(
    ("changes", "headers"),
    [
        ({}, {}),
        ({"api_key": "key"}, {"authorization": "Bearer key"}),
        ({"api_key": lambda: "key"}, {"authorization": "Bearer key"}),
        ({"api_key": later}, {"authorization": "Bearer key"}),
        ({"api_key_env": "SOME_KEY"}, {"authorization": "Bearer of-environment"}),
        ({"api_key": "key", "api_key_env": "SOME_KEY"}, {"authorization": "Bearer key"}),
        ({"api_key": "key", "api_key_header": "Api-Key"}, {"api-key": "key"}),
        ({"api_key": "key", "api_key_header": "Authorization"}, {"authorization": "Bearer key"}),
        ({"headers": {"X-Team": "blue"}, "api_key": "key"}, {"x-team": "blue", "authorization": "Bearer key"}),
        ({"headers": {"Authorization": "Basic abc"}}, {"authorization": "Basic abc"}),
    ],
    ids=lambda value: ", ".join(value),
)
async def test_a_key_goes_where_the_provider_says(
    changes: dict[str, Any], headers: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_KEY", "of-environment")
    assert await Provider("mine", URL, **changes).request_headers() == headers


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"api_key_env": "NO_SUCH_KEY"}, "its key is missing: set the environment variable NO_SUCH_KEY"),
        ({"api_key": ""}, "its key is empty or has characters that can't be sent"),
        ({"api_key": "  "}, "its key is empty or has characters that can't be sent"),
        ({"api_key": "a\nb"}, "its key is empty or has characters that can't be sent"),
        ({"api_key": "schlüssel"}, "its key is empty or has characters that can't be sent"),
        ({"api_key": lambda: ""}, "its key is empty or has characters that can't be sent"),
    ],
    ids=str,
)
async def test_a_key_that_can_t_be_sent_is_refused_and_not_shown(
    changes: dict[str, Any], sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    with pytest.raises(ConfigurationError) as caught:
        await Provider("mine", URL, **changes).request_headers()
    assert str(caught.value) == f"provider 'mine' can't be used: {sentence}"


def test_every_dialect_has_a_provider_of_its_name() -> None:
    assert PROVIDER_PRESETS.keys() == PRESETS.keys()


@pytest.mark.parametrize("name", PROVIDER_PRESETS)
def test_a_preset_is_a_provider_with_its_dialect(name: str) -> None:
    given = PROVIDER_PRESETS[name]
    provider = Provider.preset(name, **({} if "base_url" in given else {"base_url": URL}))
    assert provider == Provider(name, **{"base_url": URL, "dialect": ChatDialect.preset(name), **given})


def test_any_field_of_a_preset_can_be_changed() -> None:
    provider = Provider.preset("vllm", base_url=URL, name="mine", idle_timeout=7.0)
    assert provider == Provider("mine", URL, dialect=ChatDialect.preset("vllm"), idle_timeout=7.0)
    assert provider.with_changes(name="vllm", idle_timeout=300.0) == Provider.preset("vllm", base_url=URL)


def test_an_unknown_preset_names_those_there_are() -> None:
    known = "azure, deepseek, gemini, groq, llama.cpp, lmstudio, mistral, ollama, openai, openrouter, sglang, "
    with pytest.raises(ConfigurationError) as caught:
        ModelClient("openia")
    assert str(caught.value) == f"no provider preset is called 'openia'; known are {known}tolerant, vllm"


@pytest.mark.parametrize("name", ["azure", "tolerant"])
def test_a_preset_for_many_addresses_asks_for_one(name: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Provider.preset(name)
    assert str(caught.value) == f"the preset {name} is for servers at many addresses: give a base_url"


def test_the_retry_policy_is_the_provider_s_patience() -> None:
    provider = Provider("mine", URL, request_max_retries=1, stream_max_retries=2, retry_429=True, max_retry_delay=3.0)
    assert provider.retry_policy == RetryPolicy(
        request_max_retries=1, stream_max_retries=2, retry_429=True, max_delay=3.0
    )
