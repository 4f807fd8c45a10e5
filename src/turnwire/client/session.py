"""One user turn: all requests that it takes, under one routing token."""

from __future__ import annotations

import asyncio
import logging
import random
import weakref
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import version
from types import TracebackType
from typing import Self

from turnwire.client.provider import Provider
from turnwire.client.retry import parse_retry_after, request_delay
from turnwire.client.stream import ResponseStream
from turnwire.client.turn_state import TURN_STATE_HEADER, TurnState
from turnwire.errors import ApiError, ConfigurationError, ErrorResponse, IdleTimeout
from turnwire.item import CustomToolCall, FunctionCall
from turnwire.prompt import Prompt
from turnwire.telemetry import RequestRecord, RequestTelemetry, SseTelemetry
from turnwire.transport.http import HttpRequest, HttpResponse, HttpTransport
from turnwire.wire.chat import ChatDecoder, ReasoningName, encode_request
from turnwire.wire.failure import failure_from_response

__all__ = ["ModelClientSession"]

_log = logging.getLogger("turnwire.client")

_MAX_ERROR_BODY = 16 * 1024
_ERROR_BODY_TIMEOUT = 5.0
"""Seconds that a refusal gets to say more than its status."""
_SECRET_HEADERS = frozenset({"set-cookie", TURN_STATE_HEADER})
_CHAT = "chat/completions"
_HEADERS = {
    "accept": "text/event-stream",
    "content-type": "application/json",
    "user-agent": f"turnwire/{version('turnwire')}",
}


class ModelClientSession:
    """One user turn: open one for each, by `ModelClient.new_session`.

    ``turn_state`` is the turn's routing token: taken from the first response that hands one out, sent with every later
    request of this session, and gone with it. As an async context manager it closes the streams that are still open.
    """

    def __init__(
        self,
        provider: Provider,
        transport: HttpTransport,
        *,
        model: str | None = None,
        request_telemetry: RequestTelemetry | None = None,
        sse_telemetry: SseTelemetry | None = None,
        reasoning_names: dict[str, ReasoningName] | None = None,
    ) -> None:
        self._provider = provider
        self._transport = transport
        self._model = model or provider.model
        self._request_telemetry = request_telemetry
        self._sse_telemetry = sse_telemetry
        self._reasoning_names = {} if reasoning_names is None else reasoning_names
        self._streams: weakref.WeakSet[ResponseStream] = weakref.WeakSet()
        self.turn_state = TurnState()

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
        if isinstance(prompt, str):
            prompt = Prompt(prompt)
        model = model or self._model
        if not model:
            raise ConfigurationError(f"no model is named for provider {self._provider.name!r}: give model=…")
        provider = self._provider
        request = encode_request(
            prompt, model=model, dialect=provider.dialect, reasoning_name=self._reasoning_names.get(model)
        )
        for feature in request.dropped:
            _log.warning("%s can't be sent to %s and was left out", feature, provider.name)

        answers = prompt.extra.get("n")
        calls = {item.call_id for item in prompt.items if isinstance(item, FunctionCall | CustomToolCall)}

        def new_decoder() -> ChatDecoder:
            return ChatDecoder(
                provider.dialect,
                max_output_tokens_set=_is_bounded(prompt),
                watch_calls=watch_calls,
                max_event_size=provider.max_event_size,
                choices=answers if isinstance(answers, int) else 1,
                taken_call_ids=calls,
                refuse_bare_end=True,
            )

        def remember(decoder: ChatDecoder) -> None:
            if decoder.reasoning_name is not None:
                self._reasoning_names[model] = decoder.reasoning_name

        stream = ResponseStream(
            lambda: self._request(_CHAT, request.body),
            new_decoder,
            provider,
            restart=restart,
            telemetry=self._sse_telemetry,
            dropped=request.dropped,
            on_end=remember,
        )
        self._streams.add(stream)
        return stream

    async def _request(self, path: str, body: bytes) -> HttpResponse:
        """A response with a success status, after as many attempts as the policy allows."""
        provider = self._provider
        url = provider.url(path)
        time = asyncio.get_running_loop().time
        attempt = 0
        while True:
            started = time()
            response, error = await self._attempt(url, body)
            delay = None
            if error is not None:
                delay = request_delay(provider.retry_policy, error, attempt, jitter=random.random())  # noqa: S311
            if self._request_telemetry is not None:
                self._request_telemetry.on_request(
                    RequestRecord(
                        provider=provider.name,
                        url=url.partition("?")[0],
                        attempt=attempt,
                        duration=time() - started,
                        status=_status(response, error),
                        error=None if error is None else type(error).__name__,
                        retry_delay=delay,
                    )
                )
            if response is not None:
                return response
            assert error is not None  # noqa: S101 - an attempt gives one or the other
            if delay is None:
                raise error
            _log.info("%s is asked again in %.1f s: %s", provider.name, delay, type(error).__name__)
            await asyncio.sleep(delay)
            attempt += 1

    async def _attempt(self, url: str, body: bytes) -> tuple[HttpResponse | None, ApiError | None]:
        """One try at one request: a success response, or why there is none."""
        provider = self._provider
        headers = {**_HEADERS, **await provider.request_headers()}
        token = self.turn_state.get()
        if token is not None:
            headers[TURN_STATE_HEADER] = token
        try:
            async with asyncio.timeout(provider.idle_timeout):
                response = await self._transport.send(HttpRequest(url, headers, body))
                if 200 <= response.status < 300:
                    self.turn_state.set(response.headers.get(TURN_STATE_HEADER, ""))
                    return response, None
                try:
                    return None, await _failure(response, where=url.partition("?")[0])
                finally:
                    response.close()
        except ApiError as error:
            return None, error
        except TimeoutError:
            return None, IdleTimeout(
                f"no response from {provider.name} within idle_timeout, {provider.idle_timeout:g} s"
            )


async def _failure(response: HttpResponse, *, where: str) -> ApiError:
    headers = {name: value for name, value in response.headers.items() if name not in _SECRET_HEADERS}
    body = b""
    with suppress(TimeoutError):
        async with asyncio.timeout(_ERROR_BODY_TIMEOUT):
            body = await response.read_at_most(_MAX_ERROR_BODY)
    told = ErrorResponse(
        status=response.status,
        headers=headers,
        body=body.decode("utf-8", "replace"),
        retry_after=parse_retry_after(headers, datetime.now(UTC)),
    )
    return failure_from_response(told, where=where)


def _status(response: HttpResponse | None, error: ApiError | None) -> int | None:
    if response is not None:
        return response.status
    return None if error is None or error.response is None else error.response.status


def _is_bounded(prompt: Prompt) -> bool:
    return prompt.max_output_tokens is not None or not prompt.extra.keys().isdisjoint(
        ("max_tokens", "max_completion_tokens")
    )
