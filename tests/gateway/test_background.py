from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec
import pytest

from tests.gateway.keeping import TENANT, Clock, Shelf, asked, document, said, turn
from turnwire.errors import InvalidPrompt, RateLimited, RetryableError, ServerOverloaded
from turnwire.gateway.background import Background, BackgroundLimits, require_store
from turnwire.gateway.refusal import NotServed
from turnwire.gateway.sink import Sink
from turnwire.gateway.store import ResponseStore, StoredResponse
from turnwire.wire.sse import encode_event

QUEUED = StoredResponse.of(document("resp_1", status="queued", background=True), input_items=[asked("?")])
DONE = document("resp_1", said("done"), background=True)
DETACHED = BackgroundLimits(renewal_interval=0.005, poll_interval=0.0)

pytestmark = pytest.mark.usefixtures("nothing_left")


def event(number: int, kind: str, **fields: Any) -> bytes:
    return encode_event(msgspec.json.encode({"type": kind, "sequence_number": number, **fields}), kind)


CREATED = event(0, "response.created", response=document("resp_1", status="in_progress", background=True))
DELTA = event(1, "response.output_text.delta", delta="a")
COMPLETED = event(2, "response.completed", response=DONE)


class Script:
    """A run whose steps the test takes."""

    def __init__(self) -> None:
        self._sink: asyncio.Future[Sink] = asyncio.get_running_loop().create_future()
        self._over = asyncio.get_running_loop().create_future()
        self.cancelled = False

    async def __call__(self, sink: Sink) -> None:
        self._sink.set_result(sink)
        try:
            await self._over
        except asyncio.CancelledError:
            self.cancelled = True
            raise

    async def write(self, *events: bytes) -> None:
        await (await self._sink).write(events)

    def end(self) -> None:
        self._over.set_result(None)


async def whole(sink: Sink) -> None:
    """A run that answers at once."""
    await sink.begin({})
    await sink.write([CREATED, DELTA])
    await sink.write([COMPLETED])
    await sink.end()


@pytest.fixture
def store(shelf: Shelf) -> ResponseStore:
    return shelf.open(ttl=1000, max_size=1_000_000)


@pytest.fixture
async def background(store: ResponseStore, clock: Clock):
    background = Background(store, DETACHED, clock=clock)
    yield background
    await background.close()


@pytest.fixture
async def elsewhere(store: ResponseStore, clock: Clock):
    """The same store, in another process."""
    background = Background(store, DETACHED, clock=clock)
    yield background
    await background.close()


async def read(events: AsyncIterator[Sequence[bytes]]) -> list[bytes]:
    return [event async for batch in events for event in batch]


async def until_over(background: Background) -> dict[str, Any]:
    """The response as it is once its stream has ended."""
    await read(await background.events(TENANT, "resp_1"))
    stored = await background.get(TENANT, "resp_1")
    assert stored.running_until is None
    return msgspec.json.decode(stored.document)


async def status(background: Background) -> str:
    return msgspec.json.decode((await background.get(TENANT, "resp_1")).document)["status"]


async def test_a_response_runs_and_is_kept(background: Background, store: ResponseStore) -> None:
    running = await background.start(TENANT, QUEUED, whole)
    assert running.record.document == QUEUED.document
    assert await until_over(background) == DONE
    assert await store.get(TENANT, "resp_1") == StoredResponse.of(DONE, input_items=[asked("?")])
    assert await store.events(TENANT, "resp_1") == CREATED + DELTA + COMPLETED


async def test_its_state_is_that_of_its_last_event(background: Background, elsewhere: Background) -> None:
    script = Script()
    await background.start(TENANT, QUEUED, script)
    assert (await status(background), await status(elsewhere)) == ("queued", "queued")
    await script.write(CREATED)
    assert (await status(background), await status(elsewhere)) == ("in_progress", "queued")
    await script.write(DELTA, COMPLETED)
    script.end()
    await until_over(background)
    assert (await status(background), await status(elsewhere)) == ("completed", "completed")


async def test_any_number_of_readers_follow_it_live_from_any_event(background: Background) -> None:
    script = Script()
    await background.start(TENANT, QUEUED, script)
    await script.write(CREATED)
    readers = [
        asyncio.create_task(read(await background.events(TENANT, "resp_1", after))) for after in (None, None, 0, 1, 2)
    ]
    await script.write(DELTA)
    late = await background.events(TENANT, "resp_1", 0)
    assert await anext(late) == [DELTA]
    await script.write(COMPLETED)
    script.end()
    everything = [CREATED, DELTA, COMPLETED]
    assert await asyncio.gather(*readers) == [everything, everything, everything[1:], everything[2:], []]
    assert await read(late) == [COMPLETED]


