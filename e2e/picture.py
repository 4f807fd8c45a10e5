"""A small picture, made here."""

from __future__ import annotations

import struct
import zlib

__all__ = ["red_png"]


def red_png(size: int = 2) -> bytes:
    """A red square in PNG, 8-bit RGB."""
    row = b"\0" + b"\xff\0\0" * size  # each row begins with its filter, of which 0 is none
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            _chunk(b"IHDR", struct.pack(">IIBBBBB", size, size, 8, 2, 0, 0, 0)),
            _chunk(b"IDAT", zlib.compress(row * size)),
            _chunk(b"IEND", b""),
        ]
    )


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
