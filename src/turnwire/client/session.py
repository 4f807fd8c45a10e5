"""One user turn: all requests that it takes, under one routing token."""

from __future__ import annotations

import logging
import weakref
from types import TracebackType
from typing import Any, Self

import msgspec

from turnwire.client.chat_asker import ChatAsker
from turnwire.client.provider import Provider
from turnwire.client.requester import Requester
from turnwire.client.responses_asker import ResponsesAsker
from turnwire.client.socket import SocketPool
from turnwire.client.stream import ResponseStream, read_whole_answer
from turnwire.client.turn_state import TurnState
from turnwire.client.watch import StreamWatch
from turnwire.errors import ConfigurationError, ProtocolError
from turnwire.item import ResponseItem, decode_item
from turnwire.prompt import Prompt
from turnwire.telemetry import (
    PollOutcome,
    RequestTelemetry,
    SsePollRecord,
    SseTelemetry,
    StreamTelemetry,
    WebsocketTelemetry,
)
from turnwire.transport.http import HttpTransport
from turnwire.wire.chat import ReasoningName
from turnwire.wire.responses import encode_response_request

__all__ = ["ModelClientSession"]

_log = logging.getLogger("turnwire.client")

_COMPACT = "responses/compact"


class ModelClientSession:
    """One user turn: open one for each, by `ModelClient.new_session`.

    ``turn_state`` is the turn's routing token: taken from the first response that hands one out, sent with every later
    request of this session, whatever the wire, and gone with it. As an async context manager it closes the streams that
    are still open.
    """

    def __init__(
        self,
        provider: Provider,
        transport: HttpTransport,
        *,
        model: str | None = None,
        request_telemetry: RequestTelemetry | None = None,
        sse_telemetry: SseTelemetry | None = None,
        websocket_telemetry: WebsocketTelemetry | None = None,
        stream_telemetry: StreamTelemetry | None = None,
        reasoning_names: dict[str, ReasoningName] | None = None,
        sockets: SocketPool | None = None,
        streams: weakref.WeakSet[ResponseStream] | None = None,
    ) -> None:
        self.turn_state = TurnState()
        self._provider = provider
        self._model = model or provider.model
        self._requester = Requester(provider, transport, self.turn_state, request_telemetry)
        self._sse_telemetry = sse_telemetry
        self._websocket_telemetry = websocket_telemetry
        self._stream_telemetry = stream_telemetry
        self._reasoning_names = {} if reasoning_names is None else reasoning_names
        self._sockets = SocketPool() if sockets is None else sockets
        self._streams: weakref.WeakSet[ResponseStream] = weakref.WeakSet()
        self._client_streams = self._streams if streams is None else streams

    def __repr__(self) -> str:
        return f"<ModelClientSession with {self._provider.name}, {self.turn_state!r}>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the streams that are still open."""
        for stream in tuple(self._streams):
            stream.close()

    def stream(
        self, prompt: Prompt | str, *, model: str | None = None, watch_calls: bool = False, restart: bool = False
    ) -> ResponseStream:
        """The model's answer to a prompt; the request goes out when the stream is entered or first read.

        ``watch_calls`` adds events for calls while they grow. ``restart`` lets a stream that broke in mid-answer begin
        anew, with a `StreamRestarted` event: run no tool before `Completed` then. Raises `ConfigurationError` where no
        model is named and `InvalidPrompt` where the prompt makes no sense.
        """
        prompt = _prompt(prompt)
        model = self._named(model)
        telemetry = self._stream_telemetry
        watch = None if telemetry is None else StreamWatch(telemetry, self._provider, model)
        asker: ChatAsker | ResponsesAsker
        if self._provider.wire_api == "chat":
            asker = ChatAsker(
                self._provider,
                self._requester,
                prompt,
                model=model,
                watch_calls=watch_calls,
                reasoning_names=self._reasoning_names,
                on_poll=None if self._sse_telemetry is None else self._report,
                watch=watch,
            )
        else:
            asker = self._responses_asker(prompt, model, watch_calls=watch_calls, watch=watch)
        for feature in asker.dropped:
            _log.warning("%s can't be sent to %s and was left out", feature, self._provider.name)
        return self._streaming(asker, restart=restart, watch=watch)

    async def warm_up(self, prompt: Prompt | str, *, model: str | None = None) -> None:
        """Has a WebSocket server read a prompt before the turn needs an answer, and answer nothing.

        The connection stays open for the turn, and a token that is handed out belongs to it. Without WebSocket there is
        nothing to warm up and nothing is sent.
        """
        if not self._sockets.wanted(self._provider):
            return
        asker = self._responses_asker(_prompt(prompt), self._named(model), watch_calls=False, generate=False)
        async with self._streaming(asker, restart=False) as stream:
            async for _ in stream:
                pass

    async def compact(self, prompt: Prompt | str, *, model: str | None = None) -> tuple[ResponseItem, ...]:
        """The conversation folded by the server into fewer items, to go on with in place of the prompt's.

        It is part of the turn and goes to the turn's replica. Responses API only; `ConfigurationError` otherwise. An
        answer that breaks off is a `Disconnected`, one that takes longer than ``idle_timeout`` is an `IdleTimeout`.
        """
        if self._provider.wire_api != "responses":
            raise ConfigurationError(f"provider {self._provider.name!r} can't compact: that takes the Responses API")
        request = encode_response_request(_prompt(prompt), model=self._named(model), store=self._provider.store)
        kept = ("model", "input", "instructions", "tools", "parallel_tool_calls", "reasoning", "text")
        body = {name: request.fields[name] for name in kept if name in request.fields}
        response = await self._requester.post(_COMPACT, msgspec.json.encode(body))
        try:
            whole = await read_whole_answer(response, self._provider)
        finally:
            response.close()
        return _compacted(whole)

    def _streaming(
        self, asker: ChatAsker | ResponsesAsker, *, restart: bool, watch: StreamWatch | None = None
    ) -> ResponseStream:
        stream = ResponseStream(
            asker.ask, self._provider, restart=restart, dropped=asker.dropped, on_end=asker.ended, watch=watch
        )
        self._streams.add(stream)
        self._client_streams.add(stream)
        return stream

    def _responses_asker(
        self,
        prompt: Prompt,
        model: str,
        *,
        watch_calls: bool,
        watch: StreamWatch | None = None,
        generate: bool | None = None,
    ) -> ResponsesAsker:
        return ResponsesAsker(
            self._provider,
            self._requester,
            prompt,
            model=model,
            watch_calls=watch_calls,
            turn_state=self.turn_state,
            sockets=self._sockets,
            on_poll=None if self._sse_telemetry is None else self._report,
            telemetry=self._websocket_telemetry,
            watch=watch,
            generate=generate,
        )

    def _report(self, outcome: PollOutcome, duration: float, events: int) -> None:
        if self._sse_telemetry is not None:
            self._sse_telemetry.on_sse_poll(SsePollRecord(outcome, duration, events))

    def _named(self, model: str | None) -> str:
        model = model or self._model
        if not model:
            raise ConfigurationError(f"no model is named for provider {self._provider.name!r}: give model=…")
        return model


def _prompt(prompt: Prompt | str) -> Prompt:
    return Prompt(prompt) if isinstance(prompt, str) else prompt


def _compacted(body: bytes) -> tuple[ResponseItem, ...]:
    try:
        answer = msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        answer = {}
    output = answer.get("output")
    if not isinstance(output, list) or not all(isinstance(item, dict) for item in output):
        raise ProtocolError("the server answered a compaction with something other than a list of items")
    return tuple(decode_item(item) for item in output)
