"""What responses are kept in, for requests that name them later: one small interface, for a file or a shared server.

A response is kept under its tenant: another tenant's does not exist. It holds its own request's input alone and names
the response before it, so that a conversation of N turns is kept once, not N times; `ResponseStore.chain` puts it
together again. A response lives for the store's time to live, counted from when it was last written or gone on from,
and the whole store is bounded in bytes: the longest unused go first.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import msgspec
from msgspec import Struct

__all__ = [
    "MAX_CHAIN",
    "MAX_HISTORY",
    "ResponseStore",
    "StoredResponse",
    "output_items",
    "pack_events",
    "unpack_events",
]

MAX_CHAIN = 10_000
"""Responses that one conversation may go back."""
MAX_HISTORY = 64 * 1024 * 1024
"""Bytes of one conversation, by default."""

_encode = msgspec.json.Encoder().encode


class StoredResponse(Struct, frozen=True):
    """One response as it is kept; JSON stays bytes, for whoever keeps it need not read it."""

    response_id: str
    document: bytes
    """The ``response`` object."""
    input_items: bytes = b"[]"
    """JSON array of the items that its own request brought."""
    previous_response_id: str | None = None
    """The kept response that holds what went before; None where `input_items` begin the conversation."""
    running_until: float | None = None
    """For a response that still runs: when, in seconds since 1970, whoever runs it will have said so again. Past that
    it can be taken for lost. None once it is over."""

    def __repr__(self) -> str:
        # The conversation stays out of logs and tracebacks.
        state = "over" if self.running_until is None else "running"
        return f"<StoredResponse {self.response_id}, {state}, {len(self.document) + len(self.input_items)} bytes>"

    @classmethod
    def of(
        cls,
        response: Mapping[str, Any],
        *,
        input_items: Sequence[Mapping[str, Any]] = (),
        previous_response_id: str | None = None,
        running_until: float | None = None,
    ) -> StoredResponse:
        """The record of a ``response`` object, which has an ``id``.

        ``previous_response_id`` is not taken from the object, which repeats what its client sent: the response that
        is meant there may be known to one connection alone, and then ``input_items`` are all there is.
        """
        return cls(response["id"], _encode(response), _encode(input_items), previous_response_id, running_until)


class ResponseStore(Protocol):
    """Where responses are kept. Every method raises `ServerOverloaded` where it can't be reached or written."""

    async def put(self, tenant: str, stored: StoredResponse, events: bytes = b"") -> None:
        """Keeps a response, in the place of one of the same id; ``events`` are its stream, to be replayed.

        The responses that it goes on from live as long as it does from now. Raises `InvalidPrompt` for one that is
        larger than the whole store may be.
        """

    async def finish(self, tenant: str, stored: StoredResponse, events: bytes = b"") -> bool:
        """Like `put`, for a response that ran; False, and nothing changes, where none of its id is running.

        It was deleted or cancelled meanwhile: of several that finish it the first counts.
        """

    async def renew(self, tenant: str, response_id: str, running_until: float) -> bool:
        """Says of a running response that it still runs; False where it was deleted or finished."""

    async def get(self, tenant: str, response_id: str) -> StoredResponse | None:
        """The response of this id; None where there is none, or no more."""

    async def chain(self, tenant: str, response_id: str) -> Sequence[StoredResponse]:
        """This response and those that it goes on from, the oldest first; none where there is no such response.

        The oldest names another where that is gone, or where the chain is over the store's bounds.
        """

    async def items(self, tenant: str, item_ids: Sequence[str]) -> Mapping[str, bytes]:
        """Those of the items which a kept response has in its output, as JSON by their ids."""

    async def events(self, tenant: str, response_id: str) -> bytes:
        """The events that a response was kept with; nothing where there are none."""

    async def delete(self, tenant: str, response_id: str) -> bool:
        """Forgets a response; False where there is none."""

    async def close(self) -> None:
        """Lets go of files and connections; nothing is asked of the store afterwards."""


def pack_events(events: bytes) -> bytes:
    """A stream's events as they are kept: around its deltas stand the same bytes again and again."""
    return zlib.compress(events, 1) if events else b""


def unpack_events(packed: bytes) -> bytes:
    """The events that `pack_events` packed."""
    return zlib.decompress(packed) if packed else b""


class _Item(Struct):
    id: Any = None


class _Output(Struct):
    output: list[msgspec.Raw] = []


_decode_item = msgspec.json.Decoder(_Item).decode
_decode_output = msgspec.json.Decoder(_Output).decode


def output_items(document: bytes) -> Iterator[tuple[str, bytes]]:
    """The output items of a ``response`` object, as JSON with their ids: those that have one."""
    for item in _decode_output(document).output:
        item_id = _decode_item(item).id
        if isinstance(item_id, str):
            yield item_id, bytes(item)
