"""The items of a conversation: what goes into a model and what comes out of it.

The vocabulary is that of the Responses API, whatever the server speaks. All are frozen; ``content`` and
``summary`` may be given as any sequence and are kept as tuples.

Items and their parts stand for JSON objects. Keys of such an object that turnwire does not know are kept in
``extra``, so that what a server said goes back to it whole. An item of a kind that turnwire does not know is an
`OtherItem`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias, cast, get_args

import msgspec
from msgspec import Struct
from msgspec.structs import force_setattr

__all__ = [
    "Compaction",
    "ContentPart",
    "CustomToolCall",
    "CustomToolCallOutput",
    "FunctionCall",
    "FunctionCallOutput",
    "InputImage",
    "InputText",
    "LocalShellCall",
    "Message",
    "OtherItem",
    "OutputText",
    "Reasoning",
    "ReasoningText",
    "Refusal",
    "ResponseItem",
    "SummaryText",
    "ToolSearchCall",
    "ToolSearchOutput",
    "WebSearchCall",
    "decode_item",
    "encode_item",
    "item_text",
]


class _Object(Struct, frozen=True, kw_only=True, omit_defaults=True, repr_omit_defaults=True):
    """Base of what stands for a JSON object of a known kind."""

    extra: Mapping[str, Any] = {}
    """The object's other keys, sent back verbatim."""


class InputText(_Object, frozen=True, tag="input_text", gc=False):
    """Text that somebody other than the model wrote."""

    text: str


class InputImage(_Object, frozen=True, tag="input_image", gc=False):
    """An image: ``image_url`` is an address or a ``data:`` URL; ``detail`` is low, high, auto or original."""

    image_url: str | None = None
    detail: str | None = None
    file_id: str | None = None


class OutputText(_Object, frozen=True, tag="output_text", gc=False):
    """Text that the model wrote."""

    text: str


class Refusal(_Object, frozen=True, tag="refusal", gc=False):
    """The model's own words for why it will not answer."""

    refusal: str


class ReasoningText(_Object, frozen=True, tag="reasoning_text", gc=False):
    """A piece of the model's reasoning."""

    text: str


class SummaryText(_Object, frozen=True, tag="summary_text", gc=False):
    """A piece of the summary that the server gives of the model's reasoning."""

    text: str


ContentPart: TypeAlias = InputText | InputImage | OutputText | Refusal


class Message(_Object, frozen=True, tag="message"):
    """Something said: ``role`` is user, assistant, system or developer.

    Of a streamed message, ``content`` holds one part per delta received.
    """

    role: str
    content: Sequence[ContentPart]
    id: str | None = None

    def __post_init__(self) -> None:
        force_setattr(self, "content", tuple(self.content))

    @property
    def text(self) -> str:
        """All text of the message; refusals and images are not text."""
        return "".join(part.text for part in self.content if isinstance(part, InputText | OutputText))


class Reasoning(_Object, frozen=True, tag="reasoning", omit_defaults=False):
    """What the model thought before it spoke; ``content`` is None where the server keeps it to itself.

    It is encoded with all its fields, for the API wants a ``summary``, be it empty.
    """

    id: str = ""
    summary: Sequence[SummaryText] = ()
    content: Sequence[ReasoningText] | None = None
    encrypted_content: str | None = None

    def __post_init__(self) -> None:
        force_setattr(self, "summary", tuple(self.summary))
        if self.content is not None:
            force_setattr(self, "content", tuple(self.content))

    @property
    def text(self) -> str:
        """The reasoning itself, or its summary where that is all there is."""
        return "".join(part.text for part in self.content or self.summary)


class FunctionCall(_Object, frozen=True, tag="function_call"):
    """The model asks for a function; ``arguments`` is the JSON text exactly as it came."""

    name: str
    arguments: str
    call_id: str
    id: str | None = None
    namespace: str | None = None
    status: str | None = None


class _Output(_Object, frozen=True):
    """What a tool gave: text, or parts where it gave images as well."""

    call_id: str
    output: str | Sequence[ContentPart]

    def __post_init__(self) -> None:
        if not isinstance(self.output, str):
            force_setattr(self, "output", tuple(self.output))


class FunctionCallOutput(_Output, frozen=True, tag="function_call_output"):
    """What the function gave: text, or parts where it gave images as well."""


class CustomToolCall(_Object, frozen=True, tag="custom_tool_call"):
    """The model asks for a tool that takes free text, such as a patch."""

    name: str
    input: str
    call_id: str
    id: str | None = None
    namespace: str | None = None
    status: str | None = None


class CustomToolCallOutput(_Output, frozen=True, tag="custom_tool_call_output"):
    """What the custom tool gave: text, or parts where it gave images as well."""


class LocalShellCall(_Object, frozen=True, tag="local_shell_call"):
    """The model asks for a command; ``action`` is the API's own object (type exec, command, …)."""

    action: Mapping[str, Any]
    call_id: str | None = None
    status: str | None = None
    id: str | None = None


