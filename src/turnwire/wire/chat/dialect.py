"""What differs between servers that all say they speak Chat Completions, as one record and its presets.

The decoder reads every habit that can be told apart from the bytes alone, whatever the dialect says; a field
stands here only where the bytes do not decide (`open_calls`, `bare_end`), where a request must be written
differently, or where turnwire itself plays the server.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from msgspec import Struct

from turnwire.errors import ConfigurationError

__all__ = ["PRESETS", "CallIdStyle", "ChatDialect", "ReasoningName"]

CallIdStyle: TypeAlias = Literal["any", "64", "mistral"]
ReasoningName: TypeAlias = Literal["reasoning", "reasoning_content", "reasoning_details", "thinking"]


class ChatDialect(Struct, frozen=True, kw_only=True):
    """How one server speaks and what it accepts. ``ChatDialect()`` reads as the reference does."""

    # How its stream ends.
    open_calls: Literal["drop", "emit"] = "drop"
    """Calls that no ``tool_calls`` finish released: drop them, or emit those that hold a JSON object."""
    bare_end: Literal["cut", "end"] = "cut"
    """What an end of the body without finish reason and ``[DONE]`` means to a client."""

    # What it accepts.
    developer_role: Literal["developer", "system"] = "system"
    """The role that a developer's message is sent under."""
    system_messages: Literal["anywhere", "merged"] = "anywhere"
    """Whether system messages may stand anywhere, or must be one at the front (strict chat templates)."""
    refusals: Literal["content", "refusal"] = "content"
    """Where the model's earlier refusals stand: in the text, or in the ``refusal`` field that few servers know."""
    user_after_tool: Literal["allowed", "refused"] = "allowed"
    """Whether a user's message may follow a tool's; where not, an assistant's stands between."""
    reasoning_back: Literal["drop", "calls", "always"] = "drop"
    """Whether the model's reasoning is sent back: never, with messages that hold tool calls, or always."""
    reasoning_name: ReasoningName = "reasoning"
    """The name reasoning goes by; what the server itself was seen to use outranks it."""
    reasoning_effort: Literal["reasoning_effort", "reasoning", "drop"] = "reasoning_effort"
    """Where the effort stands: a field of its own, the ``reasoning`` object, or nowhere."""
    call_ids: CallIdStyle = "any"
    """The ids it accepts: any, up to 64 characters, or exactly 9 alphanumerics."""
    tool_schemas: Literal["any", "plain"] = "any"
    """``plain``: ``$schema`` and ``additionalProperties`` are removed, a list of types becomes its first but null."""
    max_tokens_name: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """The name of the bound on the answer's length."""
    output_schemas: Literal["json_schema", "json_object"] = "json_schema"
    """The form of ``response_format`` it understands; with ``json_object`` the schema is told in the system prompt."""
    stream_options: bool = True
    """Whether usage may be asked for; it is read in any case."""
    parallel_tool_calls: bool = True
    """Whether the request may say if calls can be parallel."""

    # How it speaks, for whoever plays it. The decoder needs none of these.
    usage_place: Literal["own_chunk", "finish_chunk", "every_chunk", "never"] = "own_chunk"
    """Where usage comes."""
    done_sentinel: bool = True
    """Whether ``[DONE]`` ends the stream."""
    calls_whole: bool = False
    """Whether a call comes in one delta, rather than in fragments."""
    call_index: Literal["counted", "zero", "missing"] = "counted"
    """What stands in a call's ``index``."""
    calls_finish: Literal["tool_calls", "stop"] = "tool_calls"
    """The finish reason after calls."""

    @classmethod
    def preset(cls, name: str) -> ChatDialect:
        """The dialect of a known server; `ConfigurationError` names the known ones."""
        try:
            return PRESETS[name]
        except KeyError:
            known = ", ".join(sorted(PRESETS))
            raise ConfigurationError(f"no dialect is called {name!r}; known are {known}") from None


PRESETS: dict[str, ChatDialect] = {
    "openai": ChatDialect(
        developer_role="developer",
        refusals="refusal",
        call_ids="64",
        max_tokens_name="max_completion_tokens",
    ),
    "azure": ChatDialect(
        developer_role="developer",
        refusals="refusal",
        call_ids="64",
        max_tokens_name="max_completion_tokens",
    ),
    "openrouter": ChatDialect(reasoning_back="always", reasoning_effort="reasoning"),
    "deepseek": ChatDialect(
        reasoning_back="calls",
        reasoning_name="reasoning_content",
        reasoning_effort="drop",
        output_schemas="json_object",
        parallel_tool_calls=False,
    ),
    # Usage comes unasked, and `stream_options` is a field that Mistral refuses.
    "mistral": ChatDialect(
        system_messages="merged",
        user_after_tool="refused",
        reasoning_back="always",
        reasoning_name="thinking",
        call_ids="mistral",
        stream_options=False,
        calls_whole=True,
        usage_place="finish_chunk",
    ),
    "gemini": ChatDialect(
        open_calls="emit",
        tool_schemas="plain",
        parallel_tool_calls=False,
        calls_whole=True,
        call_index="zero",
        calls_finish="stop",
        usage_place="every_chunk",
    ),
    "groq": ChatDialect(max_tokens_name="max_completion_tokens"),
    "ollama": ChatDialect(open_calls="emit", parallel_tool_calls=False, calls_whole=True, calls_finish="stop"),
    "llama.cpp": ChatDialect(system_messages="merged", reasoning_back="calls", reasoning_name="reasoning_content"),
    # A call that the request forces (a named tool) ends with `stop`.
    "vllm": ChatDialect(open_calls="emit", system_messages="merged", reasoning_back="calls"),
    "sglang": ChatDialect(system_messages="merged", reasoning_back="calls", reasoning_name="reasoning_content"),
    "lmstudio": ChatDialect(
        open_calls="emit",
        system_messages="merged",
        reasoning_name="reasoning_content",
        reasoning_effort="drop",
        parallel_tool_calls=False,
    ),
    "tolerant": ChatDialect(open_calls="emit", system_messages="merged"),
}
