"""Responses requests as a server gets them: the JSON object of a body or a frame, read into a `Prompt`.

A prompt holds what a model is asked. What a server does about an answer besides, such as keeping it, streaming it and
going on from it, stands beside the prompt, for whoever does it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal, TypeAlias, cast, get_args

from msgspec import Struct, to_builtins

from turnwire.errors import InvalidPrompt
from turnwire.item import OtherItem, ResponseItem, decode_item
from turnwire.prompt import Prompt
from turnwire.wire.received_object import checked

__all__ = ["ReceivedRequest", "RequestBody", "decode_response_request"]

_Json: TypeAlias = dict[str, Any]

_ENCRYPTED_REASONING = "reasoning.encrypted_content"
_PLAIN_NAME = "output_schema"
"""The name of a schema that its author gave none: what `encode_response_request` calls it."""

_ITEM_KINDS: Mapping[str, type[Struct]] = {
    cast(str, kind.__struct_config__.tag): kind for kind in get_args(ResponseItem) if kind is not OtherItem
}


class _Format(Struct):
    type: Literal["text", "json_object", "json_schema"]
    name: str | None = None
    schema: _Json | None = None
    strict: bool | None = None
    description: str | None = None


class _Text(Struct):
    format: _Format | None = None
    verbosity: str | None = None


class _Sampling(Struct):
    """What both APIs know under one name; the lower half is no OpenAI server's, but that of many others."""

    top_p: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    user: str | None = None

    logit_bias: _Json | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    top_k: int | None = None


class RequestBody(_Sampling):
    """A request's fields, each null where it is absent."""

    model: str | None = None
    input: str | list[_Json] | None = None
    instructions: str | None = None
    tools: list[_Json] | None = None
    tool_choice: str | _Json | None = None
    parallel_tool_calls: bool | None = None
    text: _Text | None = None
    reasoning: _Json | None = None
    max_output_tokens: int | None = None
    temperature: float | None = None
    service_tier: str | None = None

    # For the server, not for the model.
    background: bool | None = None
    client_metadata: dict[str, str] | None = None
    generate: bool | None = None
    include: list[str] | None = None
    metadata: _Json | None = None
    previous_response_id: str | None = None
    prompt_cache_key: str | None = None
    store: bool | None = None
    stream: bool | None = None
    stream_options: _Json | None = None
    type: str | None = None

    # For nobody here, but for what is nothing to lose, such as ``truncation: disabled``.
    conversation: Any = None
    max_tool_calls: int | None = None
    prompt: Any = None
    prompt_cache_retention: str | None = None
    safety_identifier: str | None = None
    top_logprobs: int | None = None
    truncation: Literal["auto", "disabled"] | None = None


_NO_PLACE = ("conversation", "max_tool_calls", "prompt", "prompt_cache_retention", "safety_identifier", "top_logprobs")


class ReceivedRequest(Struct, frozen=True):
    """A request that makes sense, with what is asked of the model apart from what is asked of the server."""

    model: str
    prompt: Prompt
    """Without ``prompt_cache_key``, ``client_metadata``, ``store`` and ``include``, which are below."""
    fields: Mapping[str, Any]
    """The request as it came, checked: what a `ResponseObject` repeats."""
    stream: bool = False
    store: bool = True
    background: bool = False
    generate: bool = True
    """False where the prompt shall be read and nothing answered, over WebSocket."""
    previous_response_id: str | None = None
    prompt_cache_key: str | None = None
    client_metadata: Mapping[str, str] = {}
    include: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    """What neither the prompt nor this record has a place for, in a few words each."""


