"""The transports by themselves: what their bytes are, what their errors say, and which connections they use."""

from __future__ import annotations

import asyncio
import gzip
import socket
import zlib
from collections.abc import Callable
from typing import Protocol

import pytest

from tests.transport.sending import Kind, body_of, failure_of, request
from tests.transport.serving import CHUNKED_HEAD, HEAD, WHOLE, RawServer, chunked, saying
from turnwire.errors import (
    ApiError,
    ConfigurationError,
    ConnectError,
    ConnectTimeout,
    Disconnected,
    ProtocolError,
)
from turnwire.testing import ScriptedServer, Status, Turn
from turnwire.transport.direct import DirectTransport
from turnwire.transport.http import HttpTransport
from turnwire.transport.message import HttpResponse, read_whole

pytestmark = pytest.mark.usefixtures("nothing_left")

PIECES = [b"data: one\n\n", b"data: two\n\n", b"data: three\n\n"]


WORDS: dict[Kind, dict[str, str]] = {
    HttpTransport: {
        "no_http": "bad status line",
        "brotli": "did not answer in proper HTTP: can not decode content-encoding: brotli (br). "
        "Please install `Brotli`",
    },
    DirectTransport: {
        "no_http": "expected HTTP/, RTSP/ or ICE/",
        "brotli": "sent its answer in content-encoding 'br'; known are deflate, gzip, x-gzip",
    },
}
"""What only the parsers below say in different words."""


class Compressor(Protocol):
    def compress(self, data: bytes, /) -> bytes: ...
    def flush(self, mode: int = ..., /) -> bytes: ...


CODINGS: list[tuple[str, Callable[[], Compressor]]] = [
    ("gzip", lambda: zlib.compressobj(wbits=31)),
    ("deflate", lambda: zlib.compressobj()),
    ("deflate", lambda: zlib.compressobj(wbits=-15)),
]


