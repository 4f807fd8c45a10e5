"""The scripted server's reader of HTTP/1.1 requests: strict, and bounded."""

from __future__ import annotations

import asyncio

import pytest

from turnwire.testing.request import MAX_BODY, MAX_HEAD, BadRequest, RecordedRequest, read_request


def reader_of(data: bytes) -> asyncio.StreamReader:
    reader = asyncio.StreamReader(limit=MAX_HEAD)
    reader.feed_data(data)
    reader.feed_eof()
    return reader


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", None),
        (
            b"GET /v1/models?client_version=1 HTTP/1.1\r\nHost: a\r\nX-Two: 1\r\nx-two:\t2 \r\nx-none:\r\n\r\n",
            RecordedRequest(
                method="GET",
                path="/v1/models",
                query="client_version=1",
                headers={"host": "a", "x-two": "1, 2", "x-none": ""},
                connection=3,
            ),
        ),
        (
            b'POST /x HTTP/1.1\r\ncontent-length: 7\r\n\r\n{"a":1}',
            RecordedRequest(method="POST", path="/x", headers={"content-length": "7"}, body=b'{"a":1}', connection=3),
        ),
        (
            b"POST /x HTTP/1.1\r\ntransfer-encoding: Chunked\r\n\r\n"
            b'3;name=value\r\n{"a\r\n4\r\n":1}\r\n0\r\nx-trailer: 1\r\n\r\n',
            RecordedRequest(
                method="POST", path="/x", headers={"transfer-encoding": "Chunked"}, body=b'{"a":1}', connection=3
            ),
        ),
    ],
    ids=["nothing", "no-body", "content-length", "chunked"],
)
async def test_a_request_is_read_whole(data: bytes, expected: RecordedRequest | None) -> None:
    assert await read_request(reader_of(data), 3) == expected


async def test_requests_follow_one_another_on_a_connection() -> None:
    reader = reader_of(b"POST /a HTTP/1.1\r\ncontent-length: 2\r\n\r\n[]GET /b HTTP/1.1\r\n\r\n")
    assert [await read_request(reader, 0) for _ in range(3)] == [
        RecordedRequest(method="POST", path="/a", headers={"content-length": "2"}, body=b"[]", connection=0),
        RecordedRequest(method="GET", path="/b", connection=0),
        None,
    ]


def test_the_body_can_be_had_decoded() -> None:
    assert RecordedRequest(method="POST", path="/", body=b'{"a":[1]}', connection=0).json == {"a": [1]}


def chunked(body: bytes) -> bytes:
    return b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n" + body


@pytest.mark.parametrize(
    ("data", "status", "message"),
    [
        (b"GET / HT", 400, "the request's head ends after 8 bytes"),
        (b"GET / HTTP/1.0\r\n\r\n", 400, "b'GET / HTTP/1.0' is not a request line of HTTP/1.1"),
        (b"GET http://a/ HTTP/1.1\r\n\r\n", 400, "b'GET http://a/ HTTP/1.1' is not a request line of HTTP/1.1"),
        (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", 400, "b'no colon' is not a header field"),
        (b"GET / HTTP/1.1\r\na: 1\r\n folded\r\n\r\n", 400, "b' folded' is not a header field"),
        (b"GET / HTTP/1.1\r\na : 1\r\n\r\n", 400, "b'a : 1' is not a header field"),
        (b"GET / HTTP/1.1\r\na: " + b"x" * MAX_HEAD, 431, "the request's head takes more than 65536 bytes"),
        (b"POST / HTTP/1.1\r\ncontent-length: 3\r\n\r\n{}", 400, "the request's body ends before it is whole"),
        (
            b"POST / HTTP/1.1\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{}",
            400,
            "content-length '2, 3' is not a number of bytes",
        ),
        (b"POST / HTTP/1.1\r\ncontent-length: -1\r\n\r\n", 400, "content-length '-1' is not a number of bytes"),
        (
            b"POST / HTTP/1.1\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n",
            400,
            "the request has both content-length and transfer-encoding",
        ),
        (
            b"POST / HTTP/1.1\r\ntransfer-encoding: gzip, chunked\r\n\r\n",
            501,
            "transfer-encoding 'gzip, chunked' is not known, only chunked is",
        ),
        (
            b"POST / HTTP/1.1\r\ncontent-length: %d\r\n\r\n" % (MAX_BODY + 1),
            413,
            "the request's body takes 67108865 bytes, at most 67108864 are read",
        ),
        (chunked(b"4000001\r\n"), 413, "the request's body takes 67108865 bytes, at most 67108864 are read"),
        (chunked(b"0x3\r\nabc\r\n"), 400, r"b'0x3\r\n' is not the size of a chunk"),
        (chunked(b"3\r\nabcdef\r\n"), 400, "a chunk of 3 bytes does not end where it should"),
        (chunked(b"3\r\nabc\r\n"), 400, "the request's body ends before it is whole"),
        (chunked(b"3" * (MAX_HEAD + 2)), 400, "a line of the chunked body takes more than 65536 bytes"),
    ],
)
async def test_what_is_not_sound_is_refused(data: bytes, status: int, message: str) -> None:
    with pytest.raises(BadRequest) as caught:
        await read_request(reader_of(data), 0)
    assert (caught.value.status, str(caught.value)) == (status, message)
