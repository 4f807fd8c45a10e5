"""Python functions as tools: what the model is told of them, and how its call becomes theirs."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec
from msgspec import Struct

from turnwire.errors import ConfigurationError

__all__ = ["Tool"]


class Tool(Struct, frozen=True):
    """A function that the model may call.

    The parameters' JSON schema comes from the function's annotations, the description from its docstring, unless
    they are given. Arguments are checked against the annotations before the function is called.
    """

    function: Callable[..., Any]
    name: str
    description: str
    parameters: dict[str, Any]
    arguments: type[Struct] | None = None
    """The parameters as a type to decode into; None where the schema was given and the function takes what comes."""

    @classmethod
    def of(
        cls,
        function: Callable[..., Any] | Tool,
        *,
        name: str | None = None,
        description: str | None = None,
        parameters: dict[str, Any] | None = None,
    ) -> Tool:
        """The tool for a function; `ConfigurationError` where its parameters can't be described."""
        if isinstance(function, Tool):
            return function
        name = name or getattr(function, "__name__", None) or type(function).__name__
        description = description or inspect.getdoc(function) or ""
        if parameters is not None:
            return cls(function, name, description, parameters)
        arguments = _arguments(function, name)
        try:
            schema = _inlined(msgspec.json.schema(arguments))
        except TypeError as error:
            raise ConfigurationError(f"tool {name!r} can't be described: {error}") from error
        return cls(function, name, description, schema, arguments)

    @property
    def definition(self) -> dict[str, Any]:
        """The tool as a request declares it, in the Responses form."""
        return {
            "type": "function",
            "name": self.name,
            "description": self.description,
            "parameters": self.parameters,
        }

    async def call(self, arguments: str) -> str:
        """Calls the function with a call's arguments, JSON text, and gives its result as text.

        A function that is not async runs in a thread, so that it does not hold up the streams beside it. Raises what
        the function raises, and `msgspec.DecodeError` where the arguments do not fit.
        """
        if self.arguments is None:
            values = msgspec.json.decode(arguments or "{}", type=dict[str, Any])
        else:
            decoded = msgspec.json.decode(arguments or "{}", type=self.arguments, strict=False)
            values = {name: getattr(decoded, name) for name in self.arguments.__struct_fields__}
        if inspect.iscoroutinefunction(self.function) or inspect.iscoroutinefunction(
            getattr(self.function, "__call__", None)  # noqa: B004 - an object whose call is async
        ):
            result = await self.function(**values)
        else:
            result = await asyncio.to_thread(self.function, **values)
            if inspect.isawaitable(result):
                result = await result
        return result if isinstance(result, str) else msgspec.json.encode(result).decode()


def _arguments(function: Callable[..., Any], name: str) -> type[Struct]:
    """The function's parameters as a struct: checked, and described, by one library."""
    try:
        # Reads what annotations written as text stand for, those of objects that can be called included.
        signature = inspect.signature(function, eval_str=True)
    except (NameError, SyntaxError, TypeError, ValueError) as error:
        raise ConfigurationError(f"tool {name!r} has annotations that can't be read: {error}") from error
    fields: list[tuple[str, Any] | tuple[str, Any, Any]] = []
    for parameter in signature.parameters.values():
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise ConfigurationError(
                f"tool {name!r} can't be described: {parameter} takes no argument by name; give parameters=…"
            )
        annotation = Any if parameter.annotation is parameter.empty else parameter.annotation
        if parameter.default is parameter.empty:
            fields.append((parameter.name, annotation))
        else:
            # By a factory, for msgspec refuses mutable defaults; a function shares its own between calls anyway.
            field = msgspec.field(default_factory=partial(_same, parameter.default))
            fields.append((parameter.name, annotation, field))
    return msgspec.defstruct(f"{name}_arguments", fields, kw_only=True, forbid_unknown_fields=True)


def _same(value: Any) -> Any:
    return value


def _inlined(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of the object itself, its definitions kept beside it; titles are Python's names and say nothing."""
    definitions = schema["$defs"]
    _, _, name = schema["$ref"].rpartition("/")
    described = {key: value for key, value in definitions.pop(name).items() if key != "title"}
    if definitions:
        described["$defs"] = definitions
    return {**described, "additionalProperties": False}
