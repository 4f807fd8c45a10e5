"""Requests whose whole responses, or failures, a test wants to see, by either transport."""

from __future__ import annotations

import asyncio
from typing import Any, TypeAlias

import pytest

from turnwire.errors import ApiError
from turnwire.transport.direct import DirectTransport
from turnwire.transport.http import HttpTransport
from turnwire.transport.message import HttpRequest

Kind: TypeAlias = type[HttpTransport] | type[DirectTransport]

REQUEST_BODY = b'{"model": "m", "stream": true, "messages": []}'


def request(url: str, body: bytes = REQUEST_BODY, **headers: str) -> HttpRequest:
    return HttpRequest(url, headers, body)


async def body_of(kind: Kind, url: str, **options: Any) -> bytes:
    """The whole body of one response."""
    async with asyncio.timeout(5), kind(**{"open_timeout": 2.0, **options}) as transport:
        response = await transport.send(request(url))
        try:
            body = b""
            while data := await response.read():
                body += data
            return body
        finally:
            response.close()


async def failure_of(kind: Kind, url: str, **options: Any) -> ApiError:
    with pytest.raises(ApiError) as caught:
        await body_of(kind, url, **options)
    return caught.value
