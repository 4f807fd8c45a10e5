"""How long the relay waits for whom: with a client and an upstream whose every step is the test's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import uvloop

from tests.decoding import DONE, chunk, sse
from tests.gateway.exchange.responding import kinds_of, received
from tests.wire.responses.reading import payloads_of
from turnwire.errors import ApiError, ServerOverloaded
from turnwire.gateway.attempt import Attempt, Patience, StandIn
from turnwire.gateway.exchange.responses_over_chat import ResponsesOverChat
from turnwire.gateway.relay import Relay
from turnwire.transport.message import HttpResponse
from turnwire.wire.chat import ChatDialect

pytestmark = pytest.mark.usefixtures("nothing_left")

SOON, LATE = 0.02, 0.05
FIRST, LAST = sse(chunk(content="one")), sse(chunk(content="two"), chunk("stop")) + DONE


class Client:
    """A sink. ``reads`` is cleared while the client does not read; it is told to be gone once its answer is over."""

    shows_headers = True

    def __init__(self) -> None:
        self.reads = asyncio.Event()
        self.reads.set()
        self.written = asyncio.Event()
        self.gone = asyncio.Event()
        self.told: list[bytes] = []
        self.end_seen = False
        self.error: ApiError | None = None

    async def begin(self, headers: Any) -> None:
        self.told.clear()

    def put(self, events: Sequence[bytes]) -> bool:
        if self.reads.is_set():
            self.told += events
            self.written.set()
        return self.reads.is_set()

    async def write(self, events: Sequence[bytes]) -> None:
        await self.reads.wait()
        self.told += events
        self.written.set()

    async def end(self) -> None:
        self.end_seen = True
        self.gone.set()

    async def answer(self, document: bytes, headers: Any) -> None:
        self.told.append(document)
        await self.end()

    async def refuse(self, error: ApiError, headers: Any) -> None:
        self.error = error
        await self.end()

    async def left(self) -> None:
        await self.gone.wait()

    @property
    def kinds(self) -> list[str]:
        return kinds_of(payloads_of(self.told))


class Server(HttpResponse):
    """An upstream and its response: what is put into ``reads`` is read, an error among it raised."""

    name = "upstream"
    over = False

    def __init__(self, idle_timeout: float) -> None:
        super().__init__(200, {"content-type": "text/event-stream"}, "upstream")
        self.idle_timeout = idle_timeout
        self.reads: asyncio.Queue[bytes] = asyncio.Queue()
        self.may_finish = asyncio.Event()
        self.may_finish.set()
        self.upstream = self.served = self
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.closed = False
        self.others = False

    async def ask(self, path: str, body: bytes, **_: Any) -> Server:
        return self

    async def read(self) -> bytes:
        return await self.reads.get()

    async def finish(self) -> None:
        await self.may_finish.wait()

    def close(self) -> None:
        self.closed = True

    def blamed(self, error: ApiError) -> ApiError:
        return error

    # What a lease has besides.

    def succeeded(self) -> None:
        pass

    def failed(self, error: ApiError) -> None:
        pass

    def end(self) -> None:
        pass

    # What a route has besides.

    def has_other(self) -> bool:
        return self.others

    def stand_in(self) -> StandIn:
        raise NotImplementedError  # there is always room

    async def next(self, position: Callable[[], int]) -> Attempt:
        if position() or self.closed:
            raise ServerOverloaded("there is no other")
        exchange = ResponsesOverChat(
            received(),
            model="own",
            dialect=ChatDialect(),
            reasoning_name=None,
            response_id="resp_7",
            clock=lambda: 0.0,
        )
        return Attempt(exchange, self)  # type: ignore[arg-type]

    def token(self, lease: Any, upstream_token: str | None) -> None:
        return None


def relay(server: Server, client: Client, **options: Any) -> Relay:
    patience = Patience(**{"keepalive_interval": 5.0, "client_timeout": 5.0, **options.pop("patience", {})})
    return Relay(server, client, patience, streams=True, **options)


async def test_what_a_client_takes_its_time_for_is_not_its_upstreams_silence() -> None:
    client, server = Client(), Server(idle_timeout=SOON)
    server.reads.put_nowait(FIRST)
    client.reads.clear()
    running = asyncio.create_task(relay(server, client, patience={"client_timeout": 5.0}).run())
    await asyncio.sleep(LATE)
    server.reads.put_nowait(LAST)
    client.reads.set()
    assert await running == "completed"
    assert client.kinds[-1] == "completed"


def test_a_look_that_is_due_at_once_is_no_obstacle_to_a_later_one() -> None:
    """uvloop's timers are plain handles then, as it happens where a busy event loop comes late to everything."""

    class Waited(Server):
        async def next(self, position: Callable[[], int]) -> Attempt:
            await asyncio.sleep(0)
            return await super().next(position)

    async def run() -> None:
        client, server = Client(), Waited(idle_timeout=5.0)
        server.reads.put_nowait(FIRST + LAST)
        assert await relay(server, client, patience={"client_timeout": 0.0}).run() == "completed"
        assert client.error is None
        assert client.kinds[-1] == "completed"

    uvloop.run(run())


