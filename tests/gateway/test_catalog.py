"""Which upstream serves which model, what clients are told of them, and how they are found out in time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import openai
import pytest

from turnwire.errors import ServerOverloaded
from turnwire.gateway.catalog import Catalog, Served
from turnwire.gateway.configuration import UpstreamConfiguration
from turnwire.gateway.discovery import Found
from turnwire.gateway.refusal import UnknownModel, refusal
from turnwire.gateway.upstream import Upstream
from turnwire.testing import ScriptedServer
from turnwire.wire.chat import ChatDialect

pytestmark = pytest.mark.usefixtures("nothing_left")

NOWHERE = "http://127.0.0.1:1/v1"


def configured(name: str, base_url: str = NOWHERE, **fields: Any) -> UpstreamConfiguration:
    return UpstreamConfiguration(name, base_url, **fields)


@asynccontextmanager
async def catalog_of(*configurations: UpstreamConfiguration, **options: Any) -> AsyncIterator[Catalog]:
    catalog = Catalog([Upstream(configuration) for configuration in configurations], **options)
    try:
        yield catalog
    finally:
        await catalog.close()


GPU = configured("gpu", models={"fast": "qwen-8b", "shared": "llama"})
CLOUD = configured("cloud", wire_api="responses", models={"shared": "llama-cloud", "smart": "gpt"})


async def test_a_model_is_found_at_the_first_upstream_that_serves_it_or_at_the_one_that_is_asked_for() -> None:
    async with catalog_of(GPU, CLOUD) as catalog:
        gpu, cloud = catalog.upstreams
        assert catalog.models == ("fast", "shared", "smart")
        assert catalog.ready
        assert catalog.find("fast") == Served(gpu, "qwen-8b")
        assert catalog.find("smart") == Served(cloud, "gpt")
        assert catalog.find("shared") == Served(gpu, "llama")
        assert catalog.find("shared", upstream="cloud") == Served(cloud, "llama-cloud")
        assert catalog.find("fast", upstream="cloud") == Served(gpu, "qwen-8b")
        assert catalog.find("fast", upstream="gone") == Served(gpu, "qwen-8b")
        assert catalog.find_all("shared") == (Served(gpu, "llama"), Served(cloud, "llama-cloud"))
        assert (catalog.upstream("cloud"), catalog.upstream("gone")) == (cloud, None)
        assert repr(catalog) == "<Catalog of 2 upstreams, 3 models>"


async def test_an_unknown_model_is_refused_for_good_and_the_known_ones_are_named() -> None:
    async with catalog_of(GPU, CLOUD) as catalog:
        with pytest.raises(UnknownModel) as caught:
            catalog.find("gpt-9")
    refused = refusal(caught.value)
    assert refused.status == 400
    assert msgspec.json.decode(refused.body) == {
        "error": {
            "message": "no upstream serves the model 'gpt-9'; known are fast, shared, smart",
            "type": "invalid_request_error",
            "param": "model",
            "code": "model_not_found",
        }
    }


async def test_of_many_models_some_are_named() -> None:
    async with catalog_of(configured("gpu", models={f"m{number}": "m" for number in range(25)})) as catalog:
        with pytest.raises(UnknownModel, match=r"known are m0, m1, .*, m19 and 5 more$"):
            catalog.find("gpt-9")


async def test_as_long_as_an_upstream_has_not_said_what_it_serves_a_model_is_not_unknown() -> None:
    async with catalog_of(GPU, configured("slow")) as catalog:
        assert catalog.ready
        with pytest.raises(ServerOverloaded, match=r"'gpt-9', and slow did not say yet what models there are"):
            catalog.find("gpt-9")
    async with catalog_of(configured("slow")) as catalog:
        assert not catalog.ready
        assert catalog.listing() == {"object": "list", "data": [], "models": []}


async def test_the_list_of_models_satisfies_sdks_and_codex() -> None:
    async with catalog_of(GPU, CLOUD) as catalog:
        gpu, _ = catalog.upstreams
        gpu.settle(dialect=ChatDialect.preset("ollama"), context_windows={"qwen-8b": 32768})
        listing = catalog.listing()
        assert listing["data"] == [
            {"id": name, "object": "model", "created": 0, "owned_by": "turnwire-gateway"}
            for name in ("fast", "shared", "smart")
        ]
        fast, shared, smart = listing["models"]
        instructions = fast.pop("base_instructions")
        assert instructions.startswith("You are a coding agent.")
        assert fast == {
            "slug": "fast",
            "display_name": "fast",
            "description": "qwen-8b on gpu",
            "supported_reasoning_levels": [],
            "shell_type": "unified_exec",
            "visibility": "list",
            "supported_in_api": True,
            "priority": 1,
            "support_verbosity": False,
            "truncation_policy": {"mode": "tokens", "limit": 10_000},
            "experimental_supported_tools": [],
            "supports_parallel_tool_calls": False,
            "apply_patch_tool_type": "freeform",
            "context_window": 32768,
        }
        assert (shared["slug"], shared["priority"], "context_window" in shared) == ("shared", 2, False)
        assert smart["slug"] == "smart"  # a Codex that is pointed here does not look at its own list any more
        assert catalog.entry("smart") == listing["data"][2]
        with pytest.raises(UnknownModel):
            catalog.entry("gpt-9")
        for entry in listing["data"]:
            openai.types.Model.model_validate(entry, strict=True)


async def test_what_the_upstreams_say_of_themselves_is_taken(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "turnwire.gateway")
    async with (
        ScriptedServer(models=["a", "b"]) as server,
        catalog_of(configured("gpu", server.base_url), configured("gone")) as catalog,
    ):
        await catalog.ask()
        await catalog.ask()  # which finds the same, and logs nothing
        gpu, gone = catalog.upstreams
        assert catalog.found["gpu"] == Found(
            server.base_url, "scripted", "chat", ChatDialect.preset("tolerant"), {"a": "a", "b": "b"}
        )
        assert (gpu.models, gone.models) == ({"a": "a", "b": "b"}, {})
    assert sorted(caplog.messages) == [
        "can't connect to upstream 'gone': connection refused",
        "upstream gpu speaks chat and serves a, b",
    ]


class Pauses:
    """The pauses that are made, each as short as can be; ``then`` is what happens in the pause of that number."""

    def __init__(self, then: Sequence[Callable[[], None] | None]) -> None:
        self.made: list[float] = []
        self._then = list(then)
        self.over = asyncio.Event()

    async def sleep(self, delay: float) -> None:
        self.made.append(delay)
        if not self._then:
            self.over.set()
            await asyncio.Event().wait()
        then = self._then.pop(0)
        if then is not None:
            then()


async def test_an_upstream_that_is_not_there_is_asked_again_after_growing_pauses_and_one_that_is_now_and_then() -> None:
    async with ScriptedServer(models=["a"]) as server, catalog_of(configured("gpu")) as idle:
        (gpu,) = idle.upstreams

        def starts() -> None:
            gpu.settle(base_url=server.base_url)

        def stops() -> None:
            gpu.settle(base_url=NOWHERE)

        pauses = Pauses([None] * 7 + [starts, None, stops, None])
        catalog = Catalog([gpu], sleep=pauses.sleep)
        await catalog.ask()
        asking = asyncio.create_task(catalog.keep_asking())
        async with asyncio.timeout(10):
            await pauses.over.wait()
        asking.cancel()
        await asyncio.wait((asking,))
        assert pauses.made == [1, 2, 4, 8, 16, 30, 30, 30, 60, 60, 1, 2]
        assert gpu.models == {"a": "a"}  # which it will serve when it is back
        assert not catalog.found["gpu"].usable
