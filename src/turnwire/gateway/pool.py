"""The replicas as one process knows them: how busy each is, how well, and who waits for which.

A request leases a replica for as long as it is asked. `turnwire.gateway.routing` says which one it prefers; a replica
that has as many requests as it may have is waited for, in order of arrival and within bounds. What the leases end with
is what a replica's health is made of.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from types import TracebackType
from typing import Self

from msgspec import Struct

from turnwire.errors import ApiError, ConnectError, ServerOverloaded
from turnwire.gateway.catalog import Catalog, Served
from turnwire.gateway.health import Health, HealthState, blames_replica
from turnwire.gateway.reason import reason
from turnwire.gateway.routing import Replica, route
from turnwire.gateway.upstream import Upstream

__all__ = ["Lease", "Pool", "QueueLimits"]

_log = logging.getLogger("turnwire.gateway")

_PREFERENCE: tuple[HealthState, ...] = ("well", "trial", "ejected")
"""Where no replica is well, one that may be is better than none, and then one that hardly is."""


class QueueLimits(Struct, frozen=True):
    """How many requests may wait for a busy replica, and how long (seconds)."""

    length: int = 256
    timeout: float = 30.0


class Lease:
    """One request's claim on a replica: a context manager that gives the claim back."""

    def __init__(self, pool: Pool, served: Served) -> None:
        self._pool = pool
        self._open = True
        self.served = served
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when the replica is ejected meanwhile: what it has not answered yet may be asked elsewhere."""
        self.error: ApiError | None = None
        """What the request has failed with."""

    def __repr__(self) -> str:
        return f"<Lease of {self.name}, {'open' if self._open else 'over'}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.end()

    @property
    def name(self) -> str:
        """The replica's name."""
        return self.served.upstream.name

    def succeeded(self) -> None:
        """The replica has answered."""
        self._pool.succeeded(self.name)

    def failed(self, error: ApiError) -> None:
        """The request has failed; what that says of the replica is for the pool to know."""
        self.error = error
        self._pool.failed(self.name, error)

    def end(self) -> None:
        """Gives the claim back; harmless when repeated."""
        if self._open:
            self._open = False
            self._pool.give_back(self)


class _Waiter(Struct, eq=False):
    """A request that waits until one of some replicas has room for it, or until they have changed."""

    names: Sequence[str]
    ready: asyncio.Future[str | None]


