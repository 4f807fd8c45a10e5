"""A fleet of replicas behind several gateway processes, on a clock that jumps from one event to the next.

What decides is the gateway's own: `turnwire.gateway.routing.route` chooses, and `turnwire.gateway.health.Health` says
from which, in each process by what that process has seen; the processes share nothing. What is made up is the world
around them: people, tools, answers and faults.

Each request reaches any of the processes, and a client repeats its turn's first token. All times are in seconds.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Literal, TypeAlias

from msgspec import Struct

from gateway_process import Chooser, Process, by_route
from traffic import Conversation, Draws, Traffic, Turn
from turnwire.gateway.prober import PROBE_TIMEOUT

__all__ = ["Fault", "Fleet", "Kind", "Sample"]

Kind: TypeAlias = Literal["join", "leave", "crash", "stall", "hang"]
"""What happens to a replica. A stalled one answers nothing, a hanging one its probes alone."""
State: TypeAlias = Literal["up", "down", "stalled", "hanging", "left"]

_SILENT = ("stalled", "hanging")

_SPREAD = 5.0
"""Within what time all processes read a changed configuration."""
_PROBE_SPREAD = 0.2
_PATIENCE = 1.0
"""After what time a client asks again that was told that no replica is left."""


class Fault(Struct, frozen=True):
    """What happened to a replica, and to whom that mattered."""

    kind: Kind
    at: float
    name: str
    replicas: int
    turns: int
    """Turns under way at that time, of which …"""
    held: int
    """… had this replica in their token."""


class Sample(Struct, frozen=True):
    """How many requests each replica had at one time."""

    at: float
    loads: Mapping[str, int]


class _Machine:
    """What a replica really is."""

    __slots__ = ("held", "name", "requests", "state", "weight")

    def __init__(self, name: str, weight: float) -> None:
        self.name = name
        self.weight = weight
        self.state: State = "up"
        self.requests: dict[_Request, None] = {}
        self.held = 0
        """Turns under way with its name in their token."""


class _Request:
    """One attempt at one machine."""

    __slots__ = ("due", "left", "machine", "process", "reason", "takes", "tried", "turn")

    def __init__(
        self, turn: Turn, process: Process, machine: _Machine, tried: Collection[str], reason: str | None, takes: float
    ) -> None:
        self.turn = turn
        self.process = process
        self.machine = machine
        self.tried = tried
        self.reason = reason
        self.takes = takes
        self.left = takes
        """Seconds of work left when its machine last stopped or went on."""
        self.due = -1.0
        """When it will be over, one way or the other."""


class Fleet:
    """Runs the traffic of a number of turns.

    ``faults`` come one after the other, evenly over the run. A crashed replica is down for ``outage`` and comes back
    empty, a stalled or hanging one is silent for ``stall`` and then goes on.
    """

    def __init__(
        self,
        weights: Mapping[str, float],
        turns: int,
        traffic: Traffic,
        *,
        processes: int = 4,
        choose: Chooser = by_route,
        sees_load: bool = True,
        faults: Sequence[Kind] = (),
        outage: float = 60.0,
        stall: float = 600.0,
        sample_every: float | None = None,
        seed: int = 1,
    ) -> None:
        self.traffic = traffic
        self.processes = [Process(weights, sees_load=sees_load) for _ in range(processes)]
        self.counts: Counter[str] = Counter()
        """Turns, requests and what became of them."""
        self.moves: Counter[str] = Counter()
        """Requests that did not meet the replica with their turn's prompt, by the reason."""
        self.moved_turns: Counter[str] = Counter()
        """The turns that they belong to, by the reason."""
        self.faults: list[Fault] = []
        self.samples: list[Sample] = []
        self._machines = {name: _Machine(name, weight) for name, weight in weights.items()}
        self._choose = choose
        self._turns_left = turns
        self._outage, self._stall = outage, stall
        self._open_turns = 0
        self._now = 0.0
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._ticket = itertools.count()
        self._random = random.Random(seed)
        rate = sum(weights.values()) * traffic.turn_rate
        self._draws = Draws(traffic, rate, seed)
        self._until = turns / rate
        for _ in range(round(rate * traffic.turn_interval)):  # those that are under way when it begins
            self._after(
                next(self._draws.unit) * traffic.turn_interval, partial(self._begin_turn, self._draws.conversation())
            )
        self._after(next(self._draws.arrival), self._arrive)
        for place, kind in enumerate(faults, 1):
            self._after(self._until * place / (len(faults) + 1), partial(self._strike, kind))
        for process, name in itertools.product(self.processes, weights):
            self._after(next(self._draws.unit) * traffic.probe_interval, partial(self._probe, process, name))
        if sample_every is not None:
            self._after(sample_every, partial(self._sample, sample_every))

    def run(self) -> None:
        """Runs until the last turn has its answer."""
        queue = self._queue
        while queue:
            self._now, _, happen = heapq.heappop(queue)
            happen()

    def _after(self, seconds: float, happen: Callable[[], None]) -> None:
        heapq.heappush(self._queue, (self._now + seconds, next(self._ticket), happen))

    @property
    def _over(self) -> bool:
        return not (self._turns_left or self._open_turns)

    # Conversations

    def _arrive(self) -> None:
        if self._turns_left:
            self._begin_turn(self._draws.conversation())
            self._after(next(self._draws.arrival), self._arrive)

    def _begin_turn(self, conversation: Conversation) -> None:
        if self._turns_left:
            self._turns_left -= 1
            self._open_turns += 1
            self.counts["turns"] += 1
            conversation.turns_left -= 1
            self._ask(Turn(conversation, next(self._draws.requests)))

    def _end_turn(self, turn: Turn) -> None:
        self._open_turns -= 1
        self.counts["answered"] += 1
        self.moved_turns.update(turn.moved)
        if turn.held_by is not None:
            self._machines[turn.held_by].held -= 1
        if turn.conversation.turns_left:
            self._after(next(self._draws.pause), partial(self._begin_turn, turn.conversation))

    # Requests

    def _ask(self, turn: Turn) -> None:
        self._attempt(turn, self.processes[int(next(self._draws.unit) * len(self.processes))], ())

    def _attempt(self, turn: Turn, process: Process, tried: Collection[str]) -> None:
        name = self._choose(process, turn, tried)
        if name is None:
            self.counts["turned away"] += 1
            self._after(_PATIENCE, partial(self._ask, turn))
            return
        machine = self._machines[name]
        if machine.state == "down":
            self.counts["refused connections"] += 1
            self._blame(process, machine, absent=True)
            self._attempt(turn, process, (*tried, name))
            return
        request = _Request(turn, process, machine, tried, self._reason(turn, name), next(self._draws.answer))
        process.count(name, 1)
        machine.requests[request] = None
        self._go_on(request)

    def _reason(self, turn: Turn, name: str) -> str | None:
        """Why a request does not meet its turn's last replica; None where it does, or is the first."""
        if turn.place is None or turn.place == name:
            return None
        state = self._machines[turn.place].state
        if state != "up":
            return state
        return "back" if name == turn.held_by else "needless"

    def _go_on(self, request: _Request) -> None:
        wait = self.traffic.idle_timeout if request.machine.state in _SILENT else request.left
        request.due = self._now + wait
        self._after(wait, partial(self._due, request))

    def _due(self, request: _Request) -> None:
        if request not in request.machine.requests or request.due != self._now:
            return  # it is over, or was held up
        if request.machine.state in _SILENT:
            self.counts["silent answers"] += 1
            self._fail(request)
            return
        self._release(request)
        turn, name = request.turn, request.machine.name
        request.process.succeeded(name)
        self._take_token(request)
        self._tell(request)
        turn.place = turn.conversation.place = name
        turn.requests_left -= 1
        if turn.requests_left:
            self._after(next(self._draws.tool), partial(self._ask, turn))
        else:
            self._end_turn(turn)

    def _tell(self, request: _Request) -> None:
        """Counts a request that was answered."""
        self.counts["requests"] += 1
        turn = request.turn
        if turn.place is not None:
            self.counts["follow-ups"] += 1
            if request.reason is not None:
                self.moves[request.reason] += 1
                if request.reason not in turn.moved:
                    turn.moved.append(request.reason)
        elif turn.conversation.place is not None:
            self.counts["later turns"] += 1
            self.counts["later turns at their replica"] += turn.conversation.place == request.machine.name

    def _fail(self, request: _Request) -> None:
        """An answer was cut, or its silence became too long: another replica's turn, or the client's."""
        self._release(request)
        machine, process, turn = request.machine, request.process, request.turn
        self._blame(process, machine)
        if self._begun(request):
            self._take_token(request)
            self.counts["cut answers"] += 1
            self._after(self.traffic.retry, partial(self._ask, turn))
        else:
            self._attempt(turn, process, (*request.tried, machine.name))

    def _blame(self, process: Process, machine: _Machine, *, absent: bool = False) -> None:
        """A replica has failed; if that ejects it, what it has not begun to answer moves on."""
        if process.failed(machine.name, self._now, absent=absent):
            lost = [other for other in machine.requests if other.process is process and not self._begun(other)]
            for other in lost:
                self._release(other)
                self._attempt(other.turn, process, (*other.tried, machine.name))

    def _release(self, request: _Request) -> None:
        del request.machine.requests[request]
        request.process.count(request.machine.name, -1)

    def _begun(self, request: _Request) -> bool:
        return request.left <= (1 - self.traffic.begins) * request.takes

    def _take_token(self, request: _Request) -> None:
        if self.traffic.repeats_token and request.turn.held_by is None:
            request.turn.held_by = request.machine.name
            request.machine.held += 1

    # Replicas

    def _strike(self, kind: Kind) -> None:
        up = [machine for machine in self._machines.values() if machine.state == "up"]
        if kind == "join":
            name = f"joined-{len(self.faults)}"
            machine = self._machines[name] = _Machine(name, 1.0)
            for process in self.processes:
                self._after(next(self._draws.unit) * _SPREAD, partial(self._join, process, machine))
        else:
            machine = self._random.choice(up)
        self.faults.append(Fault(kind, self._now, machine.name, len(up), self._open_turns, machine.held))
        if kind == "leave":
            machine.state = "left"
            for process in self.processes:
                self._after(next(self._draws.unit) * _SPREAD, partial(process.leave, machine.name))
        elif kind == "crash":
            self._crash(machine)
        elif kind in ("stall", "hang"):
            self._stop(machine, "stalled" if kind == "stall" else "hanging")

    def _crash(self, machine: _Machine) -> None:
        for request in machine.requests:
            request.left = request.due - self._now
        machine.state = "down"
        self._after(self._outage, partial(self._start, machine))
        for request in tuple(machine.requests):
            if request in machine.requests:
                self._fail(request)

    def _stop(self, machine: _Machine, state: State) -> None:
        machine.state = state
        self._after(self._stall, partial(self._start, machine))
        for request in machine.requests:
            request.left = request.due - self._now
            self._go_on(request)

    def _start(self, machine: _Machine) -> None:
        machine.state = "up"
        for request in machine.requests:
            self._go_on(request)

    def _join(self, process: Process, machine: _Machine) -> None:
        process.join(machine.name, machine.weight)
        self._probe(process, machine.name)

    def _probe(self, process: Process, name: str) -> None:
        """Asks a replica whether it is there, as `turnwire.gateway.prober.keep_probing` does."""
        if name not in process.replicas or self._over:
            return
        machine = self._machines[name]
        if machine.state == "down":
            self._blame(process, machine, absent=True)
        elif machine.state != "stalled":
            process.probed(name)
        else:
            self._after(PROBE_TIMEOUT, partial(self._miss, process, machine))
            return
        self._probe_later(process, name)

    def _miss(self, process: Process, machine: _Machine) -> None:
        """A probe was not answered."""
        self._blame(process, machine)
        self._probe_later(process, machine.name)

    def _probe_later(self, process: Process, name: str) -> None:
        interval = self.traffic.probe_interval
        back_at = process.health[name].back_at if name in process.health else None
        pause = interval if back_at is None else min(interval, max(0.0, back_at - self._now))
        self._after(pause * (1 + _PROBE_SPREAD * next(self._draws.unit)), partial(self._probe, process, name))

    def _sample(self, every: float) -> None:
        if self._turns_left:
            loads = {name: len(machine.requests) for name, machine in self._machines.items() if machine.state != "left"}
            self.samples.append(Sample(self._now, loads))
            self._after(every, partial(self._sample, every))
