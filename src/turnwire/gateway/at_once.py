"""An ASGI extension for what needs no waiting: the server writes at once, and hands a body over that is there already.

A model gives its answer in hundreds of pieces, each of which comes by itself. To await ASGI's ``send`` for one takes a
task that wakes up for it, which costs more than the translation; and to wait in vain for a request that came with its
head delays the answer's first word.
"""

from __future__ import annotations

from collections.abc import Callable, MutableMapping, Sequence
from typing import Any, TypeAlias

from starlette.types import Receive, Send

__all__ = ["Put", "body_of", "extension", "put_of"]

_NAME = "turnwire.at_once"

Put: TypeAlias = Callable[[Sequence[bytes]], bool]
"""Writes more of a body, or one message each; False where that has to wait, or can't be: then nothing was written."""


def extension(
    receive: Callable[..., Any], send: Callable[..., Any], put: Put, body: Callable[[], bytes | None] | None = None
) -> dict[str, Any]:
    """What a server adds to a scope's ``extensions``; ``receive`` and ``send`` are those that it gives with that scope.

    ``body`` gives all of the request's body, once, or None as long as not all of it has come.
    """
    return {_NAME: {"receive": receive, "send": send, "put": put, "body": body}}


def put_of(scope: MutableMapping[str, Any], send: Send) -> Put:
    """The server's way to write at once; where it has none, or something stands before its ``send``, one that can't."""
    offered = scope.get("extensions", {}).get(_NAME)
    if offered is None or offered["send"] != send:
        return _cannot
    put: Put = offered["put"]
    return put


def body_of(scope: MutableMapping[str, Any], receive: Receive) -> bytes | None:
    """The request's body where all of it has come; None where it is to be received, or something stands before that."""
    offered = scope.get("extensions", {}).get(_NAME)
    if offered is None or offered["body"] is None or offered["receive"] != receive:
        return None
    body: bytes | None = offered["body"]()
    return body


def _cannot(_: Sequence[bytes]) -> bool:
    return False
