"""What the model is told of a Python function, and what the function is told by the model."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Literal

import msgspec
import pytest
from msgspec import Meta, Struct

from turnwire import ConfigurationError, Tool


class Place(Struct):
    city: str
    country: str = "CH"


@dataclass
class Point:
    x: float
    y: float = 0.0


def no_parameters() -> None:
    """Nothing to say."""


def plain(city: str, days: int, share: float, exact: bool) -> None:
    """Simple ones.

    Over two paragraphs.
    """


def defaults(city: str = "Zürich", tags: list[str] = [], more: dict[str, int] = {}) -> None: ...  # noqa: B006


def choices(unit: Literal["celsius", "fahrenheit"], level: int | None = None, *, word: str | int) -> None: ...


def structures(place: Place, points: list[Point]) -> None: ...


def described(days: Annotated[int, Meta(ge=1, le=7, description="how many")]) -> None: ...


def untyped(anything, more=3): ...  # type: ignore[no-untyped-def]


class Weather:
    """The weather in a city."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def __call__(self, city: str) -> str:
        self.asked.append(city)
        return "rain"

    def later(self, city: str, days: int = 1) -> str:
        """The weather of another day."""
        return f"{city} in {days}"


def schema(properties: dict[str, Any], *required: str, **more: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        **more,
        "additionalProperties": False,
    }


STRING = {"type": "string"}
INTEGER = {"type": "integer"}


@pytest.mark.parametrize(
    ("function", "parameters"),
    [
        (no_parameters, schema({})),
        (
            plain,
            schema(
                {"city": STRING, "days": INTEGER, "share": {"type": "number"}, "exact": {"type": "boolean"}},
                "city",
                "days",
                "share",
                "exact",
            ),
        ),
        (
            defaults,
            schema(
                {
                    "city": STRING,
                    "tags": {"type": "array", "items": STRING},
                    "more": {"type": "object", "additionalProperties": INTEGER},
                }
            ),
        ),
        (
            choices,
            schema(
                {
                    "unit": {"enum": ["celsius", "fahrenheit"]},
                    "level": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
                    "word": {"anyOf": [{"type": "string"}, {"type": "integer"}]},
                },
                "unit",
                "word",
            ),
        ),
        (
            structures,
            schema(
                {
                    "place": {"$ref": "#/$defs/Place"},
                    "points": {"type": "array", "items": {"$ref": "#/$defs/Point"}},
                },
                "place",
                "points",
                **{
                    "$defs": {
                        "Place": {
                            "title": "Place",
                            "type": "object",
                            "properties": {"city": STRING, "country": {"type": "string", "default": "CH"}},
                            "required": ["city"],
                        },
                        "Point": {
                            "title": "Point",
                            "type": "object",
                            "properties": {"x": {"type": "number"}, "y": {"type": "number", "default": 0.0}},
                            "required": ["x"],
                        },
                    }
                },
            ),
        ),
        (
            described,
            schema({"days": {"type": "integer", "minimum": 1, "maximum": 7, "description": "how many"}}, "days"),
        ),
        (untyped, schema({"anything": {}, "more": {}}, "anything")),
        (Weather(), schema({"city": STRING}, "city")),
        (Weather().later, schema({"city": STRING, "days": INTEGER}, "city")),
        (
            partial(plain, "Zürich", days=3),
            schema({"days": INTEGER, "share": {"type": "number"}, "exact": {"type": "boolean"}}, "share", "exact"),
        ),
    ],
    ids=lambda value: getattr(value, "__name__", type(value).__name__),
)
def test_the_schema_is_that_of_the_annotations(function: Any, parameters: dict[str, Any]) -> None:
    assert Tool.of(function).parameters == parameters


@pytest.mark.parametrize(
    ("tool", "name", "description"),
    [
        (Tool.of(no_parameters), "no_parameters", "Nothing to say."),
        (Tool.of(plain), "plain", "Simple ones.\n\nOver two paragraphs."),
        (Tool.of(defaults), "defaults", ""),
        (Tool.of(Weather()), "Weather", "The weather in a city."),
        (Tool.of(Weather().later), "later", "The weather of another day."),
        (Tool.of(plain, name="other", description="Another."), "other", "Another."),
    ],
    ids=lambda value: value.name if isinstance(value, Tool) else None,
)
def test_name_and_description_are_the_function_s_unless_given(tool: Tool, name: str, description: str) -> None:
    assert tool.definition == {
        "type": "function",
        "name": name,
        "description": description,
        "parameters": tool.parameters,
    }


