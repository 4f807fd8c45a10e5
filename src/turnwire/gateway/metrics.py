"""What the gateway counts, for Prometheus to scrape.

Labels are names from the configuration, names of models that are served, and words of our own: nothing else that a
stranger sends becomes a label.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.metrics import MetricWrapperBase

from turnwire.event import TokenUsage
from turnwire.gateway.dropped import feature_kind
from turnwire.gateway.pool import Pool

__all__ = ["Metrics"]

_FIRST_OUTPUT = tuple(0.005 * 2**exponent for exponent in range(16))
"""5 ms to 2.7 minutes."""
_DURATION = tuple(0.02 * 2**exponent for exponent in range(17))
"""20 ms to 22 minutes."""
_QUEUE = tuple(0.001 * 4**exponent for exponent in range(9))
"""1 ms to 65 s: no wait at all is in the first."""
_ROUTE = ("upstream", "model")
_READ_EVERY = 1.0
"""Seconds between two looks at the pool."""


_Metric = TypeVar("_Metric", bound=MetricWrapperBase)


def _series(metric: _Metric) -> Callable[..., _Metric]:
    """A metric's series by its labels; the library itself takes a lock and makes strings of them each time."""
    return cache(metric.labels)


class Metrics:
    """The series of one process. Seconds, requests and tokens; ``upstream`` is empty where nobody was asked.

    =======================================  ============================================================
    ``turnwire_answers_total``               ``api``, ``upstream``, ``model``, ``end`` (completed, failed, left)
    ``turnwire_answers_open``                ``api``
    ``turnwire_caller_answers_open``         ``caller``: the same answers, by who asked
    ``turnwire_answer_seconds``              ``upstream``, ``model``: from the request to the end of its answer
    ``turnwire_first_output_seconds``        ``upstream``, ``model``: from the request to the first of its answer
    ``turnwire_input_tokens_total``          ``upstream``, ``model``
    ``turnwire_cached_input_tokens_total``   the same; part of the input
    ``turnwire_output_tokens_total``         the same
    ``turnwire_upstream_requests_open``      ``upstream``
    ``turnwire_upstream_well``               ``upstream``: 1, or 0 where it is left out
    ``turnwire_ejections_total``             ``upstream``: how often it was left out
    ``turnwire_keepalives_total``            signs of life that clients were given
    ``turnwire_client_retries_total``        ``api``: requests that their client had sent before, by its own word
    ``turnwire_failovers_total``             ``upstream``: requests that another one was asked for in its place
    ``turnwire_requests_waiting``            no label: for an upstream that has room
    ``turnwire_queue_seconds``               ``upstream``: how long requests waited for it
    ``turnwire_dropped_features_total``      ``feature``: what could not be carried over
    ``turnwire_refused_tokens_total``        ``reason``: turn tokens that counted as none
    ``turnwire_store_failures_total``        ``operation``: what the store was asked for and could not do
    =======================================  ============================================================

    What pool and store know is read from them (`read`), each second and at each scrape of this process.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(name, text, labels, namespace="turnwire", registry=registry)

        def histogram(name: str, text: str, buckets: Sequence[float], *labels: str) -> Histogram:
            return Histogram(name, text, labels, namespace="turnwire", registry=registry, buckets=buckets)

        def total(name: str, text: str, *labels: str) -> Gauge:
            """Of several processes, those that live are added up."""
            return Gauge(name, text, labels, namespace="turnwire", registry=registry, multiprocess_mode="livesum")

        self._answers = _series(counter("answers", "Answers that are over", "api", *_ROUTE, "end"))
        self._answers_open = _series(total("answers_open", "Answers under way", "api"))
        self._caller_answers_open = _series(total("caller_answers_open", "Answers under way of a caller", "caller"))
        self._duration = _series(
            histogram("answer_seconds", "Time from a request to its answer's end", _DURATION, *_ROUTE)
        )
        self._first_output = _series(
            histogram("first_output_seconds", "Time from a request to the first of its answer", _FIRST_OUTPUT, *_ROUTE)
        )
        self._input = _series(counter("input_tokens", "Tokens of prompts", *_ROUTE))
        self._cached = _series(counter("cached_input_tokens", "Tokens of prompts, read from a cache", *_ROUTE))
        self._output = _series(counter("output_tokens", "Tokens of answers", *_ROUTE))
        self._requests_open = _series(total("upstream_requests_open", "Requests that an upstream has", "upstream"))
        self._well = _series(
            Gauge(
                "upstream_well",
                "Whether an upstream is asked (1) or left out (0)",
                ("upstream",),
                namespace="turnwire",
                registry=registry,
                multiprocess_mode="livemin",  # of several processes the one that has seen it fail
            )
        )
        self._ejections = _series(counter("ejections", "How often an upstream was left out", "upstream"))
        self._keepalives = counter("keepalives", "Signs of life that clients were given for want of an answer")
        self._client_retries = _series(counter("client_retries", "Requests that their client had sent before", "api"))
        self._failovers = _series(counter("failovers", "Requests that moved to another upstream", "upstream"))
        self._waiting = total("requests_waiting", "Requests that wait for an upstream")
        self._queue = _series(
            histogram("queue_seconds", "How long requests waited for an upstream", _QUEUE, "upstream")
        )
        self._dropped = _series(counter("dropped_features", "Features that could not be carried over", "feature"))
        self._refused_tokens = _series(counter("refused_tokens", "Turn tokens that counted as none", "reason"))
        self._store_failures = _series(counter("store_failures", "What the store could not do", "operation"))
        self._ejections_read: dict[str, int] = {}
        self._store_failures_read: dict[str, int] = {}

    def answer_begins(self, api: str, caller: str) -> None:
        """Counts an answer as open; ``caller`` is the caller's name."""
        self._answers_open(api).inc()
        self._caller_answers_open(caller).inc()

    def answer_over(
        self,
        api: str,
        caller: str,
        upstream: str,
        model: str,
        end: str,
        *,
        duration: float,
        first_output_after: float | None = None,
        usage: TokenUsage | None = None,
    ) -> None:
        """Counts an answer that `answer_begins` was told of; times are in seconds."""
        self._answers_open(api).dec()
        self._caller_answers_open(caller).dec()
        self._answers(api, upstream, model, end).inc()
        self._duration(upstream, model).observe(duration)
        if first_output_after is not None:
            self._first_output(upstream, model).observe(first_output_after)
        if usage is not None:
            self._input(upstream, model).inc(usage.input_tokens)
            self._cached(upstream, model).inc(usage.cached_input_tokens)
            self._output(upstream, model).inc(usage.output_tokens)

    def kept_alive(self, signs: int) -> None:
        """Counts the signs of life that an answer's client was given."""
        self._keepalives.inc(signs)

    def asked_again(self, api: str) -> None:
        """Counts a request that its client had sent before."""
        self._client_retries(api).inc()

    def waited(self, upstream: str, seconds: float) -> None:
        """Counts how long a request waited until it got an upstream."""
        self._queue(upstream).observe(seconds)

    def moved(self, upstream: str) -> None:
        """Counts a request that moved on from an upstream which failed."""
        self._failovers(upstream).inc()

    def dropped(self, features: Sequence[str]) -> None:
        """Counts what a request could not take along."""
        for feature in features:
            self._dropped(feature_kind(feature)).inc()

    def token_refused(self, reason: str) -> None:
        """Counts a turn token that was forged, foreign, expired or no token at all."""
        self._refused_tokens(reason).inc()

    def read(self, pool: Pool, upstreams: Iterable[str], store_failures: Mapping[str, int] = {}) -> None:
        """Takes over how the pool is now, with the upstreams of these names, and how often a store failed so far."""
        self._waiting.set(pool.waiting)
        names = set(upstreams)
        for name in self._ejections_read.keys() - names:
            # One that is there no more keeps nobody awake. Several processes' counts can't be taken back, only set.
            self._requests_open(name).set(0)
            self._well(name).set(1)
        for name in sorted(names):
            health = pool.health(name)
            self._requests_open(name).set(pool.load(name))
            self._well(name).set(health.back_at is None)
            self._ejections(name).inc(health.ejections - self._ejections_read.get(name, 0))
            self._ejections_read[name] = health.ejections
        for operation, failures in store_failures.items():
            self._store_failures(operation).inc(failures - self._store_failures_read.get(operation, 0))
            self._store_failures_read[operation] = failures

    async def keep_reading(
        self,
        pool: Pool,
        upstreams: Sequence[str],
        store_failures: Mapping[str, int] = {},
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Does so again and again: of several processes, one that is not scraped has to tell what it knows too."""
        while True:
            self.read(pool, upstreams, store_failures)
            await sleep(_READ_EVERY)
