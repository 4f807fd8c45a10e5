"""What only the direct transport has to see to itself: framing, pressure, and which connections can be used again."""

from __future__ import annotations

import asyncio
import zlib

import pytest

from tests.transport.sending import body_of, failure_of, request
from tests.transport.serving import CHUNKED_HEAD, HEAD, RawServer, Reply, chunked, saying, silence
from turnwire.errors import ConfigurationError, Disconnected, ProtocolError
from turnwire.transport import direct
from turnwire.transport.direct import DirectTransport
from turnwire.transport.message import MAX_HEAD, MAX_READ

pytestmark = pytest.mark.usefixtures("nothing_left")

EMPTY = HEAD + b"content-length: 0\r\n\r\n"


def again_and_again(*answers: bytes) -> Reply:
    """Gives one answer to each request of a connection, then closes it."""

    async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for number, answer in enumerate(answers):
            if number:
                await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            await writer.drain()

    return reply


async def test_a_body_that_stops_being_http_is_an_error_at_once() -> None:
    heard = asyncio.Event()

    async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(CHUNKED_HEAD + chunked(b"data: one\n\n", last=b""))
        await heard.wait()
        writer.write(b"no chunk\r\n")
        await silence(reader, writer)

    async with asyncio.timeout(5), RawServer(reply) as server, DirectTransport(open_timeout=2.0) as transport:
        response = await transport.send(request(server.url))
        assert await response.read() == b"data: one\n\n"
        heard.set()
        with pytest.raises(ProtocolError, match=r" did not answer in proper HTTP: invalid character in chunk size$"):
            await response.read()
        with pytest.raises(ProtocolError):
            await response.read()


async def test_responses_that_only_inform_are_passed_over() -> None:
    early = b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n"
    async with (
        RawServer(saying(early, HEAD + b"content-length: 2\r\n\r\nhi")) as server,
        DirectTransport(open_timeout=2.0) as transport,
    ):
        response = await transport.send(request(server.url))
        assert (response.status, dict(response.headers)) == (
            200,
            {"content-type": "text/event-stream", "content-length": "2"},
        )
        assert await response.read() == b"hi"
        assert await response.read() == b""
        assert response.over


