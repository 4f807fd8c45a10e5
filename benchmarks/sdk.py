"""The openai SDK's decoding, as it comes, of bytes that are in memory already. Neither request nor socket is timed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import httpx2
from openai import OpenAI
from openai.resources.responses.responses import ResponsesConnection

__all__ = ["sdk_chat", "sdk_responses", "sdk_responses_messages"]

Decode: TypeAlias = Callable[[], float]
"""Decodes an answer once, and gives the seconds that it took."""

_HEADERS = {"content-type": "text/event-stream"}


def sdk_chat(reads: Sequence[bytes]) -> Decode:
    """Its stream of chat chunks, over a body that comes in these reads."""
    client = _client(reads)
    messages = [{"role": "user", "content": "hello"}]
    return lambda: _drained(client.chat.completions.create(model="bench", messages=messages, stream=True))


def sdk_responses(reads: Sequence[bytes]) -> Decode:
    """Its stream of Responses events, over a body that comes in these reads."""
    client = _client(reads)
    return lambda: _drained(client.responses.create(model="bench", input="hello", stream=True))


def sdk_responses_messages(messages: Sequence[bytes]) -> Decode:
    """What its WebSocket connection makes an event with: ``parse_event``, which it offers beside ``recv_bytes``."""
    connection: Any = None  # a message is parsed without it
    parse_event = ResponsesConnection(connection).parse_event

    def decode() -> float:
        started = time.perf_counter()
        for message in messages:
            parse_event(message)
        return time.perf_counter() - started

    return decode


def _client(reads: Sequence[bytes]) -> Any:
    transport = httpx2.MockTransport(lambda _: httpx2.Response(200, headers=_HEADERS, stream=_Body(reads)))
    return OpenAI(api_key="none", base_url="http://127.0.0.1/v1", http_client=httpx2.Client(transport=transport))


def _drained(stream: Any) -> float:
    with stream:
        started = time.perf_counter()
        for _ in stream:
            pass
        return time.perf_counter() - started


class _Body(httpx2.SyncByteStream):
    def __init__(self, reads: Sequence[bytes]) -> None:
        self._reads = reads

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._reads)
