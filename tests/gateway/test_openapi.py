"""The description at /openapi.json is in step with the routes, and no request, fitting or not, is answered by 5xx."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from starlette.applications import Starlette
from starlette.routing import Route, WebSocketRoute

from tests.gateway.serving import MODEL, serving, upstream_at
from turnwire.gateway.application import create_application
from turnwire.gateway.configuration import GatewayConfiguration
from turnwire.gateway.http_endpoint import PostEndpoint
from turnwire.gateway.openapi import DESCRIPTION
from turnwire.item import FunctionCall
from turnwire.testing import ScriptedServer, Turn

RELAYED = "r"
"""The model of an upstream that speaks Responses."""
EXAMPLES = 5
SEED = "20261"


def served(application: Starlette) -> Iterator[tuple[str, str]]:
    for route in application.router.routes:
        if isinstance(route, WebSocketRoute):
            yield route.path, "get"
            continue
        assert isinstance(route, Route)
        path = route.path.replace(":path}", "}")
        methods = {"POST"} if isinstance(route.app, PostEndpoint) else (route.methods or set()) - {"HEAD"}
        yield from ((path, method.lower()) for method in methods)


async def test_it_describes_the_routes_that_there_are(tmp_path: Path) -> None:
    upstream = upstream_at("http://127.0.0.1:1/v1")
    application = create_application(GatewayConfiguration((upstream,), store_path=tmp_path / "responses.sqlite"))
    async with application.router.lifespan_context(application):
        routes = set(served(application))
    assert {(path, method) for path, methods in DESCRIPTION["paths"].items() for method in methods} == routes


@pytest.mark.usefixtures("nothing_left")
async def test_anybody_may_read_it() -> None:
    async with (
        ScriptedServer() as upstream,
        serving(upstream.base_url) as gateway,
        aiohttp.ClientSession() as session,
        session.get(gateway.base_url.replace("/v1", "/openapi.json")) as response,
    ):
        assert response.content_type == "application/json"
        assert await response.json() == DESCRIPTION


def test_requests_are_described_as_they_are_checked() -> None:
    schemas = DESCRIPTION["components"]["schemas"]
    assert schemas["ResponsesRequest"]["required"] == ["model", "input"]
    assert schemas["ResponsesRequest"]["properties"]["text"]["anyOf"][0] == {"$ref": "#/components/schemas/Text"}
    assert schemas["ChatRequest"]["required"] == ["model", "messages"]
    assert set(schemas) == {"ResponsesRequest", "Text", "Format", "ChatRequest", "StreamOptions", "Error"}


def narrowed() -> dict[str, Any]:
    """The description with the models that are served, and with items and messages that look like some."""
    described = json.loads(json.dumps(DESCRIPTION))
    content = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"$ref": "#/components/schemas/Part"}}]}
    message = {
        "type": "object",
        "required": ["role", "content"],
        "properties": {"role": {"enum": ["user", "assistant", "system", "developer", "tool"]}, "content": content},
    }
    part = {
        "type": "object",
        "required": ["type"],
        "properties": {"type": {"enum": ["text", "input_text", "output_text"]}, "text": {"type": "string"}},
    }
    schemas = described["components"]["schemas"] | {"Message": message, "Part": part}
    described["components"]["schemas"] = schemas
    for name, field in (("ResponsesRequest", "input"), ("ChatRequest", "messages")):
        fields = schemas[name]["properties"]
        fields["model"] = {"enum": [MODEL, RELAYED]}
        fields[field] = {"type": "array", "items": {"$ref": "#/components/schemas/Message"}, "minItems": 1}
    return described


async def test_no_request_makes_the_gateway_fail(tmp_path: Path) -> None:
    schema = tmp_path / "openapi.json"
    schema.write_text(json.dumps(narrowed()))
    call = FunctionCall(call_id="call_1", name="f", arguments="{}")
    async with (
        ScriptedServer(lambda request: Turn(text="words", reasoning="thoughts", calls=[call])) as upstream,
        serving(
            upstream_at(upstream.base_url, name="chat"),
            upstream_at(upstream.base_url, name="responses", wire_api="responses", models={RELAYED: RELAYED}),
        ) as gateway,
    ):
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "schemathesis.cli", "run", schema, "--url", gateway.base_url.removesuffix("/v1")),
            *("--checks", "not_a_server_error", "--phases", "examples,coverage,fuzzing", "--mode", "all"),
            *("--max-examples", str(EXAMPLES), "--seed", SEED, "--generation-database", "none", "--no-color"),
            *("--suppress-health-check", "all", "--request-timeout", "10"),
            cwd=tmp_path,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
