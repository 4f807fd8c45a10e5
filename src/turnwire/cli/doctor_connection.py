"""The way to a server: name, port and certificate, looked at with nothing but a connection."""

from __future__ import annotations

import asyncio
import socket
import ssl
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

from turnwire.cli.console import duration
from turnwire.cli.doctor_checks import Finding, failed, ok, skipped, warning
from turnwire.transport.http import proxy_for
from turnwire.transport.tls import reason, tls_context

__all__ = ["check_reachable", "check_tls"]

_PORTS = {"http": 80, "https": 443}
_SOON = 14
"""Days before a certificate's end from which on it is told."""


async def check_reachable(url: str, limit: float) -> Finding:
    """Whether the host has an address and something listens there; behind a proxy, the proxy's."""
    what = "reachable"
    proxy = proxy_for(url, getproxies())
    by = " by its proxy" if proxy else ""
    host, port = _place(proxy or url)
    loop = asyncio.get_running_loop()
    started = perf_counter()
    try:
        async with asyncio.timeout(limit):
            await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            found = perf_counter()
            _, writer = await asyncio.open_connection(host, port, happy_eyeballs_delay=0.25)
    except TimeoutError:
        return failed(what, f"{host} port {port}{by}: no connection within {limit:g} s", _UNREACHABLE)
    except socket.gaierror:
        return failed(what, f"{host}{by}: no such host", "check the address, and the name server")
    except OSError as error:
        return failed(what, f"{host} port {port}{by}: {_reason(error)}", _UNREACHABLE)
    connected = perf_counter()
    address = writer.get_extra_info("peername")[0]
    writer.transport.abort()
    where = host if address == host else f"{host} ({address})"
    lookup = "" if address == host else f"looked up in {duration(found - started)}, "
    return ok(what, f"{where} port {port}{by}: {lookup}connected in {duration(connected - found)}")


async def check_tls(url: str, ca_file: Path | None, limit: float, now: datetime) -> Finding:
    """Whether the certificate is trusted, and for how long it will be. Plain http and proxies have none to look at."""
    what = "TLS"
    if not url.startswith("https:"):
        return skipped(what, "the address is plain http")
    if proxy_for(url, getproxies()) is not None:
        return skipped(what, "not looked at behind a proxy")
    host, port = _place(url)
    context = tls_context(ca_file) or ssl.create_default_context()
    try:
        async with asyncio.timeout(limit):
            _, writer = await asyncio.open_connection(host, port, ssl=context)
    except TimeoutError:
        return failed(what, f"no handshake within {limit:g} s", "check that the port is one for https")
    except ssl.SSLCertVerificationError as error:
        return failed(what, reason(error), "set ca_file in turnwire.toml for a certificate of your own, or renew it")
    except ssl.SSLError as error:
        return failed(what, reason(error), "write http:// if the server has no TLS")
    except OSError as error:
        return failed(what, f"no handshake: {_reason(error)}", "write http:// if the server has no TLS")
    connection = writer.get_extra_info("ssl_object")
    version, certificate = connection.version(), connection.getpeercert()
    writer.transport.abort()
    return _judged(what, version, certificate, now)


def _judged(what: str, version: str, certificate: dict[str, Any], now: datetime) -> Finding:
    ends = datetime.fromtimestamp(ssl.cert_time_to_seconds(certificate["notAfter"]), UTC)
    days = (ends - now).days
    found = f"{version}, certificate by {_issuer(certificate)} until {ends:%Y-%m-%d}"
    if days < _SOON:
        return warning(what, f"{found}, in {days} days", "renew the certificate")
    return ok(what, found)


def _issuer(certificate: dict[str, Any]) -> str:
    names = {name: value for part in certificate.get("issuer", ()) for name, value in part}
    return str(names.get("organizationName") or names.get("commonName") or "a nameless authority")


def _place(url: str) -> tuple[str, int]:
    address = urlsplit(url)
    return address.hostname or "", address.port or _PORTS.get(address.scheme, 1080)


def _reason(error: OSError) -> str:
    """The system's words; where a name has many addresses, asyncio gathers their errors in one without a number."""
    return reason(error) if error.errno else "no address of it answers"


_UNREACHABLE = "check the address, that the server runs, and that no firewall stands in between"
