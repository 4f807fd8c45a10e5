"""Responses requests: a `Prompt` as the body of an HTTP request or as a WebSocket frame."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from msgspec import Struct

from turnwire.item import OtherItem, Reasoning, ResponseItem
from turnwire.prompt import Prompt
from turnwire.wire.prompt_json import prompt_json
from turnwire.wire.responses.item_form import has_fitting_id, item_fields
from turnwire.wire.responses.tool import encode_choice, encode_tool

__all__ = ["ResponsesRequest", "encode_response_request"]

_Json: TypeAlias = dict[str, Any]

_ENCRYPTED_REASONING = "reasoning.encrypted_content"


class ResponsesRequest(Struct, frozen=True):
    """A request, ready to be sent one way or the other; equal prompts give equal bytes."""

    fields: Mapping[str, Any]
    """The body, without ``stream``, which only HTTP knows."""
    stream: bool = True

    @property
    def body(self) -> bytes:
        """JSON for an HTTP request. `InvalidPrompt` for values that JSON can't hold."""
        return prompt_json({"stream": self.stream, **self.fields})

    @property
    def frame(self) -> str:
        """JSON for a WebSocket message. `InvalidPrompt` for values that JSON can't hold."""
        fields = {key: value for key, value in self.fields.items() if key != "stream"}
        return prompt_json({"type": "response.create", **fields}).decode()


def encode_response_request(
    prompt: Prompt,
    *,
    model: str,
    stream: bool = True,
    store: bool = False,
    previous_response_id: str | None = None,
    generate: bool | None = None,
    client_metadata: Mapping[str, str] = {},
) -> ResponsesRequest:
    """The request that asks ``model`` for an answer to ``prompt``.

    ``store`` is what the server needs where the prompt leaves it open: Azure finds the items of earlier answers by
    their ids, in its store. Where nothing is stored, only ids that a Responses server gave are sent, and with a
    prompt that asks for reasoning, the reasoning is asked for in its encrypted form, so that it can be sent back.

    ``previous_response_id`` names the response that the prompt's items go on from. ``generate=False`` has a WebSocket
    server read the prompt and answer nothing. ``client_metadata`` is added to the prompt's and outranks it.

    Raises `InvalidPrompt` for a tool definition or a tool choice that makes no sense.
    """
    stores = store if prompt.store is None else prompt.store
    tools = [encode_tool(definition) for definition in prompt.tools]
    optional = {
        "previous_response_id": previous_response_id,
        "generate": generate,
        "instructions": prompt.instructions or None,
        "tools": tools or None,
        "tool_choice": None if prompt.tool_choice is None else encode_choice(prompt.tool_choice, tools),
        "parallel_tool_calls": prompt.parallel_tool_calls,
        "reasoning": _present(prompt.reasoning or {}) or None,
        "text": _text(prompt) or None,
        "max_output_tokens": prompt.max_output_tokens,
        "temperature": prompt.temperature,
        "include": _include(prompt, stores=stores) or None,
        "prompt_cache_key": prompt.prompt_cache_key,
        "service_tier": prompt.service_tier,
        "client_metadata": {**prompt.client_metadata, **client_metadata} or None,
    }
    return ResponsesRequest(
        {
            "model": model,
            "input": [_input(item, stores=stores) for item in prompt.items],
            "store": stores,
            **_present(optional),
            **prompt.extra,
        },
        stream,
    )


def _input(item: ResponseItem, *, stores: bool) -> _Json:
    """An item as the API takes it back."""
    fields = item_fields(item)
    if isinstance(item, OtherItem):
        return fields
    if not fields.get("id") or not (stores or has_fitting_id(fields)):
        fields.pop("id", None)
    if isinstance(item, Reasoning):
        fields = _present(fields)
    return fields


def _text(prompt: Prompt) -> _Json:
    text: _Json = {}
    match prompt.output_schema:
        case None:
            pass
        case {"type": "json_schema" | "json_object"}:
            text["format"] = prompt.output_schema
        case schema:
            text["format"] = {"type": "json_schema", "name": "output_schema", "strict": True, "schema": schema}
    if prompt.verbosity is not None:
        text["verbosity"] = prompt.verbosity
    return text


def _include(prompt: Prompt, *, stores: bool) -> list[str]:
    if prompt.include is not None:
        return list(prompt.include)
    return [_ENCRYPTED_REASONING] if prompt.reasoning and not stores else []


def _present(fields: Mapping[str, Any]) -> _Json:
    return {key: value for key, value in fields.items() if value is not None}