class WebSearchCall(_Object, frozen=True, tag="web_search_call"):
    """The server searched the web by itself; ``action`` says what for."""

    action: Mapping[str, Any] | None = None
    status: str | None = None
    id: str | None = None


class ToolSearchCall(_Object, frozen=True, tag="tool_search_call"):
    """The model looks for tools that it was not given; ``arguments`` is an object, unlike a function's."""

    arguments: Any
    execution: str | None = None
    call_id: str | None = None
    status: str | None = None
    id: str | None = None


class ToolSearchOutput(_Object, frozen=True, tag="tool_search_output"):
    """The tools that were found; they can be called from here on."""

    tools: Sequence[Mapping[str, Any]]
    execution: str | None = None
    call_id: str | None = None
    status: str | None = None
    id: str | None = None

    def __post_init__(self) -> None:
        force_setattr(self, "tools", tuple(self.tools))


class Compaction(_Object, frozen=True, tag="compaction"):
    """A stretch of conversation, folded by the server into something only it can read."""

    encrypted_content: str
    id: str | None = None


class OtherItem(Struct, frozen=True):
    """An item of a kind, or in a shape, that turnwire does not know: kept whole and sent back as it came."""

    fields: Mapping[str, Any]

    @property
    def type(self) -> str | None:
        """The kind that the server gave it."""
        kind = self.fields.get("type")
        return kind if isinstance(kind, str) else None


ResponseItem: TypeAlias = (
    Message
    | Reasoning
    | FunctionCall
    | FunctionCallOutput
    | CustomToolCall
    | CustomToolCallOutput
    | LocalShellCall
    | WebSearchCall
    | ToolSearchCall
    | ToolSearchOutput
    | Compaction
    | OtherItem
)

_Kinds: TypeAlias = dict[str, type[_Object]]


def _by_tag(*kinds: type[_Object]) -> _Kinds:
    return {cast(str, kind.__struct_config__.tag): kind for kind in kinds}


_ITEMS = _by_tag(*(kind for kind in get_args(ResponseItem) if kind is not OtherItem))
_PARTS = _by_tag(*get_args(ContentPart), ReasoningText, SummaryText)
_PART_LISTS = ("content", "output", "summary")


def decode_item(fields: Mapping[str, Any]) -> ResponseItem:
    """The item that a JSON object of the Responses API stands for; what does not fit becomes an `OtherItem`."""
    written_out = _written_out(fields)
    kind = _kind(written_out, _ITEMS)
    if kind is None:
        return OtherItem(fields)
    try:
        return cast(ResponseItem, msgspec.convert(_with_extra(written_out, kind), kind))
    except msgspec.ValidationError:
        return OtherItem(fields)


def encode_item(item: ResponseItem) -> dict[str, Any]:
    """The JSON object of the Responses API for an item: the inverse of `decode_item`."""
    if isinstance(item, OtherItem):
        return dict(item.fields)
    return _without_extra(msgspec.to_builtins(item))


def item_text(item: ResponseItem) -> str:
    """The text that a person would read: that of an assistant's message, nothing for any other item."""
    return item.text if isinstance(item, Message) and item.role == "assistant" else ""


def _written_out(fields: Mapping[str, Any]) -> Mapping[str, Any]:
    """A message in the API's short form, without a type or with bare text as its content, in the long one."""
    kind = fields.get("type")
    if kind is None and "role" in fields:
        kind = "message"
    if kind != "message":
        return fields
    content = fields.get("content")
    if isinstance(content, str):
        part = "output_text" if fields.get("role") == "assistant" else "input_text"
        content = [{"type": part, "text": content}]
    return {**fields, "type": kind, "content": content}


def _kind(fields: object, kinds: _Kinds) -> type[_Object] | None:
    match fields:
        case {"type": str(tag)}:
            return kinds.get(tag)
    return None


def _with_extra(fields: Mapping[str, Any], kind: type[_Object]) -> dict[str, Any]:
    """The object of a known kind, and those of its parts, with the keys that turnwire does not know in ``extra``."""
    known: dict[str, Any] = {}
    extra: dict[str, Any] = {}
    for key, value in fields.items():
        is_known = key == "type" or (key in kind.__struct_fields__ and key != "extra")
        (known if is_known else extra)[key] = value
    for key in _PART_LISTS:
        parts = known.get(key)
        if isinstance(parts, list | tuple):
            known[key] = [
                part if (part_kind := _kind(part, _PARTS)) is None else _with_extra(part, part_kind) for part in parts
            ]
    return {**known, "extra": extra}


def _without_extra(fields: dict[str, Any]) -> dict[str, Any]:
    """The inverse of `_with_extra`."""
    extra = fields.pop("extra", {})
    for key in _PART_LISTS:
        parts = fields.get(key)
        if isinstance(parts, list | tuple):
            fields[key] = [_without_extra(part) for part in parts]
    return {**extra, **fields}
