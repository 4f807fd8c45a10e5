"""A client of the Responses API that hides nothing: what it is told comes as plain JSON, each piece of it checked.

All objects and events are validated against the package of the Open Responses specification.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from websockets.asyncio.client import ClientConnection, connect

from tests.gateway.serving import MODEL, ServedGateway
from tests.wire.responses.writing import validate_events
from tests.wire.responses.writing import validate_response as validate_plain_response
from turnwire.wire.sse import SseDecoder

__all__ = ["Speaker", "TalkingSocket", "speaking", "talking", "validate_response"]

TERMINAL = {"response.completed", "response.incomplete", "response.failed"}


class Speaker:
    """HTTP requests to one gateway."""

    def __init__(self, gateway: ServedGateway, session: aiohttp.ClientSession) -> None:
        self._gateway = gateway
        self._session = session

    async def request(
        self, method: str, path: str, body: Any = None, *, status: int = 200, headers: Mapping[str, str] = {}
    ) -> Any:
        """The JSON of an answer that must have that status; a body of bytes goes out as it is."""
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        url = f"{self._gateway.base_url}/{path}"
        async with self._session.request(method, url, data=data, headers=headers) as response:
            answer = await response.json()
            assert (response.status, response.content_type) == (status, "application/json"), answer
        return answer

    async def ask(self, **fields: Any) -> Any:
        """The response object to a request that is not streamed."""
        response = await self.request("POST", "responses", {"model": MODEL, **fields})
        validate_response(response)
        return response

    async def stream(self, **fields: Any) -> list[Any]:
        """The events of a streamed answer."""
        decoder, events = SseDecoder(), []
        body = {"model": MODEL, "stream": True, **fields}
        async with self._session.post(f"{self._gateway.base_url}/responses", json=body) as response:
            assert (response.status, response.content_type) == (200, "text/event-stream")
            async for data in response.content.iter_any():
                events += decoder.feed(data)
        payloads = [json.loads(event.data) for event in events]
        assert [event.event for event in events] == [payload["type"] for payload in payloads]
        check_stream(payloads)
        return payloads


class TalkingSocket:
    """One WebSocket of the gateway's."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection

    async def stream(self, **fields: Any) -> list[Any]:
        """The events of one answer; an error frame is the last, or the only one."""
        await self._connection.send(json.dumps({"type": "response.create", "model": MODEL, **fields}))
        payloads: list[Any] = []
        while not payloads or payloads[-1]["type"] not in TERMINAL | {"error"}:
            payloads.append(json.loads(await self._connection.recv()))
        if payloads[-1]["type"] != "error":
            check_stream(payloads)
        return payloads

    async def ask(self, **fields: Any) -> Any:
        """The response at the end of an answer, and of nothing else."""
        last = (await self.stream(**fields))[-1]
        assert last["type"] in TERMINAL, last
        return last["response"]

    async def refused(self, **fields: Any) -> str:
        """The code of the error frame that answers a request."""
        (frame,) = await self.stream(**fields)
        assert (frame["type"], frame["status"]) == ("error", 400)
        code: str = frame["error"]["code"]
        return code


@asynccontextmanager
async def speaking(gateway: ServedGateway) -> AsyncIterator[Speaker]:
    async with aiohttp.ClientSession() as session:
        yield Speaker(gateway, session)


@asynccontextmanager
async def talking(gateway: ServedGateway) -> AsyncIterator[TalkingSocket]:
    async with connect(gateway.socket_url) as connection:
        yield TalkingSocket(connection)


def validate_response(response: Any) -> None:
    validate_plain_response(as_specified(response))


def as_specified(response: Any) -> Any:
    """What of it the specification's package knows: functions of the tools, and of an output's format no schema."""
    functions = [tool for tool in response["tools"] if tool["type"] == "function"]
    text = {**response["text"], "format": {**response["text"]["format"], "schema": None}}
    return {**response, "tools": functions, "text": text}


def check_stream(payloads: list[Any]) -> None:
    """What holds for each stream, over whichever transport."""
    responses = [payload["response"] for payload in payloads if "response" in payload]
    validate_events(
        [
            {**payload, "response": as_specified(payload["response"])} if "response" in payload else payload
            for payload in payloads
        ]
    )
    numbered = [payload for payload in payloads if "sequence_number" in payload]
    assert [payload["sequence_number"] for payload in numbered] == list(range(len(numbered)))
    assert payloads[0]["type"] == "response.created"
    assert [payload["type"] in TERMINAL for payload in payloads] == [False] * (len(payloads) - 1) + [True]
    assert len({response["id"] for response in responses}) == 1
    done = {event["output_index"]: event["item"] for event in payloads if event["type"] == "response.output_item.done"}
    assert dict(enumerate(responses[-1]["output"])) == done
