"""The prompt that asks a model for a summary of its conversation, and what stays of that conversation besides. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec.structs import replace

from turnwire.item import (
    ContentPart,
    CustomToolCallOutput,
    FunctionCallOutput,
    InputText,
    Message,
    OtherItem,
    OutputText,
    ResponseItem,
)
from turnwire.prompt import Prompt
from turnwire.wire.responses import ReceivedRequest

__all__ = ["asks_for_compaction", "kept_messages", "summarising", "with_shorter_outputs"]

_REQUEST = """\
Pause the task here. This conversation has become too long: all of it but the standing instructions and the user's \
latest messages is about to be replaced by a summary, and you are to write that summary now. Whoever goes on with the \
task has nothing else to go by, so write for a capable colleague who has seen none of it.

Say, as far as it applies:
- Task: what the user wants, with every condition, preference and correction that still holds.
- Decisions: what was settled and why; what was tried and did not work.
- Done: what was changed, found out or delivered so far, and how it was checked.
- State: where things stand now, including tool results that are not used up yet, with the facts in them that matter.
- Left: what remains to be done, the very next step first. If the user's last message is not answered yet, say so.

Keep names of files, functions and commands, ids, addresses, numbers and error messages to the letter. Where an \
earlier summary stands in the conversation, carry over what still matters in it. Leave out small talk and what has \
been superseded. Call no tools and do not go on with the task: answer with the summary and nothing around it.
"""
"""What the model is asked, in the user's role, behind the conversation."""

_TRIGGER = "compaction_trigger"
_KEPT_ROLES = frozenset({"user", "system", "developer"})

_MAX_KEPT = 64_000
"""Tokens of users' messages that stay: what OpenAI's own endpoint keeps, by the Codex CLI."""
_KEPT_SHARE = 4
"""They take at most one part in so many of the model's context window, where its size is known."""
_CHARACTERS_PER_TOKEN = 4
"""About; no tokenizer is at hand."""
_MAX_OUTPUT = 2_000
"""Characters of a tool's output that are left of it where the conversation is too long to be summarised whole."""


def asks_for_compaction(received: ReceivedRequest) -> bool:
    """Whether a request for a response is one for a compaction: its last item says so."""
    items = received.prompt.input
    return not isinstance(items, str) and bool(items) and _is_trigger(items[-1])


def summarising(prompt: Prompt) -> Prompt:
    """The prompt that has the model summarise another one's conversation.

    It begins like the other one, tools included, for the prompt cache's sake; what shapes the answer is left out.
    """
    return Prompt(
        [*(item for item in prompt.items if not _is_trigger(item)), Message("user", (InputText(_REQUEST),))],
        instructions=prompt.instructions,
        tools=prompt.tools,
        tool_choice="none" if prompt.tools else None,
        reasoning=prompt.reasoning,
        include=(),
        service_tier=prompt.service_tier,
    )


def kept_messages(items: Iterable[ResponseItem], *, context_window: int | None = None) -> list[ResponseItem]:
    """The messages that stay in front of a summary: all that set rules, and the users' latest.

    The message that goes over the bound is cut in its middle and says so; older ones are left to the summary. A context
    window, in tokens, bounds them further.
    """
    tokens = _MAX_KEPT if context_window is None else min(_MAX_KEPT, context_window // _KEPT_SHARE)
    left = tokens * _CHARACTERS_PER_TOKEN
    kept: list[ResponseItem] = []
    for item in reversed([item for item in items if _role(item) in _KEPT_ROLES]):
        if isinstance(item, Message) and item.role == "user":
            if left > 0:
                kept.append(_cut_message(item, left))
            left -= len(item.text)
        else:
            kept.append(item)
    return kept[::-1]


def with_shorter_outputs(received: ReceivedRequest) -> ReceivedRequest | None:
    """The request with the longer outputs of its tools cut; None where there are none."""
    items = tuple(_shortened(item) for item in received.prompt.items)
    if items == received.prompt.items:
        return None
    dropped = (*received.dropped, f"all but {_MAX_OUTPUT} characters of longer tool outputs")
    return replace(received, prompt=replace(received.prompt, input=items), dropped=dropped)


def _shortened(item: ResponseItem) -> ResponseItem:
    if not isinstance(item, FunctionCallOutput | CustomToolCallOutput):
        return item
    output = item.output
    if not isinstance(output, str):
        output = "\n".join(part.text for part in output if isinstance(part, InputText | OutputText))
    return item if len(output) <= _MAX_OUTPUT else replace(item, output=_cut(output, _MAX_OUTPUT))


def _cut_message(message: Message, length: int) -> Message:
    """A message with so many characters of text, and with its images."""
    parts: list[ContentPart] = []
    for part in message.content:
        if isinstance(part, InputText | OutputText):
            if length > 0:
                parts.append(replace(part, text=_cut(part.text, length)))
            length -= len(part.text)
        else:
            parts.append(part)
    return replace(message, content=parts)


def _cut(text: str, length: int) -> str:
    """The beginning and the end of a text, so many characters together, and how much was between them."""
    if len(text) <= length:
        return text
    tail = length // 2
    return f"{text[: length - tail]}\n[{len(text) - length} characters were left out here]\n{text[len(text) - tail :]}"


def _is_trigger(item: ResponseItem) -> bool:
    return isinstance(item, OtherItem) and item.type == _TRIGGER


def _role(item: ResponseItem) -> str | None:
    """Who says a message, None for what is none; one with parts that turnwire does not know is one as well."""
    match item:
        case Message(role=role) | OtherItem(fields={"type": "message", "role": str(role)}):
            return role
    return None
