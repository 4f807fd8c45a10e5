"""What a chat client makes of an exchange: the events it is given, and what it puts together from them."""

import json
from collections.abc import Iterable
from typing import Any

from openai.types.chat import ChatCompletionChunk

from turnwire.event import OutputItemDone
from turnwire.gateway.exchange.exchange import Exchange
from turnwire.wire.chat import ChatDecoder
from turnwire.wire.sse import SseDecoder

DONE = "[DONE]"
HI = {"role": "user", "content": "hi"}


def request(**fields: Any) -> dict[str, Any]:
    return {"model": "gpt", "messages": [HI], **fields}


def payloads_of(written: Iterable[bytes]) -> list[Any]:
    """JSON values and the sentinel; what says that it is a chunk must be one as the openai SDK has it."""
    payloads = [event.data for event in SseDecoder().feed(b"".join(written))]
    values = [one if one == DONE else json.loads(one) for one in payloads]
    for value in values:
        if value != DONE and "object" in value and "custom" not in str(value):
            ChatCompletionChunk.model_validate(value)  # whose types know no custom tools
    return values


def told(exchange: Exchange, pieces: Iterable[bytes]) -> list[bytes]:
    """All that a client gets, as the relay has it: pieces until it is over, then the end of the body."""
    written = exchange.start({"x-a": "b"})
    for piece in pieces:
        if not exchange.over:
            written += exchange.feed(piece)
    written += exchange.feed_eof()
    assert exchange.over
    assert [*exchange.feed(b"data: {}\n\n"), *exchange.feed_eof(), *exchange.keepalive()] == []
    assert (exchange.outcome is None) == (exchange.error is not None)
    return written


def items_of(written: Iterable[bytes]) -> list[Any]:
    """The items of an answer, as turnwire's own chat decoder reads them."""
    decoder = ChatDecoder(max_output_tokens_set=True)
    return [event.item for event in decoder.feed(b"".join(written)) if isinstance(event, OutputItemDone)]


def failure(message: str, kind: str = "server_error", code: str = "server_error") -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}
