"""Compressed bodies, taken apart as they come."""

from __future__ import annotations

import zlib

__all__ = ["CODINGS", "Inflater"]

CODINGS = frozenset({"gzip", "x-gzip", "deflate"})
"""The names of what an `Inflater` reads (RFC 9110, section 8.4.1)."""

_GZIP_OR_ZLIB = 47
_BARE = -15
_ZLIB_METHOD = 8
"""The low half of a zlib stream's first byte. What some servers call deflate has no such frame."""


class Inflater:
    """Takes a compressed body in any pieces; a read of it is never more than ``max_read`` bytes of what is in it."""

    def __init__(self, max_read: int) -> None:
        self._max_read = max_read
        self._unread = b""
        self._decompressor: zlib._Decompress | None = None

    @property
    def ended(self) -> bool:
        """The compressed data came to its end; nothing at all has none."""
        return self._decompressor is None or self._decompressor.eof

    @property
    def has_more(self) -> bool:
        """Whether `read` would give more without being fed."""
        return bool(self._unread)

    def feed(self, data: bytes) -> None:
        """Takes more of the body."""
        self._unread += data

    def read(self) -> bytes:
        """What the bytes so far say, none where they say nothing yet; raises `zlib.error`."""
        data, self._unread = self._unread, b""
        if not data:
            return b""
        if self._decompressor is None:
            framed = data[0] & 0x0F == _ZLIB_METHOD or data[0] == 0x1F
            self._decompressor = zlib.decompressobj(_GZIP_OR_ZLIB if framed else _BARE)
        said = self._decompressor.decompress(data, self._max_read)
        self._unread = self._decompressor.unconsumed_tail
        return said
