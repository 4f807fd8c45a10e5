"""Stands in for Codex where there is none: as much of ``codex exec --json`` as the demo needs, on a real gateway."""

import asyncio
import json
import subprocess
import sys
import tomllib
from typing import Any

from turnwire import FunctionCall, FunctionCallOutput, Message, ModelClient, Prompt, Provider
from turnwire.item import item_text

EXEC_COMMAND = {
    "type": "function",
    "name": "exec_command",
    "parameters": {
        "type": "object",
        "properties": {"cmd": {"type": "string"}},
        "required": ["cmd"],
        "additionalProperties": False,
    },
}


def tell(kind: str, **fields: Any) -> None:
    print(json.dumps({"type": kind, **fields}), flush=True)


def run(call: FunctionCall) -> FunctionCallOutput:
    item = {"type": "command_execution", "command": json.loads(call.arguments)["cmd"], "aggregated_output": ""}
    tell("item.started", item=item)
    output = subprocess.run(item["command"], shell=True, check=True, capture_output=True, text=True).stdout
    tell("item.completed", item={**item, "aggregated_output": output})
    return FunctionCallOutput(call.call_id, output)


async def take_turn(question: str, settings: dict[str, Any]) -> None:
    provider = Provider("turnwire", settings["base_url"], wire_api="responses", websocket=settings["websocket"])
    tell("thread.started")
    async with ModelClient(provider, model=settings["model"]) as client, client.new_session() as session:
        prompt = Prompt(question, tools=[EXEC_COMMAND])
        while True:
            async with session.stream(prompt) as stream:
                async for _ in stream:
                    pass
            for item in stream.items:
                if isinstance(item, Message):
                    tell("item.completed", item={"type": "agent_message", "text": item_text(item)})
            outputs = [run(item) for item in stream.items if isinstance(item, FunctionCall)]
            if not outputs:
                break
            prompt = Prompt((*prompt.items, *stream.items, *outputs), tools=[EXEC_COMMAND])
    tell("turn.completed")


def main(arguments: list[str]) -> None:
    if arguments == ["--version"]:
        print("codex-cli 0.0.1")
        return
    given = tomllib.loads("\n".join(arguments[place + 1] for place, name in enumerate(arguments) if name == "-c"))
    provider = given["model_providers"][given["model_provider"]]
    settings = {"model": given["model"], "base_url": provider["base_url"], "websocket": provider["supports_websockets"]}
    asyncio.run(take_turn(arguments[-1], settings))


if __name__ == "__main__":
    main(sys.argv[1:])
