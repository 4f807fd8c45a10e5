"""User turns of the real Codex, through the gateway, with a model server that only knows Chat Completions."""

import base64
import json
import sys
from pathlib import Path
from typing import Any

from e2e.conftest import RigMaker
from e2e.model import USAGE, calls, says
from e2e.picture import red_png

PICTURE = f"data:image/png;base64,{base64.b64encode(red_png()).decode()}"

MCP = {
    "mcp_servers.echo.command": sys.executable,
    "mcp_servers.echo.args": [str(Path(__file__).with_name("mcp_echo.py"))],
}


def outputs(messages: list[Any]) -> list[Any]:
    """What the tools gave back, as the model reads it."""
    return [message["content"] for message in messages if message["role"] == "tool"]


def pictures(messages: list[Any]) -> list[str]:
    """The pictures that the model is shown."""
    parts = [part for message in messages if isinstance(message["content"], list) for part in message["content"]]
    return [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]


async def test_two_calls_of_tools_then_an_answer(over: RigMaker) -> None:
    first, second = ("exec_command", {"cmd": "echo one"}), ("exec_command", {"cmd": "echo two"})
    async with over(calls(first), calls(second), says("One, two.")) as rig:
        run = await rig.codex.exec("Count to two.")
        assert (run.code, run.answer, run.complaint) == (0, "One, two.", None)
        assert [item["aggregated_output"] for item in run.items("command_execution")] == ["one\n", "two\n"]
        prompts = rig.prompts()
        assert [len(outputs(prompt)) for prompt in prompts] == [0, 1, 2]
        assert ["one" in output for output in outputs(prompts[-1])] == [True, False]
        assert ["two" in output for output in outputs(prompts[-1])] == [False, True]
        counted = (run.usage["input_tokens"], run.usage["cached_input_tokens"], run.usage["output_tokens"])
        assert counted == (3 * USAGE.input_tokens, 3 * USAGE.cached_input_tokens, 3 * USAGE.output_tokens)


async def test_two_calls_at_once(over: RigMaker) -> None:
    both = calls(("exec_command", {"cmd": "echo one"}), ("exec_command", {"cmd": "echo two"}))
    async with over(both, says("Both.")) as rig:
        run = await rig.codex.exec("Count.")
        assert (run.code, run.answer) == (0, "Both.")
        assert len(run.items("command_execution")) == 2
        assistant = [message for message in rig.prompts()[-1] if message["role"] == "assistant"]
        assert [len(message["tool_calls"]) for message in assistant] == [2]
        assert len(outputs(rig.prompts()[-1])) == 2


async def test_a_resumed_thread_is_another_turn_with_the_history_of_the_first(over: RigMaker) -> None:
    look = calls(("exec_command", {"cmd": "echo one"}))
    async with over(look, says("First."), look, says("Second."), turns=2) as rig:
        assert (await rig.codex.exec("Begin.")).answer == "First."
        assert (await rig.codex.resume("Go on.")).answer == "Second."
        answers = [message["content"] for message in rig.prompts()[-1] if message["role"] == "assistant"]
        assert "First." in answers
        assert len(outputs(rig.prompts()[-1])) == 2


async def test_a_tool_of_an_mcp_server_is_called_by_its_name_in_its_namespace(over: RigMaker) -> None:
    async with over(calls(("say", {"word": "Grüezi"})), says("Said."), codex=MCP) as rig:
        run = await rig.codex.exec("Say it.")
        assert (run.code, run.answer) == (0, "Said.")
        called = run.items("mcp_tool_call")
        assert [(item["server"], item["tool"], item["status"]) for item in called] == [("echo", "say", "completed")]
        assert ["you said Grüezi" in output for output in outputs(rig.prompts()[-1])] == [True]


async def test_a_patch_is_applied_that_came_as_a_custom_tool(over: RigMaker) -> None:
    patch = "*** Begin Patch\n*** Add File: note.txt\n+Grüezi\n+\\d\n*** End Patch"
    async with over(calls(("apply_patch", {"input": patch})), says("Done.")) as rig:
        run = await rig.codex.exec("Write a note.")
        assert (run.code, run.answer) == (0, "Done.")
        assert (rig.codex.folder / "note.txt").read_text() == "Grüezi\n\\d\n"
        assert [item["status"] for item in run.items("file_change")] == ["completed"]
        kinds = [item["type"] for item in rig.asked()[-1].body["input"]]
        assert "custom_tool_call_output" in kinds
        assert "function_call_output" not in kinds


async def test_pictures_reach_the_model_from_the_user_and_from_a_tool(over: RigMaker) -> None:
    async with over(calls(("view_image", {"path": "square.png"})), says("Red.")) as rig:
        (rig.codex.folder / "square.png").write_bytes(red_png())
        run = await rig.codex.exec("What is it?", "--image", "square.png")
        assert (run.code, run.answer) == (0, "Red.")
        assert [pictures(prompt) for prompt in rig.prompts()] == [[PICTURE], [PICTURE, PICTURE]]


async def test_an_output_schema_becomes_the_response_format(over: RigMaker) -> None:
    schema = {
        "type": "object",
        "properties": {"count": {"type": "integer"}},
        "required": ["count"],
        "additionalProperties": False,
    }
    async with over(says('{"count":2}')) as rig:
        (rig.codex.folder / "schema.json").write_text(json.dumps(schema))
        run = await rig.codex.exec("Count.", "--output-schema", "schema.json")
        assert (run.code, run.answer) == (0, '{"count":2}')
        (request,) = [request for request in rig.upstream.requests if request.wire == "chat"]
        wanted = request.json["response_format"]
        assert (wanted["type"], wanted["json_schema"]["schema"]) == ("json_schema", schema)


async def test_a_lite_model_runs_its_scripts_by_one_custom_tool(over: RigMaker, tmp_path: Path) -> None:
    script = 'const run = await tools.exec_command({cmd: "echo one"}); text(run.output);'
    catalog = tmp_path / "catalog.json"
    catalog.write_text(json.dumps({"models": [LITE]}))
    settings = {"model_catalog_json": str(catalog)}
    async with over(calls(("exec", {"input": script})), says("One."), codex=settings) as rig:
        run = await rig.codex.exec("Count.")
        assert (run.code, run.answer) == (0, "One.")
        given = [item["type"] for asked in rig.asked(warm_ups=True) for item in asked.body["input"]]
        assert "additional_tools" in given
        assert ["one" in str(output) for output in outputs(rig.prompts()[-1])] == [True]


LITE = {
    "slug": "scripted",
    "display_name": "scripted",
    "supported_reasoning_levels": [],
    "shell_type": "unified_exec",
    "visibility": "list",
    "supported_in_api": True,
    "priority": 1,
    "support_verbosity": False,
    "truncation_policy": {"mode": "tokens", "limit": 10_000},
    "experimental_supported_tools": [],
    "base_instructions": "You are a coding agent.",
    "tool_mode": "code_mode_only",
    "use_responses_lite": True,
}
"""A catalog's entry for a model that gets no ``tools``, but ``additional_tools`` with one custom tool in it."""
