"""Turns, reconnects, fall backs and failures in any order: no token ever leaves its turn."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, suppress

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from tests.client.hearing import impatient
from tests.client.wires import Conversation
from turnwire import ApiError, FunctionCall, ModelClient, Prompt
from turnwire.testing import (
    Close,
    ConnectionLimit,
    CutCleanly,
    ErrorEvent,
    Failed,
    Fault,
    RecordedRequest,
    ScriptedServer,
    Status,
    Truncate,
    Turn,
)
from turnwire.testing.responses_answer import TokenPlace

PLACES: list[TokenPlace] = ["after_created", "before_created", "late", "array", "never"]
FAULTS: dict[str, list[Fault]] = {
    "websocket": [
        Close(1011),
        Close(1012, after=1),
        Truncate(900),
        CutCleanly(0),
        Failed(),
        Failed("invalid_prompt", after=1),
        ErrorEvent(),
        ErrorEvent(code="previous_response_not_found"),
        ConnectionLimit(),
        Status(500),
        Status(429),
    ],
    "responses": [Truncate(900), CutCleanly(0), Failed(), ErrorEvent(1), Status(500), Status(400)],
}


class Turns(RuleBasedStateMachine):
    """Up to three turns at a time on one client, whose server hands out another token with every answer."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.stack = AsyncExitStack()
        self.turns: list[tuple[int, Conversation]] = []
        self.given: dict[int, list[str]] = {}
        self.opened = 0
        self.fault: int | None = None
        self.seen = 0
        self.asking = 0

    @initialize(place=st.sampled_from(PLACES), websocket=st.sampled_from([True, "auto"]), refused=st.booleans())
    def begin(self, place: TokenPlace, websocket: bool | str, refused: bool) -> None:
        async def begin() -> None:
            handshakes = [None, None, Status(426)] if refused else ()
            self.server = await self.stack.enter_async_context(
                ScriptedServer(self._script, token_place=place, handshakes=handshakes)
            )
            provider = impatient(
                self.server.base_url, wire_api="responses", websocket=websocket, stream_max_retries=1
            ).with_changes(max_retry_delay=0.0)
            self.client = await self.stack.enter_async_context(ModelClient(provider))

        self.runner.run(begin())

    def _script(self, request: RecordedRequest) -> Turn:
        number = len(self.server.requests)
        token = f"turn-{self.asking}-answer-{number}"
        self.given.setdefault(self.asking, []).append(token)
        calls = [FunctionCall("get_weather", "{}", f"call_{number}")] if number % 2 else []
        faults = FAULTS[request.wire or "responses"]
        fault = None if self.fault is None else faults[self.fault % len(faults)]
        self.fault = None
        return Turn(text="hi", calls=calls, token=token, fault=fault)

    def _heed(self, asking: int) -> None:
        """Every request since the last time belongs to this turn, and carries its first token or none."""
        for request in self.server.requests[self.seen :]:
            assert request.token is None or request.token in self.given.get(asking, []), request.token
        self.seen = len(self.server.requests)
        carried = {token for request in self.server.requests if (token := request.token) is not None}
        by_turn = [token.split("-")[1] for token in carried]
        assert len(by_turn) == len(set(by_turn)), f"a turn's token changed: {carried}"

    @precondition(lambda self: len(self.turns) < 3)
    @rule()
    def open_turn(self) -> None:
        self.turns.append((self.opened, Conversation(self.client.new_session(), f"Question {self.opened}")))
        self.opened += 1

    @precondition(lambda self: self.turns)
    @rule(which=st.integers(0, 2), fault=st.none() | st.integers(0, 10), restart=st.booleans())
    def ask(self, which: int, fault: int | None, restart: bool) -> None:
        number, turn = self.turns[which % len(self.turns)]
        self.asking, self.fault = number, fault

        async def ask() -> None:
            try:
                await turn.ask(restart=restart)
            except ApiError:
                turn.say("Again, please.")

        self.runner.run(ask())
        self.fault = None  # where the handshake was refused, no request met it
        self._heed(number)

    @precondition(lambda self: self.turns)
    @rule(which=st.integers(0, 2))
    def leave_early(self, which: int) -> None:
        number, turn = self.turns[which % len(self.turns)]
        self.asking = number

        async def leave() -> None:
            with suppress(ApiError):
                async with turn.session.stream(Prompt(turn.history)) as stream:
                    async for _ in stream:
                        break
            await self.server.wait_idle()

        self.runner.run(leave())
        self._heed(number)

    @precondition(lambda self: self.turns)
    @rule(which=st.integers(0, 2))
    def warm_up(self, which: int) -> None:
        number, turn = self.turns[which % len(self.turns)]
        self.asking = number
        with suppress(ApiError):
            self.runner.run(turn.session.warm_up(Prompt(turn.history)))
        self._heed(number)

    @precondition(lambda self: self.turns)
    @rule(which=st.integers(0, 2))
    def compact(self, which: int) -> None:
        number, turn = self.turns[which % len(self.turns)]
        self.asking = number
        turn.history = list(self.runner.run(turn.session.compact(Prompt(turn.history))))
        turn.say("Go on.")
        self._heed(number)

    @precondition(lambda self: self.turns)
    @rule(which=st.integers(0, 2))
    def end_turn(self, which: int) -> None:
        _, turn = self.turns.pop(which % len(self.turns))
        turn.session.close()

    def teardown(self) -> None:
        with self.runner:
            self.runner.run(self.stack.aclose())


Turns.TestCase.settings = settings(
    max_examples=25, stateful_step_count=20, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


@pytest.mark.usefixtures("_no_proxies")
class TestTurns(Turns.TestCase):  # type: ignore[misc]
    pass


@pytest.mark.usefixtures("_no_proxies")
def test_a_fault_that_no_request_met_is_not_left_for_a_compaction() -> None:
    """The third handshake is refused, so that the ask ends before the script is asked for its turn."""
    state = Turns()
    try:
        state.begin(place="after_created", websocket=True, refused=True)
        state.open_turn()
        state.leave_early(which=0)
        state.leave_early(which=0)
        state.ask(which=0, fault=1, restart=False)
        assert (len(state.server.handshakes), len(state.server.requests)) == (3, 2)
        state.compact(which=0)
    finally:
        state.teardown()
