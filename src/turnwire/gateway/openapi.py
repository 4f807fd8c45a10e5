"""The gateway's description in OpenAPI 3.1, as it stands at ``/openapi.json``.

The schemas of requests are made of the records that requests are checked against, so that neither says more than the
other: what is known has its type, and what is not known is taken all the same. Answers are those of OpenAI's two
APIs, and described there.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any, Literal, TypeAlias

import msgspec

from turnwire.wire.chat.received import ChatRequestBody
from turnwire.wire.responses.received import RequestBody

__all__ = ["DESCRIPTION"]

_Json: TypeAlias = dict[str, Any]
_Method: TypeAlias = Literal["get", "post", "delete"]

_JSON = "application/json"
_EVENTS = "text/event-stream"
_REFERENCE = "#/components/schemas/{name}"
_OBJECT: _Json = {"type": "object"}

_REFUSALS = {
    400: "It can't be answered, however often it is asked: what is wrong stands in the error.",
    401: "A caller's key is missing, or is not known.",
    404: "There is nothing of that name.",
    408: "The request's body did not come in time.",
    426: "A request goes here by POST, or over a WebSocket.",
    429: "The upstream, or the gateway, has had enough for now: Retry-After says until when.",
    502: "The upstream can't be reached, or failed on the request.",
    503: "Nobody can answer right now: Retry-After says until when.",
    504: "The upstream said nothing for too long.",
}
_OF_ALL = (401,)
_OF_BODIES = (400, 401, 408)
_OF_UPSTREAMS = (*_OF_BODIES, 429, 502, 503, 504)


def _parameter(name: str, place: Literal["path", "query"], schema: _Json, description: str = "") -> _Json:
    about = {"description": description} if description else {}
    return {"name": name, "in": place, "required": place == "path", "schema": schema, **about}


_TEXT: _Json = {"type": "string"}
_RESPONSE_ID = _parameter("response_id", "path", _TEXT)
_MODEL = _parameter("model", "path", _TEXT, "May have slashes.")
_RESUMED = (
    _parameter("stream", "query", {"enum": ["true", "false"]}, "The response's events, instead of the response."),
    _parameter(
        "starting_after", "query", {"type": "integer", "minimum": 0}, "The sequence number behind which events begin."
    ),
)
_PAGED = (
    _parameter("limit", "query", {"type": "integer", "minimum": 1, "maximum": 100, "default": 20}),
    _parameter("order", "query", {"enum": ["asc", "desc"], "default": "desc"}),
    _parameter("after", "query", _TEXT, "The id of the item behind which the page begins."),
)


def _request_schemas() -> dict[str, _Json]:
    """The two APIs' requests, by the names under which they stand among the components."""
    (responses, chat), found = msgspec.json.schema_components((RequestBody, ChatRequestBody), ref_template=_REFERENCE)
    renamed = {responses["$ref"]: "ResponsesRequest", chat["$ref"]: "ChatRequest"}
    schemas = {}
    for name, schema in found.items():
        schema.pop("title", None)
        schemas[renamed.get(_REFERENCE.format(name=name), name.lstrip("_"))] = _relinked(schema)
    # Their record has a default for all, so that its own sentences can tell what is missing.
    schemas["ResponsesRequest"]["required"] = ["model", "input"]
    schemas["ChatRequest"]["properties"]["messages"]["minItems"] = 1
    return schemas


def _relinked(schema: Any) -> Any:
    """A schema whose references have no underscore."""
    if isinstance(schema, dict):
        return {key: _relinked(value) for key, value in schema.items()}
    if isinstance(schema, list):
        return [_relinked(value) for value in schema]
    return schema.replace("/_", "/") if isinstance(schema, str) and schema.startswith("#/") else schema


_ERROR: _Json = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}


def _operation(
    summary: str,
    refusals: tuple[int, ...],
    *kinds: str,
    body: str | None = None,
    parameters: tuple[_Json, ...] = (),
    public: bool = False,
) -> _Json:
    """One operation; ``kinds`` are the media types of its answer, and ``body`` is the schema of its request."""
    answers = {"200": _answer(*kinds), **{str(status): _refusal(status) for status in refusals}}
    operation: _Json = {"summary": summary, "responses": answers}
    if parameters:
        operation["parameters"] = list(parameters)
    if body is not None:
        schema = {"$ref": _REFERENCE.format(name=body)}
        operation["requestBody"] = {"required": True, "content": {_JSON: {"schema": schema}}}
    if public:
        operation["security"] = []
    return operation


