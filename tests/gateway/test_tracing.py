"""Traces: the caller's span, the answer's, and one for each upstream that was asked."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import NoOpTracerProvider, ProxyTracerProvider, SpanKind, StatusCode, format_span_id

from tests.gateway.asking import FORMS, Form, Told, ask
from tests.gateway.serving import MODEL, ServedGateway, answered, serving, upstream_at
from turnwire.client import TURN_STATE_HEADER
from turnwire.event import TokenUsage
from turnwire.gateway import account, tracing
from turnwire.gateway.affinity import conversation_of
from turnwire.gateway.routing import order
from turnwire.testing import (
    CutCleanly,
    DropBeforeHead,
    ErrorEvent,
    Fault,
    RecordedRequest,
    ResetAfter,
    ScriptedServer,
    Stall,
    Status,
    Turn,
    WrongType,
)

pytestmark = pytest.mark.usefixtures("nothing_left")

SECRET = "horse-battery"
TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"
TRACEPARENT = {"traceparent": f"00-{TRACE}-{PARENT}-01", "tracestate": "vendor=1"}
USAGE = TokenUsage(9, 4, 2, 1, 11)
FIRST, SECOND = order(conversation_of({"prompt_cache_key": "k"}, {}), {"a": 1.0, "b": 1.0})
MEASURED = "gen_ai.response.time_to_first_chunk"


@pytest.fixture
def spans(monkeypatch: Any) -> Iterator[InMemorySpanExporter]:
    """What is exported while the gateway finds a provider that is set up."""
    provider = TracerProvider()
    exporter = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(tracing, "get_tracer_provider", lambda: provider)
    yield exporter
    provider.shutdown()


async def ask_whole(gateway: ServedGateway, form: Form, **fields: Any) -> Told:
    counted = {"stream_options": {"include_usage": True}} if form == "chat" else {}
    return await ask(gateway, form, **counted, **fields)


def named(span: ReadableSpan) -> str:
    assert span.context is not None
    return format_span_id(span.context.span_id)


def parent(span: ReadableSpan) -> str | None:
    return None if span.parent is None else format_span_id(span.parent.span_id)


def sent(request: RecordedRequest) -> list[str]:
    """The parts of the ``traceparent`` that an upstream got."""
    return request.headers["traceparent"].split("-")


def outcome(span: ReadableSpan) -> tuple[Any, ...]:
    """Which upstream an attempt asked, how that ended, and with which error."""
    attributes = span.attributes or {}
    return tuple(attributes.get(name) for name in ("gen_ai.provider.name", "turnwire.outcome", "error.type"))


@pytest.mark.parametrize("form", FORMS)
async def test_an_answer_is_a_span_of_the_callers_trace_and_the_upstream_gets_one_below(
    form: Form, spans: InMemorySpanExporter
) -> None:
    async with (
        ScriptedServer([Turn(text=f"{SECRET}-answer", usage=USAGE)], models=["own"]) as upstream,
        serving(upstream_at(upstream.base_url, name="gpu", model="own")) as gateway,
    ):
        await ask_whole(gateway, form, headers=TRACEPARENT)
        (request,) = answered(upstream)
        base_url = upstream.base_url
    attempt, answer = spans.get_finished_spans()
    assert [(span.name, span.kind, span.status.status_code) for span in (answer, attempt)] == [
        (f"chat {MODEL}", SpanKind.SERVER, StatusCode.UNSET),
        ("chat own", SpanKind.CLIENT, StatusCode.UNSET),
    ]
    assert [parent(answer), parent(attempt)] == [PARENT, named(answer)]
    assert sent(request) == ["00", TRACE, named(attempt), "01"]
    assert request.headers["tracestate"] == "vendor=1"
    told: list[dict[str, Any]] = [dict(span.attributes or {}) for span in (answer, attempt)]
    for attributes in told:
        first_output = attributes.pop(MEASURED, None)
        assert (first_output is None) == form.endswith("whole")
    assert told[0].pop("turnwire.request_id").startswith("req_")
    usage = {
        "gen_ai.usage.input_tokens": 9,
        "gen_ai.usage.cache_read.input_tokens": 4,
        "gen_ai.usage.output_tokens": 2,
        "gen_ai.usage.reasoning.output_tokens": 1,
    }
    assert told == [
        {
            "gen_ai.operation.name": "chat",
            "gen_ai.request.model": MODEL,
            "gen_ai.request.stream": not form.endswith("whole"),
            "turnwire.api": form.removesuffix(" whole"),
            "turnwire.caller": "local",
            "turnwire.outcome": "completed",
            "turnwire.attempts": 1,
            **usage,
        },
        {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "gpu",
            "gen_ai.request.model": "own",
            "server.address": "127.0.0.1",
            "server.port": urlsplit(base_url).port,
            "turnwire.outcome": "completed",
            **usage,
        },
    ]


@pytest.mark.parametrize("traceparent", [{}, {"traceparent": "nonsense"}])
async def test_a_caller_without_a_trace_begins_one(traceparent: dict[str, str], spans: InMemorySpanExporter) -> None:
    async with ScriptedServer([Turn(text="hi")], models=[MODEL]) as upstream, serving(upstream.base_url) as gateway:
        await ask(gateway, "responses", headers=traceparent)
        (request,) = answered(upstream)
    attempt, answer = spans.get_finished_spans()
    assert [parent(answer), parent(attempt)] == [None, named(answer)]
    assert sent(request)[2] == named(attempt)


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Status(503), "ServerOverloaded"),
        (DropBeforeHead(), "Disconnected"),
        (ResetAfter(0), "Disconnected"),
        (CutCleanly(0), "StreamError"),
        (WrongType(), "ProtocolError"),
        (ErrorEvent(after=0), "RetryableError"),
        (Stall(0), "IdleTimeout"),
    ],
)
async def test_each_upstream_that_was_asked_has_a_span_of_its_own(
    fault: Fault, error: str, spans: InMemorySpanExporter
) -> None:
    async with (
        ScriptedServer([Turn(fault=fault)], models=[MODEL]) as first,
        ScriptedServer([Turn(text="hi")], models=[MODEL]) as second,
        serving(
            upstream_at(first.base_url, name=FIRST, idle_timeout=0.05), upstream_at(second.base_url, name=SECOND)
        ) as gateway,
    ):
        await ask(gateway, "responses", prompt_cache_key="k", headers=TRACEPARENT)
        requests = [*answered(first), *answered(second)]
    failed, attempt, answer = spans.get_finished_spans()
    assert [(span.status.status_code, *outcome(span)) for span in (failed, attempt)] == [
        (StatusCode.ERROR, FIRST, "failed", error),
        (StatusCode.UNSET, SECOND, "completed", None),
    ]
    assert [sent(request)[2] for request in requests] == [named(failed), named(attempt)]
    assert answer.status.status_code == StatusCode.UNSET
    assert (answer.attributes or {})["turnwire.attempts"] == 2


async def test_an_attempt_at_an_upstream_that_was_left_out_meanwhile_says_that_it_was_given_up(
    spans: InMemorySpanExporter,
) -> None:
    async with (
        ScriptedServer([Turn(fault=Stall(0)), *[Turn(fault=Status(500))] * 3], models=[MODEL]) as first,
        ScriptedServer([Turn(text="hi")] * 4, models=[MODEL]) as second,
        serving(upstream_at(first.base_url, name=FIRST), upstream_at(second.base_url, name=SECOND)) as gateway,
    ):
        waiting = asyncio.create_task(ask(gateway, "responses", prompt_cache_key="k"))
        while not answered(first):  # noqa: ASYNC110 - the server says so to nobody
            await asyncio.sleep(0.01)
        for _ in range(3):
            await ask(gateway, "responses", prompt_cache_key="k")
        assert (await waiting).text == "hi"
    attempts = [outcome(span) for span in spans.get_finished_spans() if span.kind == SpanKind.CLIENT]
    assert Counter(attempts) == {
        (FIRST, "failed", "Disconnected"): 1,
        (FIRST, "failed", "HttpStatusError"): 3,
        (SECOND, "completed", None): 4,
    }


@pytest.mark.parametrize(("status", "error"), [(400, "InvalidPrompt"), (503, "ServerOverloaded")])
async def test_an_answer_that_failed_says_what_with(status: int, error: str, spans: InMemorySpanExporter) -> None:
    async with (
        ScriptedServer([Turn(fault=Status(status, f"{SECRET}-echo"))], models=[MODEL]) as upstream,
        serving(upstream.base_url) as gateway,
    ):
        await ask(gateway, "responses")
    finished = spans.get_finished_spans()
    assert [(span.status.status_code, (span.attributes or {})["error.type"]) for span in finished] == [
        (StatusCode.ERROR, error)
    ] * 2


async def test_where_no_upstream_has_room_there_is_no_attempt(spans: InMemorySpanExporter) -> None:
    async with (
        ScriptedServer([Turn(text="hi", fault=Stall())], models=[MODEL]) as upstream,
        serving(upstream_at(upstream.base_url, max_concurrency=1), queue_length=0) as gateway,
    ):
        waiting = asyncio.create_task(ask(gateway, "responses"))
        while not answered(upstream):  # noqa: ASYNC110 - the server says so to nobody
            await asyncio.sleep(0.01)
        assert (await ask(gateway, "responses")).status == 503
        (answer,) = spans.get_finished_spans()
        waiting.cancel()
        await asyncio.wait((waiting,))
    assert (answer.kind, (answer.attributes or {})["turnwire.attempts"]) == (SpanKind.SERVER, 0)
    outcomes = [(span.attributes or {})["turnwire.outcome"] for span in spans.get_finished_spans()]
    assert outcomes == ["failed", "left", "left"]


async def test_no_prompt_key_or_token_stands_in_a_span(spans: InMemorySpanExporter) -> None:
    turns = [Turn(text=f"{SECRET}-answer", token=f"{SECRET}-theirs"), Turn(fault=Status(400, f"{SECRET}-echo"))]
    async with (
        ScriptedServer(turns * len(FORMS), models=[MODEL]) as upstream,
        serving(upstream.base_url) as gateway,
    ):
        for form in FORMS:
            field = "messages" if form.startswith("chat") else "input"
            for _ in turns:
                headers = {
                    "authorization": f"Bearer {SECRET}-key",
                    TURN_STATE_HEADER: f"{SECRET}-forged",
                    "baggage": f"prompt={SECRET}",
                }
                await ask(gateway, form, headers=headers, **{field: [{"role": "user", "content": f"{SECRET}-prompt"}]})
        assert not any("baggage" in request.headers for request in answered(upstream))
    finished = spans.get_finished_spans()
    assert len(finished) == 2 * len(turns) * len(FORMS)
    assert not any(SECRET in span.to_json() for span in finished)


async def test_a_trace_that_is_not_sampled_goes_on_to_the_upstream_as_one(monkeypatch: Any) -> None:
    provider = TracerProvider(sampler=ALWAYS_OFF)
    monkeypatch.setattr(tracing, "get_tracer_provider", lambda: provider)
    async with ScriptedServer([Turn(text="hi")], models=[MODEL]) as upstream, serving(upstream.base_url) as gateway:
        await ask(gateway, "responses", headers=TRACEPARENT)
        (request,) = answered(upstream)
    assert [sent(request)[1], sent(request)[3]] == [TRACE, "00"]
    provider.shutdown()


@pytest.mark.parametrize("provider", [ProxyTracerProvider(), NoOpTracerProvider(), None])
async def test_without_a_provider_the_callers_own_goes_through_as_it_is(provider: Any, monkeypatch: Any) -> None:
    if provider is None:
        monkeypatch.delitem(sys.modules, tracing.__name__)
        monkeypatch.setitem(sys.modules, "opentelemetry.trace", None)
    else:
        monkeypatch.setattr(tracing, "get_tracer_provider", lambda: provider)
    assert account.configured_tracing() is None
    async with ScriptedServer([Turn(text="hi")], models=[MODEL]) as upstream, serving(upstream.base_url) as gateway:
        await ask(gateway, "responses", headers=TRACEPARENT)
        (request,) = answered(upstream)
    assert {name: request.headers[name] for name in TRACEPARENT} == TRACEPARENT


def test_another_package_that_is_missing_is_no_reason_to_go_without(monkeypatch: Any) -> None:
    monkeypatch.delitem(sys.modules, tracing.__name__)
    monkeypatch.setitem(sys.modules, "turnwire.gateway.catalog", None)
    with pytest.raises(ModuleNotFoundError):
        account.configured_tracing()