async def test_comments_are_no_more_than_silence() -> None:
    client, server = Client(), Server(idle_timeout=LATE)
    running = asyncio.create_task(relay(server, client).run())
    while not running.done():
        server.reads.put_nowait(b": working on it\n\n")
        await asyncio.sleep(SOON / 4)
    assert await running == "failed"
    assert "idle_timeout" in str(client.error)
    assert server.closed


@pytest.mark.parametrize(("others", "end"), [(False, "completed"), (True, "failed")])
async def test_an_upstream_that_is_left_out_is_waited_for_where_there_is_no_other(others: bool, end: str) -> None:
    client, server = Client(), Server(idle_timeout=5.0)
    server.others = others
    running = asyncio.create_task(relay(server, client, patience={"client_timeout": SOON}).run())
    await asyncio.sleep(0)
    server.lost.set_result(None)
    await asyncio.sleep(LATE)
    server.reads.put_nowait(LAST)
    assert await running == end
    assert (client.error is None) == (not others)


async def test_a_client_that_has_its_answer_has_not_left() -> None:
    client, server = Client(), Server(idle_timeout=5.0)
    server.reads.put_nowait(LAST)
    server.may_finish.clear()
    running = asyncio.create_task(relay(server, client).run())
    await client.gone.wait()
    await asyncio.sleep(0)
    server.may_finish.set()
    assert await running == "completed"


@pytest.mark.parametrize("idle_timeout", [SOON, 5.0])
async def test_a_client_that_does_not_even_read_signs_of_life_or_a_failure_is_left(
    idle_timeout: float, caplog: Any
) -> None:
    client, server = Client(), Server(idle_timeout)
    server.reads.put_nowait(FIRST)
    patience = {"client_timeout": SOON, "keepalive_interval": 2 * SOON if idle_timeout == SOON else SOON}
    running = asyncio.create_task(relay(server, client, patience=patience).run())
    await client.written.wait()
    client.reads.clear()
    assert await running == "left"
    assert caplog.messages == ["a client did not read for 0.02 s and was left"]
    assert server.closed


async def test_an_answer_that_is_being_kept_is_neither_silent_nor_in_need_of_signs() -> None:
    client, server = Client(), Server(idle_timeout=SOON)
    server.reads.put_nowait(FIRST + LAST)

    async def keep(_: Any) -> None:
        await asyncio.sleep(LATE)

    assert await relay(server, client, keep=keep, patience={"keepalive_interval": SOON / 4}).run() == "completed"
    assert "keepalive" not in client.kinds
    assert client.kinds[-1] == "completed"


async def test_an_answer_that_is_cut_off_while_it_is_kept_is_not_ended() -> None:
    client, server = Client(), Server(idle_timeout=5.0)
    server.reads.put_nowait(FIRST)
    keeping = asyncio.Event()

    async def keep(_: Any) -> None:
        keeping.set()
        await asyncio.get_running_loop().create_future()

    running = asyncio.create_task(relay(server, client, keep=keep).run())
    await client.written.wait()
    server.reads.put_nowait(LAST)
    await keeping.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert client.kinds[-1] == "output_text.delta"
    assert not client.end_seen


async def test_a_gateway_that_ends_has_last_words_for_a_client_that_listens(monkeypatch: Any) -> None:
    monkeypatch.setattr("turnwire.gateway.relay._LAST_WORDS", SOON)
    for listens in (True, False):
        client, server = Client(), Server(idle_timeout=5.0)
        server.reads.put_nowait(FIRST)
        running = asyncio.create_task(relay(server, client).run())
        await client.written.wait()
        if not listens:
            client.reads.clear()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert (client.kinds[-1] == "failed", client.end_seen) == (listens, listens)
