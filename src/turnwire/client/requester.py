"""One HTTP request, with as many attempts as the policy allows, under the turn's token."""

from __future__ import annotations

import asyncio
import logging
import random
from datetime import UTC, datetime
from importlib.metadata import version

from turnwire.client.provider import Provider
from turnwire.client.retry import parse_retry_after, request_delay
from turnwire.client.turn_state import TURN_STATE_HEADER, TurnState
from turnwire.client.watch import StreamWatch
from turnwire.errors import ApiError, ErrorResponse, IdleTimeout
from turnwire.telemetry import RequestRecord, RequestTelemetry
from turnwire.transport.http import HttpTransport
from turnwire.transport.message import HttpRequest, HttpResponse
from turnwire.wire.failure import failure_from_response

__all__ = ["USER_AGENT", "Requester", "read_refusal", "refusal"]

_log = logging.getLogger("turnwire.client")

USER_AGENT = f"turnwire/{version('turnwire')}"

_MAX_ERROR_BODY = 16 * 1024
_ERROR_BODY_TIMEOUT = 5.0
"""Seconds that a refusal gets to say more than its status."""
_SECRET_HEADERS = frozenset({"set-cookie", TURN_STATE_HEADER})
_HEADERS = {"accept": "text/event-stream", "content-type": "application/json", "user-agent": USER_AGENT}


class Requester:
    """Sends a turn's HTTP requests: repeats its token, takes one that is handed out, tries again where that helps.

    A 401 asks a provider's key function for a key once more, and is tried once again at once.
    """

    def __init__(
        self,
        provider: Provider,
        transport: HttpTransport,
        turn_state: TurnState,
        telemetry: RequestTelemetry | None,
    ) -> None:
        self._provider = provider
        self._transport = transport
        self._turn_state = turn_state
        self._telemetry = telemetry

    async def post(self, path: str, body: bytes, watch: StreamWatch | None = None) -> HttpResponse:
        """A response with a success status, after as many attempts as the policy allows; ``watch`` hears of them."""
        provider = self._provider
        url = provider.url(path)
        time = asyncio.get_running_loop().time
        attempt = 0
        key_renewed = not callable(provider.api_key)
        while True:
            started = time()
            response, error = await self._attempt(url, body)
            delay = None
            if _status(response, error) == 401 and not key_renewed:
                key_renewed = True
                delay = 0.0
            elif error is not None:
                delay = request_delay(provider.retry_policy, error, attempt, jitter=random.random())  # noqa: S311
            if self._telemetry is not None:
                self._telemetry.on_request(
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
            if watch is not None:
                watch.retried("request", error, delay)
            _log.info("%s is asked again in %.1f s: %s", provider.name, delay, type(error).__name__)
            await asyncio.sleep(delay)
            attempt += 1

    async def _attempt(self, url: str, body: bytes) -> tuple[HttpResponse | None, ApiError | None]:
        """One try at one request: a success response, or why there is none."""
        provider = self._provider
        headers = {**_HEADERS, **await provider.request_headers()}
        token = self._turn_state.get()
        if token is not None:
            headers[TURN_STATE_HEADER] = token
        try:
            async with asyncio.timeout(provider.idle_timeout):
                response = await self._transport.send(HttpRequest(url, headers, body))
                if 200 <= response.status < 300:
                    self._turn_state.set(response.headers.get(TURN_STATE_HEADER, ""))
                    return response, None
                return None, await read_refusal(response, where=url.partition("?")[0])
        except ApiError as error:
            return None, error
        except TimeoutError:
            return None, IdleTimeout(
                f"no response from {provider.name} within idle_timeout, {provider.idle_timeout:g} s"
            )


async def read_refusal(response: HttpResponse, *, where: str) -> ApiError:
    """The error for a response that says no, once its body has said why; its connection is closed.

    16 KiB of the body are read, for at most 5 s.
    """
    body = b""
    try:
        async with asyncio.timeout(_ERROR_BODY_TIMEOUT):
            body = await response.read_at_most(_MAX_ERROR_BODY)
    except TimeoutError:
        pass  # the status says enough
    finally:
        response.close()
    return refusal(ErrorResponse(response.status, response.headers, body.decode("utf-8", "replace")), where=where)


def refusal(response: ErrorResponse, *, where: str) -> ApiError:
    """The error for a response that says no, with when to come back and without what nobody shall read."""
    headers = {name: value for name, value in response.headers.items() if name not in _SECRET_HEADERS}
    retry_after = parse_retry_after(headers, datetime.now(UTC))
    return failure_from_response(ErrorResponse(response.status, headers, response.body, retry_after), where=where)


def _status(response: HttpResponse | None, error: ApiError | None) -> int | None:
    if response is not None:
        return response.status
    return None if error is None or error.response is None else error.response.status
