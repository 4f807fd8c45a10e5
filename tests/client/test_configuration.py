"""Configuration files: what they give, and the sentence for each that can't be used."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from turnwire import ConfigurationError, Provider, find_provider, load_providers
from turnwire.client.configuration import configuration_paths
from turnwire.wire.chat import ChatDialect

URL = "http://10.0.0.5:8000/v1"

WHOLE = f"""
[providers.plain]
base_url = "{URL}"

[providers.mine]
preset = "vllm"
base_url = "{URL}"
api_key_env = "MY_KEY"
api_key_header = "api-key"
model = "qwen3"
idle_timeout = 120
open_timeout = 2.5
finish_grace = 0
request_max_retries = 1
stream_max_retries = 2
retry_429 = true
max_retry_delay = 10
max_event_size = 65536
ca_file = "certificates/ca.pem"
headers = {{ x-team = "blue" }}
query = {{ api-version = "1" }}

[providers.named]
base_url = "{URL}"
dialect = "mistral"

[providers.changed]
base_url = "{URL}"
dialect = {{ preset = "mistral", stream_options = true }}

[providers.changed-preset]
preset = "vllm"
base_url = "{URL}"
dialect = {{ call_ids = "64" }}

[providers."my server"]
preset = "ollama"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "turnwire.toml"


def test_a_file_s_tables_are_providers(file: Path) -> None:
    file.write_text(WHOLE, encoding="utf-8")
    mistral, vllm = ChatDialect.preset("mistral"), ChatDialect.preset("vllm")
    assert load_providers([file]) == {
        "plain": Provider("plain", URL),
        "mine": Provider(
            "mine",
            URL,
            api_key_env="MY_KEY",
            api_key_header="api-key",
            headers={"x-team": "blue"},
            query={"api-version": "1"},
            dialect=vllm,
            model="qwen3",
            idle_timeout=120.0,
            open_timeout=2.5,
            finish_grace=0.0,
            request_max_retries=1,
            stream_max_retries=2,
            retry_429=True,
            max_retry_delay=10.0,
            max_event_size=65536,
            ca_file=file.parent / "certificates/ca.pem",
        ),
        "named": Provider("named", URL, dialect=mistral),
        "changed": Provider("changed", URL, dialect=replace(mistral, stream_options=True)),
        "changed-preset": Provider("changed-preset", URL, dialect=replace(vllm, call_ids="64")),
        "my server": Provider.preset("ollama", name="my server"),
    }


@pytest.mark.parametrize("text", ["", "# nothing yet\n", "[providers]\n", "[[upstreams]]\n[gateway]\n"])
def test_an_empty_file_gives_none(text: str, file: Path) -> None:
    file.write_text(text)
    assert load_providers([file]) == {}


