"""A real model server to test an agent against: llama.cpp, unmodified, with a model whose answers are known.

It runs as a process of its own, so it can be killed in mid-stream. Needs ``pip install turnwire[demo]``. The
scripted model says one of six things. Which one depends on the last message of the request:

============================== ==================================================================================
the last message               what the model says
============================== ==================================================================================
a tool's                       ``It is 21 °C in Zürich with a little rain 🌦, so take an umbrella.``
… with "count" in it           reasoning, then numbers from one to ten, over and over: ended by ``max_tokens`` or
                               by the context, both with ``length``
… in a request without tools   reasoning, then ``Hello! Zürich sends you 21 °C and a 🌦 of its own.``
… with Codex's shell as a tool reasoning, then ``Let me look it up.``, then ``exec_command``: ``cat weather.txt``
… with "time" in it            reasoning, then two calls: ``get_weather`` and ``get_time``
any other                      reasoning, then ``I will check:``, then a call of ``get_weather``
============================== ==================================================================================

The other calls are those of `SCRIPTED_TOOLS`; llama.cpp holds them to the schemas in the request, so a request should
declare just these. Without reasoning: ``{"chat_template_kwargs": {"enable_thinking": false}}``. Under a JSON schema
the answer is the shortest that fits. Every byte of a prompt is a token, and so is about every word of an answer;
characters outside ASCII are cut in two.
"""

from __future__ import annotations

import asyncio
import importlib.util
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, Self, cast

import aiohttp

__all__ = ["SCRIPTED_TOOLS", "LlamaServer", "LlamaServerError"]

_SCRIPTED_MODEL = Path(__file__).with_name("models") / "scripted.gguf.gz"
_PROCESS = Path(__file__).with_name("llama_process.py")
_LOG_TAIL = 2_000  # characters


def _tool(name: str, description: str, *parameters: str) -> Mapping[str, Any]:
    schema = {
        "type": "object",
        "properties": {parameter: {"type": "string"} for parameter in parameters},
        "required": list(parameters),
        "additionalProperties": False,
    }
    return {"type": "function", "function": {"name": name, "description": description, "parameters": schema}}


SCRIPTED_TOOLS: tuple[Mapping[str, Any], ...] = (
    _tool("get_weather", "The weather in a city.", "city", "unit"),
    _tool("get_time", "The time in a zone.", "zone"),
)
"""The tools that the scripted model calls, in the chat form."""


class LlamaServerError(RuntimeError):
    """The server can't be started; the end of llama.cpp's log is part of the message."""


class LlamaServer:
    """A llama.cpp server on a free port of the loopback, as an async context manager.

    ::

        async with LlamaServer() as server:
            ...  # speak to server.base_url, ask for server.model_name

    ``model`` is a GGUF file, gzipped or not, by default the scripted one. ``parallel`` is how many requests are
    answered at once (llama.cpp's slots), ``context_size`` how many tokens each of them may have, prompt and answer
    together; llama.cpp rounds it up to a multiple of 256. ``keepalive_interval`` is in seconds: llama.cpp writes a
    comment to a stream that was silent for so long, by default after 30. `start` raises `LlamaServerError` where the
    server is not healthy within ``open_timeout`` seconds.

    The server is not bound to an event loop. It ends with the process that started it, however that ends.
    """

    def __init__(
        self,
        *,
        model: str | Path | None = None,
        model_name: str = "scripted",
        parallel: int = 2,
        context_size: int = 32_768,
        api_key: str | None = None,
        keepalive_interval: int | None = None,
        open_timeout: float = 30.0,
    ) -> None:
        self.model_name = model_name
        self._api_key = api_key
        self._open_timeout = open_timeout
        self._options = [
            f"--model={model or _SCRIPTED_MODEL}",
            f"--name={model_name}",
            f"--parallel={parallel}",
            f"--context-size={context_size}",
        ]
        if api_key is not None:
            self._options.append(f"--api-key={api_key}")
        if keepalive_interval is not None:
            self._options.append(f"--keepalive-interval={keepalive_interval}")
        self._resources = ExitStack()
        self._process: subprocess.Popen[bytes] | None = None
        self._log: IO[bytes] | None = None
        self._origin: str | None = None

    def __repr__(self) -> str:
        return f"<LlamaServer {self._origin or 'without address'}>"

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.stop()

    @property
    def base_url(self) -> str:
        """Where the API is: ``http://127.0.0.1:PORT/v1``. A killed server keeps it until `stop`."""
        return self._url("/v1")

    async def start(self) -> None:
        """Start the process and wait until it answers ``GET /health``; `LlamaServerError` where it does not."""
        if self._process is not None:
            raise RuntimeError(f"{self!r} was started before: call stop() first")
        if importlib.util.find_spec("xllamacpp") is None:
            raise LlamaServerError("llama.cpp is not installed: pip install turnwire[demo]")
        try:
            await self._open()
        except BaseException:
            await self.stop()
            raise

    def kill(self) -> None:
        """End the process at once (SIGKILL), streams and all, as a machine fails; harmless when repeated."""
        if self._process is not None:
            self._process.kill()

    async def stop(self) -> None:
        """End the process, wait for its end and remove its files; harmless when repeated."""
        self.kill()
        self._process = self._origin = None
        await asyncio.to_thread(self._resources.close)

    async def busy_slots(self) -> int:
        """How many requests the server is working on, by its own ``GET /slots``.

        A request whose caller has left is no longer one of them. Raises `aiohttp.ClientError` where the server is gone.
        """
        return sum(slot["is_processing"] for slot in await self._get("/slots"))

    async def _open(self) -> None:
        output = self._spawn()
        try:
            async with asyncio.timeout(self._open_timeout):
                if not (address := await asyncio.to_thread(output.readline)):
                    raise LlamaServerError(f"llama.cpp ended before it was ready{self._log_tail()}")
                self._origin = address.decode().strip()
                await self._get("/health")
        except TimeoutError:
            raise LlamaServerError(f"llama.cpp is not ready after {self._open_timeout:g} s{self._log_tail()}") from None
        except aiohttp.ClientError as error:
            raise LlamaServerError(f"llama.cpp is not healthy: {error}{self._log_tail()}") from error

    def _spawn(self) -> IO[bytes]:
        """Start the process; its standard output is one line, the address, or nothing where it fails."""
        self._log = self._resources.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
        # -P: the script's own folder, a part of turnwire, is no place to import from.
        command = [sys.executable, "-P", str(_PROCESS), *self._options]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log)  # noqa: S603
        self._process = self._resources.enter_context(process)
        return cast(IO[bytes], process.stdout)

    def _log_tail(self) -> str:
        if self._log is None:
            return ""
        self._log.seek(0)
        log = self._log.read().decode(errors="replace")
        return f"; its log ends with:\n{log[-_LOG_TAIL:]}" if log else ""

    def _url(self, path: str) -> str:
        if self._origin is None:
            raise RuntimeError("the server has no address before start() and after stop()")
        return self._origin + path

    async def _get(self, path: str) -> Any:
        headers = {"Authorization": f"Bearer {self._api_key}"} if self._api_key is not None else None
        async with (
            aiohttp.ClientSession(headers=headers, raise_for_status=True) as session,
            session.get(self._url(path)) as response,
        ):
            return await response.json()
