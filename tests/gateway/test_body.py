"""Bodies: read in time, expanded within bounds, and JSON objects."""

from __future__ import annotations

import asyncio
import gzip
import random
import sys
import tracemalloc
import zlib
from collections.abc import Callable, MutableMapping
from typing import Any

import pytest

from turnwire.errors import InvalidPrompt
from turnwire.gateway.body import BodyTimeout, ClientGone, decode_object, read_body

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MIB = 1024 * 1024
TEXT = b'{"input": "' + b"the same words again, " * 50 + b'"}'
GONE = {"type": "http.disconnect"}


def bare_deflate(data: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return compressor.compress(data) + compressor.flush()


ENCODERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "GZip": gzip.compress,
    "zstd": zstd.compress,
    "identity, zstd": zstd.compress,
    "deflate": zlib.compress,
    " deflate ": bare_deflate,
}


class Client:
    """Sends a body in pieces, and then nothing."""

    def __init__(self, *pieces: bytes, leaves: bool = False, stalls: bool = False) -> None:
        last = len(pieces) - 1
        self._messages: list[MutableMapping[str, Any]] = [
            {"type": "http.request", "body": piece, "more_body": leaves or stalls or place < last}
            for place, piece in enumerate(pieces)
        ]
        self._messages += [GONE] if leaves else []
        self.asked = 0

    async def __call__(self) -> MutableMapping[str, Any]:
        self.asked += 1
        if not self._messages:
            await asyncio.Event().wait()
        return self._messages.pop(0)


async def read(client: Client, *, max_size: int = 4 * MIB, timeout: float = 60, **headers: str) -> bytes:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await read_body(client, named, max_size=max_size, timeout=timeout)


async def refused(client: Client, **options: Any) -> str:
    with pytest.raises(InvalidPrompt) as caught:
        await read(client, **options)
    return str(caught.value)


@pytest.mark.parametrize("pieces", [[TEXT], [TEXT[:5], TEXT[5:]], [b"", TEXT, b""], [b""]])
async def test_a_plain_body_is_its_pieces(pieces: list[bytes]) -> None:
    assert await read(Client(*pieces), content_length=str(len(TEXT))) == b"".join(pieces)


async def test_an_empty_message_is_an_empty_body() -> None:
    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.request"}

    assert await read_body(receive, {}, max_size=1, timeout=60) == b""


