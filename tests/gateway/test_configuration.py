"""The gateway's configuration: what a file and the command line give, and the sentence for what can't be used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from turnwire import ConfigurationError, Provider, load_providers
from turnwire.gateway.access_log import STANDARD_ERROR
from turnwire.gateway.caller import CallerKey
from turnwire.gateway.configuration import (
    GatewayConfiguration,
    UpstreamConfiguration,
    load_gateway_configuration,
    upstream_at,
)
from turnwire.wire.chat import ChatDialect

URL = "http://10.0.0.5:8000/v1"
HASH, OTHER_HASH = f"sha256:{'a' * 64}", f"sha256:{'b' * 64}"
TOLERANT = ChatDialect.preset("tolerant")

WHOLE = f"""
[[upstreams]]
name = "gpu"
base_url = "{URL}"
wire_api = "responses"
models = {{ fast = "qwen3-8b" }}
api_key_env = "GPU_KEY"
api_key_header = "api-key"
dialect = "vllm"
headers = {{ x-team = "blue" }}
query = {{ api-version = "1" }}
idle_timeout = 120
open_timeout = 2.5
weight = 2
max_concurrency = 4
ca_file = "ca.pem"

[[upstreams]]
name = "plain"
base_url = "{URL}"

[[upstreams]]
name = "listed"
base_url = "{URL}"
models = ["a", "b"]
dialect = {{ stream_options = false }}

[[upstreams]]
name = "far"
preset = "deepseek"
dialect = {{ call_ids = "64" }}

[[upstreams]]
name = "near"
preset = "llama.cpp"
base_url = "{URL}"

[gateway]
host = "0.0.0.0"
port = 9000
workers = 3
callers = {{ laptop = "{HASH}", "the ci" = "{OTHER_HASH}" }}
max_body = 1000
max_connections = 100
head_timeout = 1
body_timeout = 2
keepalive_interval = 3
client_timeout = 4
drain_timeout = 0
socket_max_age = 6
queue_length = 10
queue_timeout = 11
max_streams = 12
probe_interval = 13
store_path = "store/answers.db"
store_prefix = "gw"
store_ttl = 7
store_max_size = 8
token_secrets_env = ["NEW", "OLD"]
token_lifetime = 9
access_log = "log/access.jsonl"

