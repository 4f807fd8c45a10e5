"""Writing Responses streams in tests: an encoder, the events that it is given, and what readers make of the result."""

import json
from typing import Any

import openresponses_types.types as open_responses
from hypothesis import strategies as st
from openai import omit
from openai._models import construct_type
from openai.lib.streaming.responses._responses import ResponseStreamState
from openai.types.responses import ResponseStreamEvent
from pydantic import TypeAdapter

from turnwire.event import (
    Completed,
    OutputItemAdded,
    OutputItemDone,
    OutputTextDelta,
    ReasoningContentDelta,
    ReasoningSummaryDelta,
    ReasoningSummaryPartAdded,
    TokenUsage,
    ToolCallArgumentsDelta,
)
from turnwire.item import (
    CustomToolCall,
    FunctionCall,
    Message,
    OutputText,
    Reasoning,
    ReasoningText,
    Refusal,
    SummaryText,
)
from turnwire.wire.responses import ResponsesEncoder

USAGE = TokenUsage(20, 16, 5, 2, 25)


def encoder(**options: Any) -> ResponsesEncoder:
    return ResponsesEncoder(**{"response_id": "resp_7", "model": "m", "clock": lambda: 1700000000.9, **options})


def _event_models() -> dict[str, Any]:
    """By the type of event, the model that the specification's package has for it."""
    models = {}
    for model in vars(open_responses).values():
        if isinstance(model, type) and model.__name__.endswith("StreamingEvent"):
            (kind,) = list(model.model_fields["type"].annotation)
            models[str(kind)] = TypeAdapter(model)
    # The specification's names, for what OpenAI and everybody who speaks to it call otherwise.
    return models | {
        "response.reasoning_text.delta": models["response.reasoning.delta"],
        "response.reasoning_text.done": models["response.reasoning.done"],
    }


EVENT_MODELS = _event_models()
NOT_SPECIFIED = {"keepalive", "response.metadata"}


def validate_events(payloads: list[Any]) -> None:
    """Against the package of the Open Responses specification, which has no custom tools."""
    for payload in payloads:
        kind = payload["type"]
        if kind not in NOT_SPECIFIED:
            model = EVENT_MODELS[kind]
            fields = {**payload, "type": kind.replace("reasoning_text", "reasoning")}
            model.validate_python(json.loads(json.dumps(fields)))


def validate_response(response: Any) -> None:
    open_responses.ResponseResource.model_validate(response)


def accumulate(payloads: list[Any]) -> Any:
    """What the openai SDK's own stream makes of the events: its final response."""
    state: Any = ResponseStreamState(input_tools=[], text_format=omit)
    for payload in payloads:
        state.handle_event(construct_type(type_=ResponseStreamEvent, value=payload))
    return state._completed_response


def message_events(*deltas: str, item_id: str | None = None, refusal: str = "") -> list[Any]:
    parts: list[Any] = [OutputText(delta) for delta in deltas]
    parts += [Refusal(refusal)] if refusal else []
    return [
        OutputItemAdded(Message("assistant", (), id=item_id)),
        *map(OutputTextDelta, deltas),
        OutputItemDone(Message("assistant", parts, id=item_id)),
    ]


def reasoning_events(*deltas: str, summary: tuple[str, ...] = (), item_id: str = "") -> list[Any]:
    summaries = [
        event
        for index, text in enumerate(summary)
        for event in (ReasoningSummaryPartAdded(index), ReasoningSummaryDelta(text, index))
    ]
    content = [ReasoningText(delta) for delta in deltas]
    return [
        OutputItemAdded(Reasoning(id=item_id)),
        *summaries,
        *(ReasoningContentDelta(delta, index) for index, delta in enumerate(deltas)),
        OutputItemDone(Reasoning(id=item_id, summary=list(map(SummaryText, summary)), content=content)),
    ]


def call_events(call_id: str, *deltas: str, custom: bool = False) -> list[Any]:
    if custom:
        begun: Any = CustomToolCall("patch", "", call_id)
        whole: Any = CustomToolCall("patch", "".join(deltas), call_id)
    else:
        begun, whole = FunctionCall("f", "", call_id), FunctionCall("f", "".join(deltas), call_id)
    return [
        OutputItemAdded(begun),
        *(ToolCallArgumentsDelta(call_id, delta) for delta in deltas),
        OutputItemDone(whole),
    ]


_texts = st.text(min_size=1, max_size=6)
_deltas = st.lists(_texts, max_size=3)
_usages = st.none() | st.builds(TokenUsage, *[st.integers(0, 9)] * 4, st.integers(1, 20))
completions = st.builds(
    Completed, st.just("x"), _usages, st.just("stop"), st.none() | st.sampled_from(["max_output_tokens", "why"])
)


@st.composite
def answers(draw: Any) -> list[Any]:
    """The events of an answer, as decoders give them: of each kind one item grows at a time, calls among each other."""
    threads = []
    for place in range(draw(st.integers(0, 4))):
        kind = draw(st.sampled_from(["message", "reasoning", "call", "custom"]))
        deltas = draw(_deltas)
        if kind == "message":
            threads.append((kind, message_events(*deltas, refusal=draw(st.sampled_from(["", "no"])))))
        elif kind == "reasoning":
            threads.append((kind, reasoning_events(*deltas, summary=tuple(draw(_deltas)))))
        else:
            threads.append((f"call {place}", call_events(f"c{place}", *deltas, custom=kind == "custom")))
    if draw(st.booleans()):
        # Only what is whole, as from a server that leaves all else out.
        threads = [(kind, events[-1:]) for kind, events in threads]
    events = []
    while threads:
        free = [
            threads[place]
            for place in range(len(threads))
            if threads[place][0] not in {kind for kind, _ in threads[:place]}
        ]
        thread = draw(st.sampled_from(free))
        events.append(thread[1].pop(0))
        threads = [one for one in threads if one[1]]
    return [*events, draw(completions)]
