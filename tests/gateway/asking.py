"""Clients of the gateway, one for each form in which it answers, and what they make of their answers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any, Literal, TypeAlias

import aiohttp
from msgspec import Struct
from websockets.asyncio.client import connect

from tests.gateway.serving import MODEL, ServedGateway
from turnwire.wire.sse import SseDecoder

__all__ = ["FORMS", "Form", "Told", "ask", "ask_socket", "body_for"]

Form: TypeAlias = Literal["responses", "responses whole", "websocket", "chat", "chat whole"]
FORMS: tuple[Form, ...] = ("responses", "responses whole", "websocket", "chat", "chat whole")

_TERMINAL = {"response.completed", "response.incomplete", "response.failed"}


class Told(Struct, frozen=True):
    """What a client was told: of a WebSocket's error frame the status and the headers are those in it."""

    status: int
    headers: Mapping[str, str]
    payloads: list[Any]
    """The events of a stream, or the one document; of chat without the sentinel."""
    cut: bool = False
    """The body broke off."""

    @property
    def verdict(self) -> str:
        """What became of the answer, for a reader who believes in nothing but a proper end."""
        last = self.payloads[-1] if self.payloads else {}
        error = last.get("error") or (last.get("response") or {}).get("error")
        if self.status != 200:
            return f"{self.status} {error['code']}"
        if error is not None:
            return f"failed {error['code']}"
        if self.cut:
            return "cut"
        choices = [choice for chunk in self.payloads for choice in chunk.get("choices", ())]
        ended = last.get("type") in ("response.completed", "response.incomplete") or last.get("object") == "response"
        return "completed" if ended or any(choice["finish_reason"] for choice in choices) else "without an end"

    @property
    def text(self) -> str:
        """The answer's text, as its deltas or the document have it."""
        deltas = [payload for payload in self.payloads if payload.get("type") == "response.output_text.delta"]
        choices = [choice for payload in self.payloads for choice in payload.get("choices", ())]
        chunks = [(choice.get("delta") or choice.get("message") or {}).get("content") or "" for choice in choices]
        items = [item for payload in self.payloads for item in payload.get("output", ())]
        parts = [part["text"] for item in items for part in item.get("content", ())]
        return "".join([delta["delta"] for delta in deltas] + chunks + parts)


def body_for(form: Form, model: str = MODEL, **fields: Any) -> dict[str, Any]:
    """A request's fields, asking for "hi"."""
    asked = {"input": "hi"} if not form.startswith("chat") else {"messages": [{"role": "user", "content": "hi"}]}
    return {"model": model, "stream": not form.endswith("whole"), **asked, **fields}


async def ask(
    gateway: ServedGateway,
    form: Form,
    model: str = MODEL,
    *,
    headers: Mapping[str, str] = {},
    on_piece: Callable[[bytes], None] = lambda _: None,
    **fields: Any,
) -> Told:
    """What a client is told that asks over a connection of its own; ``on_piece`` hears it as it comes."""
    body = body_for(form, model, **fields)
    if form == "websocket":
        async with connect(gateway.socket_url, proxy=None, additional_headers=dict(headers)) as socket:
            return await ask_socket(socket, on_piece=on_piece, **body)
    path = "chat/completions" if form.startswith("chat") else "responses"
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{gateway.base_url}/{path}", json=body, headers=headers) as response,
    ):
        data = b""
        cut = False
        try:
            while piece := await response.content.readany():
                data += piece
                on_piece(piece)
        except aiohttp.ClientPayloadError:
            cut = True
        head = {name.lower(): value for name, value in response.headers.items()}
        if response.content_type == "application/json":
            return Told(response.status, head, [json.loads(data)], cut)
        return Told(response.status, head, list(_objects(data)), cut)


def _objects(data: bytes) -> Iterator[Any]:
    """A stream's payloads; what is no JSON is no concern of a lenient client."""
    for event in SseDecoder().feed(data):
        with suppress(json.JSONDecodeError):
            yield json.loads(event.data)


async def ask_socket(socket: Any, *, on_piece: Callable[[bytes], None] = lambda _: None, **fields: Any) -> Told:
    """What a client is told that asks over an open WebSocket, to the end of the answer or of the connection."""
    await socket.send(json.dumps({"type": "response.create", **fields}))
    payloads = []
    async for message in socket:
        on_piece(message.encode())
        payload = json.loads(message)
        payloads.append(payload)
        if payload["type"] == "error":
            return Told(payload["status"], payload["headers"], payloads)
        if payload["type"] in _TERMINAL:
            return Told(200, {}, payloads)
    return Told(200, {}, payloads, cut=True)
