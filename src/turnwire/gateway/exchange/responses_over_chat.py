"""The client speaks Responses, the upstream Chat Completions: both ways are translated."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import Any

import msgspec

from turnwire.errors import ApiError, StreamError
from turnwire.event import Completed, Created, OutputItemDone, ResponseEvent
from turnwire.gateway.exchange.exchange import Outcome
from turnwire.gateway.exchange.to_responses import ToResponses
from turnwire.item import Reasoning
from turnwire.wire.chat import ChatDecoder, ChatDialect, ReasoningName, encode_request
from turnwire.wire.responses import Framing, ResponsesEncoder
from turnwire.wire.responses.received import ReceivedRequest
from turnwire.wire.sealed import sealed_reasoning

__all__ = ["ResponsesOverChat"]

_encode = msgspec.json.Encoder().encode

_NOTHING_YET = frozenset({Created, Completed})
"""Events that bring nothing of an answer."""
_ENCRYPTED_REASONING = "reasoning.encrypted_content"


class ResponsesOverChat(ToResponses):
    """An `Exchange`. ``model`` is the upstream's own name for what the request calls its model.

    ``position`` is that of the exchange which it goes on for, with the same ``response_id``.

    The upstream streams whatever the client asked for: silence is then told from thinking, and a cut from an end.
    """

    path = "chat/completions"

    def __init__(
        self,
        received: ReceivedRequest,
        *,
        model: str,
        dialect: ChatDialect,
        reasoning_name: ReasoningName | None,
        response_id: str,
        clock: Callable[[], float],
        framing: Framing = "sse",
        position: int = 0,
    ) -> None:
        prompt = received.prompt
        request = encode_request(prompt, model=model, dialect=dialect, reasoning_name=reasoning_name)
        self.body = request.body
        self.dropped: Sequence[str] = tuple(dict.fromkeys((*received.dropped, *request.dropped)))
        decoder = ChatDecoder(
            dialect,
            max_output_tokens_set=prompt.max_output_tokens is not None,
            watch_calls=True,
            taken_call_ids=request.call_ids,
            refuse_bare_end=True,
            tools=request.tools,
        )
        encoder = ResponsesEncoder(
            response_id=response_id,
            model=received.model,
            clock=clock,
            request=received.fields,
            framing=framing,
            first_number=position,
        )
        super().__init__(decoder, encoder, streams=received.stream)
        self._chat = decoder
        # A client that keeps its history itself gets the reasoning in the one form that it sends back.
        self._seals_reasoning = _ENCRYPTED_REASONING in (received.fields.get("include") or ())
        self._completed: Completed | None = None

    @property
    def reasoning_name(self) -> ReasoningName | None:
        """What the upstream calls its reasoning, once it showed."""
        return self._chat.reasoning_name

    @property
    def outcome(self) -> Outcome | None:
        """The answer, once it ended properly."""
        if self._completed is None:
            return None
        return Outcome(self._encoder.response.response_id, self._whole, self._completed.token_usage)

    def document(self) -> bytes:
        """The ``response`` object."""
        if self.error is not None:
            raise self.error
        return _encode(self._whole)

    @cached_property
    def _whole(self) -> dict[str, Any]:
        if self._completed is None:
            raise StreamError("the answer has not ended yet")
        return self._encoder.response.ended(self._completed)

    def _take(self, events: Iterable[ResponseEvent]) -> list[bytes]:
        failure: ApiError | None = None
        if not isinstance(events, list):
            events, failure = _until_failure(events)
        if self._streams and not self.committed:
            self.committed = not _NOTHING_YET.issuperset(map(type, events))
        if self._seals_reasoning:
            events = [_sealed(event) if type(event) is OutputItemDone else event for event in events]
        # Also where nobody reads them: a whole answer has its items in the order in which they would be streamed.
        written = self._encoder.encode(events)
        if events and type(events[-1]) is Completed:
            self._completed = events[-1]
            self.over = True
        if failure is not None:
            written += self.fail(failure)
        return written if self._streams else []


def _until_failure(events: Iterable[ResponseEvent]) -> tuple[list[ResponseEvent], ApiError | None]:
    whole: list[ResponseEvent] = []
    try:
        for event in events:
            whole.append(event)  # noqa: PERF402 - those before an error count
    except ApiError as error:
        return whole, error
    return whole, None


def _sealed(event: OutputItemDone) -> OutputItemDone:
    if isinstance(event.item, Reasoning):
        return OutputItemDone(sealed_reasoning(event.item))
    return event
