"""A whole turn with two tools, one of them async, and what it cost.

python examples/whole_turn.py http://127.0.0.1:8080/v1 MODEL "What is the weather, and the time?"
"""

import asyncio
import sys
from datetime import UTC, datetime
from typing import Literal

from turnwire import FunctionCall, ModelClient, OutputItemDone, Provider, ResponseEvent, run_turn


def get_weather(city: str, unit: Literal["celsius", "fahrenheit"] = "celsius") -> dict[str, object]:
    """The weather in a city."""
    return {"city": city, "degrees": 21 if unit == "celsius" else 70, "sky": "clear"}


async def get_time(zone: str) -> str:
    """The time in a zone."""
    await asyncio.sleep(0)  # a tool may wait for whatever it likes
    return datetime.now(UTC).strftime(f"%H:%M {zone}")


def show(event: ResponseEvent) -> None:
    match event:
        case OutputItemDone(item=FunctionCall() as call):
            print(f"the model calls {call.name}({call.arguments})", file=sys.stderr)


async def main(base_url: str, model: str, prompt: str) -> None:
    provider = Provider.preset("tolerant", base_url=base_url)
    async with ModelClient(provider, model=model) as client, client.new_session() as turn:
        result = await run_turn(turn, prompt, [get_weather, get_time], on_event=show)
    print(result.text)
    share = result.usage.cached_share
    print(f"{result.rounds} requests, {result.usage.total_tokens} tokens, {share:.0%} cached", file=sys.stderr)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:4]))
