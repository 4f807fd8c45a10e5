"""Requests whose whole responses, or failures, a test wants to see."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from turnwire.errors import ApiError
from turnwire.transport.http import HttpRequest, HttpTransport

REQUEST_BODY = b'{"model": "m", "stream": true, "messages": []}'


def request(url: str, body: bytes = REQUEST_BODY, **headers: str) -> HttpRequest:
    return HttpRequest(url, headers, body)


async def body_of(url: str, **options: Any) -> bytes:
    """The whole body of one response."""
    async with asyncio.timeout(5), HttpTransport(**{"open_timeout": 2.0, **options}) as transport:
        response = await transport.send(request(url))
        try:
            body = b""
            while data := await response.read():
                body += data
            return body
        finally:
            response.close()


async def failure_of(url: str, **options: Any) -> ApiError:
    with pytest.raises(ApiError) as caught:
        await body_of(url, **options)
    return caught.value
