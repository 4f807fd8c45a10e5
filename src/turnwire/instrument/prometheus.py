"""Prometheus: counters and histograms of requests, waits, WebSocket handshakes and answers.

Labels are names and outcomes alone: prompts, answers, keys and tokens appear nowhere. An ``error`` is the class name of
one of `turnwire.errors`, empty where there was none.
"""

from __future__ import annotations

from typing import Literal, get_args

from turnwire.event import TokenUsage
from turnwire.instrument import missing_package
from turnwire.telemetry import (
    PollOutcome,
    RequestRecord,
    RequestTelemetry,
    SsePollRecord,
    SseTelemetry,
    StreamRecord,
    StreamTelemetry,
    WebsocketConnectRecord,
    WebsocketPollRecord,
    WebsocketTelemetry,
)

try:
    from prometheus_client import CollectorRegistry, Counter, Histogram
except ModuleNotFoundError as error:
    raise missing_package(error, "prometheus_client") from None

__all__ = ["PrometheusHooks"]

_SECONDS = tuple(0.01 * 2**exponent for exponent in range(16))
"""10 ms to 5.5 minutes: requests and answers."""
_WAIT_SECONDS = tuple(0.001 * 4**exponent for exponent in range(10))
"""1 ms to 4.4 minutes: from a read that another one followed at once to one that ran into the idle timeout."""
_STREAM = ("provider", "model", "wire")


class PrometheusHooks(RequestTelemetry, SseTelemetry, WebsocketTelemetry, StreamTelemetry):
    """Give it to a client as any of its four hooks, or to many clients; one for each registry.

    ================================================  ============================================
    ``turnwire_requests_total``                       ``provider``, ``status``, ``error``
    ``turnwire_request_seconds``                      ``provider``; up to the response's head
    ``turnwire_websocket_connects_total``             ``provider``, ``error``
    ``turnwire_websocket_connect_seconds``            ``provider``
    ``turnwire_wait_seconds``                         ``wire`` (``sse``, ``websocket``), ``outcome``
    ``turnwire_events_total``                         ``wire``
    ``turnwire_streams_total``                        ``provider``, ``model``, ``wire``, ``outcome``, ``error``
    ``turnwire_stream_seconds``                       ``provider``, ``model``, ``wire``
    ``turnwire_time_to_first_output_seconds``         ``provider``, ``model``, ``wire``
    ``turnwire_retries_total``                        ``provider``, ``what``, ``error``; told when the stream is over
    ``turnwire_input_tokens_total``                   ``provider``, ``model``
    ``turnwire_cached_input_tokens_total``            the same; part of the input
    ``turnwire_output_tokens_total``                  the same
    ``turnwire_reasoning_output_tokens_total``        the same; part of the output
    ================================================  ============================================
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, help_text: str, *labels: str) -> Counter:
            return Counter(name, help_text, labels, namespace="turnwire", registry=registry)

        def seconds(name: str, help_text: str, *labels: str, buckets: tuple[float, ...] = _SECONDS) -> Histogram:
            return Histogram(
                name, help_text, labels, namespace="turnwire", unit="seconds", registry=registry, buckets=buckets
            )

        self._requests = counter("requests", "Attempts at requests", "provider", "status", "error")
        self._request = seconds("request", "Time of an attempt, up to the response's head", "provider")
        self._connects = counter("websocket_connects", "WebSocket handshakes", "provider", "error")
        self._connect = seconds("websocket_connect", "Time of a WebSocket handshake", "provider")
        self._events = counter("events", "Events that came out of streams", "wire")
        self._streams = counter("streams", "Answers that are over", *_STREAM, "outcome", "error")
        self._stream = seconds("stream", "Time of an answer, all its attempts included", *_STREAM)
        self._first_output = seconds("time_to_first_output", "Time up to the first event of an answer", *_STREAM)
        self._retries = counter(
            "retries", "Failures that were followed by another attempt", "provider", "what", "error"
        )
        self._input = counter("input_tokens", "Tokens of prompts", "provider", "model")
        self._cached = counter("cached_input_tokens", "Tokens of prompts, read from a cache", "provider", "model")
        self._output = counter("output_tokens", "Tokens of answers", "provider", "model")
        self._reasoning = counter("reasoning_output_tokens", "Tokens of answers, for reasoning", "provider", "model")

        wait = seconds("wait", "Time of a wait for a stream's next bytes", "wire", "outcome", buckets=_WAIT_SECONDS)
        # A wait is told for every read of every stream, so what it needs is looked up once.
        self._sse = _Waits(wait, self._events, "sse")
        self._websocket = _Waits(wait, self._events, "websocket")

    def on_request(self, record: RequestRecord, /) -> None:
        """Counts an attempt at a request."""
        status = "" if record.status is None else str(record.status)
        self._requests.labels(record.provider, status, record.error or "").inc()
        self._request.labels(record.provider).observe(record.duration)

    def on_sse_poll(self, record: SsePollRecord, /) -> None:
        """Counts a wait on an HTTP response."""
        self._sse.count(record.outcome, record.duration, record.events)

    def on_websocket_connect(self, record: WebsocketConnectRecord, /) -> None:
        """Counts a handshake."""
        self._connects.labels(record.provider, record.error or "").inc()
        self._connect.labels(record.provider).observe(record.duration)

    def on_websocket_poll(self, record: WebsocketPollRecord, /) -> None:
        """Counts a wait on a WebSocket."""
        self._websocket.count(record.outcome, record.duration, record.events)

    def on_stream(self, record: StreamRecord, /) -> None:
        """Counts an answer, its retries and its tokens."""
        stream = (record.provider, record.model, record.wire)
        self._streams.labels(*stream, record.outcome, record.error or "").inc()
        self._stream.labels(*stream).observe(record.duration)
        if record.time_to_first_output is not None:
            self._first_output.labels(*stream).observe(record.time_to_first_output)
        for retry in record.retries:
            self._retries.labels(record.provider, retry.what, retry.error).inc()
        if record.token_usage is not None:
            self._count_tokens(record.token_usage, record.provider, record.model)

    def _count_tokens(self, usage: TokenUsage, provider: str, model: str) -> None:
        self._input.labels(provider, model).inc(usage.input_tokens)
        self._cached.labels(provider, model).inc(usage.cached_input_tokens)
        self._output.labels(provider, model).inc(usage.output_tokens)
        self._reasoning.labels(provider, model).inc(usage.reasoning_output_tokens)


class _Waits:
    """The series of one wire's waits."""

    def __init__(self, wait: Histogram, events: Counter, wire: Literal["sse", "websocket"]) -> None:
        self._wait: dict[PollOutcome, Histogram] = {
            outcome: wait.labels(wire, outcome) for outcome in get_args(PollOutcome)
        }
        self._events = events.labels(wire)

    def count(self, outcome: PollOutcome, duration: float, events: int) -> None:
        self._wait[outcome].observe(duration)
        if events:
            self._events.inc(events)