@pytest.mark.parametrize(
    ("packets", "sentence"),
    [
        (
            [b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n"],
            "answered with another protocol than HTTP",
        ),
        ([HEAD + b"x: " + b"x" * 3 * MAX_HEAD], f"sent a head of more than {MAX_HEAD} bytes"),
        (
            [CHUNKED_HEAD + chunked(b"hi", last=b"0\r\n"), b"x: " + b"x" * 3 * MAX_HEAD],
            f"sent a head of more than {MAX_HEAD} bytes",
        ),
    ],
    ids=["another protocol", "endless head", "endless trailer"],
)
async def test_what_is_no_answer_is_refused(packets: list[bytes], sentence: str) -> None:
    async with RawServer(saying(*packets)) as server:
        failure = await failure_of(DirectTransport, server.url)
        assert (type(failure), str(failure)) == (ProtocolError, f"{server.url} {sentence}")


async def test_trailers_are_nobody_s_business() -> None:
    packets = [CHUNKED_HEAD, chunked(b"hi", last=b"0\r\nx-sum: 1\r\n\r\n")]
    async with RawServer(saying(*packets)) as server:
        assert await body_of(DirectTransport, server.url) == b"hi"


async def test_a_kept_connection_that_the_server_closed_is_replaced() -> None:
    async with RawServer(again_and_again(EMPTY)) as server, DirectTransport(open_timeout=2.0) as transport:
        for _ in range(3):
            response = await transport.send(request(server.url))
            assert response.over
        assert len(server.requests) == 3


async def test_a_kept_connection_that_breaks_off_in_an_answer_is_not_replaced() -> None:
    async with (
        RawServer(again_and_again(EMPTY, b"HTTP/1.1 200")) as server,
        DirectTransport(open_timeout=2.0) as transport,
    ):
        await transport.send(request(server.url, b""))
        with pytest.raises(Disconnected, match=r" was lost before the response was whole$"):
            await transport.send(request(server.url, b""))
        assert len(server.requests) == 1


async def test_what_a_server_says_unasked_ends_its_connection() -> None:
    async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(EMPTY)
        await answered.wait()
        writer.write(EMPTY)
        await silence(reader, writer)
        left.set()

    answered, left = asyncio.Event(), asyncio.Event()
    async with asyncio.timeout(5), RawServer(reply) as server, DirectTransport(open_timeout=2.0) as transport:
        await transport.send(request(server.url, b""))
        answered.set()
        await left.wait()


async def test_an_answer_before_all_of_the_question_ends_the_connection() -> None:
    body = b"x" * 32_000_000  # more than the system's buffers hold
    async with RawServer(saying(EMPTY)) as server, DirectTransport(open_timeout=2.0) as transport:
        for _ in range(2):
            assert (await transport.send(request(server.url, body))).over
        assert len(server.requests) == 2


async def test_a_reader_that_takes_its_time_holds_the_server_up() -> None:
    whole = bytes(8 * 1024 * 1024)
    sent = asyncio.Event()

    async def reply(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.set_write_buffer_limits(0)
        writer.write(HEAD + b"content-length: %d\r\n\r\n" % len(whole))
        for start in range(0, len(whole), MAX_READ):
            writer.write(whole[start : start + MAX_READ])
            await writer.drain()
        sent.set()

    async with asyncio.timeout(10), RawServer(reply) as server, DirectTransport(open_timeout=2.0) as transport:
        response = await transport.send(request(server.url))
        for _ in range(200):
            await asyncio.sleep(0)
        assert not sent.is_set()
        largest, size = 0, 0
        while data := await response.read():
            largest, size = max(largest, len(data)), size + len(data)
        assert size == len(whole)
        assert largest <= 8 * MAX_READ  # as much again as one read of the loop's may bring
        assert sent.is_set()


async def test_little_that_grows_to_much_is_read_piece_by_piece() -> None:
    whole = bytes(4 * 1024 * 1024)
    head = HEAD + b"content-encoding: gzip\r\nconnection: close\r\n\r\n"
    packed = zlib.compress(whole, wbits=31)
    async with RawServer(saying(head, packed)) as server, DirectTransport(open_timeout=2.0) as transport:
        response = await transport.send(request(server.url))
        sizes = []
        while data := await response.read():
            sizes.append(len(data))
        assert (max(sizes), sum(sizes)) == (MAX_READ, len(whole))


@pytest.mark.parametrize("cut", [1, 5, 20], ids=["first byte", "head", "body"])
async def test_a_compressed_body_without_its_end_was_cut(cut: int) -> None:
    head = HEAD + b"content-encoding: gzip\r\nconnection: close\r\n\r\n"
    async with RawServer(saying(head, zlib.compress(b"Hello, hello, hello", wbits=31)[:cut])) as server:
        failure = await failure_of(DirectTransport, server.url)
        assert (type(failure), str(failure)) == (
            Disconnected,
            f"{server.url} broke off in the middle of its response",
        )


async def test_a_request_that_nobody_waits_for_closes_its_connection() -> None:
    left = asyncio.Event()

    async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()
        await silence(reader, writer)
        left.set()

    asked = asyncio.Event()
    async with asyncio.timeout(5), RawServer(reply) as server, DirectTransport(open_timeout=2.0) as transport:
        sending = asyncio.create_task(transport.send(request(server.url)))
        await asked.wait()
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        await left.wait()


@pytest.mark.parametrize("head", [CHUNKED_HEAD, HEAD + b"connection: close\r\n\r\n"], ids=["chunked", "until close"])
async def test_a_transport_that_is_closed_cuts_its_answers_off(head: bytes) -> None:
    async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        await silence(reader, writer)

    async with asyncio.timeout(5), RawServer(reply) as server, DirectTransport(open_timeout=2.0) as transport:
        response = await transport.send(request(server.url))
        reading = asyncio.create_task(response.read())
        await asyncio.sleep(0)
        await transport.close()
        with pytest.raises(Disconnected, match=r" broke off in the middle of its response$"):
            await reading
        with pytest.raises(ConfigurationError, match=r" can't be sent: the client is closed$"):
            await transport.send(request(server.url))


async def test_a_response_that_was_closed_says_so() -> None:
    async with RawServer(saying(CHUNKED_HEAD)) as server, DirectTransport(open_timeout=2.0) as transport:
        response = await transport.send(request(server.url))
        response.close()
        response.close()
        with pytest.raises(Disconnected, match=r"^the response from http://\S+ was closed$"):
            await response.read()


async def test_connections_that_nobody_needs_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(direct, "_KEPT_FOR", 0.02)
    left = asyncio.Semaphore(0)

    async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(EMPTY)
        await silence(reader, writer)
        left.release()

    async with asyncio.timeout(5), RawServer(reply) as server, DirectTransport(open_timeout=2.0) as transport:
        await asyncio.gather(*(transport.send(request(server.url, b"")) for _ in range(3)))
        for _ in range(3):
            await left.acquire()


@pytest.mark.parametrize(
    ("url", "head"),
    [
        ("http://127.0.0.1:{port}/v1/a?b=c%20d", "POST /v1/a?b=c%20d HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\n"),
        ("http://127.0.0.1:{port}", "POST / HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\n"),
        ("http://LOCALHOST:{port}/a b/ü", "POST /a%20b/%C3%BC HTTP/1.1\r\nhost: localhost:{port}\r\n"),
    ],
    ids=["query", "nothing", "quoted"],
)
async def test_a_request_begins_with_what_its_address_says(url: str, head: str) -> None:
    async with RawServer(saying(EMPTY)) as server, DirectTransport(open_timeout=2.0) as transport:
        await transport.send(request(url.format(port=server.port), **{"x-key": "grüße"}))
        assert server.requests[0].startswith(head.format(port=server.port).encode())
        assert "x-key: grüße\r\n".encode() in server.requests[0]


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/", "http:///v1", "http://[::1/v1", "127.0.0.1:80"])
async def test_what_is_no_address_is_refused(url: str) -> None:
    failure = await failure_of(DirectTransport, url)
    assert (type(failure), str(failure)) == (ConfigurationError, f"{url} is not a URL to send requests to")


async def test_a_connection_that_opens_as_the_transport_closes_is_closed_too() -> None:
    async with asyncio.timeout(5), RawServer(silence, greets=True) as server:
        transport = DirectTransport(open_timeout=2.0)
        sending = asyncio.create_task(transport.send(request(server.url)))
        await asyncio.sleep(0)  # the host is being looked up
        await transport.close()
        with pytest.raises(Disconnected, match=r" was lost before the response was whole$"):
            await sending