class Pool:
    """The replicas of one process: those of the catalog that it was given last. ``clock`` gives seconds that only grow.

    A replica that left is remembered by its name, for answers of its own may be under way still; they count towards
    the load of one that took its name.
    """

    def __init__(
        self,
        catalog: Catalog | None = None,
        *,
        limits: QueueLimits | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._catalog = Catalog(())
        self._clock = clock
        self._health: dict[str, Health] = {}
        self._leases: dict[str, set[Lease]] = {}
        self._granted: dict[str, int] = {}  # leases, and what waiters were promised
        self._waiters: deque[_Waiter] = deque()
        self.change(catalog or self._catalog, limits or QueueLimits())

    def __repr__(self) -> str:
        return f"<Pool of {len(self._catalog.upstreams)} replicas, {self.open} leases, {len(self._waiters)} waiting>"

    @property
    def open(self) -> int:
        """How many leases there are."""
        return sum(map(len, self._leases.values()))

    @property
    def waiting(self) -> int:
        """How many requests wait for a replica."""
        return len(self._waiters)

    @property
    def ready(self) -> bool:
        """Whether any replica is well."""
        now = self._clock()
        return any(self._health[upstream.name].state(now) == "well" for upstream in self._catalog.upstreams)

    def change(self, catalog: Catalog, limits: QueueLimits) -> None:
        """Goes over to other replicas. One that stays, the same object in both catalogs, keeps its health.

        Requests that wait for a replica go on waiting, for those that there are now.
        """
        for upstream in catalog.upstreams:
            if self._catalog.upstream(upstream.name) is not upstream:
                self._begin(upstream.name)
        self._catalog, self._limits = catalog, limits
        self._wake_all()

    def uses(self, upstream: Upstream) -> bool:
        """Whether a request is still at this very upstream."""
        return any(lease.served.upstream is upstream for lease in self._leases.get(upstream.name, ()))

    def _begin(self, name: str) -> None:
        before = self._health.get(name)
        health = self._health[name] = Health()
        if before is not None:
            health.ejections = before.ejections  # a count, which only ever grows
        self._leases.setdefault(name, set())
        self._granted.setdefault(name, 0)

    def load(self, name: str) -> int:
        """How many requests a replica has."""
        return self._granted[name]

    def health(self, name: str) -> Health:
        """How well a replica is."""
        return self._health[name]

    async def require(self, model: str) -> None:
        """Returns where somebody serves the model, and raises as `Catalog.find_all` does where nobody does.

        As long as the upstreams are being asked what they serve for the first time, that is waited for.
        """
        try:
            self._catalog.find_all(model)
        except ServerOverloaded:
            await self._catalog.asked()
            self._catalog.find_all(model)

    def preferred(self, model: str, key: bytes) -> Served:
        """The replica that a new turn of this conversation would get now, had it room."""
        serving = {served.upstream.name: served for served in self._catalog.find_all(model)}
        return serving[self._order(serving, key, None)[0]]

    async def lease(self, model: str, key: bytes, *, held_by: str | None = None, tried: Collection[str] = ()) -> Lease:
        """A replica for a request about ``model`` in the conversation of this key.

        ``held_by`` is the replica that the turn's token names, ``tried`` are those that this request has failed at.
        Raises `UnknownModel`, and `ServerOverloaded` where no replica is left or none has room in time.
        """
        deadline = self._clock() + self._limits.timeout
        while True:
            serving = {
                served.upstream.name: served
                for served in self._catalog.find_all(model)
                if served.upstream.name not in tried
            }
            if not serving:
                raise ServerOverloaded(f"no other upstream serves the model {model!r}", 1.0)
            names = self._order(serving, key, held_by)
            name = next((name for name in names if self._has_room(name)), None)
            if name is None:
                name = await self._wait(names, deadline)
            else:
                self._granted[name] += 1
            if name is not None:
                lease = Lease(self, serving[name])
                self._leases[name].add(lease)
                return lease

    def has_other(self, model: str, tried: Collection[str]) -> bool:
        """Whether a replica besides these serves the model, and is well."""
        now = self._clock()
        names = {served.upstream.name for served in self._catalog.find_all(model)}
        return any(self._health[name].state(now) == "well" for name in names.difference(tried))

    def give_back(self, lease: Lease) -> None:
        """Ends a lease, as `Lease.end` does."""
        self._leases[lease.name].discard(lease)
        self._granted[lease.name] -= 1
        self._serve_waiters()

    def succeeded(self, name: str) -> None:
        """A replica has answered a request."""
        was_out = self._health[name].back_at is not None
        self._health[name].succeeded()
        self._welcome(name, was_out=was_out)

    def probed(self, name: str) -> None:
        """A replica has answered a probe."""
        was_out = self._health[name].back_at is not None
        self._health[name].probed()
        self._welcome(name, was_out=was_out)

    def _welcome(self, name: str, *, was_out: bool) -> None:
        if was_out:
            _log.info("upstream %s is back", name)
            self._wake_all()

    def failed(self, name: str, error: ApiError) -> None:
        """A replica has failed at a request, or a probe; an error that is not its own changes nothing."""
        if not blames_replica(error):
            return
        health = self._health[name]
        if health.failed(self._clock(), absent=isinstance(error, ConnectError)):
            _log.warning("upstream %s is left out for a while: %s", name, reason(error))
            for lease in self._leases[name]:
                if not lease.lost.done():
                    lease.lost.set_result(None)
            self._wake_all()

    def _order(self, serving: Mapping[str, Served], key: bytes, held_by: str | None) -> Sequence[str]:
        """The replicas in the order in which a request is to try them: those that are well, if any is."""
        now = self._clock()
        states = {name: self._health[name].state(now) for name in serving}
        best = min(states.values(), key=_PREFERENCE.index)
        replicas = [
            Replica(name, served.upstream.configuration.weight, self._granted[name])
            for name, served in serving.items()
            if states[name] == best
        ]
        return route(key, replicas, held_by=held_by)

    def _has_room(self, name: str) -> bool:
        upstream = self._catalog.upstream(name)
        most = None if upstream is None else upstream.configuration.max_concurrency
        return most is None or self._granted[name] < most

    async def _wait(self, names: Sequence[str], deadline: float) -> str | None:
        """One of the replicas, once it has room; None where it is to be looked again which ones there are."""
        if len(self._waiters) >= self._limits.length:
            raise ServerOverloaded(f"{len(self._waiters)} requests wait for a replica already", 1.0)
        ready: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        waiter = _Waiter(names, ready)
        self._waiters.append(waiter)
        try:
            await asyncio.wait((ready,), timeout=max(0.0, deadline - self._clock()))
        except asyncio.CancelledError:
            if ready.done() and (name := ready.result()) is not None:
                self._granted[name] -= 1
                self._serve_waiters()
            raise
        finally:
            if not ready.done():
                self._waiters.remove(waiter)
        if not ready.done():
            timeout = self._limits.timeout
            raise ServerOverloaded(f"no replica had room within {timeout:g} s: {', '.join(names)}", 1.0)
        return ready.result()

    def _serve_waiters(self) -> None:
        """Lets go whoever can go, the longest waiting first."""
        for waiter in tuple(self._waiters):
            name = next((name for name in waiter.names if self._has_room(name)), None)
            if name is not None:
                self._granted[name] += 1
                self._waiters.remove(waiter)
                waiter.ready.set_result(name)

    def _wake_all(self) -> None:
        """Has all who wait look again: replicas have come or gone."""
        waiters, self._waiters = self._waiters, deque()
        for waiter in waiters:
            waiter.ready.set_result(None)