FIELDS = (
    "open_calls, bare_end, developer_role, system_messages, refusals, user_after_tool, reasoning_back, reasoning_name, "
    "reasoning_effort, call_ids, tool_schemas, max_tokens_name, output_schemas, stream_options, parallel_tool_calls, "
    "usage_place, done_sentinel, calls_whole, call_index, calls_finish"
)
TABLES = "[providers.NAME], [[upstreams]] and [gateway]"
PRESETS = (
    "azure, deepseek, gemini, groq, llama.cpp, lmstudio, mistral, ollama, openai, openrouter, sglang, tolerant, vllm"
)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("base_url =", "{file} is not TOML: Invalid value (at end of document)"),
        ("[providers.a", "{file} is not TOML: Expected ']' at the end of a table declaration (at end of document)"),
        ("[a]\n[a]\n", "{file} is not TOML: Cannot declare ('a',) twice (at line 2, column 3)"),
        ("[provider.a]\n", "{file}: 'provider' is not known; known are " + TABLES),
        ("model = 'x'\n[providers.a]\n", "{file}: 'model' is not known; known are " + TABLES),
        ("providers = 3\n", "{file}: providers must be tables, each [providers.NAME]"),
        ("[[providers]]\n", "{file}: providers must be tables, each [providers.NAME]"),
        ("providers.a = 3\n", "{file}: [providers.a] expected `object`, got `int`"),
        (
            "[providers.a]\nmodel = 'x'\n",
            "{file}: [providers.a] provider 'a' can't be used: its base_url is missing: say where the server is, "
            "or name a preset",
        ),
        (
            "[providers.a]\nbase_url = '127.0.0.1'\n",
            "{file}: [providers.a] provider 'a' can't be used: base_url '127.0.0.1' is not an http or https address",
        ),
        (
            "[providers.a]\nbase_url = '{url}'\nurl = 'x'\n",
            "{file}: [providers.a] object contains unknown field `url`",
        ),
        (
            "[providers.a]\nbase_url = '{url}'\napi_key = 'secret'\n",
            "{file}: [providers.a] object contains unknown field `api_key`",
        ),
        ("[providers.a]\nbase_url = 3\n", "{file}: [providers.a] base_url: expected `str`, got `int`"),
        (
            "[providers.a]\nbase_url = '{url}'\nidle_timeout = 'long'\n",
            "{file}: [providers.a] idle_timeout: expected `float`, got `str`",
        ),
        (
            "[providers.a]\nbase_url = '{url}'\nidle_timeout = 0\n",
            "{file}: [providers.a] provider 'a' can't be used: idle_timeout must be more than 0, not 0.0",
        ),
        (
            "[providers.a]\nbase_url = '{url}'\nrequest_max_retries = 1.5\n",
            "{file}: [providers.a] request_max_retries: expected `int`, got `float`",
        ),
        (
            "[providers.a]\nbase_url = '{url}'\nretry_429 = 1\n",
            "{file}: [providers.a] retry_429: expected `bool`, got `int`",
        ),
        (
            "[providers.a]\nbase_url = '{url}'\nheaders = {{ x = 1 }}\n",
            "{file}: [providers.a] headers[...]: expected `str`, got `int`",
        ),
        (
            "[providers.a]\nbase_url = '{url}'\nwire_api = 'grpc'\n",
            "{file}: [providers.a] wire_api: invalid enum value 'grpc'",
        ),
        (
            "[providers.a]\npreset = 'openia'\n",
            "{file}: [providers.a] no provider preset is called 'openia'; known are " + PRESETS,
        ),
        (
            "[providers.a]\npreset = 'azure'\n",
            "{file}: [providers.a] the preset azure is for servers at many addresses: give a base_url",
        ),
        (
            "[providers.a]\nbase_url = '{url}'\ndialect = 'klingon'\n",
            "{file}: [providers.a] no dialect is called 'klingon'; known are " + PRESETS,
        ),
        (
            "[providers.a]\nbase_url = '{url}'\ndialect = {{ preset = 'klingon' }}\n",
            "{file}: [providers.a] no dialect is called 'klingon'; known are " + PRESETS,
        ),
        (
            "[providers.a]\nbase_url = '{url}'\ndialect = {{ accent = 'strong' }}\n",
            "{file}: [providers.a] dialect has no field 'accent'; known are " + FIELDS,
        ),
        (
            "[providers.a]\nbase_url = '{url}'\ndialect = {{ call_ids = 'short' }}\n",
            "{file}: [providers.a] dialect.call_ids: invalid enum value 'short'",
        ),
        (
            "[providers.a]\nbase_url = '{url}'\ndialect = {{ preset = 3 }}\n",
            "{file}: [providers.a] dialect.preset: expected a name, got 3",
        ),
        (
            "[providers.a]\nbase_url = '{url}'\ndialect = 3\n",
            "{file}: [providers.a] dialect: expected `str | object`, got `int`",
        ),
    ],
    ids=lambda value: value[:60],
)
def test_a_bad_file_is_one_sentence_that_names_it(text: str, sentence: str, file: Path) -> None:
    file.write_text(text.replace("{url}", URL).replace("{{", "{").replace("}}", "}"), encoding="utf-8")
    with pytest.raises(ConfigurationError) as caught:
        load_providers([file])
    assert str(caught.value) == sentence.format(file=file)


def test_a_file_that_is_not_text_is_refused(file: Path) -> None:
    file.write_bytes(b"[providers.\xff]\n")
    with pytest.raises(ConfigurationError) as caught:
        load_providers([file])
    assert str(caught.value) == f"{file} is not UTF-8 text"


def test_a_file_that_can_t_be_read_is_refused(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text(WHOLE)

    def refuse(*_: object, **__: object) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_text", refuse)
    with pytest.raises(ConfigurationError) as caught:
        load_providers([file])
    assert str(caught.value) == f"{file} can't be read: Permission denied"


def test_what_the_nearer_file_says_of_a_provider_replaces_what_the_other_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    user, here = tmp_path / "user", tmp_path / "here"
    for folder in (user / "turnwire", here):
        folder.mkdir(parents=True)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(user))
    monkeypatch.chdir(here)
    assert configuration_paths()[-1] == Path("turnwire.toml")
    (user_file, here_file) = (user / "turnwire" / "turnwire.toml", here / "turnwire.toml")
    monkeypatch.setattr("platformdirs.user_config_path", lambda _: user_file.parent)
    assert load_providers() == {}
    user_file.write_text('[providers.a]\nbase_url = "http://u/"\nmodel = "m"\n[providers.b]\nbase_url = "http://u/"\n')
    here_file.write_text('[providers.a]\nbase_url = "http://h/"\n[providers.ollama]\nbase_url = "http://h/"\n')
    assert load_providers() == {
        "a": Provider("a", "http://h/"),
        "b": Provider("b", "http://u/"),
        "ollama": Provider("ollama", "http://h/"),
    }
    assert find_provider("a") == Provider("a", "http://h/")
    assert find_provider("ollama") == Provider("ollama", "http://h/")
    assert find_provider("vllm") == Provider.preset("vllm")


def test_an_unknown_provider_names_those_there_are(file: Path) -> None:
    file.write_text(f'[providers.mine]\nbase_url = "{URL}"\n')
    with pytest.raises(ConfigurationError) as caught:
        find_provider("your", [file])
    known = PRESETS.replace("mistral", "mine, mistral")
    assert str(caught.value) == f"no provider is called 'your'; known are {known}"
