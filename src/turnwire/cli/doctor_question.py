"""The doctor's questions to a model, and what is heard of an answer: no more than the checks need to know."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

from msgspec import Struct

from turnwire.client import TURN_STATE_HEADER, ModelClient, ModelClientSession, Provider
from turnwire.client.socket import FrameDecoder
from turnwire.errors import ApiError, IdleTimeout
from turnwire.event import (
    Completed,
    OutputTextDelta,
    ReasoningContentDelta,
    ReasoningSummaryDelta,
    ResponseEvent,
    ToolCallArgumentsDelta,
)
from turnwire.item import ResponseItem
from turnwire.prompt import Prompt
from turnwire.telemetry import SsePollRecord, WebsocketPollRecord
from turnwire.wire.chat import ChatDecoder

__all__ = [
    "BOUND",
    "CALL",
    "GREETING",
    "LONG",
    "QUESTIONS",
    "TOOL_NAME",
    "WIRES",
    "Heard",
    "TokenPlace",
    "Wire",
    "ask",
    "own_wire",
]

Wire: TypeAlias = Literal["chat", "responses", "websocket"]

TokenPlace: TypeAlias = Literal["header", "metadata", "handshake"]

WIRES: Mapping[Wire, str] = MappingProxyType(
    {"chat": "Chat Completions, SSE", "responses": "Responses, SSE", "websocket": "Responses, WebSocket"}
)
"""The wires by the names that people read, in the order in which they are told."""

QUESTIONS = 6
"""How many questions an examination asks at most: one per wire, one for a call, a long one twice."""

BOUND = 256
"""Tokens that an answer may take: enough for a model that reasons first, and no great cost with any."""

GREETING = Prompt("Name the seven days of the week, in one line.", max_output_tokens=BOUND)

TOOL_NAME = "get_weather"
CALL = Prompt(
    "What is the weather in Zürich, in celsius? Ask the tool.",
    tools=[
        {
            "type": "function",
            "name": TOOL_NAME,
            "description": "The weather in a city.",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}, "unit": {"type": "string"}},
                "required": ["city", "unit"],
                "additionalProperties": False,
            },
        }
    ],
    tool_choice="auto",
    max_output_tokens=BOUND,
)

# OpenAI's cache begins at 1,024 tokens, and most others' sooner.
LONG = Prompt(
    "\n".join(
        (
            *(
                f"Item {number:03} of the list is kept in drawer {number * 7 % 50} of the cabinet."
                for number in range(100)
            ),
            "Which drawer holds item 042? Answer with its number.",
        )
    ),
    max_output_tokens=BOUND,
)


class Heard(Struct, frozen=True, kw_only=True):
    """One answer, or why there is none."""

    error: ApiError | None = None
    completed: Completed | None = None
    items: tuple[ResponseItem, ...] = ()
    pieces: int = 0
    """How many deltas it came in."""
    reads: int = 0
    """How many reads brought them: one where something on the way holds an answer back until it is whole."""
    done_seen: bool = False
    """``[DONE]`` came."""
    dropped_calls: tuple[str, ...] = ()
    token_size: int | None = None
    """Characters of the routing token that came with it, None where none did or none that can be used."""
    token_place: TokenPlace | None = None
    """Where a token stood, be it one that can be used or not."""

    @property
    def spoken(self) -> bool:
        """The wire is spoken: an answer began, however it ended."""
        return self.error is None or self.error.committed

    @property
    def status(self) -> int | None:
        """The HTTP status that said no, None where none did."""
        return None if self.error is None or self.error.response is None else self.error.response.status


async def ask(provider: Provider, model: str, wire: Wire, *prompts: Prompt) -> list[Heard]:
    """The answers to prompts that are asked in one turn, one after the other, up to the first that fails.

    Each has ``idle_timeout`` for all of it, and nothing is tried twice: the first answer is what is to be examined.
    """
    heard: list[Heard] = []
    meter = _Meter()
    async with ModelClient(
        _speaking(provider, wire), model=model, sse_telemetry=meter, websocket_telemetry=meter
    ) as client:
        session = client.new_session()
        for prompt in prompts:
            heard.append(await _hear(session, prompt, provider.idle_timeout, meter))
            if heard[-1].error is not None:
                break
    return heard


def own_wire(provider: Provider) -> Wire:
    """The wire that the provider is asked over; with ``websocket="auto"`` the one that it can't do without."""
    return "websocket" if provider.websocket is True else provider.wire_api


def _speaking(provider: Provider, wire: Wire) -> Provider:
    return provider.with_changes(
        wire_api="chat" if wire == "chat" else "responses",
        websocket=wire == "websocket",
        request_max_retries=0,
        stream_max_retries=0,
    )


async def _hear(session: ModelClientSession, prompt: Prompt, limit: float, meter: _Meter) -> Heard:
    stream = session.stream(prompt)
    completed: Completed | None = None
    failure: ApiError | None = None
    meter.begin()
    try:
        async with asyncio.timeout(limit), stream:
            async for event in stream:
                meter.saw(event)
                if isinstance(event, Completed):
                    completed = event
    except ApiError as error:
        failure = error
    except TimeoutError:
        failure = IdleTimeout(f"the answer was not whole within {limit:g} s")
        failure.committed = stream.committed
    decoder = stream.decoder
    token = session.turn_state.get()
    if failure is not None and token is not None:
        failure.args = (str(failure).replace(token, "…"),)  # a server may repeat what it does not like
    return Heard(
        error=failure,
        completed=completed,
        items=stream.items,
        pieces=meter.pieces,
        reads=meter.reads_with_pieces,
        done_seen=isinstance(decoder, ChatDecoder) and decoder.done_seen,
        dropped_calls=() if decoder is None else decoder.dropped_calls,
        token_size=None if token is None else len(token),
        token_place=_token_place(decoder, stream.response_headers),
    )


def _token_place(decoder: Any, headers: Mapping[str, str]) -> TokenPlace | None:
    framed = isinstance(decoder, FrameDecoder)
    if framed and TURN_STATE_HEADER in decoder.metadata:
        return "metadata"
    if TURN_STATE_HEADER in headers:
        return "handshake" if framed else "header"
    return None


class _Meter:
    """Counts an answer's pieces, and the reads that brought them."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Another answer begins."""
        self.pieces = 0
        self._reads = 0
        self._with_pieces: set[int] = set()

    @property
    def reads_with_pieces(self) -> int:
        """How many reads brought any."""
        return len(self._with_pieces)

    def saw(self, event: ResponseEvent) -> None:
        """Called with each event, between the poll that brought it and the next."""
        if isinstance(event, OutputTextDelta | ReasoningContentDelta | ReasoningSummaryDelta | ToolCallArgumentsDelta):
            self.pieces += 1
            self._with_pieces.add(self._reads)

    def on_sse_poll(self, record: SsePollRecord, /) -> None:
        """Called when a wait is over."""
        self._reads += 1

    def on_websocket_poll(self, record: WebsocketPollRecord, /) -> None:
        """Called when a wait is over."""
        self._reads += 1

    def on_websocket_connect(self, record: object, /) -> None:
        """A handshake brings no piece."""