@pytest.mark.parametrize("encoding", ENCODERS)
@pytest.mark.parametrize("copies", [1, 2 * MIB // len(TEXT)], ids=["small", "large"])
async def test_a_body_is_expanded_wherever_it_is_cut(encoding: str, copies: int) -> None:
    text = TEXT * copies
    data = ENCODERS[encoding](text)
    middle = len(data) // 2
    for pieces in ([data], [data[:1], data[1:middle], data[middle:]]):
        assert await read(Client(*pieces), content_encoding=encoding) == text


async def test_what_compresses_badly_is_expanded_too() -> None:
    noise = random.Random(7).randbytes(2 * MIB)
    assert await read(Client(gzip.compress(noise, 1)), content_encoding="gzip") == noise


@pytest.mark.parametrize("encoding", ENCODERS)
async def test_a_body_may_expand_to_its_bound_and_no_further(encoding: str) -> None:
    for size in (1000, MIB, 2 * MIB):
        data = ENCODERS[encoding](bytes(size))
        assert await read(Client(data), max_size=size, content_encoding=encoding) == bytes(size)
        sentence = f"the request's body is over {size - 1} bytes, which is all that is taken"
        assert await refused(Client(data), max_size=size - 1, content_encoding=encoding) == sentence


@pytest.mark.parametrize("encode", [gzip.compress, zlib.compress, zstd.compress])
async def test_a_bomb_never_gets_into_memory(encode: Callable[[bytes], bytes]) -> None:
    encoding = {gzip.compress: "gzip", zlib.compress: "deflate", zstd.compress: "zstd"}[encode]
    bomb = encode(bytes(64 * MIB))
    tracemalloc.start()
    try:
        assert "is over 2097152 bytes" in await refused(Client(bomb), max_size=2 * MIB, content_encoding=encoding)
        assert tracemalloc.get_traced_memory()[1] < 8 * MIB
    finally:
        tracemalloc.stop()


async def test_a_zstd_frame_that_wants_a_large_window_is_refused() -> None:
    options = {zstd.CompressionParameter.window_log: 24, zstd.CompressionParameter.content_size_flag: 0}
    compressor = zstd.ZstdCompressor(options=options)
    data = compressor.compress(TEXT) + compressor.flush()
    sentence = await refused(Client(data), content_encoding="zstd")
    assert sentence.startswith("the request's body is not zstd, as its content-encoding says: ")


@pytest.mark.parametrize(
    ("pieces", "headers", "asked"),
    [([b"x" * 11], {"content_length": "11"}, 0), ([b"x" * 6, b"x" * 5, b"x"], {}, 2), ([b"x" * 11], {}, 1)],
)
async def test_a_body_over_the_bound_is_refused_as_soon_as_that_is_known(
    pieces: list[bytes], headers: dict[str, str], asked: int
) -> None:
    client = Client(*pieces)
    sentence = "the request's body is over 10 bytes, which is all that is taken"
    assert await refused(client, max_size=10, **headers) == sentence
    assert client.asked == asked


async def test_a_content_length_that_is_no_number_decides_nothing() -> None:
    assert await read(Client(b"{}"), content_length="many") == b"{}"


@pytest.mark.parametrize("encoding", ["br", "gzip, zstd", "x-zip", "compress", "gzip;q=1"])
async def test_an_encoding_that_is_not_known_names_those_that_are(encoding: str) -> None:
    client = Client(b"")
    sentence = f"content-encoding {encoding!r} can't be read: send one of zstd, gzip, deflate, or none"
    assert await refused(client, content_encoding=encoding) == sentence
    assert client.asked == 0


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "zstd"])
@pytest.mark.parametrize(
    ("change", "beginning"),
    [
        (lambda data: data[:-3], "the request's body ends before its {} data does"),
        (lambda data: b"", "the request's body ends before its {} data does"),
        (lambda data: data + b"more", "the request's body goes on behind its {} data"),
        (lambda data: b"\xff" + data, "the request's body is not {}, as its content-encoding says: "),
    ],
    ids=["cut", "empty", "longer", "other"],
)
async def test_data_that_is_not_in_its_encoding_is_refused(
    encoding: str, change: Callable[[bytes], bytes], beginning: str
) -> None:
    data = change(ENCODERS[encoding](TEXT))
    assert (await refused(Client(data), content_encoding=encoding)).startswith(beginning.format(encoding))


async def test_a_body_that_does_not_come_in_time_is_not_waited_for() -> None:
    with pytest.raises(BodyTimeout) as caught:
        await read(Client(b"{", stalls=True), timeout=0.01)
    assert str(caught.value) == "the request's body did not come within 0.01 s"


async def test_a_client_that_leaves_is_no_error_to_tell() -> None:
    with pytest.raises(ClientGone):
        await read(Client(b"{", leaves=True))


@pytest.mark.parametrize("body", [b'{"a": [1, {"b": null}]}', '{"a": [1, {"b": null}]}', b' {"a":[1,{"b":null}]}\n'])
def test_a_json_object_is_decoded(body: bytes | str) -> None:
    assert decode_object(body) == {"a": [1, {"b": None}]}


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"", "the request's body is not JSON: input data was truncated"),
        (b'{"a":', "the request's body is not JSON: input data was truncated"),
        (b'{"a":}', "the request's body is not JSON: invalid character (byte 5)"),
        (b"{} {}", "the request's body is not JSON: trailing characters (byte 4)"),
        (b'{"a":NaN}', "the request's body is not JSON: invalid character (byte 5)"),
        (b'{"a":"b\xffc"}', "the request's body is not UTF-8 (byte 7)"),
        ('{"a":"\ud800"}', "the request's body is not UTF-8"),
        (b'{"a":' * 10000 + b"1" + b"}" * 10000, "the request's body is nested too deep"),
        (b"[{}]", "the request's body must be a JSON object, not an array"),
        (b'"{}"', "the request's body must be a JSON object, not a string"),
        (b"null", "the request's body must be a JSON object, not null"),
        (b"true", "the request's body must be a JSON object, not true or false"),
        (b"1.5", "the request's body must be a JSON object, not a number"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_anything_but_a_json_object_is_refused_with_the_place(body: bytes | str, sentence: str) -> None:
    with pytest.raises(InvalidPrompt) as caught:
        decode_object(body)
    assert str(caught.value) == sentence
