"""A running ``turnwire serve``, for tests."""

from __future__ import annotations

import asyncio
import json
import re
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.cli.command import Command

__all__ = ["ServedProcess", "plain", "serving"]


class ServedProcess:
    """A running ``turnwire serve``."""

    def __init__(self, process: Process, shown: str) -> None:
        self.process = process
        self.shown = shown
        """What it said at its start, with ports as PPPPP."""
        port = re.search(r"listening  http://127\.0\.0\.1:(\d+)\n", shown)
        assert port is not None
        self.port = int(port[1])

    async def ask(self, model: str = "qwen3", **headers: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A streamed request."""
        body = json.dumps({"model": model, "input": "hi", "stream": True}).encode()
        lines = [f"{name}: {value}" for name, value in headers.items()]
        head = [*lines, "host: localhost", "connection: close", f"content-length: {len(body)}"]
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write("\r\n".join(["POST /v1/responses HTTP/1.1", *head, "", ""]).encode() + body)
        return reader, writer

    async def answered(self, model: str = "qwen3", **headers: str) -> str:
        """All of the response to a streamed request, head and body."""
        reader, writer = await self.ask(model, **headers)
        response = await reader.read()
        writer.close()
        return response.decode()

    async def get(self, path: str, **headers: str) -> str:
        """All of the response to a GET."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        lines = [f"{name}: {value}" for name, value in headers.items()]
        writer.write(
            "\r\n".join([f"GET {path} HTTP/1.1", *lines, "host: localhost", "connection: close", "", ""]).encode()
        )
        response = await reader.read()
        writer.close()
        return response.decode()

    async def logged(self, words: str) -> str:
        """The next line of the log with these words."""
        assert self.process.stderr is not None
        async with asyncio.timeout(20):
            while words not in (line := (await self.process.stderr.readline()).decode()):
                assert line, f"it ended and did not log {words!r}"
        return line

    async def knock(self) -> None:
        """Connects and leaves, again and again."""
        while True:
            _, writer = await asyncio.open_connection("127.0.0.1", self.port)
            writer.close()
            await writer.wait_closed()
            await asyncio.sleep(0.01)

    async def end(self) -> str:
        """What it logged, once it has ended; it has shown nothing after its start."""
        rest, log = await self.process.communicate()
        assert rest == b""
        return re.sub(r"\d{4}-\S+ \S+ ", "", plain(log.decode()))


@asynccontextmanager
async def serving(turnwire: Command, *options: str, lines: int = 5, **environment: str) -> AsyncIterator[ServedProcess]:
    process = await turnwire.start("serve", "--port", "0", *options, XDG_STATE_HOME=str(turnwire.folder), **environment)
    assert process.stdout is not None
    try:
        shown = [(await process.stdout.readline()).decode() for _ in range(lines)]
        yield ServedProcess(process, "".join(shown))
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


def plain(text: str) -> str:
    return re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:PPPPP", text)
