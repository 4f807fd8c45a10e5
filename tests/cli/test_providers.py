"""``turnwire providers``: what is configured, and never a key."""

import json

from tests.cli.command import Command

CONFIGURATION = """\
[providers.mine]
preset = "vllm"
base_url = "http://10.0.0.5:8000/v1"
api_key_env = "MY_KEY"
model = "qwen3"

[providers.groq]
base_url = "http://10.0.0.6/v1"

[providers.odd]
base_url = "http://10.0.0.7/v1"
dialect = { bare_end = "end" }
"""


async def test_configured_providers_come_first_and_outrank_the_presets(turnwire: Command) -> None:
    turnwire.configure(CONFIGURATION)
    folder = turnwire.folder / "config" / "turnwire"
    folder.mkdir(parents=True)
    (folder / "turnwire.toml").write_text('[providers.home]\npreset = "ollama"\n[providers.mine]\npreset = "ollama"\n')
    run = await turnwire("providers", MY_KEY="secret", OPENAI_API_KEY="secret")
    shown = f"""\
home        http://127.0.0.1:11434/v1
            no key, dialect ollama, from {folder}/turnwire.toml
mine        http://10.0.0.5:8000/v1
            MY_KEY is set, dialect vllm, model qwen3, from turnwire.toml
groq        http://10.0.0.6/v1
            no key, dialect default, from turnwire.toml
odd         http://10.0.0.7/v1
            no key, dialect custom, from turnwire.toml
openai      https://api.openai.com/v1
            OPENAI_API_KEY is set, dialect openai, preset
azure       yours, by --base-url
            AZURE_OPENAI_API_KEY is not set, dialect azure, preset
"""
    assert run.stdout.startswith(shown)
    assert run.stdout.count("groq ") == 1
    assert (run.code, run.stderr) == (0, "")


def test_json_gives_each_provider_on_a_line_of_its_own(turnwire: Command) -> None:
    run = turnwire.here("providers", "--json", MISTRAL_API_KEY="secret")
    found = {entry["name"]: entry for entry in map(json.loads, run.stdout.splitlines())}
    assert list(found) == [
        *("openai", "azure", "openrouter", "deepseek", "mistral", "gemini", "groq"),
        *("ollama", "llama.cpp", "vllm", "sglang", "lmstudio", "tolerant"),
    ]
    assert found["mistral"] == {
        "name": "mistral",
        "base_url": "https://api.mistral.ai/v1",
        "api_key_env": "MISTRAL_API_KEY",
        "api_key_set": True,
        "dialect": "mistral",
        "model": None,
        "source": "preset",
    }
    assert (run.code, run.stderr) == (0, "")


def test_a_bad_configuration_file_is_one_sentence(turnwire: Command) -> None:
    turnwire.configure("[providers.mine]\nport = 1\n")
    run = turnwire.here("providers")
    assert (run.code, run.stdout) == (2, "")
    assert run.stderr == "error: turnwire.toml: [providers.mine] object contains unknown field `port`\n"
