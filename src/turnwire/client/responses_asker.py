"""How an answer is asked for over Responses, by WebSocket or by HTTP."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping

from msgspec.structs import replace

from turnwire.client.provider import Provider
from turnwire.client.requester import USER_AGENT, Requester, refusal
from turnwire.client.retry import request_delay
from turnwire.client.socket import FrameDecoder, SocketAnswer, SocketLink, SocketPool
from turnwire.client.stream import Asked, OnPoll
from turnwire.client.turn_state import TURN_STATE_HEADER, TurnState
from turnwire.client.watch import StreamWatch
from turnwire.errors import ApiError, Disconnected, HttpStatusError, ProtocolError
from turnwire.prompt import Prompt
from turnwire.telemetry import PollOutcome, WebsocketConnectRecord, WebsocketPollRecord, WebsocketTelemetry, Wire
from turnwire.transport.websocket import WebSocketConnection, open_websocket
from turnwire.wire.answer_decoder import AnswerDecoder
from turnwire.wire.responses import (
    ResponsesDecoder,
    ResponsesRequest,
    encode_response_request,
    events_from_headers,
)

__all__ = ["ResponsesAsker"]

_PATH = "responses"
_BETA = {"openai-beta": "responses_websockets=2026-02-06"}
_FALL_BACK = frozenset({404, 405, 426})
"""Refusals of a WebSocket handshake by servers that have no WebSocket; 426 is OpenAI's."""
_MAX_HANDSHAKES = 3
"""Handshakes that may fail in a row until HTTP is tried instead."""