def decode_response_request(fields: Mapping[str, Any]) -> ReceivedRequest:
    """The request that a JSON object stands for: the inverse of `encode_response_request`.

    A null counts as absent, a short message without a type as a message. ``previous_response_id`` is not followed:
    ``input`` is taken for the whole conversation.

    Raises `InvalidPrompt`, in a sentence that names the field, for a value of the wrong type, for a request without
    ``model`` or ``input``, and for an item that is not in the API's form or is only referred to.
    """
    body = checked(fields, RequestBody)
    if not body.model:
        raise InvalidPrompt("model is missing; expected the name of a model")
    if body.input is None:
        raise InvalidPrompt("input is missing; expected a text or a list of items")
    text = body.text or _Text()
    prompt = Prompt(
        body.input if isinstance(body.input, str) else [_item(item, place) for place, item in enumerate(body.input)],
        instructions=body.instructions,
        tools=body.tools or (),
        tool_choice=body.tool_choice,
        parallel_tool_calls=body.parallel_tool_calls,
        output_schema=None if text.format is None else _output_schema(text.format),
        reasoning=body.reasoning or None,
        max_output_tokens=body.max_output_tokens,
        temperature=body.temperature,
        extra={name: value for name in _Sampling.__struct_fields__ if (value := getattr(body, name)) is not None},
        verbosity=text.verbosity,
        # What a server does anyway is nothing to tell it.
        service_tier=None if body.service_tier in ("auto", "default") else body.service_tier,
    )
    return ReceivedRequest(
        body.model,
        prompt,
        fields,
        stream=bool(body.stream),
        store=body.store is not False,
        background=bool(body.background),
        generate=body.generate is not False,
        previous_response_id=body.previous_response_id or None,
        prompt_cache_key=body.prompt_cache_key or None,
        client_metadata=body.client_metadata or {},
        include=tuple(body.include or ()),
        dropped=tuple(dict.fromkeys(_dropped(fields, body))),
    )


def _item(fields: _Json, place: int) -> ResponseItem:
    """One item of the input; of a known kind it must have the form, but for parts, such as files, that are unknown."""
    where = f"input[{place}]"
    kind = fields.get("type")
    if kind == "item_reference" or (kind is None and "role" not in fields and "id" in fields):
        raise InvalidPrompt(
            f"{where} refers to the item {fields.get('id')!r}; expected the item itself: "
            "send it whole, or go on from its response with previous_response_id"
        )
    if kind is None and "role" not in fields:
        raise InvalidPrompt(f"{where} has neither a type nor a role; expected an item, or a message with a role")
    item = decode_item(fields)
    if isinstance(item, OtherItem) and (known := _ITEM_KINDS.get("message" if kind is None else str(kind))) is not None:
        rest = {key: value for key, value in fields.items() if key != "extra"}
        for key in ("content", "output"):
            if isinstance(rest.get(key), str | list):
                rest[key] = []
        checked({**rest, "type": known.__struct_config__.tag}, known, where)
    return item


def _output_schema(form: _Format) -> Mapping[str, Any] | None:
    """The form that the answer shall have, as `Prompt.output_schema` has it: a bare schema, or the API's own object."""
    match form.type:
        case "text":
            return None
        case "json_object":
            return {"type": "json_object"}
    if form.name is None or form.schema is None:
        raise InvalidPrompt("text.format is a json_schema without a name or a schema; expected both")
    if form.name == _PLAIN_NAME and form.strict and form.description is None:
        return form.schema
    return {key: value for key, value in to_builtins(form).items() if value is not None}


def _dropped(fields: Mapping[str, Any], body: RequestBody) -> Iterator[str]:
    yield from (name for name in _NO_PLACE if getattr(body, name))
    if body.truncation == "auto":
        yield "truncation"
    for name in body.include or ():
        if name != _ENCRYPTED_REASONING:
            yield f"include {name!r}"
    for name, value in fields.items():
        if name not in RequestBody.__struct_fields__ and value not in (None, False, [], {}):
            yield f"parameter {name!r}"
    for name, value in (fields.get("text") or {}).items():
        if name not in _Text.__struct_fields__ and value is not None:
            yield f"parameter {'text.' + name!r}"
