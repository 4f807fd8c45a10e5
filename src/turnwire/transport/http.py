"""HTTP requests whose responses are read as they come, over aiohttp.

The errors of the library below are mapped here, once, to those of `turnwire.errors`; nothing above this file has
heard of aiohttp.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import aiohttp
from msgspec import Struct

from turnwire.errors import (
    ApiError,
    ConfigurationError,
    ConnectError,
    ConnectTimeout,
    Disconnected,
    ProtocolError,
    TlsError,
)

__all__ = ["HttpRequest", "HttpResponse", "HttpTransport"]

_MAX_HEAD = 64 * 1024


class HttpRequest(Struct, frozen=True):
    """One request with all of its body; ``repr`` shows neither headers nor body, which hold keys and prompts."""

    url: str
    headers: Mapping[str, str]
    body: bytes
    method: str = "POST"

    def __repr__(self) -> str:
        return f"<HttpRequest {self.method} {self.url.partition('?')[0]}, {len(self.body)} bytes>"


class HttpResponse:
    """A response whose head has come and whose body is read with `read`, as fast as the caller asks for it."""

    def __init__(self, response: aiohttp.ClientResponse, where: str) -> None:
        self._response = response
        self._where = where
        self.status = response.status
        self.headers: Mapping[str, str] = {name.lower(): value for name, value in response.headers.items()}
        """Names in lower case; of a repeated header the last one."""

    def __repr__(self) -> str:
        return f"<HttpResponse {self.status} from {self._where}>"

    @property
    def content_type(self) -> str:
        """The media type in lower case, without parameters; empty where the server gave none."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    async def read(self) -> bytes:
        """All bytes that have come since the last read, at least one; b"" at the proper end of the body.

        Raises `Disconnected` where the connection was lost first; a truncated chunked body is one.
        """
        try:
            return await self._response.content.readany()
        except (aiohttp.ClientError, OSError) as error:
            raise _mapped(error, self._where) from error

    async def read_at_most(self, size: int) -> bytes:
        """The beginning of the body, up to ``size`` bytes, for errors; what can't be read is left out."""
        body = b""
        try:
            while len(body) < size and (data := await self.read()):
                body += data
        except Disconnected:
            pass
        return body[:size]

    @property
    def ended(self) -> bool:
        """The body was read to its end, and the connection has gone back to the pool."""
        return self._response.content.at_eof()

    def close(self) -> None:
        """Closes the connection at once, unless the body was read to its end; may be called at any time."""
        self._response.close()


class HttpTransport:
    """A pool of connections. ``open_timeout`` bounds opening one, TLS included, in seconds.

    Proxies come from the environment (``HTTPS_PROXY``, ``NO_PROXY``, …). ``ca_file`` is a PEM file of certificates to
    trust instead of the system's.
    """

    def __init__(self, *, open_timeout: float, ca_file: Path | None = None) -> None:
        connector = aiohttp.TCPConnector(limit=0, ssl=_tls(ca_file))
        self._session = aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=open_timeout),
            headers={"accept-encoding": "gzip, deflate"},
            skip_auto_headers=("user-agent",),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=True,
            max_line_size=_MAX_HEAD,
            max_field_size=_MAX_HEAD,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def send(self, request: HttpRequest) -> HttpResponse:
        """Sends a request and waits for the response's head; redirects are not followed, for they'd take keys along.

        Raises `ConnectError`, `TlsError`, `ConnectTimeout`, `Disconnected` or `ProtocolError`.
        """
        where = request.url.partition("?")[0]
        try:
            response = await self._session.request(
                request.method, request.url, headers=request.headers, data=request.body, allow_redirects=False
            )
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise _mapped(error, where) from error
        return HttpResponse(response, where)

    async def close(self) -> None:
        """Closes all connections."""
        await self._session.close()


def _tls(ca_file: Path | None) -> ssl.SSLContext | bool:
    if ca_file is None:
        return True
    try:
        return ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(f"ca_file {ca_file} can't be used: {error.strerror or error}") from error


def _mapped(error: Exception, where: str) -> ApiError:
    """The typed error for one of aiohttp's, with a sentence that says what was tried."""
    match error:
        case aiohttp.ClientConnectorCertificateError():
            return TlsError(
                f"can't trust {where}: {error.certificate_error} (for a certificate of your own, set ca_file)"
            )
        case aiohttp.ClientConnectorSSLError():
            return TlsError(f"no TLS with {where}: {error.os_error} (is it plain http?)")
        case aiohttp.ClientHttpProxyError():
            return ConnectError(f"the proxy in front of {where} answered {error.status} {error.message}")
        case aiohttp.ConnectionTimeoutError():
            return ConnectTimeout(f"no connection to {where} within open_timeout")
        case aiohttp.ClientConnectorDNSError():
            return ConnectError(f"can't find the host of {where} (check the base_url)")
        case aiohttp.ClientConnectorError():
            return ConnectError(f"can't connect to {where}: {error.os_error.strerror or error.os_error}")
        case aiohttp.ClientResponseError():
            return ProtocolError(f"{where} does not speak HTTP: {error.message.splitlines()[0]}")
        case aiohttp.InvalidURL():
            return ConfigurationError(f"{where} is not a URL to send requests to")
        case aiohttp.ClientPayloadError():
            return Disconnected(f"{where} broke off in the middle of its response")
        case aiohttp.ClientError() | OSError():
            return Disconnected(f"the connection to {where} was lost before the response was whole")
    return ConfigurationError(f"the request to {where} can't be sent: {error}")
