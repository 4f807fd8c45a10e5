"""The adapters as hooks of a client, against a server that fails once."""

from __future__ import annotations

import asyncio

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry, generate_latest

from tests.client.hearing import hear, impatient
from turnwire import ModelClient, TokenUsage
from turnwire.instrument.opentelemetry import OpenTelemetryHooks
from turnwire.instrument.prometheus import PrometheusHooks
from turnwire.testing import ScriptedServer, Status, Turn

pytestmark = pytest.mark.usefixtures("nothing_left")

_SECRETS = ("sesame", "replica-7", "rain today", "umbrella")
ANSWER = Turn(text="umbrella", usage=TokenUsage(100, 60, 20, 0, 120))


@pytest.fixture
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asyncio.sleep", lambda _, sleep=asyncio.sleep: sleep(0))


@pytest.mark.usefixtures("_no_pause")
async def test_a_retried_answer_is_one_span_within_the_caller_s() -> None:
    exporter = InMemorySpanExporter()
    tracers = TracerProvider()
    tracers.add_span_processor(SimpleSpanProcessor(exporter))
    hooks = OpenTelemetryHooks(tracer_provider=tracers)
    async with ScriptedServer([Turn(fault=Status(503)), ANSWER], token="replica-7") as server:
        provider = impatient(server.base_url, request_max_retries=1, api_key="sesame")
        async with ModelClient(provider, stream_telemetry=hooks) as client:
            with tracers.get_tracer("agent").start_as_current_span("turn"):
                stream = client.new_session().stream("rain today")
                await anext(stream)
            await hear(stream)  # its parent is the span in which it began, over as it may be
    turn, chat = exporter.get_finished_spans()
    assert (chat.name, chat.parent) == ("chat scripted", turn.get_span_context())
    assert chat.attributes is not None
    assert chat.attributes["gen_ai.usage.cache_read.input_tokens"] == 60
    assert [event.attributes and event.attributes["error.type"] for event in chat.events] == ["ServerOverloaded"]
    assert not [secret for secret in _SECRETS if secret in chat.to_json()]
    tracers.shutdown()


@pytest.mark.usefixtures("_no_pause")
async def test_a_retried_answer_is_counted_with_its_requests_and_tokens() -> None:
    registry = CollectorRegistry()
    hooks = PrometheusHooks(registry)
    async with ScriptedServer([Turn(fault=Status(503)), ANSWER], token="replica-7") as server:
        provider = impatient(server.base_url, request_max_retries=1, api_key="sesame")
        async with ModelClient(
            provider, request_telemetry=hooks, sse_telemetry=hooks, stream_telemetry=hooks
        ) as client:
            await hear(client.new_session().stream("rain today"))
    page = generate_latest(registry).decode()
    for line in (
        'turnwire_requests_total{error="ServerOverloaded",provider="scripted",status="503"} 1.0',
        'turnwire_requests_total{error="",provider="scripted",status="200"} 1.0',
        'turnwire_retries_total{error="ServerOverloaded",provider="scripted",what="request"} 1.0',
        'turnwire_streams_total{error="",model="scripted",outcome="completed",provider="scripted",wire="chat"} 1.0',
        'turnwire_cached_input_tokens_total{model="scripted",provider="scripted"} 60.0',
    ):
        assert line in page
    assert not [secret for secret in _SECRETS if secret in page]
