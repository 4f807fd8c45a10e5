"""A request and what went before it, as one list of items: what a client leaves out because the gateway remembers it.

A request that names a ``previous_response_id`` brings only what is new; the model is to see the input of the earlier
responses, their output, and the new items. Output goes back in as it came out, with its ids. ``instructions`` belong
to one request and are not carried on, by the API's rule.

A request may also name single items of earlier output, as ``item_reference``; the Vercel AI SDK does so by default.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import msgspec
from msgspec import Struct

from turnwire.errors import InvalidPrompt, PreviousResponseNotFound
from turnwire.gateway.store import StoredResponse
from turnwire.item import decode_item
from turnwire.wire.responses import ResponseObject

__all__ = [
    "Item",
    "forgotten",
    "history_of",
    "input_of",
    "items_of",
    "listed",
    "referenced_ids",
    "require_calls",
    "resolved",
]

Item: TypeAlias = Mapping[str, Any]
"""An item's JSON object, as it came."""

_ENDS_WITH_ANSWER = frozenset({"completed", "incomplete"})


class _Answer(Struct):
    """What of a ``response`` object matters to whoever goes on from it."""

    status: str = "completed"
    output: list[dict[str, Any]] = []


_decode_answer = msgspec.json.Decoder(_Answer).decode
_decode_items = msgspec.json.Decoder(list[dict[str, Any]]).decode


def items_of(request_input: Any) -> list[Item]:
    """The items of a request's ``input``, of which bare text is a user's message, and nothing no items.

    Raises `InvalidPrompt` for what is neither.
    """
    if isinstance(request_input, str):
        return [{"type": "message", "role": "user", "content": request_input}]
    if request_input is None:
        return []
    if not (isinstance(request_input, list) and all(isinstance(item, dict) for item in request_input)):
        raise InvalidPrompt("input: expected text, or a list of objects that are items")
    return request_input


def history_of(response_id: str, chain: Sequence[StoredResponse]) -> list[Item]:
    """All items up to the end of a response's output, of the kept chain that leads to it.

    Raises `PreviousResponseNotFound` where the chain has a gap, and `InvalidPrompt` where the response has no answer
    to go on from.
    """
    history = input_of(response_id, chain)
    answer = _decode_answer(chain[-1].document)
    if answer.status not in _ENDS_WITH_ANSWER:
        raise InvalidPrompt(
            f"previous_response_id: the response {response_id!r} is {answer.status}, "
            "and only a completed one can be gone on from"
        )
    return [*history, *answer.output]


def input_of(response_id: str, chain: Sequence[StoredResponse]) -> list[Item]:
    """All items that were a response's input; raises `PreviousResponseNotFound` where the chain has a gap."""
    if not chain or chain[0].previous_response_id is not None:
        raise forgotten(response_id)
    items: list[Item] = []
    for before in chain[:-1]:
        items += _decode_items(before.input_items)
        items += _decode_answer(before.document).output
    return items + _decode_items(chain[-1].input_items)


def forgotten(response_id: str) -> PreviousResponseNotFound:
    """The error for a response that nobody remembers."""
    return PreviousResponseNotFound(
        f"the response {response_id!r} is not known here, or not any more: send the whole conversation"
    )


def referenced_ids(items: Iterable[Item]) -> list[str]:
    """The ids of the items that are named instead of sent."""
    return [_id_of(item) for item in items if _is_reference(item)]


def resolved(items: Sequence[Item], known: Mapping[str, Item], history: Iterable[Item] = ()) -> list[Item]:
    """The items, with those that are known by id in the place of references to them.

    What is named but part of the ``history`` stands there already. Raises `InvalidPrompt` for what is not known.
    """
    there = {_id_of(item) for item in history} - {""}
    whole: list[Item] = []
    for item in items:
        item_id = _id_of(item)
        if not _is_reference(item):
            whole.append(item)
        elif item_id in there:
            continue
        elif item_id in known:
            whole.append(known[item_id])
        else:
            raise InvalidPrompt(
                f"input: the item {item_id!r} that is referred to is not known here, or not any more: "
                "send the item itself"
            )
    return whole


def require_calls(own: Iterable[Item], items: Iterable[Item]) -> None:
    """Checks that what a continuation brings answers calls that were made; raises `InvalidPrompt`.

    The API insists on that. It matters where all of the conversation is known: a client that keeps its history itself
    may well have cut it.
    """
    made = {item.get("call_id") for item in items if str(item.get("type")).endswith("_call")}
    for item in own:
        if str(item.get("type")).endswith("_call_output") and item.get("call_id") not in made:
            raise InvalidPrompt(
                f"input: the call {item.get('call_id')!r} that has an output is not in the conversation"
            )


def listed(items: Sequence[Item], response_id: str) -> list[dict[str, Any]]:
    """The items as ``/input_items`` shows them: in the API's long form, each with an id.

    An id that is missing is made of the response's id and the item's place, so that it is the same every time.
    """
    form = ResponseObject(response_id=f"in_{response_id.removeprefix('resp_')}", model="", clock=lambda: 0.0)
    shown = [form.item(decode_item(item), place) for place, item in enumerate(items)]
    for fields in shown:
        if isinstance(content := fields.get("content"), list):
            fields["content"] = [_with_detail(part) for part in content]
    return shown


def _with_detail(part: Any) -> Any:
    """A content part; the SDKs' types have every image say its detail."""
    is_image = isinstance(part, dict) and part.get("type") == "input_image"
    return {"detail": "auto", **part} if is_image else part


def _is_reference(item: Item) -> bool:
    kind = item.get("type")
    return kind == "item_reference" or (kind is None and "id" in item and "role" not in item)


def _id_of(item: Item) -> str:
    """An item's id, empty where it has none."""
    item_id = item.get("id")
    return item_id if isinstance(item_id, str) else ""
