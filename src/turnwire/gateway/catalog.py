"""Which upstream serves which model, and the list of models that clients are given.

The list satisfies two kinds of readers at once. To the OpenAI SDKs it is ``{"object": "list", "data": […]}``. The
Codex CLI reads ``models``, where the provider's ``model_catalog_url`` points at it: an entry there decides which
tools Codex gives to a model that it does not know, and spares its user the warning that it knows nothing of it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeAlias

from msgspec import Struct

from turnwire.errors import ServerOverloaded
from turnwire.gateway.configuration import UpstreamConfiguration
from turnwire.gateway.discovery import OWNER, Found, discover
from turnwire.gateway.refusal import UnknownModel
from turnwire.gateway.upstream import Upstream

__all__ = ["Catalog", "OnFound", "Served"]

_log = logging.getLogger("turnwire.gateway")

_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 30.0
_REFRESH = 60.0
"""Seconds until an upstream that was found is asked again: models are loaded and unloaded."""
_MAX_NAMES = 20

_TRUNCATION = {"mode": "tokens", "limit": 10_000}
_INSTRUCTIONS = """\
You are a coding agent. You work in the user's files, on their machine, through the tools you are given.

Find out before you change anything: look at the files that matter, and follow the conventions you see there.
Change what the task needs and nothing else. Edit files with apply_patch where you have it; use the shell for all else.
When a command fails, read what it says, and don't run it again unchanged.
Check your work as the project does it: run its tests or its build where there are some.
Never undo changes that you did not make, and ask before you do anything that can't be undone.
Go on until the task is done. Then say briefly what you did, and what you could not do or check.
"""
"""What Codex tells a model of which it knows nothing but this entry."""


OnFound: TypeAlias = Callable[[UpstreamConfiguration, Found], None]
"""Is told of the first finding about each upstream, in the place of the log, which has the later ones."""


class Served(Struct, frozen=True):
    """A model as one upstream serves it."""

    upstream: Upstream
    model: str
    """The upstream's own name for it."""


