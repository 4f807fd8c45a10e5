"""The items of a conversation: what goes into a model and what comes out of it.

The vocabulary is that of the Responses API, whatever the server speaks. All are frozen; ``content`` and
``summary`` may be given as any sequence and are kept as tuples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias, cast

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


class InputText(Struct, frozen=True, tag="input_text", gc=False):
    """Text that somebody other than the model wrote."""

    text: str


class InputImage(Struct, frozen=True, tag="input_image", omit_defaults=True, gc=False):
    """An image: ``image_url`` is an address or a ``data:`` URL; ``detail`` is low, high, auto or original."""

    image_url: str | None = None
    detail: str | None = None
    file_id: str | None = None


class OutputText(Struct, frozen=True, tag="output_text", gc=False):
    """Text that the model wrote."""

    text: str


class Refusal(Struct, frozen=True, tag="refusal", gc=False):
    """The model's own words for why it will not answer."""

    refusal: str


class ReasoningText(Struct, frozen=True, tag="reasoning_text", gc=False):
    """A piece of the model's reasoning."""

    text: str


class SummaryText(Struct, frozen=True, tag="summary_text", gc=False):
    """A piece of the summary that the server gives of the model's reasoning."""

    text: str


ContentPart: TypeAlias = InputText | InputImage | OutputText | Refusal


class Message(Struct, frozen=True, tag="message", omit_defaults=True):
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


class Reasoning(Struct, frozen=True, tag="reasoning"):
    """What the model thought before it spoke; ``content`` is None where the server keeps it to itself."""

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


class FunctionCall(Struct, frozen=True, tag="function_call", omit_defaults=True):
    """The model asks for a function; ``arguments`` is the JSON text exactly as it came.

    ``extra`` keeps keys that the server put on the call and the API does not know, and is sent back verbatim.
    """

    name: str
    arguments: str
    call_id: str
    id: str | None = None
    namespace: str | None = None
    status: str | None = None
    extra: Mapping[str, Any] = {}


class FunctionCallOutput(Struct, frozen=True, tag="function_call_output"):
    """What the function gave: text, or parts where it gave images as well."""

    call_id: str
    output: str | Sequence[ContentPart]

    def __post_init__(self) -> None:
        if not isinstance(self.output, str):
            force_setattr(self, "output", tuple(self.output))


class CustomToolCall(Struct, frozen=True, tag="custom_tool_call", omit_defaults=True):
    """The model asks for a tool that takes free text, such as a patch."""

    name: str
    input: str
    call_id: str
    id: str | None = None
    namespace: str | None = None


class CustomToolCallOutput(Struct, frozen=True, tag="custom_tool_call_output"):
    """What the custom tool gave."""

    call_id: str
    output: str | Sequence[ContentPart]

    def __post_init__(self) -> None:
        if not isinstance(self.output, str):
            force_setattr(self, "output", tuple(self.output))


class LocalShellCall(Struct, frozen=True, tag="local_shell_call", omit_defaults=True):
    """The model asks for a command; ``action`` is the API's own object (type exec, command, …)."""

    action: Mapping[str, Any]
    call_id: str | None = None
    status: str | None = None
    id: str | None = None


class WebSearchCall(Struct, frozen=True, tag="web_search_call", omit_defaults=True):
    """The server searched the web by itself; ``action`` says what for."""

    action: Mapping[str, Any] | None = None
    status: str | None = None
    id: str | None = None


class ToolSearchCall(Struct, frozen=True, tag="tool_search_call", omit_defaults=True):
    """The model looks for tools that it was not given; ``arguments`` is an object, unlike a function's."""

    arguments: Any
    execution: str | None = None
    call_id: str | None = None
    status: str | None = None
    id: str | None = None


class ToolSearchOutput(Struct, frozen=True, tag="tool_search_output", omit_defaults=True):
    """The tools that were found; they can be called from here on."""

    tools: Sequence[Mapping[str, Any]]
    execution: str | None = None
    call_id: str | None = None
    status: str | None = None
    id: str | None = None

    def __post_init__(self) -> None:
        force_setattr(self, "tools", tuple(self.tools))


class Compaction(Struct, frozen=True, tag="compaction", omit_defaults=True):
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

_KINDS: dict[str, type[Struct]] = {
    cast(str, kind.__struct_config__.tag): kind
    for kind in (
        Message,
        Reasoning,
        FunctionCall,
        FunctionCallOutput,
        CustomToolCall,
        CustomToolCallOutput,
        LocalShellCall,
        WebSearchCall,
        ToolSearchCall,
        ToolSearchOutput,
        Compaction,
    )
}
_FUNCTION_CALL_KEYS = frozenset((*FunctionCall.__struct_fields__, "type")) - {"extra"}


def decode_item(fields: Mapping[str, Any]) -> ResponseItem:
    """The item that a JSON object of the Responses API stands for; what does not fit becomes an `OtherItem`.

    Keys that turnwire does not know are kept by a `FunctionCall` and an `OtherItem`; the others leave them out.
    """
    kind = fields.get("type", "message" if "role" in fields else None)
    known = _KINDS.get(kind) if isinstance(kind, str) else None
    if known is None:
        return OtherItem(fields)
    known_fields = {**fields, "type": kind}
    if known is Message and isinstance(fields.get("content"), str):
        # The API's short form of a message: content as bare text.
        part = "output_text" if fields.get("role") == "assistant" else "input_text"
        known_fields["content"] = [{"type": part, "text": fields["content"]}]
    if known is FunctionCall:
        extra = {key: known_fields.pop(key) for key in fields if key not in _FUNCTION_CALL_KEYS}
        known_fields["extra"] = extra
    try:
        return cast(ResponseItem, msgspec.convert(known_fields, known))
    except msgspec.ValidationError:
        return OtherItem(fields)


def encode_item(item: ResponseItem) -> dict[str, Any]:
    """The JSON object of the Responses API for an item: the inverse of `decode_item`."""
    if isinstance(item, OtherItem):
        return dict(item.fields)
    fields = cast(dict[str, Any], msgspec.to_builtins(item))
    if isinstance(item, FunctionCall):
        fields = {**fields.pop("extra", {}), **fields}
    return fields


def item_text(item: ResponseItem) -> str:
    """The text that a person would read: that of an assistant's message, nothing for any other item."""
    return item.text if isinstance(item, Message) and item.role == "assistant" else ""
