"""Streams one answer and shows what it consists of.

python examples/stream_events.py http://127.0.0.1:8080/v1 MODEL "Why is the sky blue?"
"""

import asyncio
import sys

from turnwire import (
    ApiError,
    Completed,
    ModelClient,
    OutputTextDelta,
    Provider,
    ReasoningContentDelta,
)


async def main(base_url: str, model: str, prompt: str) -> None:
    provider = Provider.preset("tolerant", base_url=base_url)
    async with ModelClient(provider, model=model) as client, client.new_session() as turn:
        try:
            async with turn.stream(prompt) as stream:
                async for event in stream:
                    match event:
                        case ReasoningContentDelta(delta=delta):
                            print(delta, end="", file=sys.stderr, flush=True)
                        case OutputTextDelta(delta=delta):
                            print(delta, end="", flush=True)
                        case Completed(token_usage=usage):
                            print("\n", usage, file=sys.stderr)
        except ApiError as error:
            # What had come is not lost: error.text, error.items; error.committed says if any of it was handed over.
            sys.exit(f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:4]))
