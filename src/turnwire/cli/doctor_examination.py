"""The order of an examination: what is looked at when, and what is left out because something before it failed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime

from turnwire.cli.doctor_checks import (
    Finding,
    Listing,
    check_cache,
    check_call,
    check_ending,
    check_key,
    check_model,
    check_pieces,
    check_token,
    check_usage,
    check_wire,
    skipped,
)
from turnwire.cli.doctor_connection import check_reachable, check_tls
from turnwire.cli.doctor_question import CALL, GREETING, LONG, WIRES, Heard, Wire, ask, own_wire
from turnwire.cli.provider_choice import served_models
from turnwire.client import Provider
from turnwire.errors import ApiError

__all__ = ["examine"]

_ANSWERED = ("routing token", "streaming", "proper ending", "tool calls", "usage", "prompt cache")
_ROWS = ("reachable", "TLS", "key", "model", *WIRES.values(), *_ANSWERED)


class _Blocked(Exception):
    """Something failed that all further rows depend on; the text says what."""


async def examine(provider: Provider, model: str | None) -> AsyncIterator[Finding]:
    """The findings, in the order of their rows and as soon as each is known.

    Connections have ``open_timeout``, a list of models and each answer ``idle_timeout``.
    """
    rows = iter(_ROWS)
    try:
        async for finding in _look_at_all(provider, model):
            next(rows)
            yield finding
    except _Blocked as blocked:
        for row in rows:
            yield skipped(row, str(blocked))


async def _look_at_all(provider: Provider, model: str | None) -> AsyncIterator[Finding]:
    reachable = await check_reachable(provider.base_url, provider.open_timeout)
    yield reachable
    if reachable.status == "failed":
        raise _Blocked("the server can't be reached")
    trusted = await check_tls(provider.base_url, provider.ca_file, provider.open_timeout, datetime.now(UTC))
    yield trusted
    if trusted.status == "failed":
        raise _Blocked("the server is not trusted")

    # What the server says of key and model it may say in a list, and does say in an answer.
    listing = await _list_models(provider)
    if model is None and len(listing.names) == 1:
        model = listing.names[0]
    own = own_wire(provider)
    heard: dict[Wire, Heard] = {}
    if model is not None:
        (heard[own],) = await ask(provider, model, own, GREETING)
    key = check_key(provider, listing, heard.get(own))
    yield key
    if key.status == "failed":
        raise _Blocked("the key is not accepted")
    known = check_model(model, listing, heard.get(own))
    yield known
    if model is None or known.status == "failed":
        raise _Blocked("there is no model to ask")

    for wire in WIRES:
        if wire != own:
            (heard[wire],) = await ask(provider, model, wire, GREETING)
    for wire in WIRES:
        yield check_wire(wire, heard, own)
    spoken = next((wire for wire in (own, *WIRES) if heard[wire].spoken), None)
    if spoken is None:
        raise _Blocked("no wire gave an answer")

    yield check_token({wire: heard[wire] for wire in WIRES})
    yield check_pieces(heard[spoken])
    yield check_ending(heard[spoken])
    (called,) = await ask(provider, model, spoken, CALL)
    yield check_call(called)
    first, *again = await ask(provider, model, spoken, LONG, LONG)
    yield check_usage(first)
    if not again:
        raise _Blocked("the first of two equal questions failed")
    yield check_cache(again[0])


async def _list_models(provider: Provider) -> Listing:
    try:
        return Listing(await served_models(provider))
    except ApiError as error:
        return Listing(error=error)
