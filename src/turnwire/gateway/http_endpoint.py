"""The endpoints that take a request's body: who asks is known before what is asked is read."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeAlias

from starlette.types import Receive, Scope, Send

from turnwire.errors import ApiError
from turnwire.gateway.at_once import body_of
from turnwire.gateway.body import ClientGone, decode_object, read_body
from turnwire.gateway.caller import Caller, Callers
from turnwire.gateway.configuration import GatewayConfiguration
from turnwire.gateway.inquiry import Inquiry, plain_headers
from turnwire.gateway.refusal import NotServed
from turnwire.gateway.sink import HttpSink

__all__ = ["Answer", "PostEndpoint", "caller_host"]

_log = logging.getLogger("turnwire.gateway")

Answer: TypeAlias = Callable[[dict[str, Any], Inquiry, HttpSink], Awaitable[None]]
"""What answers a request, given its JSON object."""


class PostEndpoint:
    """An ASGI application that takes a JSON object by POST and has ``answer`` answer it.

    ``other_methods`` is what is said of other methods, instead of 405.
    """

    def __init__(
        self,
        configuration: GatewayConfiguration,
        callers: Callers,
        answer: Answer,
        *,
        other_methods: NotServed | None = None,
    ) -> None:
        self._configuration = configuration
        self._callers = callers
        self._answer = answer
        self._other_methods = other_methods or NotServed(
            "this path takes POST alone", status=405, headers={"allow": "POST"}
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one HTTP request."""
        headers = plain_headers(scope["headers"])
        sink = HttpSink(scope, receive, send)
        try:
            caller, fields = await self._asked(scope, receive, headers)
            await self._answer(fields, Inquiry.of(caller, headers, fields.get("client_metadata")), sink)
        except ClientGone:
            return
        except Exception as error:
            if sink.begun:
                raise
            if isinstance(error, ApiError):
                _log.info("a request was refused: %s", type(error).__name__)
            else:
                _log.exception("a request failed in the gateway")
                error = ApiError("the gateway failed on this request; its log says more")
            await sink.refuse(error, {})

    async def _asked(self, scope: Scope, receive: Receive, headers: Mapping[str, str]) -> tuple[Caller, dict[str, Any]]:
        """Who asks, and what."""
        caller = self._callers.identify(headers, caller_host(scope))
        if scope["method"] != "POST":
            raise self._other_methods
        limits = self._configuration
        body = await read_body(
            receive, headers, max_size=limits.max_body, timeout=limits.body_timeout, read=body_of(scope, receive)
        )
        return caller, decode_object(body)


def caller_host(scope: Scope) -> str | None:
    """The address that a request comes from."""
    client = scope.get("client")
    return client[0] if client else None
