"""What a model is asked: the history, the rules and the tools of one request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct
from msgspec.structs import force_setattr

from turnwire.item import InputText, Message, ResponseItem

__all__ = ["Prompt"]


class Prompt(Struct, frozen=True):
    """One request to a model, in no server's own words.

    ``input`` is the whole conversation so far; a bare string stands for one user message. ``tools`` are
    definitions in the Responses form (``{"type": "function", "name": …, "parameters": …}``) or the chat form
    (``{"type": "function", "function": {…}}``). ``tool_choice`` is ``auto``, ``none``, ``required``, the name of
    a function or the API's own object. ``output_schema`` is a JSON schema that the answer shall follow,
    or the API's own object: ``{"type": "json_schema", "name": …, "schema": …}`` or ``{"type": "json_object"}``.
    ``reasoning`` is the API's own object, such as ``{"effort": "low"}``. ``max_output_tokens`` counts tokens.
    ``extra`` is merged into the request body last and wins over everything that turnwire puts there.

    The rest is for the Responses API. ``verbosity`` is ``low``, ``medium`` or ``high``. ``prompt_cache_key`` names the
    conversation to the server's prompt cache. ``client_metadata`` is told to the server, text to text. ``store`` says
    whether it shall keep the answer, and ``include`` what to put into it that it would leave out; None leaves either to
    turnwire. ``service_tier`` is the server's own word.
    """

    input: str | Sequence[ResponseItem]
    instructions: str | None = None
    tools: Sequence[Mapping[str, Any]] = ()
    tool_choice: str | Mapping[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    output_schema: Mapping[str, Any] | None = None
    reasoning: Mapping[str, Any] | None = None
    max_output_tokens: int | None = None
    temperature: float | None = None
    extra: Mapping[str, Any] = {}
    verbosity: str | None = None
    prompt_cache_key: str | None = None
    client_metadata: Mapping[str, str] = {}
    store: bool | None = None
    include: Sequence[str] | None = None
    service_tier: str | None = None

    def __post_init__(self) -> None:
        force_setattr(self, "tools", tuple(self.tools))
        if not isinstance(self.input, str):
            force_setattr(self, "input", tuple(self.input))

    @property
    def items(self) -> tuple[ResponseItem, ...]:
        """The conversation as items, a bare string included."""
        if isinstance(self.input, str):
            return (Message("user", (InputText(self.input),)),)
        return tuple(self.input)