async def test_who_has_read_its_end_finds_it_kept(background: Background, store: ResponseStore) -> None:
    script = Script()
    await background.start(TENANT, QUEUED, script)
    events = await background.events(TENANT, "resp_1")
    await script.write(COMPLETED)
    assert await read(events) == [COMPLETED]
    assert (await background.get(TENANT, "resp_1")).running_until is None
    script.end()


async def test_its_stream_is_read_again_when_it_is_over(background: Background) -> None:
    await background.start(TENANT, QUEUED, whole)
    await until_over(background)
    assert await read(await background.events(TENANT, "resp_1")) == [CREATED, DELTA, COMPLETED]
    assert await read(await background.events(TENANT, "resp_1", 1)) == [COMPLETED]


async def test_a_long_stream_comes_in_batches(background: Background) -> None:
    deltas = [event(number, "response.output_text.delta", delta="a") for number in range(600)]
    last = event(600, "response.completed", response=DONE)

    async def run(sink: Sink) -> None:
        await sink.write([*deltas, last])

    await background.start(TENANT, QUEUED, run)
    for _ in range(2):
        batches = [batch async for batch in await background.events(TENANT, "resp_1")]
        assert max(len(batch) for batch in batches) == 256
        assert [event for batch in batches for event in batch] == [*deltas, last]
        await until_over(background)


async def test_another_process_gives_signs_of_life_and_then_the_events(
    background: Background, elsewhere: Background
) -> None:
    script = Script()
    await background.start(TENANT, QUEUED, script)
    events = await elsewhere.events(TENANT, "resp_1", 0)
    assert await anext(events) == [b'event: keepalive\ndata: {"type":"keepalive"}\n\n']
    await script.write(CREATED, DELTA, COMPLETED)
    script.end()
    assert [event for event in await read(events) if b"keepalive" not in event] == [DELTA, COMPLETED]


async def test_a_whole_answer_is_kept_too(background: Background) -> None:
    async def run(sink: Sink) -> None:
        await sink.answer(msgspec.json.encode(DONE), {})

    await background.start(TENANT, QUEUED, run)
    assert await until_over(background) == DONE
    assert await read(await background.events(TENANT, "resp_1")) == [event(0, "response.completed", response=DONE)]


async def refused(sink: Sink) -> None:
    await sink.refuse(RetryableError("the upstream is on fire"), {})


async def raising(sink: Sink) -> None:
    raise RetryableError("the upstream is on fire")


async def breaking_off(sink: Sink) -> None:
    await sink.write([CREATED])


async def broken(sink: Sink) -> None:
    raise KeyError("a defect")


async def endless(sink: Sink) -> None:
    await sink.write([b"data: " + b"x" * (17 * 1024 * 1024)])


