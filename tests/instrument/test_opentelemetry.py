"""What becomes of a stream's record in OpenTelemetry: whole spans, whole metrics."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from tests.instrument.records import ABANDONED, COMPLETED, FAILED, INCOMPLETE
from turnwire.instrument.opentelemetry import OpenTelemetryHooks
from turnwire.telemetry import StreamRecord

_MISTRAL = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "mistral_ai",
    "gen_ai.request.model": "large",
    "server.address": "api.mistral.ai",
    "server.port": 443,
}
_OPENAI = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "small",
    "server.address": "api.openai.com",
    "server.port": 443,
}
_MINE = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "mine",
    "gen_ai.request.model": "small",
    "server.address": "10.0.0.5",
    "server.port": 8000,
}
_SECONDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
_TOKENS = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864)


class Collected:
    """Hooks, and what the SDK holds of what they were told."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.reader = InMemoryMetricReader()
        self.tracer_provider = TracerProvider()
        self.tracer_provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.meter_provider = MeterProvider([self.reader])
        self.hooks = OpenTelemetryHooks(tracer_provider=self.tracer_provider, meter_provider=self.meter_provider)

    def close(self) -> None:
        self.tracer_provider.shutdown()
        self.meter_provider.shutdown()

    def span(self) -> ReadableSpan:
        (span,) = self.exporter.get_finished_spans()
        return span

    def points(self) -> Iterator[tuple[str, str, HistogramDataPoint]]:
        """All points, each with the name and the unit of its metric."""
        data = self.reader.get_metrics_data()
        for resource in () if data is None else data.resource_metrics:
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    for point in metric.data.data_points:
                        assert isinstance(point, HistogramDataPoint)
                        yield metric.name, metric.unit, point

    def sums(self) -> list[tuple[str, dict[str, Any], float]]:
        """All points but for how they fell into buckets."""
        return [(name, dict(point.attributes or {}), point.sum) for name, _, point in self.points()]


@pytest.fixture
def collected() -> Iterator[Collected]:
    collected = Collected()
    yield collected
    collected.close()


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (
            COMPLETED,
            {
                **_MISTRAL,
                "gen_ai.request.stream": True,
                "gen_ai.response.id": "chatcmpl-1",
                "gen_ai.response.finish_reasons": ("stop",),
                "gen_ai.response.time_to_first_chunk": 3.0,
                "gen_ai.usage.input_tokens": 100,
                "gen_ai.usage.cache_read.input_tokens": 60,
                "gen_ai.usage.output_tokens": 20,
                "gen_ai.usage.reasoning.output_tokens": 5,
                "turnwire.wire": "chat",
                "turnwire.outcome": "completed",
                "turnwire.retries": 2,
            },
        ),
        (
            INCOMPLETE,
            {
                **_OPENAI,
                "gen_ai.request.stream": True,
                "gen_ai.response.id": "resp_1",
                "gen_ai.response.finish_reasons": ("incomplete",),
                "gen_ai.response.time_to_first_chunk": 1.0,
                "gen_ai.usage.input_tokens": 10,
                "gen_ai.usage.cache_read.input_tokens": 0,
                "gen_ai.usage.output_tokens": 8,
                "gen_ai.usage.reasoning.output_tokens": 0,
                "turnwire.incomplete_reason": "max_output_tokens",
                "turnwire.wire": "responses",
                "turnwire.outcome": "incomplete",
                "turnwire.retries": 0,
            },
        ),
        (
            FAILED,
            {
                **_MINE,
                "error.type": "RateLimited",
                "gen_ai.request.stream": True,
                "turnwire.wire": "websocket",
                "turnwire.outcome": "failed",
                "turnwire.retries": 0,
            },
        ),
        (
            ABANDONED,
            {
                **_MINE,
                "server.address": "::1",
                "server.port": 80,
                "gen_ai.request.stream": True,
                "gen_ai.response.time_to_first_chunk": 0.5,
                "turnwire.wire": "chat",
                "turnwire.outcome": "abandoned",
                "turnwire.retries": 0,
            },
        ),
    ],
    ids=lambda value: value.outcome if isinstance(value, StreamRecord) else "",
)
def test_a_stream_becomes_a_span(collected: Collected, record: StreamRecord, expected: dict[str, Any]) -> None:
    collected.hooks.on_stream(record)
    span = collected.span()
    assert span.attributes is not None
    assert dict(span.attributes) == expected
    assert (span.name, span.kind) == (f"chat {record.model}", SpanKind.CLIENT)
    assert span.status.status_code is (StatusCode.ERROR if record.outcome == "failed" else StatusCode.UNSET)
    assert span.start_time is not None
    assert span.end_time is not None
    assert span.end_time - span.start_time == record.duration * 1_000_000_000


def test_a_retry_is_an_event_at_its_own_time(collected: Collected) -> None:
    collected.hooks.on_stream(COMPLETED)
    span = collected.span()
    assert span.start_time is not None
    events = [(event.name, dict(event.attributes or {}), event.timestamp - span.start_time) for event in span.events]
    assert events == [
        (
            "turnwire.retry",
            {"turnwire.retry.what": "request", "turnwire.retry.delay": 0.25, "error.type": "ServerOverloaded"},
            500_000_000,
        ),
        (
            "turnwire.retry",
            {"turnwire.retry.what": "stream", "turnwire.retry.delay": 0.5, "error.type": "Disconnected"},
            1_000_000_000,
        ),
    ]


def test_a_span_is_the_child_of_the_one_that_is_current(collected: Collected) -> None:
    with collected.tracer_provider.get_tracer("agent").start_as_current_span("turn") as turn:
        collected.hooks.on_stream(COMPLETED)
    child, _ = collected.exporter.get_finished_spans()
    assert child.parent == turn.get_span_context()


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (
            COMPLETED,
            [
                ("gen_ai.client.operation.duration", _MISTRAL, 4.0),
                ("gen_ai.client.operation.time_to_first_chunk", _MISTRAL, 3.0),
                ("gen_ai.client.token.usage", {**_MISTRAL, "gen_ai.token.type": "input"}, 100),
                ("gen_ai.client.token.usage", {**_MISTRAL, "gen_ai.token.type": "output"}, 20),
            ],
        ),
        (FAILED, [("gen_ai.client.operation.duration", {**_MINE, "error.type": "RateLimited"}, 0.5)]),
    ],
    ids=["completed", "failed"],
)
def test_a_stream_counts_in_the_metrics(
    collected: Collected, record: StreamRecord, expected: list[tuple[str, dict[str, Any], float]]
) -> None:
    collected.hooks.on_stream(record)
    assert collected.sums() == expected


def test_the_metrics_have_the_units_and_boundaries_of_the_conventions(collected: Collected) -> None:
    collected.hooks.on_stream(COMPLETED)
    shapes = {name: (unit, point.explicit_bounds) for name, unit, point in collected.points()}
    assert shapes == {
        "gen_ai.client.operation.duration": ("s", _SECONDS),
        "gen_ai.client.operation.time_to_first_chunk": ("s", _SECONDS),
        "gen_ai.client.token.usage": ("{token}", _TOKENS),
    }


def test_without_an_sdk_nothing_happens() -> None:
    OpenTelemetryHooks().on_stream(COMPLETED)
