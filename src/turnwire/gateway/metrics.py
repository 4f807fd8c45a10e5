"""What the gateway counts, for Prometheus to scrape.

Labels are names from the configuration and words of our own: nothing that a stranger sends becomes a label.
"""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from turnwire.event import TokenUsage
from turnwire.gateway.dropped import feature_kind

__all__ = ["Metrics"]

_SECONDS = tuple(0.005 * 2**exponent for exponent in range(16))
"""5 ms to 2.7 minutes."""
_ROUTE = ("upstream", "model")


class Metrics:
    """The series of one process.

    =======================================  ============================================================
    ``turnwire_answers_total``               ``api``, ``upstream``, ``model``, ``end`` (completed, failed, left)
    ``turnwire_answers_open``                ``api``
    ``turnwire_first_output_seconds``        ``upstream``, ``model``
    ``turnwire_input_tokens_total``          ``upstream``, ``model``
    ``turnwire_cached_input_tokens_total``   the same; part of the input
    ``turnwire_output_tokens_total``         the same
    ``turnwire_dropped_features_total``      ``feature``: what could not be carried over
    ``turnwire_failovers_total``             ``upstream``: requests that another one answered in its place
    ``turnwire_refused_tokens_total``        ``reason``: turn tokens that counted as none
    =======================================  ============================================================
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry

        def counter(name: str, help_text: str, *labels: str) -> Counter:
            return Counter(name, help_text, labels, namespace="turnwire", registry=registry)

        self._answers = counter("answers", "Answers that are over", "api", *_ROUTE, "end")
        self._open = Gauge("answers_open", "Answers under way", ("api",), namespace="turnwire", registry=registry)
        self._first_output = Histogram(
            "first_output_seconds",
            "Time from the request to the first of its answer",
            _ROUTE,
            namespace="turnwire",
            registry=registry,
            buckets=_SECONDS,
        )
        self._input = counter("input_tokens", "Tokens of prompts", *_ROUTE)
        self._cached = counter("cached_input_tokens", "Tokens of prompts, read from a cache", *_ROUTE)
        self._output = counter("output_tokens", "Tokens of answers", *_ROUTE)
        self._dropped = counter("dropped_features", "Features that could not be carried over", "feature")
        self._failovers = counter("failovers", "Requests that moved to another upstream", "upstream")
        self._refused_tokens = counter("refused_tokens", "Turn tokens that counted as none", "reason")

    def answer_begins(self, api: str) -> None:
        """Counts an answer as open."""
        self._open.labels(api).inc()

    def answer_over(
        self,
        api: str,
        upstream: str,
        model: str,
        end: str,
        *,
        first_output_after: float | None = None,
        usage: TokenUsage | None = None,
    ) -> None:
        """Counts an answer that `answer_begins` was told of; times are in seconds."""
        self._open.labels(api).dec()
        self._answers.labels(api, upstream, model, end).inc()
        if first_output_after is not None:
            self._first_output.labels(upstream, model).observe(first_output_after)
        if usage is not None:
            self._input.labels(upstream, model).inc(usage.input_tokens)
            self._cached.labels(upstream, model).inc(usage.cached_input_tokens)
            self._output.labels(upstream, model).inc(usage.output_tokens)

    def dropped(self, features: Sequence[str]) -> None:
        """Counts what a request could not take along."""
        for feature in features:
            self._dropped.labels(feature_kind(feature)).inc()

    def token_refused(self, reason: str) -> None:
        """Counts a turn token that was forged, foreign, expired or no token at all."""
        self._refused_tokens.labels(reason).inc()

    def moved(self, upstream: str) -> None:
        """Counts a request that moved on from an upstream which failed."""
        self._failovers.labels(upstream).inc()
