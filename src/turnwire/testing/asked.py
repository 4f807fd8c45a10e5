"""A Responses request as the server understands it: what decides the answer, and what the model is given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import msgspec
from msgspec import Struct

from turnwire.testing.answer import Answer, error_answer
from turnwire.testing.frame import FrameAnswer, error_frame

__all__ = ["AskedResponse", "Memory", "Refusal", "read_asked"]

_Items: TypeAlias = Sequence[Any]

# fmt: off
_KNOWN = frozenset((
    "background", "client_metadata", "context_management", "conversation", "frequency_penalty", "include", "input",
    "instructions", "max_output_tokens", "max_tool_calls", "metadata", "model", "parallel_tool_calls",
    "presence_penalty", "previous_response_id", "prompt", "prompt_cache_key", "prompt_cache_options",
    "prompt_cache_retention", "reasoning", "safety_identifier", "service_tier", "store", "stream", "stream_options",
    "temperature", "text", "tool_choice", "tools", "top_logprobs", "top_p", "truncation", "user",
))
"""The fields of a request in OpenAI's API, and ``client_metadata``, which is Codex's."""
# fmt: on
_KNOWN_FRAME = _KNOWN | {"type", "generate"}


class Refusal(Exception):
    """A request that gets no turn; ``foreseen`` where the server was set up to refuse it."""

    def __init__(self, status: int, message: str, *, code: str | None = None, foreseen: bool = False) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.foreseen = foreseen

    @property
    def answer(self) -> Answer:
        """It over HTTP."""
        return error_answer(self.status, self.message, kind=self._kind, code=self.code)

    @property
    def frame_answer(self) -> FrameAnswer:
        """It over WebSocket."""
        frame = error_frame(self.message, kind=self._kind, code=self.code, status=self.status)
        return FrameAnswer(frames=(frame,))

    @property
    def _kind(self) -> str:
        return "server_error" if self.status >= 500 else "invalid_request_error"


class AskedResponse(Struct, frozen=True):
    """The request's body, checked as far as the answer depends on it."""

    fields: Mapping[str, Any]

    @property
    def model(self) -> str:
        """The model's name."""
        return str(self.fields.get("model") or "scripted")

    @property
    def items(self) -> _Items:
        """The request's own input; a bare string stands for one user message."""
        given = self.fields.get("input") or ()
        if isinstance(given, str):
            return ({"type": "message", "role": "user", "content": [{"type": "input_text", "text": given}]},)
        return tuple(given)

    @property
    def previous_response_id(self) -> str | None:
        """The response that it goes on from."""
        return self.fields.get("previous_response_id") or None

    @property
    def streamed(self) -> bool:
        """Whether an HTTP request wants a stream."""
        return self.fields.get("stream") is True

    @property
    def warms_up(self) -> bool:
        """Whether the input is to be read and nothing to be answered."""
        return self.fields.get("generate") is False

    @property
    def stores(self) -> bool:
        """Whether the response is to be had again over any connection, as the API does where nothing is said."""
        return self.fields.get("store") is not False


class Memory:
    """Input and output by response id: one for what is stored, and one for each WebSocket connection on top of it."""

    def __init__(self, stored: Memory | None = None) -> None:
        self._stored = stored
        self._known: dict[str, _Items] = {}

    def whole_input(self, asked: AskedResponse) -> _Items:
        """What the model is given; `Refusal` where the response to go on from is not known."""
        previous = asked.previous_response_id
        if previous is None:
            return asked.items
        before = self._find(previous)
        if before is None:
            raise Refusal(
                400,
                f"the previous response {previous!r} is not found",
                code="previous_response_not_found",
                foreseen=True,
            )
        return (*before, *asked.items)

    def remember(self, response_id: str, items: _Items, *, stored: bool) -> None:
        """A response that is complete, with all that led to it."""
        if stored and self._stored is not None:
            self._stored.remember(response_id, items, stored=False)
        self._known[response_id] = items

    def forget(self, response_id: str | None) -> None:
        """What a failed continuation went on from, if anything; where it is stored, it can be had from there again."""
        if response_id is not None:
            self._known.pop(response_id, None)

    def _find(self, response_id: str) -> _Items | None:
        found = self._known.get(response_id)
        return self._stored._find(response_id) if found is None and self._stored is not None else found


def read_asked(body: bytes, *, framed: bool, strict: bool) -> AskedResponse:
    """The request that a body or a WebSocket message holds; `Refusal` where it is none.

    A strict server insists on OpenAI's fields, and on a message's ``type``.
    """
    try:
        fields = msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Refusal(400, f"the request is not one of Responses: {error}") from None
    given = fields.get("input")
    if given is not None and not isinstance(given, str | list):
        raise Refusal(400, f"input is {given!r}; expected a string or a list of items")
    if framed and (strict or "type" in fields) and fields.get("type") != "response.create":
        raise Refusal(400, f"the type of a message is {fields.get('type')!r}; expected 'response.create'")
    if strict:
        unknown = sorted(fields.keys() - (_KNOWN_FRAME if framed else _KNOWN))
        if unknown:
            raise Refusal(400, f"the request has unknown fields: {', '.join(unknown)}")
        for name in ("model", "input"):
            if fields.get(name) is None:
                raise Refusal(400, f"the request has no {name}")
    return AskedResponse(fields)
