from __future__ import annotations

import msgspec
import pytest
from msgspec.structs import replace

from tests.gateway.keeping import TENANT, Shelf, document, said, turn
from turnwire.errors import InvalidPrompt
from turnwire.gateway.store import ResponseStore, StoredResponse

ONE = turn("resp_1", "first?", "one")
TWO = turn("resp_2", "second?", "two", previous="resp_1")
THREE = turn("resp_3", "third?", "three", previous="resp_2")
RUNNING = StoredResponse.of(document("resp_r", status="in_progress"), running_until=1_000_030.0)


async def test_a_response_comes_back_as_it_was_put(store: ResponseStore) -> None:
    await store.put(TENANT, ONE, b"event: x\ndata: {}\n\n")
    assert await store.get(TENANT, "resp_1") == ONE
    assert await store.events(TENANT, "resp_1") == b"event: x\ndata: {}\n\n"


async def test_what_was_never_put_is_not_there(store: ResponseStore) -> None:
    assert await store.get(TENANT, "resp_1") is None
    assert await store.chain(TENANT, "resp_1") == []
    assert await store.items(TENANT, ["msg_one"]) == {}
    assert await store.items(TENANT, []) == {}
    assert await store.events(TENANT, "resp_1") == b""
    assert await store.delete(TENANT, "resp_1") is False
    assert await store.renew(TENANT, "resp_1", 5.0) is False
    assert await store.finish(TENANT, ONE) is False
    assert await store.get(TENANT, "resp_1") is None


async def test_another_tenants_response_does_not_exist(store: ResponseStore) -> None:
    await store.put("tenant-b", ONE, b"data: {}\n\n")
    await store.put("tenant-b", RUNNING)
    await store.put(TENANT, TWO)
    assert await store.get(TENANT, "resp_1") is None
    assert await store.events(TENANT, "resp_1") == b""
    assert await store.items(TENANT, ["msg_one"]) == {}
    assert await store.chain(TENANT, "resp_2") == [TWO]
    assert await store.delete(TENANT, "resp_1") is False
    assert await store.renew(TENANT, "resp_r", 5.0) is False
    assert await store.finish(TENANT, RUNNING) is False
    assert await store.get("tenant-b", "resp_1") == ONE


async def test_two_tenants_may_use_one_id(store: ResponseStore) -> None:
    other = turn("resp_1", "else?", "other")
    await store.put(TENANT, ONE)
    await store.put("tenant-b", other)
    assert await store.get(TENANT, "resp_1") == ONE
    assert await store.get("tenant-b", "resp_1") == other


async def test_a_chain_is_given_from_its_beginning(store: ResponseStore) -> None:
    for stored in (ONE, TWO, THREE):
        await store.put(TENANT, stored)
    assert await store.chain(TENANT, "resp_3") == [ONE, TWO, THREE]
    assert await store.chain(TENANT, "resp_2") == [ONE, TWO]


async def test_a_chain_with_a_gap_begins_behind_it(store: ResponseStore) -> None:
    for stored in (ONE, TWO, THREE):
        await store.put(TENANT, stored)
    assert await store.delete(TENANT, "resp_1") is True
    assert await store.chain(TENANT, "resp_3") == [TWO, THREE]


async def test_a_conversation_is_given_only_as_far_as_it_may_be_large(shelf: Shelf) -> None:
    store = shelf.open(ttl=100, max_history=2_500)
    large = [turn(f"resp_{n}", "x" * 1000, "!", previous=f"resp_{n - 1}" if n else None) for n in range(4)]
    for stored in large:
        await store.put(TENANT, stored)
    assert await store.chain(TENANT, "resp_3") == large[2:]
    assert await store.chain(TENANT, "resp_0") == large[:1]


async def test_a_chain_that_goes_in_circles_ends(store: ResponseStore) -> None:
    await store.put(TENANT, turn("resp_1", "a?", "a", previous="resp_1"))
    assert len(await store.chain(TENANT, "resp_1")) > 1


async def test_output_items_are_found_by_their_ids(store: ResponseStore) -> None:
    call = {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "f", "arguments": "{}"}
    await store.put(TENANT, StoredResponse.of(document("resp_1", said("one"), call)))
    await store.put(TENANT, StoredResponse.of(document("resp_2", said("two"), {"type": "message"})))
    found = await store.items(TENANT, ["fc_1", "msg_two", "msg_gone"])
    assert {item_id: msgspec.json.decode(item) for item_id, item in found.items()} == {
        "fc_1": call,
        "msg_two": said("two"),
    }


async def test_items_go_with_their_response(store: ResponseStore) -> None:
    await store.put(TENANT, ONE)
    await store.delete(TENANT, "resp_1")
    assert await store.items(TENANT, ["msg_one"]) == {}


