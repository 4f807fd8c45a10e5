"""Schemas of tools: what servers refuse, and what only looks like it."""

import pytest

from tests.encoding import encoded
from turnwire.errors import InvalidPrompt
from turnwire.prompt import Prompt
from turnwire.wire.chat.schema import clean_schema

DRAFT = "https://json-schema.org/draft/2020-12/schema"
CITY = {"type": "object", "description": "A city.", "properties": {"name": {"type": "string"}}}
NODE = {
    "type": ["object", "null"],
    "description": "A node.",
    "properties": {"next": {"$ref": "#/$defs/Node", "title": "The next."}},
}


def test_any_schema_stays_as_it_is_but_for_the_keyword_encrypted():
    schema = {
        "$schema": DRAFT,
        "type": ["object", "null"],
        "properties": {
            "encrypted": {"$ref": "#/$defs/City", "encrypted": True},
            "other": {"items": [{"encrypted": True}], "encrypted": "no", "default": {"encrypted": True}},
        },
        "additionalProperties": False,
        "$defs": {"City": CITY},
    }
    dropped = []
    assert clean_schema(schema, "any", dropped) == {
        **schema,
        "properties": {
            "encrypted": {"$ref": "#/$defs/City"},
            "other": {"items": [{}], "encrypted": "no", "default": {"encrypted": True}},
        },
    }
    assert dropped == []


@pytest.mark.parametrize(
    ("schema", "plain"),
    [
        pytest.param(
            {"$schema": DRAFT, "type": "object", "additionalProperties": False}, {"type": "object"}, id="keywords"
        ),
        pytest.param(
            {
                "properties": {"$schema": {"additionalProperties": False}, "$ref": {"$ref": "#/$defs/City"}},
                "$defs": {"City": CITY},
            },
            {"properties": {"$schema": {}, "$ref": CITY}},
            id="properties that are called like keywords",
        ),
        pytest.param(
            {"default": {"$schema": 1}, "enum": [{"$ref": "#"}], "required": ["$defs"]},
            {"default": {"$schema": 1}, "enum": [{"$ref": "#"}], "required": ["$defs"]},
            id="data",
        ),
        pytest.param(
            {"anyOf": [{"type": ["null", "string"]}, {"type": ["integer", "null"]}, {"type": ["null"]}]},
            {"anyOf": [{"type": "string"}, {"type": "integer"}, {"type": "null"}]},
            id="lists of types",
        ),
        pytest.param(
            {"items": {"$ref": "#/definitions/City"}, "definitions": {"City": CITY}},
            {"items": CITY},
            id="a reference",
        ),
        pytest.param(
            {"items": {"description": "Mine.", "$ref": "#/$defs/City", "type": "array"}, "$defs": {"City": CITY}},
            {"items": {**CITY, "description": "Mine.", "type": "array"}},
            id="what stands beside a reference outranks it",
        ),
        pytest.param(
            {"items": {"$ref": "#/$defs/A"}, "$defs": {"A": {"items": {"$ref": "#/$defs/B"}}, "B": {"type": "null"}}},
            {"items": {"items": {"type": "null"}}},
            id="a reference behind a reference",
        ),
        pytest.param(
            {"properties": {"a/b": {"anyOf": [{}, {"type": "null"}]}, "c": {"$ref": "#/properties/a~1b/anyOf/1"}}},
            {"properties": {"a/b": {"anyOf": [{}, {"type": "null"}]}, "c": {"type": "null"}}},
            id="a reference to any place",
        ),
    ],
)
def test_a_plain_schema_holds_plain_words_alone(schema, plain):
    dropped = []
    assert clean_schema(schema, "plain", dropped) == plain
    assert dropped == []


@pytest.mark.parametrize(
    ("schema", "plain", "named"),
    [
        pytest.param(
            {"$ref": "#/$defs/Node", "$defs": {"Node": NODE}},
            {
                "type": "object",
                "description": "A node.",
                "properties": {"next": {"type": "object", "description": "A node.", "title": "The next."}},
            },
            "schema reference '#/$defs/Node'",
            id="it leads back into itself",
        ),
        pytest.param(
            {"type": "object", "properties": {"all": {"$ref": "#"}}},
            {"type": "object", "properties": {"all": {"type": "object", "properties": {"all": {"type": "object"}}}}},
            "schema reference '#'",
            id="it leads back to the beginning",
        ),
        *(
            pytest.param(
                {"items": {"$ref": reference}, "x": [True]},
                {"items": {}, "x": [True]},
                f"schema reference {reference!r}",
            )
            for reference in ("", "City", "https://example.com/city.json", "#/$defs/City", "#/x/0", "#/x/1", "#/x/0/y")
        ),
    ],
)
def test_of_a_reference_that_can_t_be_inlined_an_outline_is_left_and_it_is_named(schema, plain, named):
    dropped = []
    assert clean_schema(schema, "plain", dropped) == plain
    assert dropped == [named]


def test_references_that_multiply_are_inlined_up_to_a_bound():
    definitions = {
        f"A{number}": {"type": "object", "properties": {side: {"$ref": f"#/$defs/A{number + 1}"} for side in "lr"}}
        for number in range(40)
    }
    dropped = []
    clean_schema({"$ref": "#/$defs/A0", "$defs": definitions}, "plain", dropped)
    assert len(dropped) == 501  # the two of each that was inlined, and the first, less those that were inlined


def test_a_schema_that_is_nested_too_deep_is_named():
    schema = {}
    for _ in range(5000):
        schema = {"items": schema}
    with pytest.raises(InvalidPrompt, match="the parameters of the tool 'f' are nested too deep"):
        encoded(Prompt("hi", tools=[{"type": "function", "name": "f", "parameters": schema}]))
