"""What the scripted server says to whom: every answer is decided here, and nothing is sent."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import repeat
from typing import Any

import msgspec
from msgspec.structs import replace

from turnwire.client.turn_state import TURN_STATE_HEADER
from turnwire.testing.answer import JSON_TYPE, Answer, Part
from turnwire.testing.asked import AskedResponse, Memory, Refusal, read_asked
from turnwire.testing.channel import Message
from turnwire.testing.fault import HandshakeFault
from turnwire.testing.frame import FrameAnswer
from turnwire.testing.infliction import inflict
from turnwire.testing.request import RecordedRequest, Wire
from turnwire.testing.responses_answer import (
    TokenPlace,
    answer_compaction,
    answer_frames,
    answer_response,
    output_items,
)
from turnwire.testing.script import ChatRequest, Script, Turn, answer_turn
from turnwire.wire.chat.dialect import ChatDialect

__all__ = ["WEBSOCKET", "Responder"]

WEBSOCKET = ("GET", "/v1/responses")
_COMPACT = ("POST", "/v1/responses/compact")
_MODELS = ("GET", "/v1/models")
_WIRES: dict[tuple[str, str], Wire] = {
    ("POST", "/v1/chat/completions"): "chat",
    ("POST", "/v1/responses"): "responses",
    _COMPACT: "responses",
}

_BETA = "responses_websockets="
"""What a handshake's ``openai-beta`` names, with a date behind it."""