async def test_of_items_with_the_same_id_the_newest_is_found(store: ResponseStore) -> None:
    await store.put(TENANT, StoredResponse.of(document("resp_1", said("old", "msg_1"))))
    await store.put(TENANT, StoredResponse.of(document("resp_2", said("new", "msg_1"))))
    assert msgspec.json.decode((await store.items(TENANT, ["msg_1"]))["msg_1"]) == said("new", "msg_1")


async def test_a_put_takes_the_place_of_the_same_response(store: ResponseStore) -> None:
    again = turn("resp_1", "first?", "again")
    await store.put(TENANT, ONE, b"data: 1\n\n")
    await store.put(TENANT, again)
    assert await store.get(TENANT, "resp_1") == again
    assert await store.events(TENANT, "resp_1") == b""
    assert await store.items(TENANT, ["msg_one"]) == {}


async def test_a_running_response_is_renewed_until_it_is_finished(store: ResponseStore) -> None:
    await store.put(TENANT, RUNNING)
    assert await store.renew(TENANT, "resp_r", 1_000_060.0) is True
    assert await store.get(TENANT, "resp_r") == replace(RUNNING, running_until=1_000_060.0)
    over = StoredResponse.of(document("resp_r", said("done")))
    assert await store.finish(TENANT, over, b"data: {}\n\n") is True
    assert await store.get(TENANT, "resp_r") == over
    assert await store.events(TENANT, "resp_r") == b"data: {}\n\n"
    assert await store.renew(TENANT, "resp_r", 1_000_090.0) is False


async def test_the_first_to_finish_a_response_counts(store: ResponseStore) -> None:
    await store.put(TENANT, RUNNING)
    cancelled = StoredResponse.of(document("resp_r", status="cancelled"))
    assert await store.finish(TENANT, cancelled) is True
    assert await store.finish(TENANT, StoredResponse.of(document("resp_r", said("late")))) is False
    assert await store.get(TENANT, "resp_r") == cancelled


async def test_a_deleted_response_can_not_be_finished(store: ResponseStore) -> None:
    await store.put(TENANT, RUNNING)
    await store.delete(TENANT, "resp_r")
    assert await store.finish(TENANT, replace(RUNNING, running_until=None)) is False
    assert await store.get(TENANT, "resp_r") is None


async def test_a_response_lives_for_the_time_to_live(store: ResponseStore, shelf: Shelf) -> None:
    await store.put(TENANT, ONE, b"data: {}\n\n")
    await shelf.wait(99)
    assert await store.get(TENANT, "resp_1") == ONE
    await shelf.wait(1)
    assert await store.get(TENANT, "resp_1") is None
    assert await store.chain(TENANT, "resp_1") == []
    assert await store.items(TENANT, ["msg_one"]) == {}
    assert await store.events(TENANT, "resp_1") == b""
    assert await store.delete(TENANT, "resp_1") is False


async def test_who_is_gone_on_from_lives_on(store: ResponseStore, shelf: Shelf) -> None:
    await store.put(TENANT, ONE)
    await shelf.wait(60)
    await store.put(TENANT, TWO)
    await shelf.wait(60)
    await store.put(TENANT, THREE)
    await shelf.wait(60)
    assert await store.chain(TENANT, "resp_3") == [ONE, TWO, THREE]
    assert (await store.items(TENANT, ["msg_one", "msg_three"])).keys() == {"msg_one", "msg_three"}


async def test_who_is_often_gone_on_from_lives_on_too(store: ResponseStore, shelf: Shelf) -> None:
    turns = [turn(f"resp_{n}", "?", "!", previous=f"resp_{n - 1}" if n else None) for n in range(20)]
    for stored in turns:
        await store.put(TENANT, stored)
        await shelf.wait(0.3)
    await shelf.wait(98)
    assert await store.chain(TENANT, "resp_19") == turns


async def test_what_is_gone_on_from_on_two_ways_lives_on_with_each(store: ResponseStore, shelf: Shelf) -> None:
    await store.put(TENANT, ONE)
    await store.put(TENANT, TWO)
    await shelf.wait(60)
    other = turn("resp_o", "else?", "other", previous="resp_1")
    await store.put(TENANT, other)
    await shelf.wait(60)
    assert await store.chain(TENANT, "resp_2") == []
    assert await store.chain(TENANT, "resp_o") == [ONE, other]


async def test_what_is_too_large_is_refused(store: ResponseStore) -> None:
    await store.put(TENANT, ONE)
    large = turn("resp_large", "x" * 10_000, "large")
    with pytest.raises(
        InvalidPrompt, match=r"the response resp_large takes \d+ bytes and can't be kept: .* at most 10000"
    ):
        await store.put(TENANT, large)
    assert await store.get(TENANT, "resp_1") == ONE
    assert await store.get(TENANT, "resp_large") is None


def test_the_repr_of_a_record_tells_nothing_of_the_conversation() -> None:
    assert repr(ONE) == f"<StoredResponse resp_1, over, {len(ONE.document) + len(ONE.input_items)} bytes>"
    assert repr(RUNNING).startswith("<StoredResponse resp_r, running, ")