class ResponsesAsker:
    """Asks over Responses: on a WebSocket where the provider has one, else by HTTP.

    On a kept connection whose server knows the history's beginning, only the rest is sent. With ``websocket="auto"`` a
    server that has no WebSocket, or whose handshakes keep failing, is asked by HTTP from then on, within this attempt.
    """

    def __init__(
        self,
        provider: Provider,
        requester: Requester,
        prompt: Prompt,
        *,
        model: str,
        watch_calls: bool,
        turn_state: TurnState,
        sockets: SocketPool,
        on_poll: OnPoll | None,
        telemetry: WebsocketTelemetry | None,
        watch: StreamWatch | None = None,
        generate: bool | None = None,
    ) -> None:
        self._provider = provider
        self._requester = requester
        self._prompt = prompt
        self._model = model
        self._watch_calls = watch_calls
        self._turn_state = turn_state
        self._sockets = sockets
        self._on_poll = on_poll
        self._telemetry = telemetry
        self._watch = watch
        self._generate = generate
        self._encode(prompt)  # a prompt that makes no sense is refused before anything is sent
        self.dropped: tuple[str, ...] = ()

    async def ask(self) -> Asked:
        """One request, under the turn's token."""
        if self._sockets.wanted(self._provider):
            self._goes_over("websocket")
            asked = await self._ask_over_socket()
            if asked is not None:
                return asked
        self._goes_over("responses")
        response = await self._requester.post(_PATH, self._encode(self._prompt).body, self._watch)
        decoder = ResponsesDecoder(watch_calls=self._watch_calls, max_event_size=self._provider.max_event_size)
        return Asked(response, decoder, events_from_headers(response.headers), self._on_poll)

    def ended(self, decoder: AnswerDecoder) -> None:
        """Nothing is learnt from a Responses answer."""

    def _goes_over(self, wire: Wire) -> None:
        if self._watch is not None:
            self._watch.wire = wire

    def _retried(self, error: ApiError, delay: float) -> None:
        if self._watch is not None:
            self._watch.retried("handshake", error, delay)

    async def _ask_over_socket(self) -> Asked | None:
        """The answer on a kept connection or a new one; None where HTTP is to be used instead."""
        link = self._sockets.take()
        if link is not None:
            try:
                return await self._send(link)
            except Disconnected:
                pass  # it was closed while nobody used it: that is no failure
        connection = await self._open()
        return None if connection is None else await self._send(SocketLink(connection))

    async def _send(self, link: SocketLink) -> Asked:
        prompt, known = self._prompt, None
        continuation = link.continuation(prompt.items)
        if continuation is not None:
            known, new = continuation
            prompt = replace(prompt, input=new)
        token = self._turn_state.get()
        request = self._encode(
            prompt, previous_response_id=known, client_metadata={} if token is None else {TURN_STATE_HEADER: token}
        )
        try:
            await link.connection.send(request.frame.encode())
        except BaseException:
            link.connection.close()
            raise
        decoder = FrameDecoder(
            self._turn_state, watch_calls=self._watch_calls, max_event_size=self._provider.max_event_size
        )
        answered = self._generate is not False
        answer = SocketAnswer(link, self._sockets, self._prompt.items, decoder, answered=answered)
        return Asked(answer, decoder, on_poll=self._report if self._telemetry is not None else None)

    def _report(self, outcome: PollOutcome, duration: float, events: int) -> None:
        if self._telemetry is not None:
            self._telemetry.on_websocket_poll(WebsocketPollRecord(outcome, duration, events))

    async def _open(self) -> WebSocketConnection | None:
        """A new connection, after as many handshakes as the policy allows; None where there is none to be had."""
        provider = self._provider
        key_renewed = not callable(provider.api_key)
        attempt = 0
        while True:
            connection, error = await self._handshake(attempt)
            if connection is not None:
                return connection
            assert error is not None  # noqa: S101 - a handshake gives one or the other
            status = None if error.response is None else error.response.status
            if status == 401 and not key_renewed:
                key_renewed = True
                self._retried(error, 0.0)
                continue
            attempt += 1
            if provider.websocket == "auto" and (_knows_none(error) or self._is_last(attempt, status)):
                self._sockets.give_up(str(error))
                return None
            delay = request_delay(provider.retry_policy, error, attempt - 1, jitter=random.random())  # noqa: S311
            if delay is None:
                raise error
            self._retried(error, delay)
            await asyncio.sleep(delay)

    def _is_last(self, attempt: int, status: int | None) -> bool:
        """Whether so many handshakes were enough; a server that refuses them for a reason is not asked otherwise."""
        most = min(_MAX_HANDSHAKES, self._provider.request_max_retries + 1)
        return attempt >= most and (status is None or status >= 500)

    async def _handshake(self, attempt: int) -> tuple[WebSocketConnection | None, ApiError | None]:
        provider = self._provider
        headers = {**await provider.request_headers(), **_BETA, "user-agent": USER_AGENT}
        token = self._turn_state.get()
        if token is not None:
            headers[TURN_STATE_HEADER] = token
        url = provider.url(_PATH)
        started = asyncio.get_running_loop().time()
        connection: WebSocketConnection | None = None
        failure: ApiError | None = None
        try:
            connection = await open_websocket(
                url,
                headers,
                open_timeout=provider.open_timeout,
                max_size=provider.max_event_size,
                ca_file=provider.ca_file,
            )
        except HttpStatusError as error:
            failure = refusal(error.response, where=f"{url.partition('?')[0]} (WebSocket)")
        except ApiError as error:
            failure = error
        else:
            # Older servers hand the token out here; what the answer's metadata say outranks it.
            self._turn_state.set_provisionally(connection.headers.get(TURN_STATE_HEADER, ""))
        if self._telemetry is not None:
            duration = asyncio.get_running_loop().time() - started
            self._telemetry.on_websocket_connect(
                WebsocketConnectRecord(
                    provider=provider.name,
                    url=url.partition("?")[0],
                    attempt=attempt,
                    duration=duration,
                    error=None if failure is None else type(failure).__name__,
                )
            )
        return connection, failure

    def _encode(
        self,
        prompt: Prompt,
        *,
        previous_response_id: str | None = None,
        client_metadata: Mapping[str, str] = {},
    ) -> ResponsesRequest:
        return encode_response_request(
            prompt,
            model=self._model,
            store=self._provider.store,
            previous_response_id=previous_response_id,
            generate=self._generate,
            client_metadata=client_metadata,
        )


def _knows_none(error: ApiError) -> bool:
    """Whether a failed handshake says that there is no WebSocket to be had."""
    status = None if error.response is None else error.response.status
    return status in _FALL_BACK or isinstance(error, ProtocolError)
