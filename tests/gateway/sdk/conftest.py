import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
from openai import AsyncOpenAI

from tests.gateway.serving import ServedGateway, serving, upstream_at
from turnwire.testing import LlamaServer


@pytest.fixture(scope="session")
def llama() -> Iterator[LlamaServer]:
    """A real llama.cpp: a process, bound to no event loop, so one serves all tests."""
    server = LlamaServer(context_size=8192)
    asyncio.run(server.start())
    yield server
    asyncio.run(server.stop())


@pytest.fixture
async def gateway(llama: LlamaServer, nothing_left: None) -> AsyncIterator[ServedGateway]:
    """The gateway in front of it."""
    async with serving(upstream_at(llama.base_url, model=llama.model_name)) as gateway:
        yield gateway


@pytest.fixture
async def client(gateway: ServedGateway) -> AsyncIterator[AsyncOpenAI]:
    """The openai SDK, pointed at the gateway."""
    async with AsyncOpenAI(base_url=gateway.base_url, api_key="any", max_retries=0) as client:
        yield client
