"""OpenTelemetry: a span for each answer, in its caller's trace, and below it one for each upstream that was asked.

::

    the caller's span
      chat qwen3 (server)            the request, from its beginning to its end at the gateway
        chat qwen3-8b (client)       one attempt at an upstream, which gets this span's ``traceparent``
        chat qwen3-8b (client)       the next one, where that failed

Names are those of the GenAI semantic conventions' version 1.41, as in `turnwire.instrument.opentelemetry`. Prompts,
answers, keys and tokens appear nowhere. Only the API package is needed; a provider comes from whoever runs the gateway.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from time import time_ns
from urllib.parse import urlsplit

from opentelemetry.trace import (
    NoOpTracerProvider,
    ProxyTracerProvider,
    Span,
    SpanKind,
    StatusCode,
    Tracer,
    TracerProvider,
    get_tracer_provider,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

from turnwire.event import TokenUsage
from turnwire.gateway.catalog import Served
from turnwire.instrument.opentelemetry import usage_attributes

__all__ = ["AnswerTrace", "Tracing"]

_OPERATION = "chat"
"""What the conventions call it over Chat Completions and Responses alike."""

_propagator = TraceContextTextMapPropagator()
"""W3C trace context, whatever else the environment asks for: a caller's baggage is not the upstream's to see."""


class Tracing:
    """Traces the answers of one process."""

    def __init__(self, provider: TracerProvider) -> None:
        self._tracer = provider.get_tracer("turnwire", version("turnwire"))

    @classmethod
    def configured(cls) -> Tracing | None:
        """Tracing by the global provider; None where that is none, and would do nothing at some cost."""
        provider = get_tracer_provider()
        return None if isinstance(provider, ProxyTracerProvider | NoOpTracerProvider) else cls(provider)

    def begin(
        self, headers: Mapping[str, str], *, request_id: str, caller: str, api: str, model: str, streams: bool
    ) -> AnswerTrace:
        """A request's span, below the one that its ``traceparent`` names; header names in lower case."""
        span = self._tracer.start_span(
            f"{_OPERATION} {model}",
            _propagator.extract(headers),
            kind=SpanKind.SERVER,
            # All that is known is there from the beginning, so that a sampler can decide by any of it.
            attributes={
                "gen_ai.operation.name": _OPERATION,
                "gen_ai.request.model": model,
                "gen_ai.request.stream": streams,
                "turnwire.api": api,
                "turnwire.caller": caller,
                "turnwire.request_id": request_id,
            },
        )
        return AnswerTrace(self._tracer, span)


class AnswerTrace:
    """The spans of one answer: `ask` for each attempt, and `over` once."""

    def __init__(self, tracer: Tracer, span: Span) -> None:
        self._tracer = tracer
        self._span = span
        self._attempt: Span | None = None
        self._given_up_at: int | None = None
        self._given_up_with: str | None = None

    def ask(self, served: Served) -> Mapping[str, str]:
        """An attempt begins, in place of the last: the headers that carry its span to the upstream."""
        self._end_attempt("failed", self._given_up_with, {})
        provider = served.upstream.provider
        address = urlsplit(provider.base_url)
        context = set_span_in_context(self._span)
        self._attempt = self._tracer.start_span(
            f"{_OPERATION} {served.model}",
            context,
            kind=SpanKind.CLIENT,
            attributes={
                "gen_ai.operation.name": _OPERATION,
                "gen_ai.provider.name": served.upstream.name,
                "gen_ai.request.model": served.model,
                "server.address": address.hostname or "",
                "server.port": address.port or (443 if address.scheme == "https" else 80),
            },
        )
        headers: dict[str, str] = {}
        _propagator.inject(headers, set_span_in_context(self._attempt, context))
        return headers

    def give_up(self, error: str) -> None:
        """The attempt is over, and another one is looked for; ``error`` is the class of what went wrong."""
        self._given_up_at = time_ns()
        self._given_up_with = error

    def over(
        self, end: str, *, error: str | None, attempts: int, first_output_after: float | None, usage: TokenUsage | None
    ) -> None:
        """The answer is over, and its last attempt with it."""
        result = _result(first_output_after, usage)
        self._end_attempt(end, error, result)
        _end(self._span, end, error, {**result, "turnwire.attempts": attempts})

    def _end_attempt(self, end: str, error: str | None, attributes: Mapping[str, AttributeValue]) -> None:
        if self._attempt is not None:
            _end(self._attempt, end, error, attributes, self._given_up_at)
            self._attempt = self._given_up_at = self._given_up_with = None


def _end(
    span: Span, end: str, error: str | None, attributes: Mapping[str, AttributeValue], at: int | None = None
) -> None:
    """Ends a span, now or at a time in nanoseconds."""
    span.set_attributes({**attributes, "turnwire.outcome": end})
    if error is not None:
        span.set_attribute("error.type", error)
    if end == "failed":
        span.set_status(StatusCode.ERROR)
    span.end(at)


def _result(first_output_after: float | None, usage: TokenUsage | None) -> dict[str, AttributeValue]:
    """What an answer was."""
    attributes: dict[str, AttributeValue] = {}
    if first_output_after is not None:
        attributes["gen_ai.response.time_to_first_chunk"] = first_output_after
    if usage is not None:
        attributes |= usage_attributes(usage)
    return attributes
