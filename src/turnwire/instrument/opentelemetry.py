"""OpenTelemetry: a span and the client metrics for each answer, by the GenAI semantic conventions.

Names and bucket boundaries are those of the conventions' version 1.41 (``gen-ai-spans.md``, ``gen-ai-metrics.md``);
what they have no name for stands under ``turnwire.``. Prompts, answers, keys and tokens appear nowhere.
"""

from __future__ import annotations

from importlib.metadata import version
from time import time_ns
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from turnwire.event import TokenUsage
from turnwire.instrument import missing_package
from turnwire.telemetry import StreamRecord, StreamTelemetry

try:
    from opentelemetry.metrics import Histogram, Meter, MeterProvider, get_meter
    from opentelemetry.trace import SpanKind, StatusCode, TracerProvider, get_tracer
except ModuleNotFoundError as error:
    raise missing_package(error, "opentelemetry") from None

if TYPE_CHECKING:
    from opentelemetry.util.types import AttributeValue

__all__ = ["OpenTelemetryHooks", "usage_attributes"]

_OPERATION = "chat"
"""What the conventions call it over Chat Completions and Responses alike."""
_PROVIDERS = {"azure": "azure.ai.openai", "gemini": "gcp.gemini", "mistral": "mistral_ai"}
"""Presets that the conventions know by another name."""
_SECONDS = [0.01 * 2**exponent for exponent in range(14)]
_TOKENS = [4**exponent for exponent in range(14)]


class OpenTelemetryHooks(StreamTelemetry):
    """Give it to a client as ``stream_telemetry``.

    Each answer becomes a span ``chat {model}``, a child of the span that was current when its first request went out,
    with an event ``turnwire.retry`` for each failure on the way. The metrics are ``gen_ai.client.operation.duration``,
    ``gen_ai.client.operation.time_to_first_chunk`` (up to the answer's first event) and ``gen_ai.client.token.usage``.

    Without providers the global ones are used, which do nothing until an SDK is set up.
    """

    def __init__(
        self, *, tracer_provider: TracerProvider | None = None, meter_provider: MeterProvider | None = None
    ) -> None:
        self._tracer = get_tracer("turnwire", version("turnwire"), tracer_provider)
        meter = get_meter("turnwire", version("turnwire"), meter_provider)
        self._duration = _seconds(meter, "gen_ai.client.operation.duration", "GenAI operation duration.")
        self._time_to_first_chunk = _seconds(
            meter,
            "gen_ai.client.operation.time_to_first_chunk",
            "Time from the request to the first chunk of the answer.",
        )
        self._tokens = meter.create_histogram(
            "gen_ai.client.token.usage",
            "{token}",
            "Number of input and output tokens used.",
            explicit_bucket_boundaries_advisory=_TOKENS,
        )

    def on_stream(self, record: StreamRecord, /) -> None:
        """A stream is over: writes its span, which began ``duration`` ago, and its metrics."""
        common = _common_attributes(record)
        error = {} if record.error is None else {"error.type": record.error}
        self._write_span(record, {**common, **error, **_span_attributes(record)})
        self._duration.record(record.duration, {**common, **error})
        if record.time_to_first_output is not None:
            self._time_to_first_chunk.record(record.time_to_first_output, common)
        if record.token_usage is not None:
            self._tokens.record(record.token_usage.input_tokens, {**common, "gen_ai.token.type": "input"})
            self._tokens.record(record.token_usage.output_tokens, {**common, "gen_ai.token.type": "output"})

    def _write_span(self, record: StreamRecord, attributes: dict[str, AttributeValue]) -> None:
        end = time_ns()
        start = end - _nanoseconds(record.duration)
        # All attributes are there from the beginning, so that a sampler can decide by any of them.
        span = self._tracer.start_span(
            f"{_OPERATION} {record.model}", kind=SpanKind.CLIENT, attributes=attributes, start_time=start
        )
        for retry in record.retries:
            span.add_event(
                "turnwire.retry",
                {"turnwire.retry.what": retry.what, "turnwire.retry.delay": retry.delay, "error.type": retry.error},
                start + _nanoseconds(retry.at),
            )
        if record.outcome == "failed":
            span.set_status(StatusCode.ERROR)
        span.end(end)


def _seconds(meter: Meter, name: str, description: str) -> Histogram:
    return meter.create_histogram(name, "s", description, explicit_bucket_boundaries_advisory=_SECONDS)


def _common_attributes(record: StreamRecord) -> dict[str, AttributeValue]:
    """What spans and metrics have in common."""
    address = urlsplit(record.base_url)
    return {
        "gen_ai.operation.name": _OPERATION,
        "gen_ai.provider.name": _PROVIDERS.get(record.provider, record.provider),
        "gen_ai.request.model": record.model,
        "server.address": address.hostname or "",
        "server.port": address.port or (443 if address.scheme == "https" else 80),
    }


def usage_attributes(usage: TokenUsage) -> dict[str, AttributeValue]:
    """Token counts, by OpenTelemetry's names for them."""
    return {
        "gen_ai.usage.input_tokens": usage.input_tokens,
        "gen_ai.usage.cache_read.input_tokens": usage.cached_input_tokens,
        "gen_ai.usage.output_tokens": usage.output_tokens,
        "gen_ai.usage.reasoning.output_tokens": usage.reasoning_output_tokens,
    }


def _span_attributes(record: StreamRecord) -> dict[str, AttributeValue]:
    """What would give a metric too many series."""
    attributes: dict[str, AttributeValue] = {
        "gen_ai.request.stream": True,
        "turnwire.wire": record.wire,
        "turnwire.outcome": record.outcome,
        "turnwire.retries": len(record.retries),
    }
    if record.response_id:
        attributes["gen_ai.response.id"] = record.response_id
    if record.finish_reason is not None:
        attributes["gen_ai.response.finish_reasons"] = (record.finish_reason,)
    if record.incomplete_reason is not None:
        attributes["turnwire.incomplete_reason"] = record.incomplete_reason
    if record.time_to_first_output is not None:
        attributes["gen_ai.response.time_to_first_chunk"] = record.time_to_first_output
    usage = record.token_usage
    if usage is not None:
        attributes |= usage_attributes(usage)
    return attributes


def _nanoseconds(seconds: float) -> int:
    return round(seconds * 1_000_000_000)