def _answer(*kinds: str) -> _Json:
    content = {kind: {"schema": _OBJECT if kind == _JSON else _TEXT} for kind in kinds}
    return {"description": "The answer.", "content": content}


def _refusal(status: int) -> _Json:
    """A refusal; what may pass says when."""
    refused: _Json = {
        "description": _REFUSALS[status],
        "content": {_JSON: {"schema": {"$ref": _REFERENCE.format(name="Error")}}},
    }
    if status in (429, 502, 503, 504):
        retry_after = {"description": "Seconds.", "schema": {"type": "integer", "minimum": 1}}
        refused["headers"] = {"Retry-After": retry_after}
    return refused


_PATHS: Mapping[str, Mapping[_Method, _Json]] = {
    "/v1/responses": {
        "post": _operation(
            "Answers a request of the Responses API.", (*_OF_UPSTREAMS, 404), _JSON, _EVENTS, body="ResponsesRequest"
        ),
        "get": {
            "summary": "Opens a WebSocket for any number of requests, one after the other.",
            "responses": {
                "101": {"description": "Each message is a request, with the type response.create."},
                **{str(status): _refusal(status) for status in (*_OF_ALL, 426)},
            },
        },
    },
    "/v1/responses/compact": {
        "post": _operation("Folds a conversation into less.", (*_OF_UPSTREAMS, 404), _JSON, body="ResponsesRequest")
    },
    "/v1/responses/input_tokens": {
        "post": _operation("Counts the tokens of a request.", (*_OF_UPSTREAMS, 404), _JSON, body="ResponsesRequest")
    },
    "/v1/responses/{response_id}": {
        "get": _operation(
            "A response that was kept.", (400, 401, 404), _JSON, _EVENTS, parameters=(_RESPONSE_ID, *_RESUMED)
        ),
        "delete": _operation("Forgets a response.", (401, 404), _JSON, parameters=(_RESPONSE_ID,)),
    },
    "/v1/responses/{response_id}/input_items": {
        "get": _operation(
            "The input of a response that was kept.", (400, 401, 404), _JSON, parameters=(_RESPONSE_ID, *_PAGED)
        )
    },
    "/v1/responses/{response_id}/cancel": {
        "post": _operation(
            "Ends a response that is made in the background.", (400, 401, 404), _JSON, parameters=(_RESPONSE_ID,)
        )
    },
    "/v1/chat/completions": {
        "post": _operation(
            "Answers a request of the Chat Completions API.", _OF_UPSTREAMS, _JSON, _EVENTS, body="ChatRequest"
        )
    },
    "/v1/models": {"get": _operation("The models that are served.", _OF_ALL, _JSON)},
    "/v1/models/{model}": {"get": _operation("A model that is served.", (401, 404), _JSON, parameters=(_MODEL,))},
    "/metrics": {"get": _operation("What the gateway counts, for Prometheus.", _OF_ALL, "text/plain")},
    "/healthz": {"get": _operation("Whether the gateway runs.", (), _JSON, public=True)},
    "/readyz": {
        "get": {
            "summary": "Whether requests can be answered.",
            "responses": {"200": _answer(_JSON), "503": {"description": "Not now."}},
            "security": [],
        }
    },
    "/openapi.json": {"get": _operation("This description.", (), _JSON, public=True)},
}

DESCRIPTION: Mapping[str, Any] = {
    "openapi": "3.1.0",
    "info": {
        "title": "turnwire gateway",
        "version": version("turnwire"),
        "description": "The Responses and the Chat Completions API in front of servers that speak either.",
    },
    "paths": _PATHS,
    "components": {
        "schemas": {**_request_schemas(), "Error": _ERROR},
        "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
    },
    # Where no caller has a key, none is needed.
    "security": [{"key": []}, {}],
}
"""The document, ready to be encoded."""
