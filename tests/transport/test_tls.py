"""TLS: whom the transport trusts, and what it says of whom it does not."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from tests.transport.sending import Kind, body_of, failure_of
from tests.transport.serving import WHOLE, RawServer, saying, silence
from turnwire.errors import (
    ConfigurationError,
    ConnectTimeout,
    Disconnected,
    TlsError,
)

pytestmark = pytest.mark.usefixtures("nothing_left")


async def test_a_server_with_a_certificate_of_one_s_own_is_trusted_by_its_ca_file(
    kind: Kind, tls: ssl.SSLContext, ca_file: Path
) -> None:
    async with RawServer(WHOLE, tls=tls) as server:
        assert await body_of(kind, server.url, ca_file=ca_file) == b"hi"


async def test_a_server_with_an_unknown_certificate_is_not_trusted(kind: Kind, tls: ssl.SSLContext) -> None:
    async with RawServer(WHOLE, tls=tls) as server:
        failure = await failure_of(kind, server.url)
        assert type(failure) is TlsError
        assert str(failure) == (
            f"can't trust {server.url}: unable to get local issuer certificate "
            "(for a certificate of your own, set ca_file)"
        )
        assert server.requests == []


async def test_a_server_with_another_s_certificate_is_not_trusted(
    kind: Kind, tls: ssl.SSLContext, ca_file: Path
) -> None:
    async with RawServer(WHOLE, tls=tls) as server:
        url = server.url.replace("127.0.0.1", "localhost")
        failure = await failure_of(kind, url, ca_file=ca_file)
        assert type(failure) is TlsError
        assert str(failure) == (
            f"can't trust {url}: hostname mismatch, certificate is not valid for 'localhost' "
            "(for a certificate of your own, set ca_file)"
        )


async def test_tls_with_a_plain_server_is_a_tls_error(kind: Kind) -> None:
    async with RawServer(saying(b"HTTP/1.1 400 Bad Request\r\n\r\n"), greets=True) as server:
        url = f"https://127.0.0.1:{server.port}"
        failure = await failure_of(kind, url)
        assert type(failure) is TlsError
        assert str(failure) == f"no TLS with {url}: wrong version number (is it plain http?)"


async def test_plain_http_with_a_tls_server_is_a_lost_connection(kind: Kind, tls: ssl.SSLContext) -> None:
    async with RawServer(WHOLE, tls=tls) as server:
        url = f"http://127.0.0.1:{server.port}"
        failure = await failure_of(kind, url)
        assert type(failure) is Disconnected
        assert str(failure) == f"the connection to {url} was lost before the response was whole"


@pytest.mark.parametrize(
    ("content", "why"), [(None, "no such file or directory"), ("no pem", "no certificate or crl found")]
)
async def test_a_ca_file_that_is_none_is_refused(kind: Kind, content: str | None, why: str, tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_text(content)
    failure = await failure_of(kind, "https://127.0.0.1:1", ca_file=file)
    assert (type(failure), str(failure)) == (ConfigurationError, f"ca_file {file} can't be used: {why}")


async def test_a_handshake_that_stalls_is_a_connect_timeout(kind: Kind) -> None:
    async with RawServer(silence, greets=True) as server:
        url = f"https://127.0.0.1:{server.port}"
        failure = await failure_of(kind, url, open_timeout=0.1)
    assert (type(failure), str(failure)) == (ConnectTimeout, f"no connection to {url} within open_timeout")