@pytest.mark.parametrize(("coding", "new_compressor"), CODINGS, ids=["gzip", "zlib", "raw deflate"])
async def test_a_compressed_stream_is_read_event_by_event(
    kind: Kind, coding: str, new_compressor: Callable[[], Compressor]
) -> None:
    heard = asyncio.Semaphore(0)

    async def reply(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        compressor = new_compressor()
        writer.write(HEAD + f"content-encoding: {coding}\r\ntransfer-encoding: chunked\r\n\r\n".encode())
        for piece in PIECES:
            writer.write(chunked(compressor.compress(piece) + compressor.flush(zlib.Z_SYNC_FLUSH), last=b""))
            await heard.acquire()  # nothing more before the client has read this one
        writer.write(chunked(compressor.flush()))

    async with asyncio.timeout(5), RawServer(reply) as server, kind(open_timeout=2.0) as transport:
        response = await transport.send(request(server.url))
        for piece in PIECES:
            assert await response.read() == piece
            heard.release()
        assert await response.read() == b""
        response.close()
        asked_for = "gzip, deflate" if kind is HttpTransport else "identity"
        assert f"accept-encoding: {asked_for}\r\n".encode() in server.requests[0].lower()


@pytest.mark.parametrize(
    "packets",
    [
        [HEAD + b"transfer-encoding: chunked\r\n\r\n", chunked(*PIECES)],
        [HEAD + b"transfer-encoding: chunked\r\n\r\n" + chunked(*PIECES)],
        [HEAD + b"content-length: %d\r\n\r\n" % len(b"".join(PIECES)), *PIECES],
        [HEAD + b"connection: close\r\n\r\n", *PIECES],
        [HEAD + b"content-encoding: gzip\r\nconnection: close\r\n\r\n", gzip.compress(b"".join(PIECES))],
        [bytes([byte]) for byte in HEAD + b"transfer-encoding: chunked\r\n\r\n" + chunked(*PIECES)],
    ],
    ids=["chunked", "one packet", "content-length", "until close", "gzip until close", "byte by byte"],
)
async def test_a_body_ends_where_its_framing_says(kind: Kind, packets: list[bytes]) -> None:
    async with RawServer(saying(*packets)) as server:
        assert await body_of(kind, server.url) == b"".join(PIECES)


@pytest.mark.parametrize(
    ("packets", "error", "sentence"),
    [
        (
            [HEAD + b"transfer-encoding: chunked\r\n\r\n", chunked(*PIECES, last=b"")],
            Disconnected,
            "{url} broke off in the middle of its response",
        ),
        (
            [HEAD + b"transfer-encoding: chunked\r\n\r\n", b"20\r\ndata: on"],
            Disconnected,
            "{url} broke off in the middle of its response",
        ),
        (
            [HEAD + b"content-length: 100\r\n\r\n", PIECES[0]],
            Disconnected,
            "{url} broke off in the middle of its response",
        ),
        (
            [HEAD + b"transfer-encoding: chunked\r\n\r\n" + chunked(PIECES[0], last=b"zz\r\n")],
            ProtocolError,
            "{url} did not answer in proper HTTP: invalid character in chunk size",
        ),
        (
            [HEAD + b"content-encoding: gzip\r\ncontent-length: 9\r\n\r\n", b"not gzip!"],
            Disconnected,
            "{url} broke off in the middle of its response",
        ),
        ([], Disconnected, "the connection to {url} was lost before the response was whole"),
        ([HEAD], Disconnected, "the connection to {url} was lost before the response was whole"),
        ([b"SSH-2.0-OpenSSH_9.9\r\n"], ProtocolError, "{url} did not answer in proper HTTP: {no_http}"),
        ([HEAD + b"no header\r\n\r\n"], ProtocolError, "{url} did not answer in proper HTTP: invalid header token"),
        (
            [HEAD + b"content-encoding: br\r\ncontent-length: 1\r\n\r\nx"],
            ProtocolError,
            "{url} {brotli}",
        ),
    ],
    ids=[
        "no last chunk",
        "cut chunk",
        "cut length",
        "no chunk",
        "no gzip",
        "nothing",
        "cut head",
        "another protocol",
        "no header",
        "another coding",
    ],
)
async def test_a_response_that_is_not_whole_or_not_http_is_an_error(
    kind: Kind, packets: list[bytes], error: type[ApiError], sentence: str
) -> None:
    async with RawServer(saying(*packets)) as server:
        failure = await failure_of(kind, server.url)
        assert (type(failure), str(failure)) == (error, sentence.format(url=server.url, **WORDS[kind]))


async def test_what_came_before_a_cut_is_read_first(kind: Kind) -> None:
    packets = [HEAD + b"transfer-encoding: chunked\r\n\r\n" + chunked(*PIECES, last=b"")]
    async with RawServer(saying(*packets)) as server, kind(open_timeout=2.0) as transport:
        response = await transport.send(request(server.url))
        assert await response.read() == b"".join(PIECES)
        with pytest.raises(Disconnected):
            await response.read()
        response.close()


class Pieces:
    """A body of these reads, which is lost behind them where it has no end."""

    def __init__(self, *pieces: bytes) -> None:
        self._pieces = iter(pieces)

    async def read(self) -> bytes:
        for piece in self._pieces:
            return piece
        raise Disconnected("lost")


@pytest.mark.parametrize(
    ("pieces", "outcome"),
    [
        ([b""], b""),
        ([b"one", b"two", b""], b"onetwo"),
        ([b"one", b"two", b"3", b""], "ProtocolError: the answer takes more than 6 bytes"),
        ([b"one", b"two", b"3"], "ProtocolError: the answer takes more than 6 bytes"),
        ([b"one", b"two"], "Disconnected: lost"),
        ([], "Disconnected: lost"),
    ],
    ids=["empty", "at the bound", "over the bound", "over the bound, without an end", "cut", "nothing"],
)
async def test_a_body_is_read_whole_or_not_at_all(pieces: list[bytes], outcome: bytes | str) -> None:
    read: bytes | str
    try:
        read = await read_whole(Pieces(*pieces), 6)
    except ApiError as error:
        read = f"{type(error).__name__}: {error}"
    assert read == outcome


async def test_what_is_missing_of_a_body_is_left_out_only_where_its_beginning_will_do(kind: Kind) -> None:
    packets = [HEAD + b"content-length: 6\r\n\r\n", b"Hel", b"lo"]
    async with RawServer(saying(*packets)) as server, kind(open_timeout=2.0) as transport:
        response = await transport.send(request(server.url))
        assert await response.read_at_most(100) == b"Hello"
        response.close()
        response = await transport.send(request(server.url))
        with pytest.raises(Disconnected, match=r" broke off in the middle of its response$"):
            await read_whole(response, 100)
        response.close()


async def test_a_body_that_turns_out_not_to_be_compressed_is_a_lost_response(kind: Kind) -> None:
    head_was_read = asyncio.Event()

    async def reply(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + b"content-encoding: gzip\r\ntransfer-encoding: chunked\r\n\r\n")
        await head_was_read.wait()
        writer.write(chunked(b"no gzip", last=b""))

    async with asyncio.timeout(5), RawServer(reply) as server, kind(open_timeout=2.0) as transport:
        response = await transport.send(request(server.url))
        head_was_read.set()
        with pytest.raises(Disconnected, match=r" broke off in the middle of its response$"):
            await response.read()
        response.close()


async def test_of_a_repeated_header_the_first_one_counts(kind: Kind) -> None:
    packets = [HEAD + b"X-Token: first\r\nx-token: second\r\ncontent-length: 0\r\n\r\n"]
    async with RawServer(saying(*packets)) as server, kind(open_timeout=2.0) as transport:
        response = await transport.send(request(server.url))
        response.close()
        assert response.headers == {"content-type": "text/event-stream", "x-token": "first", "content-length": "0"}


async def test_a_refused_connection_is_told_in_the_system_s_words(kind: Kind) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/v1"
        failure = await failure_of(kind, f"{url}?key=secret")
    assert (type(failure), str(failure)) == (ConnectError, f"can't connect to {url}: connection refused")


async def test_an_unknown_host_is_a_connect_error(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr("socket.getaddrinfo", unknown)  # what the network would say must not matter
    failure = await failure_of(kind, "http://nonexistent.invalid/v1")
    assert type(failure) is ConnectError
    assert str(failure) == "can't find the host of http://nonexistent.invalid/v1 (check the base_url)"


async def test_a_host_that_does_not_answer_is_a_connect_timeout(kind: Kind) -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        address = full.getsockname()
        with socket.create_connection(address):  # who comes next finds no place in the queue, and waits
            url = f"http://127.0.0.1:{address[1]}"
            failure = await failure_of(kind, url, open_timeout=0.1)
    assert (type(failure), str(failure)) == (ConnectTimeout, f"no connection to {url} within open_timeout")


async def test_what_is_no_url_is_refused(kind: Kind) -> None:
    failure = await failure_of(kind, "http://127.0.0.1:99999/v1")
    assert type(failure) is ConfigurationError
    assert str(failure) == "http://127.0.0.1:99999/v1 is not a URL to send requests to"


async def test_a_header_that_can_t_be_sent_is_refused(kind: Kind) -> None:
    async with RawServer(WHOLE) as server, kind(open_timeout=2.0) as transport:
        with pytest.raises(ConfigurationError) as caught:
            await transport.send(request(server.url, b"", authorization="Bearer \r\nsecret"))
        assert "secret" not in str(caught.value)
        assert server.requests == []


async def test_a_redirect_is_given_as_it_is(kind: Kind) -> None:
    async with ScriptedServer([Turn(fault=Status(307, headers={"location": "/v1/elsewhere"}))]) as server:
        async with kind(open_timeout=2.0) as transport:
            response = await transport.send(request(f"{server.base_url}/chat/completions"))
            assert (response.status, response.headers["location"]) == (307, "/v1/elsewhere")
            response.close()
        assert len(server.requests) == 1


async def test_a_prompt_of_many_megabytes_goes_out_whole(kind: Kind) -> None:
    body = b'{"stream": true, "messages": [], "padding": "%b"}' % (b"x" * 8_000_000)
    async with ScriptedServer([Turn(text="Hello")]) as server, kind(open_timeout=2.0) as transport:
        response = await transport.send(request(f"{server.base_url}/chat/completions", body))
        response.close()
        assert server.requests[0].body == body
        assert server.requests[0].headers["content-length"] == str(len(body))


async def test_connections_are_used_again_once_a_body_was_read_to_its_end(kind: Kind) -> None:
    async with ScriptedServer([Turn(text="x")] * 4) as server, kind(open_timeout=2.0) as transport:
        url = f"{server.base_url}/chat/completions"
        for read_whole in (True, True, False, True):
            response = await transport.send(request(url))
            while read_whole and await response.read():
                pass
            response.close()
        # The third was left before its end, so that the fourth needed another.
        assert [request.connection for request in server.requests] == [0, 0, 0, 1]


async def test_an_error_says_nothing_of_the_request_s_headers_and_query(kind: Kind) -> None:
    async with RawServer(saying(b"junk\r\n\r\n")) as server, kind(open_timeout=2.0) as transport:
        with pytest.raises(ProtocolError) as caught:
            await transport.send(request(f"{server.url}/?key=secret", authorization="Bearer secret"))
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    assert "secret" not in f"{caught.value} {caught.value!r}"


async def test_reprs_show_where_and_not_what(kind: Kind) -> None:
    packet = HEAD + b"x-token: secret\r\ncontent-length: 0\r\n\r\n"
    async with RawServer(saying(packet)) as server, kind(open_timeout=2.0) as transport:
        sent = request(f"{server.url}/v1?key=secret", b"secret", authorization="secret")
        response = await transport.send(sent)
        response.close()
        assert repr(sent) == f"<HttpRequest POST {server.url}/v1, 6 bytes>"
        assert repr(response) == f"<HttpResponse 200 from {server.url}/v1>"


async def read_into(kind: Kind, url: str, take: Callable[[bytes], bool]) -> HttpResponse:
    """A response that was read into ``take``, which has refused by now, or taken the end."""
    async with asyncio.timeout(5), kind(open_timeout=2.0) as transport:
        response = await transport.send(request(url))
        try:
            await response.read_into(take)
        finally:
            response.close()
        return response


PACED = [HEAD + b"transfer-encoding: chunked\r\n\r\n", *(chunked(piece, last=b"") for piece in PIECES), b"0\r\n\r\n"]


async def test_a_body_is_read_into_a_function_up_to_its_end(kind: Kind) -> None:
    taken: list[bytes] = []

    def take(data: bytes) -> bool:
        taken.append(data)
        return bool(data)

    async with RawServer(saying(*PACED)) as server:
        response = await read_into(kind, server.url, take)
    assert b"".join(taken) == b"".join(PIECES)
    assert taken.index(b"") == len(taken) - 1
    assert response.over


async def test_what_is_refused_is_the_last_that_a_function_gets(kind: Kind) -> None:
    """The rest is there to be read, also what came before its reader woke up."""
    first = asyncio.Event()

    async def reply(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(CHUNKED_HEAD)
        await first.wait()
        for piece in PACED[1:]:
            writer.write(piece)
            await writer.drain()

    async with asyncio.timeout(5), RawServer(reply) as server, kind(open_timeout=2.0) as transport:
        response = await transport.send(request(server.url))
        taken: list[bytes] = []

        def take(data: bytes) -> bool:
            taken.append(data)
            return False

        reading = asyncio.create_task(response.read_into(take))
        await asyncio.sleep(0)
        first.set()
        await reading
        assert len(taken) == 1
        rest = b""
        while data := await response.read():
            rest += data
        assert taken[0] + rest == b"".join(PIECES)
        assert len(taken) == 1


async def test_what_a_function_raises_is_raised_to_the_reader(kind: Kind) -> None:
    def take(data: bytes) -> bool:
        if b"two" in data:
            raise ValueError("no two")
        return True

    async with RawServer(saying(*PACED)) as server:
        with pytest.raises(ValueError, match="no two"):
            await read_into(kind, server.url, take)


async def test_a_body_that_breaks_off_is_told_to_the_reader_behind_what_came(kind: Kind) -> None:
    taken: list[bytes] = []

    def take(data: bytes) -> bool:
        taken.append(data)
        return True

    async with RawServer(saying(*PACED[:-1])) as server:
        with pytest.raises(Disconnected, match="broke off in the middle"):
            await read_into(kind, server.url, take)
    assert b"".join(taken) == b"".join(PIECES)


async def test_a_function_gets_nothing_more_once_its_reader_is_cancelled(kind: Kind) -> None:
    more, said = asyncio.Event(), asyncio.Event()

    async def reply(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(PACED[0] + PACED[1])
        await more.wait()
        writer.write(PACED[2])
        await writer.drain()
        said.set()
        await asyncio.sleep(5)

    async with asyncio.timeout(5), RawServer(reply) as server, kind(open_timeout=2.0) as transport:
        response = await transport.send(request(server.url))
        taken: list[bytes] = []
        heard = asyncio.Event()

        def take(data: bytes) -> bool:
            taken.append(data)
            heard.set()
            return True

        reading = asyncio.create_task(response.read_into(take))
        await heard.wait()
        reading.cancel()
        await asyncio.wait((reading,))
        more.set()
        await said.wait()
        assert await response.read() == PIECES[1]
        assert taken == [PIECES[0]]
        response.close()
