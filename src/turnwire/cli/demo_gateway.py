"""The demo's gateways: ``turnwire serve`` as processes of their own, and what they count."""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import sys
import tempfile
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Self, TypeAlias

import aiohttp
from msgspec import Struct

from turnwire.cli.demo_process import end
from turnwire.event import TokenUsage
from turnwire.gateway.configuration import upstream_at

__all__ = ["Answered", "DemoGateway", "GatewayError", "demo_gateways"]

_OPEN_TIMEOUT = 30.0
_COUNT_TIMEOUT = 5.0
"""Seconds that the gateway gets to count an answer which its client has."""
_STEP = 0.02
_ADDRESS = re.compile(r"http://[\d.]+:\d+")
_LOG_TAIL = 2_000  # characters
_SIGNED_BY = "TURNWIRE_TOKEN_SECRET"
"""The environment variable that holds the gateways' secret."""
_HOMES = ("HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME")

_Totals: TypeAlias = dict[str, float]
"""What was counted for one upstream, by the series' names."""


class GatewayError(RuntimeError):
    """The gateway can't be started, or does not count what it answers."""


class Answered(Struct, frozen=True):
    """Answers that the gateway got from one of its replicas."""

    replica: int
    """Its place among the upstreams, from 0."""
    answers: int
    usage: TokenUsage
    """The sum over the answers, as the replica counts."""
    first_token: float
    """Seconds from the request to the first of its answer, summed up as well."""


class DemoGateway:
    """``turnwire serve`` in front of ``upstreams``, base URLs, on a free port of the loopback.

    As an async context manager it runs for so long; to enter it raises `GatewayError` where it does not start. Its home
    is a folder of its own: it sees no configuration of the user's, and what it keeps is gone with it. Gateways with the
    same ``secret`` take each other's tokens.
    """

    def __init__(self, upstreams: Sequence[str], secret: str | None = None) -> None:
        self._upstreams = tuple(upstreams)
        self._secret = secret or secrets.token_hex(32)
        self._totals: dict[str, _Totals] = {}
        self.url = ""

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="turnwire-")))
            log = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 - the stack closes it
            options = [f"--upstream={url}" for url in self._upstreams]
            command = (sys.executable, "-m", "turnwire", "serve", "--port=0", "--log-level=warning", *options)
            (folder / "turnwire.toml").write_text(
                f'[gateway]\ntoken_secrets_env = ["{_SIGNED_BY}"]\n', encoding="utf-8"
            )
            environment = {**os.environ, **dict.fromkeys(_HOMES, str(folder)), _SIGNED_BY: self._secret}
            process = await asyncio.create_subprocess_exec(
                *command, cwd=folder, env=environment, stdin=DEVNULL, stdout=PIPE, stderr=log
            )
            stack.push_async_callback(end, process)
            self._session = await stack.enter_async_context(aiohttp.ClientSession())
            try:
                async with asyncio.timeout(_OPEN_TIMEOUT):
                    await self._wait_until_ready(process, log)
            except TimeoutError:
                raise GatewayError(f"the gateway is not ready after {_OPEN_TIMEOUT:g} s{_tail(log)}") from None
            self._resources = stack.pop_all()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._resources.aclose()

    @property
    def base_url(self) -> str:
        """What a client is configured with."""
        return f"{self.url}/v1"

    async def answered(self) -> Sequence[Answered]:
        """What was answered since the last call, by its ``/metrics``; at least one answer.

        A client has the end of its answer a moment before it is counted, so this waits for it. Raises `GatewayError`
        where nothing comes.
        """
        try:
            async with asyncio.timeout(_COUNT_TIMEOUT):
                while True:
                    if new := await self._look():
                        return new
                    await asyncio.sleep(_STEP)
        except TimeoutError:
            raise GatewayError(f"the gateway has counted no answer for {_COUNT_TIMEOUT:g} s") from None

    async def _wait_until_ready(self, process: Process, log: IO[bytes]) -> None:
        assert process.stdout is not None  # noqa: S101 - it is a pipe
        while not self.url:
            line = await process.stdout.readline()
            if not line:
                await process.wait()
                raise GatewayError(f"the gateway ended before it was ready{_tail(log)}")
            if found := _ADDRESS.search(line.decode()):  # in colours, where the environment asks for them
                self.url = found[0]
        while True:
            async with self._session.get(f"{self.url}/readyz") as response:
                if response.ok:
                    return
            await asyncio.sleep(_STEP)

    async def _look(self) -> list[Answered]:
        """What was counted since the last look."""
        before, self._totals = self._totals, await self._read_totals()
        found = []
        for replica, url in enumerate(self._upstreams):
            name = upstream_at(url).name
            now, then = self._totals.get(name, {}), before.get(name, {})
            new = {series: total - then.get(series, 0.0) for series, total in now.items()}
            if answers := int(new.get("turnwire_answers_total", 0.0)):
                first_token = new.get("turnwire_first_output_seconds_sum", 0.0)
                found.append(Answered(replica, answers, _usage(new), first_token))
        return found

    async def _read_totals(self) -> dict[str, _Totals]:
        """All that is counted by upstream, by the upstream's name."""
        from prometheus_client.parser import text_string_to_metric_families

        async with self._session.get(f"{self.url}/metrics") as response:
            text = await response.text()
        totals: dict[str, _Totals] = {}
        for family in text_string_to_metric_families(text):
            for name, labels, value, *_ in family.samples:
                if "upstream" in labels and labels.get("end", "completed") == "completed":
                    series = totals.setdefault(labels["upstream"], {})
                    series[name] = series.get(name, 0.0) + value
        return totals


@asynccontextmanager
async def demo_gateways(upstreams: Sequence[str], *, count: int) -> AsyncIterator[Sequence[DemoGateway]]:
    """So many gateways in front of the same upstreams, which share a secret."""
    secret = secrets.token_hex(32)
    gateways = [DemoGateway(upstreams, secret) for _ in range(count)]
    async with AsyncExitStack() as stack:
        for gateway in gateways:
            await stack.enter_async_context(gateway)
        yield gateways


def _usage(counted: _Totals) -> TokenUsage:
    read, cached, written = (
        int(counted.get(f"turnwire_{kind}_tokens_total", 0.0)) for kind in ("input", "cached_input", "output")
    )
    return TokenUsage(read, cached, written, total_tokens=read + written)


def _tail(log: IO[bytes]) -> str:
    """The end of what a process wrote, in words."""
    log.seek(0)
    text = log.read().decode(errors="replace").strip()
    return f"; its log ends with:\n{text[-_LOG_TAIL:]}" if text else ""
