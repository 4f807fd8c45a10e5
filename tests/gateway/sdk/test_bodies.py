"""Compressed requests, as Codex and proxies send them."""

from __future__ import annotations

import gzip
import json
import sys
import zlib
from collections.abc import Callable

import pytest

from tests.gateway.sdk.speaking import speaking
from tests.gateway.serving import MODEL, answered, serving
from turnwire.testing import ScriptedServer, Turn

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

pytestmark = pytest.mark.usefixtures("nothing_left")

ENCODINGS: dict[str, Callable[[bytes], bytes]] = {
    "zstd": zstd.compress,
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "identity": bytes,
}
PATHS = {
    "responses": {"model": MODEL, "input": "Grüezi"},
    "chat/completions": {"model": MODEL, "messages": [{"role": "user", "content": "Grüezi"}]},
}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("encoding", ENCODINGS)
async def test_a_compressed_request_is_read(encoding: str, path: str) -> None:
    async with (
        ScriptedServer([Turn(text="Hi")], models=[MODEL]) as upstream,
        serving(upstream.base_url) as gateway,
        speaking(gateway) as speaker,
    ):
        body = ENCODINGS[encoding](json.dumps(PATHS[path]).encode())
        await speaker.request("POST", path, body, headers={"content-encoding": encoding})
        (asked,) = answered(upstream)
        assert asked.input == ({"role": "user", "content": "Grüezi"},)
        assert "content-encoding" not in asked.headers


async def test_a_request_that_expands_beyond_all_measure_is_refused() -> None:
    async with (
        ScriptedServer([], models=[MODEL]) as upstream,
        serving(upstream.base_url, max_body=100_000) as gateway,
        speaking(gateway) as speaker,
    ):
        for encoding in ("zstd", "gzip", "deflate"):
            bomb = ENCODINGS[encoding](b" " * 10_000_000)
            refused = await speaker.request(
                "POST", "responses", bomb, status=400, headers={"content-encoding": encoding}
            )
            assert "100000" in refused["error"]["message"]
        assert answered(upstream) == []