class Catalog:
    """The upstreams and their models.

    `ask` finds out what the configuration left open, once for all upstreams; `keep_asking` goes on with those that
    were not there, and looks now and then whether the others have other models by now.
    """

    def __init__(
        self,
        upstreams: Sequence[Upstream],
        *,
        on_found: OnFound | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._upstreams = {upstream.name: upstream for upstream in upstreams}
        self._on_found = on_found
        self._sleep = sleep
        self.found: dict[str, Found] = {}
        """What the last asking found, by the upstream's name."""
        self._asked = asyncio.Event()

    def __repr__(self) -> str:
        return f"<Catalog of {len(self._upstreams)} upstreams, {len(self.models)} models>"

    @property
    def upstreams(self) -> tuple[Upstream, ...]:
        """All upstreams, as they are configured."""
        return tuple(self._upstreams.values())

    @property
    def models(self) -> tuple[str, ...]:
        """The names that clients may ask for."""
        return tuple(dict.fromkeys(model for upstream in self.upstreams for model in upstream.models))

    @property
    def ready(self) -> bool:
        """Whether there is any model to be asked for."""
        return any(upstream.models for upstream in self.upstreams)

    def upstream(self, name: str) -> Upstream | None:
        """The upstream of that name, None where there is none (any more)."""
        return self._upstreams.get(name)

    def find(self, model: str, *, upstream: str | None = None) -> Served:
        """A model at the upstream of that name, if it serves it, else at the first that does; as `find_all` raises."""
        serving = self.find_all(model)
        return next((served for served in serving if served.upstream.name == upstream), serving[0])

    def find_all(self, model: str) -> tuple[Served, ...]:
        """A model at each upstream that serves it, in the configuration's order; at least one.

        Raises `UnknownModel`, or, as long as an upstream that may serve it has not said what it serves,
        `ServerOverloaded`.
        """
        serving = []
        for upstream in self._upstreams.values():
            name = upstream.models.get(model)
            if name is not None:
                serving.append(Served(upstream, name))
        if serving:
            return tuple(serving)
        unknown = [upstream.name for upstream in self.upstreams if not upstream.models]
        if unknown:
            raise ServerOverloaded(
                f"no upstream is known to serve the model {model!r}, and {', '.join(unknown)} did not say yet what "
                "models there are: try again later"
            )
        known = self.models
        more = f" and {len(known) - _MAX_NAMES} more" if len(known) > _MAX_NAMES else ""
        raise UnknownModel(f"no upstream serves the model {model!r}; known are {', '.join(known[:_MAX_NAMES])}{more}")

    def listing(self) -> dict[str, Any]:
        """The answer to ``GET /models``."""
        served = {model: self.find(model) for model in self.models}
        return {
            "object": "list",
            "data": [_entry(model) for model in served],
            # All of them: a Codex that is pointed here does not look at its own list any more.
            "models": [_codex_entry(model, served[model], priority) for priority, model in enumerate(served, 1)],
        }

    def entry(self, model: str) -> dict[str, Any]:
        """The answer to ``GET /models/{model}``; raises as `find_all` does."""
        self.find_all(model)
        return _entry(model)

    async def ask(self) -> None:
        """Asks all upstreams at once; ``found`` then has what each said, and why some did not."""
        await asyncio.gather(*map(self._ask, self.upstreams))
        self._asked.set()

    async def asked(self) -> None:
        """Returns once all upstreams have been asked, which takes seconds at most where one does not answer."""
        await self._asked.wait()

    async def keep_asking(self) -> None:
        """Asks on, each upstream in its own time, until it is cancelled."""
        async with asyncio.TaskGroup() as group:
            for upstream in self.upstreams:
                group.create_task(self._keep_asking(upstream))

    async def close(self) -> None:
        """Closes all upstreams' connections."""
        for upstream in self.upstreams:
            await upstream.close()

    async def _keep_asking(self, upstream: Upstream) -> None:
        pause = _FIRST_PAUSE
        while True:
            found = self.found.get(upstream.name)
            if found is not None and found.usable:
                pause = _FIRST_PAUSE
                await self._sleep(_REFRESH)
            else:
                await self._sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
            await self._ask(upstream)

    async def _ask(self, upstream: Upstream) -> None:
        found = await discover(upstream)
        before = self.found.get(upstream.name)
        self.found[upstream.name] = found
        if found.wire_api is not None and found.models:
            upstream.settle(
                base_url=found.base_url,
                wire_api=found.wire_api,
                dialect=found.dialect,
                models=found.models,
                context_windows=found.context_windows,
            )
        if found == before:
            return
        if before is None and self._on_found is not None:
            self._on_found(upstream.configuration, found)
            return
        for problem in found.problems:
            _log.warning("%s", problem)
        if found.usable:
            _log.info("upstream %s speaks %s and serves %s", upstream.name, found.wire_api, ", ".join(found.models))


def _entry(model: str) -> dict[str, Any]:
    return {"id": model, "object": "model", "created": 0, "owned_by": OWNER}


def _codex_entry(model: str, served: Served, priority: int) -> dict[str, Any]:
    """What Codex calls a ModelInfo: the fields that it can't do without, and those that we know something of."""
    upstream = served.upstream
    entry = {
        "slug": model,
        "display_name": model,
        "description": f"{served.model} on {upstream.name}",
        "supported_reasoning_levels": [],
        "shell_type": "unified_exec",
        "visibility": "list",
        "supported_in_api": True,
        "priority": priority,
        "support_verbosity": False,
        "truncation_policy": _TRUNCATION,
        "experimental_supported_tools": [],
        "supports_parallel_tool_calls": upstream.dialect.parallel_tool_calls,
        "apply_patch_tool_type": "freeform",
        "base_instructions": _INSTRUCTIONS,
    }
    context_window = upstream.context_windows.get(served.model)
    return entry if context_window is None else {**entry, "context_window": context_window}
