"""Compressed bodies, taken apart as they come."""

from __future__ import annotations

import zlib

from turnwire.errors import ProtocolError
from turnwire.transport.failure import broken_off
from turnwire.transport.message import MAX_READ, HttpResponse

__all__ = ["decoded"]

_CODINGS = ("deflate", "gzip", "x-gzip")
"""The names of what is read (RFC 9110, section 8.4.1)."""
_GZIP_OR_ZLIB = 47
_BARE = -15
_ZLIB_METHOD = 8
"""The low half of a zlib stream's first byte. What some servers call deflate has no such frame."""
_GZIP_MAGIC = 0x1F


def decoded(response: HttpResponse) -> HttpResponse:
    """The same response, whose body is read as it was before it was compressed.

    Raises `ProtocolError`, and closes the response, where nobody knows how.
    """
    coding = response.headers.get("content-encoding", "identity").strip().lower()
    if coding == "identity":
        return response
    if coding in _CODINGS:
        return _Inflated(response)
    response.close()
    known = ", ".join(_CODINGS)
    raise ProtocolError(f"{response.where} sent its answer in content-encoding {coding!r}; known are {known}")


class _Inflated(HttpResponse):
    """A response over another one, which is compressed; a read never gives more than 64 KiB of what is in it."""

    def __init__(self, packed: HttpResponse) -> None:
        super().__init__(packed.status, packed.headers, packed.where)
        self._packed = packed
        self._unread = b""
        self._decompressor: zlib._Decompress | None = None
        self._over = False

    @property
    def over(self) -> bool:
        """The body was read to its proper end, or has none."""
        return self._over

    async def read(self) -> bytes:
        """What the bytes that have come say, as `HttpResponse.read` has it."""
        try:
            return await self._read()
        except zlib.error:
            self.close()
            raise broken_off(self.where) from None

    def close(self) -> None:
        """Closes the connection at once, unless the body was read to its end."""
        self._packed.close()

    async def _read(self) -> bytes:
        while not self._over:
            if said := self._inflate():
                return said
            self._unread = await self._packed.read()
            if not self._unread:
                self._end()
        return b""

    def _inflate(self) -> bytes:
        data, self._unread = self._unread, b""
        if not data:
            return b""
        if self._decompressor is None:
            framed = data[0] & 0x0F == _ZLIB_METHOD or data[0] == _GZIP_MAGIC
            self._decompressor = zlib.decompressobj(_GZIP_OR_ZLIB if framed else _BARE)
        said = self._decompressor.decompress(data, MAX_READ)
        self._unread = self._decompressor.unconsumed_tail
        return said

    def _end(self) -> None:
        """The compressed data must have come to its end as well; nothing at all has none."""
        if self._decompressor is not None and not self._decompressor.eof:
            raise zlib.error
        self._over = True