[providers.other]
base_url = "{URL}"
"""

PLAIN = UpstreamConfiguration("plain", URL)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "turnwire.toml"


def refusal(make: Any, *arguments: Any, **options: Any) -> str:
    with pytest.raises(ConfigurationError) as caught:
        make(*arguments, **options)
    return str(caught.value)


def test_a_file_s_tables_are_the_configuration(file: Path) -> None:
    file.write_text(WHOLE)
    vllm, deepseek = ChatDialect.preset("vllm"), ChatDialect.preset("deepseek")
    assert load_gateway_configuration([file]) == GatewayConfiguration(
        upstreams=(
            UpstreamConfiguration(
                "gpu",
                URL,
                wire_api="responses",
                models={"fast": "qwen3-8b"},
                api_key_env="GPU_KEY",
                api_key_header="api-key",
                dialect=vllm,
                headers={"x-team": "blue"},
                query={"api-version": "1"},
                idle_timeout=120.0,
                open_timeout=2.5,
                weight=2.0,
                max_concurrency=4,
                ca_file=file.parent / "ca.pem",
            ),
            PLAIN,
            UpstreamConfiguration(
                "listed", URL, models={"a": "a", "b": "b"}, dialect=replace(TOLERANT, stream_options=False)
            ),
            UpstreamConfiguration(
                "far",
                "https://api.deepseek.com/v1",
                api_key_env="DEEPSEEK_API_KEY",
                dialect=replace(deepseek, call_ids="64"),
            ),
            UpstreamConfiguration("near", URL, dialect=ChatDialect.preset("llama.cpp")),
        ),
        host="0.0.0.0",
        port=9000,
        workers=3,
        callers=(CallerKey("laptop", HASH), CallerKey("the ci", OTHER_HASH)),
        max_body=1000,
        max_connections=100,
        head_timeout=1.0,
        body_timeout=2.0,
        keepalive_interval=3.0,
        client_timeout=4.0,
        drain_timeout=0.0,
        socket_max_age=6.0,
        queue_length=10,
        queue_timeout=11.0,
        max_streams=12,
        probe_interval=13.0,
        store_path=file.parent / "store/answers.db",
        store_prefix="gw",
        store_ttl=7.0,
        store_max_size=8,
        token_secrets_env=("NEW", "OLD"),
        token_lifetime=9.0,
        access_log=file.parent / "log/access.jsonl",
    )


def test_the_access_log_is_a_file_next_to_the_configuration_or_standard_error(file: Path) -> None:
    file.write_text(f'[[upstreams]]\nname = "a"\nbase_url = "{URL}"\n[gateway]\naccess_log = "-"\n')
    assert load_gateway_configuration([file]).access_log == STANDARD_ERROR


def test_the_client_reads_the_same_file_and_leaves_the_gateway_s_tables_alone(file: Path) -> None:
    file.write_text(WHOLE)
    assert load_providers([file]) == {"other": Provider("other", URL)}


def test_what_is_not_said_has_a_default(file: Path) -> None:
    file.write_text(f"[[upstreams]]\nname = 'plain'\nbase_url = '{URL}'\n")
    assert load_gateway_configuration([file]) == GatewayConfiguration((PLAIN,))
    assert (PLAIN.wire_api, PLAIN.models, PLAIN.dialect) == (None, None, None)


def test_an_upstream_is_a_provider_too() -> None:
    assert PLAIN.provider == Provider("plain", URL, dialect=TOLERANT)
    whole = UpstreamConfiguration(
        "a",
        URL,
        "responses",
        {"a": "b"},
        "KEY",
        "api-key",
        ChatDialect(),
        headers={"x": "y"},
        query={"q": "r"},
        idle_timeout=1,
        open_timeout=2,
        ca_file=Path("ca.pem"),
    )
    assert whole.provider == Provider(
        "a",
        URL,
        "responses",
        api_key_env="KEY",
        api_key_header="api-key",
        headers={"x": "y"},
        query={"q": "r"},
        idle_timeout=1,
        open_timeout=2,
        ca_file=Path("ca.pem"),
    )
    assert repr(whole) == f"<UpstreamConfiguration a {URL}>"


def test_an_upstream_of_the_command_line_needs_no_file() -> None:
    assert upstream_at("http://127.0.0.1:8080/v1") == UpstreamConfiguration(
        "127.0.0.1:8080", "http://127.0.0.1:8080/v1"
    )
    assert upstream_at(URL, dialect="mistral", api_key_env="KEY") == UpstreamConfiguration(
        "10.0.0.5:8000", URL, api_key_env="KEY", dialect=ChatDialect.preset("mistral")
    )
    assert load_gateway_configuration([], upstreams=[PLAIN], port=0) == GatewayConfiguration((PLAIN,), port=0)


@pytest.mark.parametrize("url", ["127.0.0.1:8080", "http://[::1", "ftp://host"])
def test_an_upstream_needs_an_http_address(url: str) -> None:
    assert "base_url" in refusal(upstream_at, url)


def test_a_password_in_an_address_is_refused_and_not_repeated() -> None:
    assert refusal(upstream_at, "http://me:secret@host/v1") == (
        "upstream 'host' can't be used: base_url must hold no user or password: put a key into api_key"
    )


def test_the_command_line_outranks_the_file(file: Path) -> None:
    file.write_text(f"[[upstreams]]\nname = 'far'\nbase_url = '{URL}'\n[gateway]\nport = 9000\nmax_body = 10\n")
    far = UpstreamConfiguration("far", URL)
    expected = GatewayConfiguration((far,), port=1, max_body=10)
    assert load_gateway_configuration([file], port=1) == expected
    assert load_gateway_configuration([file], upstreams=[PLAIN]) == replace(expected, upstreams=(PLAIN,), port=9000)


def test_the_nearest_file_that_says_anything_of_a_gateway_says_all_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platformdirs.user_config_path", lambda name: tmp_path / name)
    (tmp_path / "turnwire").mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert load_gateway_configuration(upstreams=[PLAIN]) == GatewayConfiguration((PLAIN,))
    table = "[[upstreams]]\nname = '{}'\nbase_url = '" + URL + "'\n"
    (tmp_path / "turnwire" / "turnwire.toml").write_text(table.format("user") + "[gateway]\nport = 1\n")
    user = GatewayConfiguration((UpstreamConfiguration("user", URL),), port=1)
    assert load_gateway_configuration() == user
    here = Path("turnwire.toml")
    here.write_text("[providers.a]\npreset = 'ollama'\n")
    assert load_gateway_configuration() == user
    here.write_text(table.format("here"))
    assert load_gateway_configuration() == GatewayConfiguration((UpstreamConfiguration("here", URL),))


def test_a_file_that_is_named_must_be_there(file: Path) -> None:
    sentence = f"{file} can't be read: No such file or directory"
    assert refusal(load_gateway_configuration, [file], upstreams=[PLAIN]) == sentence


NO_UPSTREAM = (
    "no upstream is configured: give a model server's address with --upstream, or write an [[upstreams]] table into "
    "turnwire.toml"
)
NO_KEY = (
    "is reached from other machines, and there is no caller's key: make one with `turnwire key` and put its hash into "
    "[gateway.callers]; without any, only loopback is served"
)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"upstreams": ()}, NO_UPSTREAM),
        ({"upstreams": (PLAIN, PLAIN)}, "two upstreams are called 'plain': give each a name of its own"),
        (
            {"callers": (CallerKey("a", HASH), CallerKey("a", OTHER_HASH))},
            "two callers are called 'a': give each a name of its own",
        ),
        (
            {"callers": (CallerKey("a", HASH), CallerKey("b", HASH))},
            "two callers have the same key: make one for each with `turnwire key`",
        ),
        ({"port": -1}, "port must be 0 to 65535, not -1"),
        ({"queue_length": -1}, "queue_length must be 0 or more, not -1"),
        ({"max_streams": 0}, "max_streams must be 1 or more, not 0"),
        ({"port": 65536}, "port must be 0 to 65535, not 65536"),
        ({"workers": 0}, "workers must be 1 or more, not 0"),
        *(
            ({name: value}, f"{name} must be more than 0 and finite, not {value!r}")
            for name in (
                "max_body",
                "max_connections",
                "head_timeout",
                "body_timeout",
                "keepalive_interval",
                "client_timeout",
            )
            for value in (0, -1, float("inf"), float("nan"))
        ),
        *(
            ({name: 0}, f"{name} must be more than 0 and finite, not 0")
            for name in ("socket_max_age", "store_ttl", "store_max_size", "token_lifetime")
        ),
        ({"drain_timeout": -1}, "drain_timeout must be 0 or more and finite, not -1"),
        (
            {"store_path": Path("a.db"), "store_url_env": "REDIS_URL"},
            "answers are kept in one place: give store_path, a file, or store_url_env, a server, not both",
        ),
        (
            {"store_url_env": "REDIS_URL"},
            "store_url_env is for several machines, and each must know the others' tokens: name the variables that "
            "hold their common secrets in token_secrets_env",
        ),
        *(
            (
                {"store_prefix": prefix},
                f"store_prefix must be a name that can be printed, without braces, not {prefix!r}",
            )
            for prefix in ("", "a\nb", "{a}")
        ),
        ({"host": "0.0.0.0"}, f"host '0.0.0.0' {NO_KEY}"),
        ({"host": "gateway.example"}, f"host 'gateway.example' {NO_KEY}"),
        ({"host": ""}, f"host '' {NO_KEY}"),
    ],
)
def test_a_configuration_that_can_t_be_used_is_one_sentence(fields: dict[str, Any], sentence: str) -> None:
    assert refusal(GatewayConfiguration, **{"upstreams": (PLAIN,), **fields}) == sentence


def test_other_machines_are_served_with_keys() -> None:
    callers = (CallerKey("a", HASH),)
    assert GatewayConfiguration((PLAIN,), host="0.0.0.0", callers=callers).callers == callers
    for host in ("localhost", "::1", "127.0.0.2"):
        assert GatewayConfiguration((PLAIN,), host=host).callers == ()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("gateway =", "{file} is not TOML: Invalid value (at end of document)"),
        (
            "[upstream]\n",
            "{file}: 'upstream' is not known; known are [providers.NAME], [[upstreams]] and [gateway]",
        ),
        ("[upstreams.a]\n", "{file}: upstreams must be a list of tables, each [[upstreams]]"),
        ("upstreams = ['a']\n", "{file}: [[upstreams]] 1: expected `object`, got `str`"),
        ("[[upstreams]]\n", "{file}: [[upstreams]] 1: object missing required field `name`"),
        (
            "[[upstreams]]\nname = 'a'\n",
            "{file}: [[upstreams]] 1: upstream 'a' can't be used: its base_url is missing: say where the server is, or "
            "name a preset",
        ),
        ("[[upstreams]]\nname = ''\n", "{file}: [[upstreams]] 1: upstream '' needs a name that can be printed"),
        (
            "[[upstreams]]\nname = 'a'\nbase_url = '{url}'\n[[upstreams]]\nname = 'b'\nurl = 'x'\n",
            "{file}: [[upstreams]] 2: object contains unknown field `url`",
        ),
        (
            "[[upstreams]]\nname = 'a'\nbase_url = '{url}'\napi_key = 'secret'\n",
            "{file}: [[upstreams]] 1: object contains unknown field `api_key`",
        ),
        (
            "[[upstreams]]\nname = 'a'\nbase_url = '{url}'\nidle_timeout = 'long'\n",
            "{file}: [[upstreams]] 1: idle_timeout: expected `float`, got `str`",
        ),
        (
            "[[upstreams]]\nname = 'a'\nbase_url = '{url}'\nwire_api = 'grpc'\n",
            "{file}: [[upstreams]] 1: wire_api: invalid enum value 'grpc'",
        ),
        (
            "[[upstreams]]\nname = 'a'\nbase_url = '{url}'\nweight = 0\n",
            "{file}: [[upstreams]] 1: upstream 'a' can't be used: weight must be more than 0 and finite, not 0.0",
        ),
        (
            "[[upstreams]]\nname = 'a'\nbase_url = '{url}'\nmax_concurrency = 0\n",
            "{file}: [[upstreams]] 1: upstream 'a' can't be used: max_concurrency must be 1 or more, not 0",
        ),
        (
            "[[upstreams]]\nname = 'a'\nbase_url = '{url}'\nmodels = []\n",
            "{file}: [[upstreams]] 1: upstream 'a' can't be used: models is empty: name some, or leave it out for "
            "those that the server lists",
        ),
        (
            "[[upstreams]]\nname = 'a'\nbase_url = '{url}'\nmodels = { a = '' }\n",
            "{file}: [[upstreams]] 1: upstream 'a' can't be used: models has an empty name: 'a' = ''",
        ),
        (
            "[[upstreams]]\nname = 'a'\nbase_url = '{url}'\nmodels = 3\n",
            "{file}: [[upstreams]] 1: models: expected `object | array`, got `int`",
        ),
        (
            "[[upstreams]]\nname = 'a'\nbase_url = '{url}'\ndialect = { accent = 'strong' }\n",
            "{file}: [[upstreams]] 1: dialect has no field 'accent'; known are "
            + ", ".join(ChatDialect.__struct_fields__),
        ),
        (
            "[[upstreams]]\nname = 'a'\npreset = 'azure'\n",
            "{file}: [[upstreams]] 1: the preset azure is for servers at many addresses: give a base_url",
        ),
        ("[gateway]\n", "{file}: [gateway] " + NO_UPSTREAM),
        ("gateway = 3\n", "{file}: [gateway] expected `object`, got `int`"),
        ("[gateway]\naddress = 'x'\n", "{file}: [gateway] object contains unknown field `address`"),
        ("[gateway]\nport = 'http'\n", "{file}: [gateway] port: expected `int`, got `str`"),
        (
            "[gateway]\ncallers = { a = 'tw-secret' }\n",
            "{file}: [gateway] caller 'a': expected sha256: and 64 hexadecimal digits, as `turnwire key` gives them",
        ),
        (
            "[[upstreams]]\nname = 'a'\nbase_url = '{url}'\n[gateway]\nhost = '0.0.0.0'\n",
            "{file}: [gateway] host '0.0.0.0' " + NO_KEY,
        ),
    ],
    ids=lambda value: value[:70],
)
def test_a_bad_file_is_one_sentence_that_names_file_table_and_field(text: str, sentence: str, file: Path) -> None:
    file.write_text(text.replace("{url}", URL))
    assert refusal(load_gateway_configuration, [file]) == sentence.replace("{file}", str(file))
