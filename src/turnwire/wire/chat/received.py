"""Chat Completions requests as clients send them: the body of one as a `Prompt`, for an upstream that speaks Responses.

An upstream that speaks Chat Completions itself takes such a body as it is, with all that its vendor added to the API;
here only what a Responses request has a place for can go along. The rest is named, unless it says nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

from msgspec import Struct

from turnwire.errors import InvalidPrompt
from turnwire.prompt import Prompt
from turnwire.wire.chat.received_message import ReceivedHistory
from turnwire.wire.received_object import checked

__all__ = ["ChatRequestBody", "ReceivedChatRequest", "decode_chat_request"]

_Json: TypeAlias = dict[str, Any]


class ReceivedChatRequest(Struct, frozen=True):
    """What a client of the Chat Completions API asks for."""

    model: str
    prompt: Prompt
    """``extra`` has what goes into a Responses request as it is."""
    fields: Mapping[str, Any]
    """The request's JSON object as it came."""
    stream: bool = False
    include_usage: bool = False
    """Whether a stream shall tell its usage; a whole answer always does."""
    legacy_calls: bool = False
    """Whether the client knows calls as ``function_call`` alone: it declared ``functions`` and no ``tools``."""
    dropped: tuple[str, ...] = ()
    """What the prompt has no place for, in a few words each."""


class _StreamOptions(Struct):
    include_usage: bool | None = None


class _Shared(Struct):
    """What both APIs know under one name."""

    top_p: float | None = None
    user: str | None = None
    safety_identifier: str | None = None
    metadata: dict[str, str] | None = None
    moderation: _Json | None = None
    prompt_cache_options: _Json | None = None
    prompt_cache_retention: str | None = None


class ChatRequestBody(_Shared, kw_only=True):
    """The fields that have a place in a prompt, in the types that the API gives them; null is as good as absent."""

    model: str
    messages: list[_Json]
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    n: int | None = None
    tools: list[_Json] | None = None
    tool_choice: str | _Json | None = None
    parallel_tool_calls: bool | None = None
    functions: list[_Json] | None = None
    function_call: str | _Json | None = None
    response_format: _Json | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    temperature: float | None = None
    reasoning: _Json | None = None
    reasoning_effort: str | None = None
    verbosity: str | None = None
    prompt_cache_key: str | None = None
    service_tier: str | None = None
    store: bool | None = None


_NO_PLACE: Mapping[str, Any] = {
    "audio": None,
    "frequency_penalty": 0,
    "logit_bias": {},
    "logprobs": False,
    "modalities": ["text"],
    "prediction": None,
    "presence_penalty": 0,
    "seed": None,
    "stop": [],
    "top_logprobs": 0,
    "web_search_options": None,
}
"""The API's other fields, and the value of each that asks for nothing: SDKs and frameworks write those out."""

_REASONING_KEYS = frozenset(("effort", "summary"))


def decode_chat_request(fields: Mapping[str, Any]) -> ReceivedChatRequest:
    """The request that a JSON object stands for.

    Raises `InvalidPrompt`, in a sentence that names the field, for a value of the wrong type, for a message that
    makes no sense, and for ``n`` other than 1: a Responses server gives one answer, and giving one where several were
    asked for would be worse than none.
    """
    request = checked(fields, ChatRequestBody)
    if not request.messages:
        raise InvalidPrompt("messages is empty; expected at least one message")
    if request.n not in (None, 1):
        raise InvalidPrompt(
            f"n is {request.n}; this model gives one answer to a request, so leave n out or set it to 1"
        )
    dropped = list(_dropped(fields, request))
    history = ReceivedHistory(dropped)
    for message in request.messages:
        history.add(message)
    legacy_calls = bool(request.functions) and not request.tools
    bound = request.max_tokens if request.max_completion_tokens is None else request.max_completion_tokens
    prompt = Prompt(
        history.items,
        tools=[*(request.tools or ()), *({"type": "function", "function": one} for one in request.functions or ())],
        tool_choice=_tool_choice(request),
        parallel_tool_calls=False if legacy_calls else request.parallel_tool_calls,
        reasoning=_reasoning(request),
        max_output_tokens=bound,
        temperature=request.temperature,
        extra=_extra(request),
        output_schema=_output_schema(request.response_format, dropped),
        verbosity=request.verbosity,
        prompt_cache_key=request.prompt_cache_key,
        store=request.store,
        include=(),  # reasoning in its encrypted form has no place in a chat message
        service_tier=request.service_tier,
    )
    return ReceivedChatRequest(
        model=request.model,
        prompt=prompt,
        fields=fields,
        stream=bool(request.stream),
        include_usage=request.stream_options is not None and bool(request.stream_options.include_usage),
        legacy_calls=legacy_calls,
        dropped=tuple(dict.fromkeys(dropped)),
    )


def _dropped(fields: Mapping[str, Any], request: ChatRequestBody) -> Iterator[str]:
    for name, value in fields.items():
        if name in ChatRequestBody.__struct_fields__ or value is None or value == _NO_PLACE.get(name):
            continue
        yield name if name in _NO_PLACE else f"parameter {name!r}"
    for key, value in (request.reasoning or {}).items():
        if key not in _REASONING_KEYS and value is not None:
            yield f"parameter {'reasoning.' + key!r}"


def _tool_choice(request: ChatRequestBody) -> str | _Json | None:
    """The choice among tools, or else among functions, which name theirs without saying that it is one."""
    if request.tool_choice is None and isinstance(request.function_call, dict):
        return {"type": "function", "function": request.function_call}
    return request.function_call if request.tool_choice is None else request.tool_choice


def _reasoning(request: ChatRequestBody) -> _Json | None:
    """The effort, in OpenAI's field or in OpenRouter's object, of which the Responses API knows a part."""
    reasoning = {key: value for key, value in (request.reasoning or {}).items() if key in _REASONING_KEYS}
    if request.reasoning_effort is not None:
        reasoning["effort"] = request.reasoning_effort
    return reasoning or None


def _extra(request: ChatRequestBody) -> _Json:
    """What both APIs know under one name."""
    return {name: value for name in _Shared.__struct_fields__ if (value := getattr(request, name)) is not None}


def _output_schema(response_format: _Json | None, dropped: list[str]) -> _Json | None:
    """The form that the answer shall have, as the Responses API's own object."""
    match response_format:
        case None | {"type": "text"}:
            return None
        case {"type": "json_object"}:
            return {"type": "json_object"}
        case {"type": "json_schema", "json_schema": {"name": str(), "schema": Mapping()} as schema}:
            given = {key: value for key, value in schema.items() if value is not None}
            return {"type": "json_schema", "strict": False, **given}
        case {"type": "json_schema"}:
            raise InvalidPrompt("response_format.json_schema is not whole; expected an object with a name and a schema")
        case {"type": kind}:
            dropped.append(f"response_format of type {kind!r}")
            return None
        case _:
            raise InvalidPrompt("response_format has no type; expected text, json_object or json_schema")
