"""What the environment says of a request's way: proxies are taken from there, keys are not."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import pytest

from tests.transport.sending import body_of, failure_of, request
from tests.transport.serving import WHOLE, RawServer, saying
from turnwire.errors import (
    ConfigurationError,
    ConnectError,
)
from turnwire.transport.http import HttpTransport

pytestmark = pytest.mark.usefixtures("nothing_left")


async def test_the_environment_names_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    async with RawServer(WHOLE) as server:
        monkeypatch.setenv("http_proxy", f"http://user:password@127.0.0.1:{server.port}")
        assert await body_of(HttpTransport, "http://models.invalid/v1?key=secret") == b"hi"
        (head,) = server.requests
    request_line, *fields = head.decode().lower().split("\r\n")
    assert request_line == "post http://models.invalid/v1?key=secret http/1.1"
    assert "host: models.invalid" in fields
    assert "proxy-authorization: basic dxnlcjpwyxnzd29yza==" in fields


async def test_hosts_in_no_proxy_are_reached_directly(monkeypatch: pytest.MonkeyPatch) -> None:
    async with RawServer(WHOLE) as between, RawServer(WHOLE) as server:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{between.port}")
        monkeypatch.setenv("no_proxy", "localhost,127.0.0.1")
        assert await body_of(HttpTransport, server.url) == b"hi"
        assert (len(between.requests), len(server.requests)) == (0, 1)


async def test_a_proxy_that_refuses_a_tunnel_is_a_connect_error(monkeypatch: pytest.MonkeyPatch) -> None:
    async with RawServer(saying(b"HTTP/1.1 407 Who are you\r\ncontent-length: 0\r\n\r\n")) as between:
        monkeypatch.setenv("https_proxy", f"http://user:password@127.0.0.1:{between.port}")
        failure = await failure_of(HttpTransport, "https://models.invalid/v1")
    assert type(failure) is ConnectError
    assert str(failure) == "the proxy in front of https://models.invalid/v1 answered 407 Who are you"


async def test_a_proxy_that_is_down_is_told_from_a_server_that_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://user:password@127.0.0.1:1")
    failure = await failure_of(HttpTransport, "http://models.invalid/v1")
    assert type(failure) is ConnectError
    assert str(failure) == (
        "can't connect to the proxy 127.0.0.1:1 in front of http://models.invalid/v1: connection refused"
    )


@pytest.mark.parametrize("value", ["socks5://user:password@127.0.0.1:1", "127.0.0.1:3128"])
async def test_a_proxy_of_another_kind_is_refused(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", value)
    failure = await failure_of(HttpTransport, "http://models.invalid/v1")
    assert type(failure) is ConfigurationError
    assert str(failure) == "http_proxy in the environment does not begin with http:// or https://"


async def test_a_netrc_file_puts_no_other_key_in_place_of_the_given_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("default login somebody password else\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    async with RawServer(WHOLE) as server:
        for sent in (request(server.url, authorization="Bearer mine"), request(server.url)):
            async with HttpTransport(open_timeout=2.0) as transport:
                (await transport.send(sent)).close()
        with_key, without = (head.lower() for head in server.requests)
    assert b"authorization: bearer mine\r\n" in with_key
    assert b"authorization" not in without


async def test_a_tls_connection_goes_through_the_proxy_s_tunnel(
    tls: ssl.SSLContext, ca_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with RawServer(WHOLE, tls=tls) as server:

        async def tunnel(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            answers, onward = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")

            async def pipe(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
                while data := await source.read(65536):
                    sink.write(data)

            try:
                pipes = [asyncio.create_task(pipe(reader, onward)), asyncio.create_task(pipe(answers, writer))]
                await asyncio.wait(pipes, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in pipes:
                    task.cancel()
                await asyncio.wait(pipes)
                onward.transport.abort()

        async with RawServer(tunnel) as between:
            monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{between.port}")
            assert await body_of(HttpTransport, server.url, ca_file=ca_file) == b"hi"
            assert between.requests[0].startswith(b"CONNECT 127.0.0.1:%d HTTP/1.1\r\n" % server.port)
        assert server.requests[0].startswith(b"POST / HTTP/1.1\r\n")
