"""The ``response`` object: what every event about the whole answer carries, and what a request without stream gets.

It repeats what the request asked for, with the API's defaults for the rest, so that a client finds every field that
its types promise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

from turnwire.errors import ApiError
from turnwire.event import Completed, OutputItemDone, ResponseEvent
from turnwire.item import Compaction, OtherItem, ResponseItem
from turnwire.wire.responses.failure import encode_failure
from turnwire.wire.responses.item_form import ID_PREFIXES, has_fitting_id, item_fields
from turnwire.wire.responses.usage import encode_usage

__all__ = ["ResponseObject"]

_Json: TypeAlias = dict[str, Any]

_DEFAULTS: Mapping[str, Any] = {
    "background": False,
    "frequency_penalty": 0.0,
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "presence_penalty": 0.0,
    "previous_response_id": None,
    "prompt_cache_key": None,
    "reasoning": None,
    "safety_identifier": None,
    "service_tier": "default",
    "store": True,
    "temperature": 1.0,
    "text": None,
    "tool_choice": "auto",
    "tools": [],
    "top_logprobs": 0,
    "top_p": 1.0,
    "truncation": "disabled",
    "user": None,
}
"""What a response repeats of its request, and what it says where the request said nothing."""

_DEFAULT_FORMAT = {"type": "text"}
_REASONING_KEYS = {"effort": None, "summary": None}
_FUNCTION_KEYS = {"description": None, "parameters": None, "strict": None}
_FORMAT_KEYS = {"description": None, "strict": False}


class ResponseObject:
    """One answer as it grows. ``request`` is the request's body; ``clock`` gives seconds since 1970.

    Items without a fitting id get one that is made of the response's id and their place, so that the same events
    give the same bytes.
    """

    def __init__(
        self, *, response_id: str, model: str, clock: Callable[[], float], request: Mapping[str, Any] = {}
    ) -> None:
        self._clock = clock
        self._model = model
        self._echo = _echo(request)
        self._created_at = int(clock())
        self._id_stem = response_id.removeprefix("resp_")
        self._places = 0
        self._output: dict[int, _Json] = {}
        self.response_id = response_id

    def place(self) -> int:
        """The output index of the next item."""
        place = self._places
        self._places += 1
        return place

    def item(self, item: ResponseItem, place: int, *, item_id: str | None = None, status: str = "completed") -> _Json:
        """An item's JSON object, with an id, a status and the parts as clients expect them.

        ``item_id`` is the id that was given out for it; what the item says of its own status outranks ``status``.
        """
        fields = item_fields(item)
        if item_id is None:
            item_id = fields["id"] if has_fitting_id(fields) else self._new_id(fields, place)
        if not isinstance(item, Compaction | OtherItem):
            fields = {"status": status, **fields}
        if isinstance(fields.get("content"), list):
            fields["content"] = [_part(part) for part in fields["content"]]
        return {"type": fields.get("type"), **fields, "id": item_id}

    def put(self, place: int, fields: _Json) -> None:
        """Takes an item that is whole."""
        self._output[place] = fields

    def begun(self) -> _Json:
        """The object while the answer is under way."""
        return self._object("in_progress", output=[])

    def ended(self, completed: Completed) -> _Json:
        """The object of an answer that ended, be it whole or not."""
        reason = completed.incomplete_reason
        return self._object(
            "completed" if reason is None else "incomplete",
            completed_at=int(self._clock()) if reason is None else None,
            incomplete_details=None if reason is None else {"reason": reason},
            usage=None if completed.token_usage is None else encode_usage(completed.token_usage),
        )

    def failed(self, error: ApiError) -> _Json:
        """The object of an answer that failed."""
        return self._object("failed", error=encode_failure(error))

    def whole(self, events: Iterable[ResponseEvent]) -> _Json:
        """The object for all events of an answer, without any stream; `ValueError` where they do not complete."""
        for event in events:
            if isinstance(event, OutputItemDone):
                place = self.place()
                self.put(place, self.item(event.item, place))
            elif isinstance(event, Completed):
                return self.ended(event)
        raise ValueError("the events of an answer end with Completed, and these did not")

    def _object(self, status: str, output: list[_Json] | None = None, **fields: Any) -> _Json:
        return {
            "id": self.response_id,
            "object": "response",
            "created_at": self._created_at,
            "completed_at": None,
            "status": status,
            "error": None,
            "incomplete_details": None,
            "model": self._model,
            "output": [self._output[place] for place in sorted(self._output)] if output is None else output,
            "usage": None,
            **self._echo,
            **fields,
        }

    def _new_id(self, fields: Mapping[str, Any], place: int) -> str:
        return f"{ID_PREFIXES.get(str(fields.get('type')), 'item_')}{self._id_stem}_{place}"


def _echo(request: Mapping[str, Any]) -> _Json:
    """What the response repeats; a null in the request is as good as nothing."""
    echo = {key: default if (value := request.get(key)) is None else value for key, default in _DEFAULTS.items()}
    echo["reasoning"] = {**_REASONING_KEYS, **(echo["reasoning"] or {})}
    echo["text"] = {**(echo["text"] or {})}
    text_format = echo["text"].get("format") or _DEFAULT_FORMAT
    echo["text"]["format"] = (
        {**_FORMAT_KEYS, **text_format} if text_format.get("type") == "json_schema" else text_format
    )
    echo["tools"] = [{**_FUNCTION_KEYS, **tool} if tool.get("type") == "function" else tool for tool in echo["tools"]]
    return echo


def _part(part: Any) -> Any:
    if isinstance(part, dict) and part.get("type") == "output_text":
        return {"type": "output_text", "text": "", "annotations": [], "logprobs": [], **part}
    return part
