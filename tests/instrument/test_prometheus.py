"""What becomes of the records in a Prometheus registry: all samples that are not zero, buckets aside."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import pytest
from prometheus_client import CollectorRegistry

from tests.client.hearing import HELLO, hear, impatient
from tests.instrument.records import ABANDONED, COMPLETED, FAILED, INCOMPLETE
from turnwire import ModelClient, ServerOverloaded
from turnwire.instrument.prometheus import PrometheusHooks
from turnwire.telemetry import RequestRecord, SsePollRecord, WebsocketConnectRecord, WebsocketPollRecord
from turnwire.testing import ScriptedServer, Status, Turn

Samples: TypeAlias = Mapping[str, float]
"""Values by sample, written as Prometheus does: ``name{label="value",…}``."""


def samples(registry: CollectorRegistry) -> Samples:
    """What was counted; buckets, times of creation and series that were only prepared are left out."""
    return {
        _written(sample.name, sample.labels): sample.value
        for metric in registry.collect()
        for sample in metric.samples
        if sample.value and not sample.name.endswith(("_bucket", "_created"))
    }


def _written(name: str, labels: Mapping[str, str]) -> str:
    inner = ",".join(f'{label}="{value}"' for label, value in labels.items())
    return f"{name}{{{inner}}}"


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.mark.parametrize(
    ("tell", "expected"),
    [
        (
            lambda hooks: hooks.on_request(RequestRecord("mine", "http://server/v1/x", 0, 0.5, 200)),
            {
                'turnwire_requests_total{provider="mine",status="200",error=""}': 1,
                'turnwire_request_seconds_count{provider="mine"}': 1,
                'turnwire_request_seconds_sum{provider="mine"}': 0.5,
            },
        ),
        (
            lambda hooks: hooks.on_request(
                RequestRecord("mine", "http://server/v1/x", 0, 0.25, 503, "ServerOverloaded", 0.2)
            ),
            {
                'turnwire_requests_total{provider="mine",status="503",error="ServerOverloaded"}': 1,
                'turnwire_request_seconds_count{provider="mine"}': 1,
                'turnwire_request_seconds_sum{provider="mine"}': 0.25,
            },
        ),
        (
            lambda hooks: hooks.on_request(RequestRecord("mine", "http://server/v1/x", 4, 0.5, error="ConnectError")),
            {
                'turnwire_requests_total{provider="mine",status="",error="ConnectError"}': 1,
                'turnwire_request_seconds_count{provider="mine"}': 1,
                'turnwire_request_seconds_sum{provider="mine"}': 0.5,
            },
        ),
        (
            lambda hooks: hooks.on_sse_poll(SsePollRecord("events", 0.5, 3)),
            {
                'turnwire_events_total{wire="sse"}': 3,
                'turnwire_wait_seconds_count{wire="sse",outcome="events"}': 1,
                'turnwire_wait_seconds_sum{wire="sse",outcome="events"}': 0.5,
            },
        ),
        (
            lambda hooks: hooks.on_websocket_poll(WebsocketPollRecord("idle_timeout", 256.0)),
            {
                'turnwire_wait_seconds_count{wire="websocket",outcome="idle_timeout"}': 1,
                'turnwire_wait_seconds_sum{wire="websocket",outcome="idle_timeout"}': 256.0,
            },
        ),
        (
            lambda hooks: hooks.on_websocket_connect(WebsocketConnectRecord("mine", "http://server/v1/x", 0, 0.5)),
            {
                'turnwire_websocket_connects_total{provider="mine",error=""}': 1,
                'turnwire_websocket_connect_seconds_count{provider="mine"}': 1,
                'turnwire_websocket_connect_seconds_sum{provider="mine"}': 0.5,
            },
        ),
        (
            lambda hooks: hooks.on_stream(COMPLETED),
            {
                'turnwire_streams_total{provider="mistral",model="large",wire="chat",outcome="completed",error=""}': 1,
                'turnwire_stream_seconds_count{provider="mistral",model="large",wire="chat"}': 1,
                'turnwire_stream_seconds_sum{provider="mistral",model="large",wire="chat"}': 4.0,
                'turnwire_time_to_first_output_seconds_count{provider="mistral",model="large",wire="chat"}': 1,
                'turnwire_time_to_first_output_seconds_sum{provider="mistral",model="large",wire="chat"}': 3.0,
                'turnwire_retries_total{provider="mistral",what="request",error="ServerOverloaded"}': 1,
                'turnwire_retries_total{provider="mistral",what="stream",error="Disconnected"}': 1,
                'turnwire_input_tokens_total{provider="mistral",model="large"}': 100,
                'turnwire_cached_input_tokens_total{provider="mistral",model="large"}': 60,
                'turnwire_output_tokens_total{provider="mistral",model="large"}': 20,
                'turnwire_reasoning_output_tokens_total{provider="mistral",model="large"}': 5,
            },
        ),
        (
            lambda hooks: hooks.on_stream(FAILED),
            {
                'turnwire_streams_total{provider="mine",model="small",wire="websocket",outcome="failed",'
                'error="RateLimited"}': 1,
                'turnwire_stream_seconds_count{provider="mine",model="small",wire="websocket"}': 1,
                'turnwire_stream_seconds_sum{provider="mine",model="small",wire="websocket"}': 0.5,
            },
        ),
    ],
    ids=[
        "a request",
        "a refused request",
        "an unanswered request",
        "a wait",
        "a wait on a WebSocket",
        "a handshake",
        "a stream",
        "a failed stream",
    ],
)
def test_a_record_is_counted(
    registry: CollectorRegistry, tell: Callable[[PrometheusHooks], None], expected: Samples
) -> None:
    tell(PrometheusHooks(registry))
    assert samples(registry) == expected


def test_streams_add_up_by_their_outcome(registry: CollectorRegistry) -> None:
    hooks = PrometheusHooks(registry)
    for record in (COMPLETED, INCOMPLETE, ABANDONED, FAILED, FAILED):
        hooks.on_stream(record)
    counted = {name: value for name, value in samples(registry).items() if name.startswith("turnwire_streams_total")}
    assert counted == {
        'turnwire_streams_total{provider="mistral",model="large",wire="chat",outcome="completed",error=""}': 1,
        'turnwire_streams_total{provider="openai",model="small",wire="responses",outcome="incomplete",error=""}': 1,
        'turnwire_streams_total{provider="mine",model="small",wire="chat",outcome="abandoned",error=""}': 1,
        'turnwire_streams_total{provider="mine",model="small",wire="websocket",outcome="failed",'
        'error="RateLimited"}': 2,
    }


async def test_a_client_s_requests_and_waits_are_counted(registry: CollectorRegistry, nothing_left: None) -> None:
    hooks = PrometheusHooks(registry)
    async with (
        ScriptedServer([Turn(fault=Status(503)), HELLO]) as server,
        ModelClient(impatient(server.base_url), request_telemetry=hooks, sse_telemetry=hooks) as client,
    ):
        refused = await hear(client.new_session().stream("Hello"))
        heard = await hear(client.new_session().stream("Hello"))
    assert type(refused.error) is ServerOverloaded
    assert heard.error is None
    counted = samples(registry)
    assert {name: value for name, value in counted.items() if name.startswith("turnwire_requests_total")} == {
        'turnwire_requests_total{provider="scripted",status="503",error="ServerOverloaded"}': 1,
        'turnwire_requests_total{provider="scripted",status="200",error=""}': 1,
    }
    assert counted['turnwire_events_total{wire="sse"}'] == len(heard.events)
