"""Client and upstream both speak Responses: what the upstream says goes on as it is, event by event.

Events that turnwire does not know pass like any other. Only whole events go on, so that an answer that breaks off can
still be ended by one of our own. The upstream's own routing token is the one thing that stays behind: it travels inside
of ours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from turnwire.client.turn_state import TURN_STATE_HEADER
from turnwire.errors import ApiError, ContextWindowExceeded, ProtocolError, StreamError
from turnwire.event import Completed, Created, ResponseEvent
from turnwire.gateway.exchange.exchange import Outcome
from turnwire.gateway.exchange.whole_event import WholeEvents
from turnwire.gateway.refusal import stream_failure
from turnwire.wire.answer_decoder import Ending
from turnwire.wire.chat import ReasoningName
from turnwire.wire.responses import Framing, ResponseObject, ResponsesDecoder, ResponsesEncoder
from turnwire.wire.responses.event import decode_event
from turnwire.wire.responses.received import ReceivedRequest
from turnwire.wire.sealed import unsealed_item
from turnwire.wire.sse import SseDecoder, encode_event

__all__ = ["ResponsesRelayed"]

_encode = msgspec.json.Encoder().encode
_CREATED = b'"response.created"'
_FAILED = b'"response.failed"'
_METADATA = b'"response.metadata"'
_RESPONSE = b'"response"'
_OWN_KEYS = frozenset(("type", "generate", "previous_response_id"))
"""Keys that are the gateway's business: what an HTTP request does not have, and what has been looked up."""