class Responder:
    """Gives each request its answer, and keeps the record. The arguments are those of `ScriptedServer`."""

    def __init__(
        self,
        script: Script,
        *,
        dialect: ChatDialect,
        token: str | None,
        token_place: TokenPlace,
        api_key: str | None,
        models: Iterable[str] | None,
        handshakes: HandshakeFault | Sequence[HandshakeFault | None],
        strict: bool,
    ) -> None:
        self._next_turn = script if callable(script) else _in_order(script)
        self._dialect = dialect
        self._token = token
        self._place = token_place
        self._api_key = api_key
        self._models = None if models is None else tuple(models)
        self._handshake_faults = iter(handshakes) if isinstance(handshakes, Sequence) else repeat(handshakes)
        self._strict = strict
        self._stored = Memory()
        self.requests: list[RecordedRequest] = []
        self.handshakes: list[RecordedRequest] = []
        self.errors: list[str] = []

    def answer(self, request: RecordedRequest) -> tuple[RecordedRequest, Answer]:
        """The answer to an HTTP request, and the request as it is recorded."""
        asked = (request.method, request.path)
        wire = _WIRES.get(asked)
        self._record(replace(request, wire=wire))
        try:
            self._check_key(request)
            if wire == "chat":
                answer = self._completion(request.body)
            elif wire == "responses":
                answer = self._response(request.body, compact=asked == _COMPACT)
            elif asked == _MODELS:
                answer = self._model_list()
            else:
                answer = self._not_served(asked)
        except Refusal as refusal:
            answer = self.refused(refusal).answer
        return self.requests[-1], answer

    def refusal_of_handshake(self, handshake: RecordedRequest) -> Answer | None:
        """What a WebSocket handshake is refused with; None where it is to be accepted."""
        self.handshakes.append(handshake)
        fault = next(self._handshake_faults, None)
        if fault is not None:
            return inflict(fault, Answer())
        try:
            self._check_key(handshake)
            self._check_beta(handshake)
        except Refusal as refusal:
            return self.refused(refusal).answer
        return None

    def handshake_headers(self) -> dict[str, str]:
        """What the 101 response says besides what it must."""
        return {TURN_STATE_HEADER: self._token} if self._token and self._place == "handshake" else {}

    def new_memory(self) -> Memory:
        """The memory of one WebSocket connection."""
        return Memory(self._stored)

    def answer_message(
        self, handshake: RecordedRequest, message: Message, memory: Memory
    ) -> tuple[RecordedRequest, FrameAnswer]:
        """The answer to a WebSocket's message, and the request as it is recorded."""
        number = self._record(replace(handshake, wire="websocket", body=message.data))
        try:
            self._check_message(message)
            asked = read_asked(message.data, framed=True, strict=self._strict)
        except Refusal as refusal:
            answer = self.refused(refusal).frame_answer
        else:
            try:
                answer = self._frames(asked, number, memory)
            except Refusal as refusal:
                answer = self.refused(refusal).frame_answer
            if not answer.completes:
                memory.forget(asked.previous_response_id)
        return self.requests[-1], answer

    def refused(self, refusal: Refusal) -> Refusal:
        """The refusal; noted where nobody foresaw it."""
        if not refusal.foreseen:
            self.errors.append(refusal.message)
        return refusal

    def _completion(self, body: bytes) -> Answer:
        try:
            asked = msgspec.json.decode(body, type=ChatRequest)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Refusal(400, f"the request's body is not one of Chat Completions: {error}") from None
        self._check_model(asked.model)
        with self._turn(asked.messages) as (number, turn):
            headers = self._headers(turn, number)
            return answer_turn(turn, asked, self._dialect, headers=headers, response_id=f"chatcmpl-{number}")

    def _response(self, body: bytes, *, compact: bool) -> Answer:
        asked = read_asked(body, framed=False, strict=self._strict)
        self._check_model(asked.model)
        given = self._stored.whole_input(asked)
        with self._turn(given) as (number, turn):
            headers, response_id = self._headers(turn, number), f"resp_{number}"
            if compact:
                return answer_compaction(turn, asked, headers=headers, response_id=response_id)
            answer = answer_response(turn, asked, headers=headers, response_id=response_id)
            if asked.stores and turn.fault is None:
                output = output_items(turn, asked, response_id=response_id)
                self._stored.remember(response_id, (*given, *output), stored=False)
            return answer

    def _frames(self, asked: AskedResponse, number: int, memory: Memory) -> FrameAnswer:
        self._check_model(asked.model)
        given, response_id = memory.whole_input(asked), f"resp_{number}"
        with self._turn(given, Turn() if asked.warms_up else None) as (_, turn):
            by_message = turn.token is not None or self._place != "handshake"
            token = self._token_of(turn) if by_message and self._place != "never" else None
            answer = answer_frames(turn, asked, token=token, place=self._place, response_id=response_id)
            if answer.completes:
                output = output_items(turn, asked, response_id=response_id)
                memory.remember(response_id, (*given, *output), stored=asked.stores)
            return answer

    def _model_list(self) -> Answer:
        names = self._models or (ChatRequest().model,)
        models = [{"id": name, "object": "model", "created": 0, "owned_by": "turnwire"} for name in names]
        body = msgspec.json.encode({"object": "list", "data": models})
        return Answer(headers={"content-type": JSON_TYPE}, parts=(Part(body),))

    def _not_served(self, asked: tuple[str, str]) -> Answer:
        served = ", ".join(" ".join(route) for route in (*_WIRES, WEBSOCKET, _MODELS))
        raise Refusal(404, f"{' '.join(asked)} is not served; served are {served}")

    def _record(self, request: RecordedRequest) -> int:
        self.requests.append(request)
        return len(self.requests)

    @contextmanager
    def _turn(self, given: Sequence[Any], turn: Turn | None = None) -> Iterator[tuple[int, Turn]]:
        """The last request's number and its turn, by default the script's next.

        What the model is given goes into the record. What the script raises, or can't be played, becomes a refusal.
        """
        number = len(self.requests)
        request = self.requests[-1] = replace(self.requests[-1], input=tuple(given))
        try:
            yield number, self._next_turn(request) if turn is None else turn
        except _ScriptOver:
            raise Refusal(500, f"the script is over: it has no turn for request {number}") from None
        except Exception as error:
            raise Refusal(500, f"the script failed on request {number}: {error!r}") from error

    def _check_key(self, request: RecordedRequest) -> None:
        if self._api_key is not None and request.headers.get("authorization") != f"Bearer {self._api_key}":
            raise Refusal(401, "the API key is missing or not the right one", code="invalid_api_key", foreseen=True)

    def _check_model(self, model: str) -> None:
        if self._models is not None and model not in self._models:
            raise Refusal(404, f"the model {model!r} does not exist", code="model_not_found", foreseen=True)

    def _check_beta(self, handshake: RecordedRequest) -> None:
        beta = handshake.headers.get("openai-beta", "")
        if self._strict and _BETA not in beta:
            raise Refusal(400, f"the handshake's openai-beta is {beta!r}; expected {_BETA} and a date")

    def _check_message(self, message: Message) -> None:
        if self._strict and not message.is_text:
            raise Refusal(400, "the message is binary; expected text")
        if self._strict and message.early:
            raise Refusal(400, "the message came before another was answered")

    def _token_of(self, turn: Turn) -> str | None:
        return (self._token if turn.token is None else turn.token) or None

    def _headers(self, turn: Turn, number: int) -> dict[str, str]:
        headers = {"x-request-id": f"request-{number}"}
        if token := self._token_of(turn):
            headers[TURN_STATE_HEADER] = token
        return headers


class _ScriptOver(Exception):
    """More requests came than there are turns."""


def _in_order(turns: Sequence[Turn]) -> Callable[[RecordedRequest], Turn]:
    rest = iter(tuple(turns))

    def next_turn(_: RecordedRequest) -> Turn:
        for turn in rest:
            return turn
        raise _ScriptOver

    return next_turn
