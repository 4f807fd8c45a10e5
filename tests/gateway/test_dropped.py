"""What could not be carried over, in a header and in a counter."""

import pytest

from turnwire.gateway.dropped import dropped_header, feature_kind


@pytest.mark.parametrize(
    ("features", "header"),
    [
        (["truncation"], "truncation"),
        (["truncation", "tool of type 'web_search'"], "truncation; tool of type 'web_search'"),
        (["parameter 'a;b\r\nx-forged: é'"], "parameter 'a?b??x-forged: ?'"),
        (["a" * 600, "b" * 600, "c"], "a" * 600 + "; and 2 more"),
        (["a" * 2000], "and 1 more"),
    ],
)
def test_the_header_is_visible_and_short(features, header):
    assert dropped_header(features) == header


@pytest.mark.parametrize(
    ("feature", "kind"),
    [
        ("truncation", "truncation"),
        ("tool_choice, as there are no tools", "tool_choice, as there are no tools"),
        ("reasoning.summary", "reasoning.summary"),
        ("reasoning.anything", "reasoning.…"),
        ("reasoning without an answer", "reasoning without an answer"),
        ("tool of type 'web_search'", "tool of type …"),
        ("key 'x' of a message of role 'user'", "key …"),
        ('parameter "it\'s"', "parameter …"),
        ("allowed tool {'name': 'x'}", "allowed tool …"),
        ("allowed tool 5", "allowed tool …"),
        ("Anything", "…"),
    ],
)
def test_a_counters_label_has_no_word_of_the_clients(feature, kind):
    assert feature_kind(feature) == kind
