"""HTTP requests whose responses are read as they come, over aiohttp.

The errors of the library below are mapped here, once, to those of `turnwire.errors`; nothing above this file has
heard of aiohttp.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace, TracebackType
from typing import Self
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

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
from turnwire.transport.message import MAX_HEAD, MAX_READ, HttpRequest, HttpResponse
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


class HttpTransport:
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

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

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
            _bound_reads(response)
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


def _bound_reads(response: aiohttp.ClientResponse) -> None:
    """Has the standard library's event loop read 64 KiB at a time.

    It offers 256 KiB to each `recv`, which malloc on Linux maps anew and gives back every time: for a small read that
    costs as much as all else that happens to it. Other event loops, and TLS, have no such number.
    """
    transport = None if response.connection is None else response.connection.transport
    if transport is not None and hasattr(transport, "max_size"):
        transport.max_size = MAX_READ


def _mapped(error: Exception, where: str) -> ApiError:
    """The typed error for one of aiohttp's, with a sentence that says what was tried.

    It is raised without its cause: aiohttp's errors show the request's headers and whole URL, keys included.
    """
    match error:
        case aiohttp.ClientConnectorCertificateError():
            why = reason(error.certificate_error)
            return TlsError(f"can't trust {where}: {why} (for a certificate of your own, set ca_file)")
        case aiohttp.ClientConnectorSSLError():
            return TlsError(f"no TLS with {where}: {reason(error.os_error)} (is it plain http?)")
        case aiohttp.ClientHttpProxyError():
            return ConnectError(f"the proxy in front of {where} answered {error.status} {error.message}")
        case aiohttp.ConnectionTimeoutError():
            return ConnectTimeout(f"no connection to {where} within open_timeout")
        case aiohttp.ClientConnectorDNSError():
            return ConnectError(f"can't find the host of {where} (check the base_url)")
        case aiohttp.ClientProxyConnectionError():
            proxy = f"{error.host}:{error.port}"
            return ConnectError(f"can't connect to the proxy {proxy} in front of {where}: {reason(error.os_error)}")
        case aiohttp.ClientConnectorError():
            return ConnectError(f"can't connect to {where}: {reason(error.os_error)}")
        case aiohttp.ClientResponseError():
            complaint = error.message.partition("\n")[0].rstrip(":")
            return ProtocolError(f"{where} did not answer in proper HTTP: {complaint[:1].lower()}{complaint[1:]}")
        case aiohttp.InvalidURL():
            return ConfigurationError(f"{where} is not a URL to send requests to")
        case aiohttp.ClientPayloadError():
            return Disconnected(f"{where} broke off in the middle of its response")
        case aiohttp.ClientError() | OSError():
            return Disconnected(f"the connection to {where} was lost before the response was whole")
    return ConfigurationError(f"the request to {where} can't be sent: {error}")
