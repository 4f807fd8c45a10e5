"""Opening a WebSocket: every way in which it fails, told as over HTTP."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trustme

from tests.client.hearing import hear, impatient
from tests.client.wires import AUTO, SOCKET
from tests.transport.serving import RawServer, saying, silence
from turnwire import ApiError, ConnectError, ConnectTimeout, Disconnected, ModelClient, ProtocolError, TlsError
from turnwire.testing import DropBeforeHead, NotHttp, ScriptedServer, Turn, WrongType
from turnwire.testing.fault import HandshakeFault

pytestmark = pytest.mark.usefixtures("nothing_left")


async def failure(base_url: str, **changes: object) -> ApiError:
    async with ModelClient(impatient(base_url, **{**SOCKET, **changes})) as client, client.new_session() as session:
        heard = await hear(session.stream("Hello"))
    assert heard.error is not None
    assert heard.events == []
    return heard.error


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def tls(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


@asynccontextmanager
async def behind_tls(server: ScriptedServer, tls: ssl.SSLContext) -> AsyncIterator[str]:
    """An address that leads to a server through TLS."""
    host, port = server.base_url.removeprefix("http://").partition("/")[0].split(":")

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection(host, int(port))
        inner_writer.write(door.requests[-1])
        both = [
            asyncio.create_task(forward(reader, inner_writer)),
            asyncio.create_task(forward(inner_reader, writer)),
        ]
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in both:
                task.cancel()
            await asyncio.gather(*both, return_exceptions=True)
            inner_writer.close()
            await inner_writer.wait_closed()

    async with RawServer(relay, tls=tls) as door:
        yield f"{door.url}/v1"


async def test_a_server_with_a_certificate_of_one_s_own_is_trusted_by_its_ca_file(
    tls: ssl.SSLContext, authority: trustme.CA, tmp_path: Path
) -> None:
    ca_file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(ca_file)
    async with ScriptedServer([Turn(text="hi")]) as server, behind_tls(server, tls) as base_url:
        async with (
            ModelClient(impatient(base_url, ca_file=ca_file, **SOCKET)) as client,
            client.new_session() as session,
        ):
            assert (await hear(session.stream("Hello"))).error is None
        assert [request.wire for request in server.requests] == ["websocket"]


async def test_an_unknown_certificate_is_not_trusted(tls: ssl.SSLContext) -> None:
    async with RawServer(silence, tls=tls) as server:
        error = await failure(server.url)
        assert (type(error), str(error)) == (
            TlsError,
            f"can't trust {server.url}/responses: unable to get local issuer certificate "
            "(for a certificate of your own, set ca_file)",
        )


async def test_tls_with_a_plain_server_is_a_tls_error() -> None:
    async with RawServer(saying(b"HTTP/1.1 400 Bad Request\r\n\r\n"), greets=True) as server:
        error = await failure(f"https://127.0.0.1:{server.port}")
        assert type(error) is TlsError
        assert str(error).endswith("wrong version number (is it plain http?)")


async def test_nobody_there_is_a_connect_error() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        where = f"http://127.0.0.1:{unused.getsockname()[1]}/v1"
        error = await failure(where)
    assert (type(error), str(error)) == (ConnectError, f"can't connect to {where}/responses: connection refused")


async def test_a_handshake_that_nobody_answers_is_a_connect_timeout() -> None:
    async with RawServer(silence) as server:
        error = await failure(server.url, open_timeout=0.1)
        assert (type(error), str(error)) == (
            ConnectTimeout,
            f"no connection to {server.url}/responses within open_timeout",
        )


@pytest.mark.parametrize(
    ("fault", "kind", "sentence"),
    [
        (DropBeforeHead(), Disconnected, "the connection to {} was lost before the handshake was whole"),
        (NotHttp(), ProtocolError, "{} does not speak WebSocket: did not receive a valid HTTP response"),
        (WrongType(), ProtocolError, "{} does not speak WebSocket: it answered 200"),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_what_is_no_websocket_is_said_to_be_none(
    fault: HandshakeFault, kind: type[ApiError], sentence: str, pauses: list[float]
) -> None:
    async with ScriptedServer([Turn(text="hi")], handshakes=fault) as server:
        error = await failure(server.base_url)
        assert (type(error), str(error)) == (kind, sentence.format(f"{server.base_url}/responses"))
        async with (
            ModelClient(impatient(server.base_url, request_max_retries=4, **AUTO)) as client,
            client.new_session() as session,
        ):
            assert (await hear(session.stream("Hello"))).error is None
        assert len(pauses) == (2 if kind is Disconnected else 0)


async def test_where_both_fail_http_has_the_last_word(pauses: list[float]) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        where = f"http://127.0.0.1:{unused.getsockname()[1]}/v1"
        assert type(await failure(where, **AUTO)) is ConnectError


REFUSAL = b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n"


async def test_a_proxy_from_the_environment_is_used_and_may_refuse(monkeypatch: pytest.MonkeyPatch) -> None:
    async with RawServer(saying(REFUSAL)) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        error = await failure("http://model.invalid/v1")
        assert (type(error), str(error)) == (
            ConnectError,
            "the proxy in front of http://model.invalid/v1/responses answered 407",
        )
        assert proxy.requests[0].startswith(b"CONNECT model.invalid:80 HTTP/1.1\r\n")
