"""A store that counts what it could not do."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from tests.gateway.keeping import TENANT, turn
from turnwire.errors import InvalidPrompt, ServerOverloaded
from turnwire.gateway.metered_store import MeteredStore

ONE = turn("resp_1", "first?", "one")
CALLS: dict[str, Callable[[MeteredStore], Coroutine[Any, Any, Any]]] = {
    "put": lambda store: store.put(TENANT, ONE, b"events"),
    "finish": lambda store: store.finish(TENANT, ONE, b"events"),
    "renew": lambda store: store.renew(TENANT, "resp_1", 5.0),
    "get": lambda store: store.get(TENANT, "resp_1"),
    "chain": lambda store: store.chain(TENANT, "resp_1"),
    "items": lambda store: store.items(TENANT, ["msg_1"]),
    "events": lambda store: store.events(TENANT, "resp_1"),
    "delete": lambda store: store.delete(TENANT, "resp_1"),
}
ARGUMENTS = {
    "put": (TENANT, ONE, b"events"),
    "finish": (TENANT, ONE, b"events"),
    "renew": (TENANT, "resp_1", 5.0),
    "get": (TENANT, "resp_1"),
    "chain": (TENANT, "resp_1"),
    "items": (TENANT, ["msg_1"]),
    "events": (TENANT, "resp_1"),
    "delete": (TENANT, "resp_1"),
    "close": (),
}


class Answering:
    """Stands for any store: says what it was asked for, or raises."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.asked: list[tuple[str, tuple[Any, ...]]] = []

    def __getattr__(self, name: str) -> Callable[..., Coroutine[Any, Any, Any]]:
        async def do(*arguments: Any) -> str:
            self.asked.append((name, arguments))
            if self.error is not None:
                raise self.error
            return f"what {name} gives"

        return do


async def test_it_does_what_its_store_does() -> None:
    answering: Any = Answering()
    store = MeteredStore(answering)
    given = {name: await call(store) for name, call in CALLS.items()}
    await store.close()
    assert given == {name: f"what {name} gives" for name in CALLS} | {"put": None}
    assert answering.asked == list(ARGUMENTS.items())
    assert store.failures == dict.fromkeys(CALLS, 0)


@pytest.mark.parametrize("name", CALLS)
async def test_what_fails_is_counted_by_its_name_and_raised(name: str) -> None:
    answering: Any = Answering(ServerOverloaded("gone"))
    store = MeteredStore(answering)
    for _ in range(2):
        with pytest.raises(ServerOverloaded, match="gone"):
            await CALLS[name](store)
    assert store.failures == {**dict.fromkeys(CALLS, 0), name: 2}


async def test_a_response_that_is_too_large_is_no_failure_of_its_store() -> None:
    answering: Any = Answering(InvalidPrompt("too large"))
    store = MeteredStore(answering)
    with pytest.raises(InvalidPrompt):
        await CALLS["put"](store)
    assert store.failures == dict.fromkeys(CALLS, 0)
