"""An ASGI extension: the server writes at once what needs no waiting, without a coroutine for each piece.

A model gives its answer in hundreds of pieces, each of which comes by itself. To await ASGI's ``send`` for one takes a
task that wakes up for it, which costs more than the translation.
"""

from __future__ import annotations

from collections.abc import Callable, MutableMapping, Sequence
from typing import Any, TypeAlias

from starlette.types import Send

__all__ = ["Put", "extension", "put_of"]

_NAME = "turnwire.at_once"

Put: TypeAlias = Callable[[Sequence[bytes]], bool]
"""Writes more of a body, or one message each; False where that has to wait, or can't be: then nothing was written."""


def extension(send: Callable[..., Any], put: Put) -> dict[str, Any]:
    """What a server adds to a scope's ``extensions``; ``send`` is the one that it gives with that scope."""
    return {_NAME: {"send": send, "put": put}}


def put_of(scope: MutableMapping[str, Any], send: Send) -> Put:
    """The server's way to write at once; where it has none, or something stands before its ``send``, one that can't."""
    offered = scope.get("extensions", {}).get(_NAME)
    if offered is None or offered["send"] != send:
        return _cannot
    put: Put = offered["put"]
    return put


def _cannot(_: Sequence[bytes]) -> bool:
    return False
