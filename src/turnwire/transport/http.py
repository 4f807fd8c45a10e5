"""HTTP requests whose responses are read as they come, over aiohttp.

The errors of the library below are mapped here, once, to those of `turnwire.errors`; nothing above this file has
heard of aiohttp.
"""

from __future__ import annotations

import io
import socket
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
from msgspec import Struct

from turnwire.errors import (
    ApiError,
    ConfigurationError,
    ConnectError,
)
from turnwire.transport.failure import broken_off, lost, no_http, not_opened
from turnwire.transport.message import MAX_HEAD, HttpRequest, HttpResponse, Transport, bound_reads
from turnwire.transport.tls import reason, tls_context

__all__ = ["HttpTransport", "proxy_for"]


class _Response(HttpResponse):
    """A response over aiohttp."""

    def __init__(self, response: aiohttp.ClientResponse, where: str) -> None:
        headers = {name.lower(): response.headers[name] for name in response.headers}
        super().__init__(response.status, headers, where)
        self._response = response

    @property
    def over(self) -> bool:
        """The body was read to its proper end, or has none."""
        return self._response.content.at_eof()

    async def read(self) -> bytes:
        """All bytes that have come since the last read, as `HttpResponse.read` says."""
        try:
            return await self._response.content.readany()
        except (aiohttp.ClientError, OSError) as error:
            raise _mapped(error, self.where) from None

    def close(self) -> None:
        """Closes the connection at once, unless the body was read to its end."""
        self._response.close()


class HttpTransport(Transport):
    """A pool of connections. ``open_timeout`` bounds opening one, TLS included, in seconds.

    Proxies come from the environment (``HTTPS_PROXY``, ``NO_PROXY``, …), keys never do: a netrc file is not read.
    ``ca_file`` is a PEM file of certificates to trust instead of the system's.
    """

    def __init__(self, *, open_timeout: float, ca_file: Path | None = None) -> None:
        self._proxies = getproxies()  # once, for it goes through the whole environment
        connector = aiohttp.TCPConnector(limit=0, ssl=tls_context(ca_file) or True)
        trace = aiohttp.TraceConfig()
        trace.on_connection_reuseconn.append(_note_reuse)
        self._session = aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=open_timeout),
            headers={"accept-encoding": "gzip, deflate"},
            skip_auto_headers=("user-agent",),
            cookie_jar=aiohttp.DummyCookieJar(),
            trace_configs=[trace],
            max_line_size=MAX_HEAD,
            max_field_size=MAX_HEAD,
        )

    async def send(self, request: HttpRequest) -> HttpResponse:
        """Sends a request and waits for the response's head, as `Transport.send` says."""
        where = request.where
        if self._session.closed:
            raise ConfigurationError(f"the request to {where} can't be sent: the client is closed")
        proxy = proxy_for(request.url, self._proxies)
        while True:
            connection = _ConnectionUse()
            try:
                response = await self._session.request(
                    request.method,
                    request.url,
                    headers=request.headers,
                    data=io.BytesIO(request.body),  # bytes would go out in one piece, however many
                    allow_redirects=False,
                    proxy=proxy,
                    trace_request_ctx=connection,
                )
            except (aiohttp.ClientError, OSError, ValueError) as error:
                if connection.kept and isinstance(error, aiohttp.ServerDisconnectedError | aiohttp.ClientOSError):
                    continue
                raise _mapped(error, where) from None
            if response.connection is not None and response.connection.transport is not None:
                bound_reads(response.connection.transport)
            return _Response(response, where)

    async def close(self) -> None:
        """Closes all connections."""
        await self._session.close()


class _ConnectionUse(Struct):
    """Whether a request went out on a connection that had served another before."""

    kept: bool = False


async def _note_reuse(
    session: aiohttp.ClientSession, context: SimpleNamespace, params: aiohttp.TraceConnectionReuseconnParams
) -> None:
    context.trace_request_ctx.kept = True


def proxy_for(url: str, proxies: Mapping[str, str]) -> str | None:
    """The proxy of those that the environment names for this address, None where it is to be reached directly.

    aiohttp would find it too, but with ``trust_env`` it also takes keys from a netrc file, in place of the provider's.
    """
    address = urlsplit(url)
    proxy = proxies.get(address.scheme)
    if proxy is None or proxy_bypass(address.netloc):
        return None
    if not proxy.startswith(("http://", "https://")):
        raise ConfigurationError(f"{address.scheme}_proxy in the environment does not begin with http:// or https://")
    return proxy


def _mapped(error: Exception, where: str) -> ApiError:
    """The typed error for one of aiohttp's, with a sentence that says what was tried.

    It is raised without its cause: aiohttp's errors show the request's headers and whole URL, keys included.
    """
    match error:
        case aiohttp.ClientConnectorCertificateError():
            return not_opened(error.certificate_error, where)
        case aiohttp.ClientConnectorSSLError():
            return not_opened(error.os_error, where)
        case aiohttp.ClientHttpProxyError():
            return ConnectError(f"the proxy in front of {where} answered {error.status} {error.message}")
        case aiohttp.ConnectionTimeoutError():
            return not_opened(TimeoutError(), where)
        case aiohttp.ClientConnectorDNSError():
            return not_opened(socket.gaierror(), where)
        case aiohttp.ClientProxyConnectionError():
            proxy = f"{error.host}:{error.port}"
            return ConnectError(f"can't connect to the proxy {proxy} in front of {where}: {reason(error.os_error)}")
        case aiohttp.ClientConnectorError():
            return not_opened(error.os_error, where)
        case aiohttp.ClientResponseError():
            return no_http(where, error.message.partition("\n")[0].rstrip(":"))
        case aiohttp.InvalidURL():
            return ConfigurationError(f"{where} is not a URL to send requests to")
        case aiohttp.ClientPayloadError():
            return broken_off(where)
        case aiohttp.ClientError() | OSError():
            return lost(where)
    return ConfigurationError(f"the request to {where} can't be sent: {error}")
