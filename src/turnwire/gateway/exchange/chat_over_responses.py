"""The client speaks Chat Completions, the upstream Responses: both ways are translated."""

from __future__ import annotations

from collections.abc import Callable

from turnwire.gateway.exchange.to_chat import ToChat
from turnwire.wire.chat import ChatAnswerWriter, ReceivedChatRequest
from turnwire.wire.responses import ResponsesDecoder, encode_response_request

__all__ = ["ChatOverResponses"]


class ChatOverResponses(ToChat):
    """An `Exchange`. ``model`` is the upstream's own name for what the request calls its model.

    The upstream streams whatever the client asked for: silence is then told from thinking, and a cut from an end.
    Nothing is stored unless the client asks for it. ``clock`` gives seconds since 1970.

    Raises `InvalidPrompt` for a tool definition or a tool choice that makes no sense, and for values that JSON can't
    hold.
    """

    path = "responses"

    def __init__(
        self, received: ReceivedChatRequest, *, model: str, response_id: str, clock: Callable[[], float]
    ) -> None:
        super().__init__(
            ResponsesDecoder(watch_calls=received.stream),
            ChatAnswerWriter(
                response_id=response_id,
                model=received.model,
                created=int(clock()),
                include_usage=received.include_usage,
                legacy_calls=received.legacy_calls,
            ),
            response_id=response_id,
            streams=received.stream,
        )
        self.body = encode_response_request(received.prompt, model=model, stream=True, store=False).body
        self.dropped = received.dropped
