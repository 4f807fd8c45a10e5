from __future__ import annotations

import pytest

from tests.gateway.keeping import TENANT, asked, said, turn
from turnwire.errors import InvalidPrompt, PreviousResponseNotFound
from turnwire.gateway.memory import ConnectionMemory
from turnwire.gateway.recall import Recalled, recall
from turnwire.gateway.store import ResponseStore

HISTORY = [asked("first?"), said("one")]
NEW = asked("second?")
CONTINUATION = {"model": "m", "input": [NEW], "previous_response_id": "resp_1"}
UNSTORED = {**CONTINUATION, "store": False}
WHOLE = {"input": [*HISTORY, NEW]}


@pytest.fixture
def memory() -> ConnectionMemory:
    memory = ConnectionMemory()
    memory.remember("resp_1", HISTORY[:1], HISTORY[1:])
    return memory


async def test_a_request_that_leaves_nothing_out_stays_as_it_is(store: ResponseStore) -> None:
    fields = {"model": "m", "input": "hello"}
    message = {"type": "message", "role": "user", "content": "hello"}
    assert await recall(fields, TENANT, store=store) == Recalled(fields, [message], [message], None)


async def test_what_went_before_is_found_in_the_store(store: ResponseStore) -> None:
    await store.put(TENANT, turn("resp_1", "first?", "one"))
    assert await recall(CONTINUATION, TENANT, store=store) == Recalled(
        {**CONTINUATION, **WHOLE}, WHOLE["input"], [NEW], "resp_1"
    )


async def test_what_went_before_is_found_in_the_connections_memory(memory: ConnectionMemory) -> None:
    assert await recall(UNSTORED, TENANT, memory=memory) == Recalled(
        {**UNSTORED, **WHOLE}, WHOLE["input"], WHOLE["input"], None
    )


async def test_a_request_with_bare_text_goes_on_too(memory: ConnectionMemory) -> None:
    recalled = await recall({**UNSTORED, "input": "more"}, TENANT, memory=memory)
    assert recalled.items == [*HISTORY, {"type": "message", "role": "user", "content": "more"}]


async def test_a_response_to_be_stored_is_kept_whole_where_the_store_lacks_what_went_before(
    store: ResponseStore, memory: ConnectionMemory
) -> None:
    recalled = await recall(CONTINUATION, TENANT, store=store, memory=memory)
    assert (recalled.input_items, recalled.previous_response_id) == (WHOLE["input"], None)


async def test_a_response_to_be_stored_is_kept_behind_the_one_before_it(
    store: ResponseStore, memory: ConnectionMemory
) -> None:
    await store.put(TENANT, turn("resp_1", "first?", "one"))
    recalled = await recall(CONTINUATION, TENANT, store=store, memory=memory)
    assert (recalled.input_items, recalled.previous_response_id) == ([NEW], "resp_1")


async def test_what_the_connection_remembers_needs_no_store(store: ResponseStore, memory: ConnectionMemory) -> None:
    await store.put(TENANT, turn("resp_1", "else?", "other"))
    assert (await recall(UNSTORED, TENANT, store=store, memory=memory)).items == WHOLE["input"]


async def test_what_the_connection_does_not_remember_may_be_in_the_store(
    store: ResponseStore, memory: ConnectionMemory
) -> None:
    await store.put(TENANT, turn("resp_9", "first?", "one"))
    fields = {**UNSTORED, "previous_response_id": "resp_9"}
    assert (await recall(fields, TENANT, store=store, memory=memory)).items == WHOLE["input"]


async def test_what_nobody_remembers_is_not_found(store: ResponseStore, memory: ConnectionMemory) -> None:
    fields = {**UNSTORED, "previous_response_id": "resp_9"}
    for places in ({"store": store}, {"memory": memory}, {"store": store, "memory": memory}, {}):
        with pytest.raises(PreviousResponseNotFound, match="the response 'resp_9' is not known here"):
            await recall(fields, TENANT, **places)


async def test_the_memory_of_a_connection_is_not_the_whole_truth_where_a_kept_chain_has_a_gap(
    store: ResponseStore, memory: ConnectionMemory
) -> None:
    await store.put(TENANT, turn("resp_1", "first?", "one", previous="resp_gone"))
    recalled = await recall(CONTINUATION, TENANT, store=store, memory=memory)
    assert (recalled.items, recalled.previous_response_id) == (WHOLE["input"], None)


async def test_items_that_are_only_named_are_looked_up(store: ResponseStore) -> None:
    await store.put(TENANT, turn("resp_1", "first?", "one"))
    fields = {"input": [asked("first?"), {"type": "item_reference", "id": "msg_one"}, NEW]}
    assert await recall(fields, TENANT, store=store) == Recalled(WHOLE, WHOLE["input"], WHOLE["input"], None)


async def test_items_that_are_only_named_and_not_kept_are_refused(store: ResponseStore) -> None:
    fields = {"input": [{"type": "item_reference", "id": "msg_one"}]}
    for places in ({"store": store}, {}):
        with pytest.raises(InvalidPrompt, match="input: the item 'msg_one' that is referred to is not known here"):
            await recall(fields, TENANT, **places)


CALL = {"type": "custom_tool_call", "call_id": "call_1", "name": "patch", "input": ""}
OUTPUT = {"type": "custom_tool_call_output", "call_id": "call_1", "output": "done"}


async def test_a_continuation_may_answer_the_calls_that_were_made_and_no_others(memory: ConnectionMemory) -> None:
    memory.remember("resp_2", HISTORY, [CALL])
    fields = {**UNSTORED, "previous_response_id": "resp_2", "input": [OUTPUT]}
    assert (await recall(fields, TENANT, memory=memory)).items == [*HISTORY, CALL, OUTPUT]
    with pytest.raises(InvalidPrompt, match="the call 'call_2' that has an output is not in the conversation"):
        await recall({**fields, "input": [{**OUTPUT, "call_id": "call_2"}]}, TENANT, memory=memory)


async def test_a_whole_conversation_may_have_lost_a_call() -> None:
    assert (await recall({"input": [OUTPUT]}, TENANT)).items == [OUTPUT]


@pytest.mark.parametrize("previous", [5, ["resp_1"], {}])
async def test_an_id_that_is_no_text_is_refused(previous: object) -> None:
    with pytest.raises(InvalidPrompt, match=r"previous_response_id: expected a response's id, not (int|list|dict)"):
        await recall({"previous_response_id": previous}, TENANT)