class ResponsesRelayed:
    """An `Exchange`. ``model`` is the upstream's own name for what the request calls its model.

    ``received.fields`` go to the upstream as they are, with the conversation written out that they go on from.
    ``renames`` puts ``response_id`` in the place of the upstream's, for a response that has been named before it began.
    """

    path = "responses"
    # Codex makes room and goes on, where a 400 would end the turn.
    told_in_stream: tuple[type[ApiError], ...] = (ContextWindowExceeded,)
    dropped: Sequence[str] = ()
    reasoning_name: ReasoningName | None = None
    ending: Ending = "open"

    def __init__(
        self,
        received: ReceivedRequest,
        *,
        model: str,
        response_id: str,
        clock: Callable[[], float],
        framing: Framing = "sse",
        renames: bool = False,
        position: int = 0,
    ) -> None:
        own_keys = _OWN_KEYS | {"background"} if renames else _OWN_KEYS
        fields = {key: value for key, value in received.fields.items() if key not in own_keys}
        if TURN_STATE_HEADER in received.client_metadata:
            fields["client_metadata"] = _without_token(received.client_metadata)
        if isinstance(fields.get("input"), list):
            fields["input"] = [unsealed_item(item) for item in fields["input"]]
        self.body = _encode({**fields, "model": model, "stream": received.stream})
        self.error: ApiError | None = None
        self.committed = False
        self._received = received
        self._response_id = response_id
        self._renames = renames or position > 0
        self._clock = clock
        self._framing: Framing = framing
        self._decoder = ResponsesDecoder()
        self._whole_events = WholeEvents()
        self._begun = position > 0  # the client was given an event
        self._stood_in = position > 0  # and that was one that the upstream had owed
        self._completed: Completed | None = None
        self._metadata: Mapping[str, str] = {}
        self._document = b""

    @property
    def over(self) -> bool:
        """The terminal event was given."""
        return self._completed is not None or self.error is not None

    @property
    def position(self) -> int | None:
        """Where another exchange can go on: behind a beginning that was ours."""
        return 1 if self._stood_in and not self.committed else None

    @property
    def outcome(self) -> Outcome | None:
        """The answer, once it ended properly."""
        completed = self._completed
        if completed is None:
            return None
        return Outcome(
            self._own_id,
            {**(self._decoder.response or {}), "id": self._own_id},
            completed.token_usage,
        )

    def start(self, metadata: Mapping[str, str]) -> list[bytes]:
        """Nothing yet: the upstream's own beginning comes first, and the metadata right behind it."""
        self._metadata = metadata
        return []

    def feed(self, data: bytes) -> list[bytes]:
        """The events that these bytes complete, as they came."""
        written: list[bytes] = []
        try:
            for event in self._whole_events.take(data):
                if not self.over:
                    self._take(event, written)
        except ProtocolError as error:
            written += self.fail(error)
        return written if self._received.stream else []

    def feed_whole(self, body: bytes) -> list[bytes]:
        """An answer in one piece: as it came, or as a stream where one was asked for."""
        events: list[ResponseEvent] = []
        error = self._watch(self._decoder.feed_completion(body), events)
        if error is not None:
            return self.fail(error)
        if not self._received.stream:
            self._document = body
            return []
        encoder = ResponsesEncoder(
            response_id=self._own_id,
            model=self._received.model,
            clock=self._clock,
            request=self._received.fields,
            framing=self._framing,
            first_number=1 if self._begun else 0,
        )
        beginning = [] if self._begun else encoder.start(self._metadata)
        return [*beginning, *encoder.encode(events)]

    def feed_eof(self) -> list[bytes]:
        """A failure, where the terminal event had not come."""
        error = self._watch(self._decoder.feed_eof())
        return [] if error is None else self.fail(error)

    def keepalive(self) -> list[bytes]:
        """An event that says nothing: unlike a comment, it re-arms the idle timers of clients.

        SDKs insist that ``response.created`` comes first. Where the upstream has not said it yet it is said for it,
        with an id of our own, which the answer then keeps.
        """
        if self.over or not self._received.stream:
            return []
        return [*self._begin(), self._framed("keepalive", {"type": "keepalive"})]

    def fail(self, error: ApiError) -> list[bytes]:
        """``response.failed``, under the id that the client knows."""
        if self.over:
            return []
        self.error = error
        return [*self._begin(), self._failed(error)] if self._received.stream else []

    def document(self) -> bytes:
        """The ``response`` object, as it came; of an upstream that streamed unasked, that of its last event."""
        if self._completed is None:
            raise self.error or StreamError("the answer has not ended yet")
        return self._document or _encode(self._decoder.response)

    def _take(self, event: bytes, written: list[bytes]) -> None:
        """One event: told to the decoder, and passed on."""
        error = self._watch(self._decoder.feed(event))
        if self._stood_in and _CREATED in event:
            self._stood_in = False
            return
        self._begun = self._begun or self._decoder.parsed > 0
        # An ``error`` event: Codex does not look at it, and would ask again whatever it says.
        unheard = error is not None and _FAILED not in event
        if self._framing == "websocket":
            if not unheard:
                written += self._messages(event)
        elif self._renames or _METADATA in event:
            for sent in SseDecoder().feed(event):
                name = None if sent.event == "message" else sent.event
                written.append(encode_event(self._rewritten(sent.data.encode()), name))
        else:
            written.append(event)
        self.error = error
        if error is not None and unheard:
            written.append(self._failed(error))

    def _messages(self, event: bytes) -> list[bytes]:
        """A WebSocket's messages for an event; none for what is no JSON object, such as a sentinel."""
        payloads = [sent.data.encode() for sent in SseDecoder().feed(event)]
        messages = [self._rewritten(payload) for payload in payloads if decode_event(payload) is not None]
        return [*messages, *self._metadata_event()] if messages else []

    def _rewritten(self, payload: bytes) -> bytes:
        """An event without the upstream's token, which would be taken for the turn's, and with our name for it."""
        if _METADATA not in payload and not (self._renames and _RESPONSE in payload):
            return payload
        try:
            event = msgspec.json.decode(payload, type=dict[str, Any])
        except msgspec.DecodeError:
            return payload
        response, headers = event.get("response"), event.get("headers")
        if isinstance(headers, dict):
            event["headers"] = _without_token(headers)
        if self._renames and isinstance(response, dict):
            event["response"] = {**response, "id": self._response_id}
        return _encode(event)

    @property
    def _own_id(self) -> str:
        """The response's id, as the client is told it."""
        return self._response_id if self._renames else self._decoder.response_id or self._response_id

    def _watch(self, events: Iterable[ResponseEvent], kept: list[ResponseEvent] | None = None) -> ApiError | None:
        """Notes what these events mean for the answer; gives the error behind them."""
        try:
            for event in events:
                if isinstance(event, Completed):
                    self._completed = event
                elif not self.committed:
                    self.committed = not isinstance(event, Created)
                if kept is not None:
                    kept.append(event)
        except ApiError as error:
            return error
        return None

    def _begin(self) -> list[bytes]:
        """The beginning that the upstream owes, where there was none."""
        if self._begun:
            return []
        self._begun = self._stood_in = self._renames = True
        created = {"type": "response.created", "sequence_number": 0, "response": self._response().begun()}
        return [self._framed("response.created", created), *self._metadata_event()]

    def _failed(self, error: ApiError) -> bytes:
        """The end of our own making, numbered behind what went before."""
        kind, number = "response.failed", max(1, self._decoder.parsed)
        response = self._response().failed(stream_failure(error))
        return self._framed(kind, {"type": kind, "sequence_number": number, "response": response})

    def _response(self) -> ResponseObject:
        return ResponseObject(
            response_id=self._own_id, model=self._received.model, clock=self._clock, request=self._received.fields
        )

    def _metadata_event(self) -> list[bytes]:
        """The headers, once, for a client that sees none."""
        if not self._metadata:
            return []
        headers, self._metadata = self._metadata, {}
        return [self._framed("response.metadata", {"type": "response.metadata", "headers": dict(headers)})]

    def _framed(self, kind: str, event: Mapping[str, Any]) -> bytes:
        payload = _encode(event)
        return payload if self._framing == "websocket" else encode_event(payload, kind)


def _without_token(headers: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in headers.items() if name.lower() != TURN_STATE_HEADER}
