"""Codex, a tap, the gateway and a scripted chat upstream, one behind the other."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal, TypeAlias

from msgspec import Struct

from e2e.codex import Codex
from e2e.conversation import Asked, Said, conversation
from e2e.gateway_process import GatewayProcess
from e2e.model import Step, in_order
from e2e.routing_token import check_tokens
from e2e.tap import Tap
from turnwire.cli.codex_config import CodexConfiguration
from turnwire.testing import ScriptedServer

__all__ = ["MODEL", "Rig", "Wire", "rig"]

Wire: TypeAlias = Literal["http", "websocket"]

MODEL = "scripted"

_CONFIGURATION = """\
[gateway]
token_secrets_env = ["TURN_TOKEN_SECRET"]
{gateway}

[[upstreams]]
name = "scripted"
base_url = "{base_url}"
wire_api = "chat"
models = ["{model}"]
{upstream}
"""


class Rig(Struct, frozen=True):
    """What a scenario has in its hands."""

    upstream: ScriptedServer
    gateway: GatewayProcess
    tap: Tap
    codex: Codex

    def asked(self, *, warm_ups: bool = False) -> list[Asked]:
        """What Codex asked the gateway for so far."""
        asked = [event for event in self.said() if isinstance(event, Asked)]
        return [event for event in asked if warm_ups or event.turn is not None]

    def said(self) -> list[Said]:
        """Everything between Codex and the gateway."""
        return conversation(self.tap.pieces)

    def prompts(self) -> list[list[Any]]:
        """The messages of each chat request that the upstream was sent."""
        return [request.json["messages"] for request in self.upstream.requests if request.wire == "chat"]

    async def restart_gateway(self) -> None:
        """Another process, at the same address for Codex."""
        await self.gateway.restart()
        self.tap.gateway = self.gateway.address


@asynccontextmanager
async def rig(
    folder: Path,
    wire: Wire,
    *steps: Step,
    gateway: str = "",
    upstream: str = "",
    codex: Mapping[str, Any] | None = None,
    turns: int = 1,
) -> AsyncIterator[Rig]:
    """A rig whose model takes ``steps``, for a scenario of ``turns`` user turns.

    ``gateway`` and ``upstream`` are lines for these tables of the gateway's configuration, ``codex`` are additional
    settings of Codex. At the end everything that was said must obey the routing token's rule, and each turn must have
    been given a token.
    """
    async with ScriptedServer(in_order(*steps), models=[MODEL]) as server:
        configuration = _CONFIGURATION.format(gateway=gateway, upstream=upstream, base_url=server.base_url, model=MODEL)
        async with GatewayProcess(folder / "gateway", configuration) as process, Tap(process.address) as tap:
            (folder / "work").mkdir()
            pointed = CodexConfiguration(f"http://{tap.address}/v1", MODEL, wire == "websocket")
            made = Rig(server, process, tap, Codex(folder / "work", pointed, codex or {}))
            try:
                yield made
            finally:
                print(process.log)  # which pytest shows where a scenario fails
            said = made.said()
            tokens = check_tokens(said)
            named = {event.turn for event in said if isinstance(event, Asked)} - {None}
            assert (len(named), len(tokens)) == (turns, turns)
            assert server.errors == []
