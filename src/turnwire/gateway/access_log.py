"""The access log: one JSON object per answer, on a line of its own, once the answer is over.

It has a logger of its own, ``turnwire.gateway.access``, which is silent until its level is INFO: by `opened`, or by an
application's own configuration of logging. No line holds a prompt, an answer, a key or a token. What belongs
together is told by fingerprints: without the gateway's secret nobody can find out what one was made of, not even by
trying all that it may have been.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from logging.handlers import WatchedFileHandler
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec
from msgspec import Struct

from turnwire.errors import ConfigurationError

__all__ = ["STANDARD_ERROR", "AccessEntry", "Fingerprints", "Held", "is_kept", "opened", "write"]

STANDARD_ERROR = Path("-")
"""The destination that is no file."""

Held: TypeAlias = Literal["token", "key", "moved"]
"""What put a request where it was answered: its turn's token, its conversation's key, or that failing."""

_log = logging.getLogger("turnwire.gateway.access")
_log.setLevel(logging.CRITICAL)  # that of the loggers above would let it write

_FINGERPRINT = 6
"""Bytes: among a million conversations two are alike with a chance of 1 in 500."""


class AccessEntry(Struct, frozen=True):
    """One answer. Times are in seconds; what is not known is null."""

    time: datetime
    """When it was over."""
    request_id: str
    caller: str
    """The name of the caller's key, and the fingerprint that separates one key's turns from another's."""
    tenant: str
    api: str
    model: str
    upstreams: Sequence[str]
    """All that were asked, in order: the last one answered."""
    turn: str
    """A fingerprint, the same for all requests of a turn that carry its token."""
    conversation: str
    """A fingerprint, the same for all turns of a conversation."""
    held: Held | None
    end: str
    """completed, failed, or left: the client did not wait."""
    status: int | None
    """What the client was told; null where it left before it was told anything."""
    error: str | None
    """The class of what it failed with."""
    first_output: float | None
    duration: float
    input_tokens: int | None
    cached_input_tokens: int | None
    output_tokens: int | None
    dropped: int
    """How many features of the request could not be carried over."""
    bytes: int
    """Of the answer's body, or its WebSocket messages, as they were written."""


class Fingerprints:
    """Short names for what must not be shown itself; equal ones for equal things, for as long as the secret stays."""

    def __init__(self, secret: str) -> None:
        self._key = hashlib.blake2b(secret.encode(), person=b"turnwire log").digest()

    def of(self, data: bytes) -> str:
        """12 hexadecimal digits."""
        return hashlib.blake2b(data, digest_size=_FINGERPRINT, key=self._key).hexdigest()


def is_kept() -> bool:
    """Whether anybody wants it: else nothing is made of it."""
    return _log.isEnabledFor(logging.INFO)


def write(entry: AccessEntry) -> None:
    """Writes one line."""
    _log.info(msgspec.json.encode(entry).decode())


@contextmanager
def opened(destination: Path | None) -> Iterator[None]:
    """Has the log written to a file, which is appended to, or to `STANDARD_ERROR`; None: as it is.

    A file that is moved away or removed is made anew, as programs that rotate logs expect. Several processes may write
    to one. Raises `ConfigurationError` where it can't be written.
    """
    if destination is None:
        yield
        return
    handler: logging.Handler
    if destination == STANDARD_ERROR:
        handler = logging.StreamHandler()
    else:
        try:
            handler = WatchedFileHandler(destination, encoding="utf-8")
        except OSError as error:
            raise ConfigurationError(f"access_log can't be written to {destination}: {error.strerror}") from error
    level, propagate = _log.level, _log.propagate
    _log.setLevel(logging.INFO)
    _log.propagate = False  # lines for programs do not belong among lines for people
    _log.addHandler(handler)
    try:
        yield
    finally:
        _log.removeHandler(handler)
        _log.setLevel(level)
        _log.propagate = propagate
        handler.close()
