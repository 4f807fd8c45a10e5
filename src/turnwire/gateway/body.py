"""A request's body: read in time and within bounds, expanded, and decoded.

Codex compresses with zstd when it is signed in to ChatGPT; proxies and scripts send gzip. A small body may expand to
anything, so what it expands to is bounded while it expands.
"""

from __future__ import annotations

import asyncio
import sys
import zlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from turnwire.errors import ApiError, InvalidPrompt

if TYPE_CHECKING:
    from starlette.types import Receive

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

__all__ = ["BodyTimeout", "ClientGone", "decode_object", "read_body"]

_AT_ONCE = 1024 * 1024
"""Bytes that a body may expand to in the event loop, about a millisecond; more is a thread's work."""
_ZSTD_WINDOW_LOG = 23
"""RFC 9659: a body's window is 8 MiB at most. A frame may ask for more memory than that in its first bytes."""


class BodyTimeout(ApiError, TimeoutError):
    """A request's body that did not come within ``body_timeout``: HTTP 408."""


class ClientGone(Exception):
    """The client left before its request was whole, so that there is nobody to tell anything."""


async def read_body(
    receive: Receive, headers: Mapping[str, str], *, max_size: int, timeout: float, read: bytes | None = None
) -> bytes:
    """A request's body, expanded; ``headers`` have lower-case names, ``timeout`` (seconds) is for all of it.

    ``read`` is the body where it was read already.

    Raises `InvalidPrompt` for a body over ``max_size`` bytes, before or after it is expanded, for an encoding that is
    not known and for data that is not in it; `BodyTimeout`; `ClientGone`.
    """
    encoding = _encoding(headers["content-encoding"]) if "content-encoding" in headers else None
    declared = headers.get("content-length", "")
    if (declared.isdecimal() and int(declared) > max_size) or (read is not None and len(read) > max_size):
        raise _too_large(max_size)
    body = read
    if body is None:
        try:
            async with asyncio.timeout(timeout):
                body = await _read(receive, max_size)
        except TimeoutError:
            raise BodyTimeout(f"the request's body did not come within {timeout:g} s") from None
    if encoding is None:
        return body
    expanded = _expand(body, encoding, min(_AT_ONCE, max_size))
    if expanded is None and max_size > _AT_ONCE:
        expanded = await asyncio.to_thread(_expand, body, encoding, max_size)
    if expanded is None:
        raise _too_large(max_size)
    return expanded


def decode_object(body: bytes | str) -> dict[str, Any]:
    """The JSON object that a body is; `InvalidPrompt` says what else it is, and where it stops being JSON."""
    try:
        value = msgspec.json.decode(body)
    except msgspec.DecodeError as error:
        sentence = str(error).removeprefix("JSON is malformed: ").partition(" - at ")[0]
        raise InvalidPrompt(f"the request's body is not JSON: {sentence[:1].lower()}{sentence[1:]}") from None
    except UnicodeError:
        raise InvalidPrompt(f"the request's body is not UTF-8{_first_bad_byte(body)}") from None
    except RecursionError:
        raise InvalidPrompt("the request's body is nested too deep") from None
    if not isinstance(value, dict):
        raise InvalidPrompt(f"the request's body must be a JSON object, not {_kind(value)}")
    return value


async def _read(receive: Receive, max_size: int) -> bytes:
    pieces: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        piece = message.get("body", b"")
        size += len(piece)
        if size > max_size:
            raise _too_large(max_size)
        pieces.append(piece)
        if not message.get("more_body", False):
            return b"".join(pieces)


class _Decompressor(Protocol):
    """What zlib's and zstd's have in common."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


def _gzip(_: bytes) -> _Decompressor:
    return zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)


def _deflate(body: bytes) -> _Decompressor:
    """Of the zlib format, as RFC 9110 has it, or bare, as many send it; the first two bytes tell (RFC 1950)."""
    wrapped = len(body) > 1 and body[0] & 0x0F == zlib.DEFLATED and int.from_bytes(body[:2], "big") % 31 == 0
    return zlib.decompressobj(wbits=zlib.MAX_WBITS if wrapped else -zlib.MAX_WBITS)


def _zstd(_: bytes) -> _Decompressor:
    return zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: _ZSTD_WINDOW_LOG})


_ENCODINGS: dict[str, Callable[[bytes], _Decompressor]] = {"zstd": _zstd, "gzip": _gzip, "deflate": _deflate}
"""What expands a body, which it may look at first."""


def _encoding(header: str) -> str | None:
    """The one encoding that a ``content-encoding`` header names, None where it names none."""
    names = [name for name in (part.strip().lower() for part in header.split(",")) if name not in ("", "identity")]
    if not names:
        return None
    name = names[0].removeprefix("x-")  # RFC 9110, 8.4.1.3: x-gzip is gzip
    if len(names) > 1 or name not in _ENCODINGS:
        known = ", ".join(_ENCODINGS)
        raise InvalidPrompt(f"content-encoding {header!r} can't be read: send one of {known}, or none")
    return name


def _expand(body: bytes, encoding: str, limit: int) -> bytes | None:
    """What a body expands to, None where that is more than ``limit`` bytes; never more of it is in memory."""
    decompressor = _ENCODINGS[encoding](body)
    try:
        expanded = decompressor.decompress(body, limit + 1)
    except (zlib.error, zstd.ZstdError) as error:
        raise InvalidPrompt(f"the request's body is not {encoding}, as its content-encoding says: {error}") from None
    if len(expanded) > limit:
        return None
    if not decompressor.eof:
        raise InvalidPrompt(f"the request's body ends before its {encoding} data does")
    if decompressor.unused_data:
        raise InvalidPrompt(f"the request's body goes on behind its {encoding} data")
    return expanded


def _too_large(max_size: int) -> InvalidPrompt:
    return InvalidPrompt(f"the request's body is over {max_size} bytes, which is all that is taken")


def _first_bad_byte(body: bytes | str) -> str:
    """Where invalid UTF-8 begins: the decoder counts from the start of a string, so it is looked for."""
    try:
        if isinstance(body, bytes):
            body.decode()
    except UnicodeDecodeError as error:
        return f" (byte {error.start})"
    return ""


def _kind(value: object) -> str:
    match value:
        case list():
            return "an array"
        case str():
            return "a string"
        case None:
            return "null"
        case bool():
            return "true or false"
    return "a number"