def test_a_tool_is_a_tool_of_itself() -> None:
    tool = Tool.of(plain)
    assert Tool.of(tool) is tool


def positional(city: str, /) -> None: ...
def several(*cities: str) -> None: ...
def named(**cities: str) -> None: ...
def unreadable(city: Nowhere) -> None: ...  # type: ignore[name-defined]  # noqa: F821
def indescribable(lock: threading.Thread) -> None: ...


@pytest.mark.parametrize(
    ("function", "sentence"),
    [
        (positional, "tool 'positional' can't be described: city: 'str' takes no argument by name; give parameters=…"),
        (several, "tool 'several' can't be described: *cities: 'str' takes no argument by name; give parameters=…"),
        (named, "tool 'named' can't be described: **cities: 'str' takes no argument by name; give parameters=…"),
        (unreadable, "tool 'unreadable' has annotations that can't be read: name 'Nowhere' is not defined"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_function_that_can_t_be_described_is_refused(function: Any, sentence: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Tool.of(function)
    assert str(caught.value).replace("city: str ", "city: 'str' ").replace("cities: str ", "cities: 'str' ") == sentence


def test_a_type_that_json_does_not_know_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"^tool 'indescribable' can't be described: "):
        Tool.of(indescribable)


async def returning(value: Any) -> str:
    async def give() -> Any:
        return value

    return await Tool.of(give).call("{}")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("as it is", "as it is"),
        ("", ""),
        (None, "null"),
        (21, "21"),
        ({"degrees": 21, "sky": "grey"}, '{"degrees":21,"sky":"grey"}'),
        (Place("Zürich"), '{"city":"Zürich","country":"CH"}'),
        ([Point(1.0)], '[{"x":1.0,"y":0.0}]'),
    ],
    ids=str,
)
async def test_a_result_becomes_text(value: Any, text: str) -> None:
    assert await returning(value) == text


async def test_arguments_become_what_the_annotations_say() -> None:
    got: list[Any] = []

    def take(place: Place, points: list[Point], days: int, unit: Literal["c", "f"] = "c", tags: list[str] = []) -> None:  # noqa: B006
        got.extend((place, points, days, unit, tags))

    await Tool.of(take).call('{"place":{"city":"Bern"},"points":[{"x":1}],"days":"3"}')
    assert got == [Place("Bern"), [Point(1.0)], 3, "c", []]


async def test_no_arguments_at_all_are_an_empty_object() -> None:
    assert await Tool.of(no_parameters).call("") == "null"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("{", "Input data was truncated"),
        ("[]", "Expected `object`, got `array`"),
        ('{"city":"Bern"}', "Object missing required field `days`"),
        ('{"city":"Bern","days":1,"hours":2}', "Object contains unknown field `hours`"),
        ('{"city":"Bern","days":"many"}', "Expected `int`, got `str` - at `$.days`"),
    ],
)
async def test_arguments_that_do_not_fit_are_refused_before_the_function_is_called(
    arguments: str, sentence: str
) -> None:
    def take(city: str, days: int) -> None:
        raise AssertionError("must not be called")

    with pytest.raises(msgspec.DecodeError) as caught:
        await Tool.of(take).call(arguments)
    assert str(caught.value) == sentence


async def test_a_function_that_is_not_async_runs_in_a_thread() -> None:
    def where() -> str:
        return threading.current_thread().name

    async def here() -> str:
        return threading.current_thread().name

    assert await Tool.of(where).call("{}") != threading.current_thread().name
    assert await Tool.of(here).call("{}") == threading.current_thread().name


async def test_an_object_with_an_async_call_runs_on_the_loop() -> None:
    weather = Weather()
    assert await Tool.of(weather).call('{"city":"Bern"}') == "rain"
    assert weather.asked == ["Bern"]


async def test_a_function_that_returns_an_awaitable_is_awaited() -> None:
    loop = asyncio.get_running_loop()

    def give() -> Any:
        return asyncio.wrap_future(asyncio.run_coroutine_threadsafe(answer(), loop), loop=loop)

    async def answer() -> str:
        return "later"

    assert await Tool.of(give).call("{}") == "later"


async def test_with_a_given_schema_the_function_takes_what_comes() -> None:
    given = {"type": "object", "properties": {"city": STRING}}

    def take(**fields: Any) -> Any:
        return fields

    tool = Tool.of(take, parameters=given)
    assert tool.parameters is given
    assert await tool.call('{"city":1,"more":[2]}') == '{"city":1,"more":[2]}'
    with pytest.raises(msgspec.DecodeError):
        await tool.call("[]")
