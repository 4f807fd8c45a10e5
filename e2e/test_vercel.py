"""The Vercel AI SDK on a real ``turnwire serve``, which finds out by itself what is behind it."""

from __future__ import annotations

import asyncio
import json
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from e2e.gateway_process import GatewayProcess
from turnwire.testing import CutCleanly, LlamaServer, ScriptedServer, Turn

SCRIPT = Path(__file__).parent / "vercel" / "turn.mjs"
QUESTION = "How is the weather in Zürich, and what time is it?"
MODEL = "scripted"  # as both servers call theirs
CONFIGURATION = """\
[[upstreams]]
name = "upstream"
base_url = "{base_url}"
"""


@asynccontextmanager
async def serving(folder: Path, base_url: str) -> AsyncIterator[str]:
    """The base URL of a gateway that is told no more than where the server behind it is."""
    async with GatewayProcess(folder / "gateway", CONFIGURATION.format(base_url=base_url)) as gateway:
        try:
            yield "http://{}:{}/v1".format(*gateway.address)
        finally:
            print(gateway.log)  # which pytest shows where a scenario fails


async def turn(gateway: str, api: str, form: str) -> Any:
    """What the SDK made of a turn."""
    command = ["node", str(SCRIPT), gateway, MODEL, api, form, QUESTION]
    process = await asyncio.create_subprocess_exec(*command, stdout=PIPE, stderr=PIPE)
    stdout, stderr = await process.communicate()
    assert process.returncode == 0, stderr.decode()
    return json.loads(stdout)


@pytest.mark.parametrize("form", ["streamed", "whole"])
@pytest.mark.parametrize("api", ["responses", "responses without a store", "chat"])
async def test_a_turn_with_two_tools(tmp_path: Path, api: str, form: str) -> None:
    async with LlamaServer(context_size=8192) as llama, serving(tmp_path, llama.base_url) as gateway:
        made = await turn(gateway, api, form)
    assert (made["errors"], made["warnings"]) == ([], [])
    assert made["steps"] == [
        {
            "text": "",
            "calls": [["get_weather", {"city": "Zürich", "unit": "celsius"}], ["get_time", {"zone": "CET"}]],
            "results": ["Zürich celsius", "CET"],
            "reason": "tool-calls",
            "counted": True,
        },
        {
            "text": "It is 21 °C in Zürich with a little rain 🌦, so take an umbrella.",
            "calls": [],
            "results": [],
            "reason": "stop",
            "counted": True,
        },
    ]
    if form == "streamed":
        assert {"tool-input-delta", "tool-call", "text-delta", "finish"} <= set(made["kinds"])
        assert ("reasoning-end" in made["kinds"]) == (api != "chat")


@pytest.mark.parametrize("api", ["responses", "chat"])
async def test_a_stream_that_is_cut_is_an_error_and_no_answer(tmp_path: Path, api: str) -> None:
    cut = Turn(text=["Grü"] * 9, fault=CutCleanly(1000))
    async with ScriptedServer([cut]) as server, serving(tmp_path, server.base_url) as gateway:
        made = await turn(gateway, api, "streamed")
    assert "error" in made["kinds"]
    assert len(made["errors"]) == 1
    assert [step["reason"] for step in made["steps"]] != ["stop"]