@pytest.mark.parametrize(
    ("run", "message", "logged"),
    [
        (refused, "the upstream is on fire", []),
        (raising, "the upstream is on fire", []),
        (breaking_off, "the answer broke off", []),
        (
            broken,
            "the gateway failed on this answer; its log says more",
            ["the response resp_1 failed in the gateway"],
        ),
        (endless, "an event takes more than max_event_size, 16777216 bytes", []),
    ],
)
async def test_a_run_that_fails_is_kept_as_failed(
    background: Background, run: Any, message: str, logged: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    await background.start(TENANT, QUEUED, run)
    failed = document("resp_1", status="failed", background=True, error={"code": "server_error", "message": message})
    assert await until_over(background) == failed
    await background.close()
    assert [record.message for record in caplog.records] == logged
    *_, last = await read(await background.events(TENANT, "resp_1"))
    assert msgspec.json.decode(last.partition(b"data: ")[2])["response"] == failed


async def test_an_answer_that_is_whole_is_not_spoilt_by_what_comes_behind_it(background: Background) -> None:
    async def run(sink: Sink) -> None:
        await sink.write([COMPLETED, b"data: " + b"x" * (17 * 1024 * 1024)])

    await background.start(TENANT, QUEUED, run)
    assert await until_over(background) == DONE


async def test_events_beyond_the_bound_fail_it(store: ResponseStore, clock: Clock) -> None:
    background = Background(store, BackgroundLimits(max_size=500), clock=clock)
    script = Script()
    await background.start(TENANT, QUEUED, script)
    await script.write(*[DELTA] * 10)
    await script.write(COMPLETED)
    ended = await until_over(background)
    assert ended["error"] == {"code": "server_error", "message": "the answer's events take more than 500 bytes"}
    await background.close()
    assert script.cancelled


async def test_cancelling_stops_the_run_and_tells_its_readers(background: Background, store: ResponseStore) -> None:
    script = Script()
    await background.start(TENANT, QUEUED, script)
    await script.write(CREATED)
    events = asyncio.create_task(read(await background.events(TENANT, "resp_1")))
    cancelled = document("resp_1", status="cancelled", background=True)
    stored = await background.cancel(TENANT, "resp_1")
    assert msgspec.json.decode(stored.document) == cancelled
    assert await events == [CREATED, event(1, "response.failed", response=cancelled)]
    await script.write(DELTA, COMPLETED)
    assert await until_over(background) == cancelled
    assert script.cancelled
    assert await background.cancel(TENANT, "resp_1") == await store.get(TENANT, "resp_1")


async def test_another_process_may_cancel_it(background: Background, elsewhere: Background) -> None:
    script = Script()
    running = await background.start(TENANT, QUEUED, script)
    cancelled = document("resp_1", status="cancelled", background=True)
    assert msgspec.json.decode((await elsewhere.cancel(TENANT, "resp_1")).document) == cancelled
    await running.settled()
    assert await until_over(background) == cancelled
    assert await read(await elsewhere.events(TENANT, "resp_1")) == [event(0, "response.failed", response=cancelled)]
    await background.close()
    assert script.cancelled


async def test_another_process_may_come_too_late_to_cancel_it(
    background: Background, elsewhere: Background, store: ResponseStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await background.start(TENANT, QUEUED, whole)
    as_it_was = await elsewhere.get(TENANT, "resp_1")
    await until_over(background)
    answers = iter([as_it_was])
    get = store.get

    async def late(tenant: str, response_id: str) -> StoredResponse | None:
        return next(answers, None) or await get(tenant, response_id)

    monkeypatch.setattr(store, "get", late)
    assert msgspec.json.decode((await elsewhere.cancel(TENANT, "resp_1")).document) == DONE


async def test_only_a_background_response_can_be_cancelled(background: Background, store: ResponseStore) -> None:
    await store.put(TENANT, turn("resp_2", "?", "!"))
    with pytest.raises(InvalidPrompt, match="the response 'resp_2' can't be cancelled"):
        await background.cancel(TENANT, "resp_2")
    await store.put(TENANT, StoredResponse.of(DONE))
    assert await background.cancel(TENANT, "resp_1") == StoredResponse.of(DONE)


async def test_a_deleted_response_stops_running_and_stays_deleted(background: Background, store: ResponseStore) -> None:
    script = Script()
    await background.start(TENANT, QUEUED, script)
    await script.write(CREATED)
    await background.delete(TENANT, "resp_1")
    await background.close()
    assert script.cancelled
    assert await store.get(TENANT, "resp_1") is None


async def test_a_response_that_was_deleted_elsewhere_stops_running(
    background: Background, elsewhere: Background
) -> None:
    script = Script()
    running = await background.start(TENANT, QUEUED, script)
    await script.write(CREATED)
    await elsewhere.delete(TENANT, "resp_1")
    await running.settled()
    await background.close()
    assert script.cancelled


async def test_what_is_not_there_is_not_served(background: Background, store: ResponseStore) -> None:
    script = Script()
    await background.start("tenant-b", QUEUED, script)
    for method in (background.get, background.events, background.cancel, background.delete):
        with pytest.raises(NotServed, match="no response 'resp_1' is kept here"):
            await method(TENANT, "resp_1")


async def test_a_stream_that_was_not_kept_is_refused(background: Background, store: ResponseStore) -> None:
    await store.put(TENANT, turn("resp_2", "?", "!"))
    with pytest.raises(InvalidPrompt, match="the stream of the response 'resp_2' was not kept"):
        await background.events(TENANT, "resp_2")


async def test_a_response_whose_process_is_gone_has_failed(
    background: Background, store: ResponseStore, clock: Clock
) -> None:
    await store.put(TENANT, StoredResponse.of(document("resp_1", status="queued"), running_until=clock.now + 30))
    assert await status(background) == "queued"
    clock.now += 30
    message = "the gateway's process that ran this response has ended before it: ask again"
    failed = document("resp_1", status="failed", error={"code": "server_error", "message": message})
    assert await until_over(background) == failed
    assert await store.get(TENANT, "resp_1") == StoredResponse.of(failed)
    assert await read(await background.events(TENANT, "resp_1")) == [event(0, "response.failed", response=failed)]


async def test_a_running_response_is_renewed(background: Background, store: ResponseStore, clock: Clock) -> None:
    script = Script()
    await background.start(TENANT, QUEUED, script)
    clock.now += 20
    stored = await store.get(TENANT, "resp_1")
    while stored is not None and stored.running_until == 1_000_030.0:
        await asyncio.sleep(0.001)
        stored = await store.get(TENANT, "resp_1")
    assert stored is not None
    assert stored.running_until == 1_000_050.0


async def test_a_tenant_may_have_only_so_many_running(store: ResponseStore, clock: Clock) -> None:
    background = Background(store, BackgroundLimits(running_per_tenant=1), clock=clock)
    await background.start(TENANT, QUEUED, Script())
    second = StoredResponse.of(document("resp_2", status="queued"))
    with pytest.raises(RateLimited, match="1 responses run in the background already") as caught:
        await background.start(TENANT, second, Script())
    assert caught.value.delay == 1.0
    await background.start("tenant-b", second, Script())
    await background.cancel(TENANT, "resp_1")
    await background.start(TENANT, second, Script())
    assert repr(background) == "<Background with 2 running>"
    await background.close()


async def test_what_runs_when_the_gateway_ends_has_failed(background: Background, store: ResponseStore) -> None:
    script = Script()
    await background.start(TENANT, QUEUED, script)
    await script.write(CREATED, DELTA)
    await background.close()
    assert script.cancelled
    kept = await store.get(TENANT, "resp_1")
    assert kept is not None
    assert msgspec.json.decode(kept.document) == document(
        "resp_1",
        status="failed",
        background=True,
        error={"code": "slow_down", "message": "the gateway is shutting down. Please try again in 1s."},
    )
    with pytest.raises(ServerOverloaded, match="the gateway is shutting down"):
        await background.start(TENANT, QUEUED, Script())


async def test_a_response_that_can_not_be_kept_does_not_start(
    background: Background, store: ResponseStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(*_: object) -> None:
        raise ServerOverloaded("the disk is full")

    monkeypatch.setattr(store, "put", full)
    script = Script()
    with pytest.raises(ServerOverloaded, match="the disk is full"):
        await background.start(TENANT, QUEUED, script)
    assert repr(background) == "<Background with 0 running>"


async def test_a_store_that_fails_in_between_costs_its_readers_nothing(
    background: Background, store: ResponseStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked = asyncio.Event()

    async def full(*_: object) -> bool:
        asked.set()
        raise ServerOverloaded("the disk is full")

    script = Script()
    await background.start(TENANT, QUEUED, script)
    monkeypatch.setattr(store, "renew", full)
    monkeypatch.setattr(store, "finish", full)
    await asked.wait()
    events = await background.events(TENANT, "resp_1")
    await script.write(COMPLETED)
    assert await read(events) == [COMPLETED]
    assert [record.message for record in caplog.records] == [
        "the response resp_1 could not be renewed: the disk is full",
        "the response resp_1 could not be stored: the disk is full",
    ]
    script.end()


async def test_a_background_response_is_never_left(background: Background) -> None:
    running = await background.start(TENANT, QUEUED, Script())
    assert running.shows_headers
    left = asyncio.create_task(running.left())
    await asyncio.sleep(0)
    assert not left.done()
    left.cancel()
    assert repr(running) == "<RunningResponse resp_1: <EventLog of 0 events, 0 bytes>>"


@pytest.mark.parametrize("fields", [{}, {"background": True}, {"background": True, "store": True}, {"store": False}])
def test_a_background_response_that_is_stored_is_allowed(fields: dict[str, Any]) -> None:
    require_store(fields)


def test_a_background_response_that_is_not_stored_is_refused() -> None:
    with pytest.raises(InvalidPrompt, match="background: a response runs in the background only with store: true"):
        require_store({"background": True, "store": False})
