from typing import Any

import pytest

from turnwire.gateway.affinity import conversation_of

_USER = {"type": "message", "role": "user", "content": "Hi"}
_RULES = {"type": "message", "role": "developer", "content": "Be brief."}
_ANSWER = {"type": "message", "role": "assistant", "content": "Hello!"}

_BASE: dict[str, Any] = {"instructions": "Rules", "input": [_RULES, _USER]}


@pytest.mark.parametrize(
    "later",
    [
        {"instructions": "Rules", "input": [_RULES, _USER, _ANSWER, _USER]},
        {"instructions": "Rules", "input": [_RULES, _USER], "temperature": 0.5, "previous_response_id": "resp_1"},
    ],
)
def test_a_conversation_that_grows_stays_the_same(later: dict[str, Any]) -> None:
    assert conversation_of(_BASE, {}) == conversation_of(later, {})


@pytest.mark.parametrize(
    "other",
    [
        {"instructions": "Other rules", "input": [_RULES, _USER]},
        {"instructions": "Rules", "input": [_RULES, {**_USER, "content": "Hey"}]},
        {"instructions": "Rules", "input": [_USER]},
    ],
)
def test_another_head_is_another_conversation(other: dict[str, Any]) -> None:
    assert conversation_of(_BASE, {}) != conversation_of(other, {})


def test_a_bare_text_and_messages_of_the_chat_api_have_a_head_too() -> None:
    texts = [conversation_of({"input": text}, {}) for text in ("a", "b")]
    chats = [conversation_of({"messages": [{"role": "user", "content": text}]}, {}) for text in ("a", "b")]
    assert len({*texts, *chats}) == 4


def test_the_cache_key_outranks_the_thread_and_the_thread_the_session() -> None:
    headers = {"thread-id": "t", "session-id": "s"}
    by_cache_key = conversation_of({**_BASE, "prompt_cache_key": "k"}, headers)
    by_thread = conversation_of(_BASE, headers)
    by_session = conversation_of(_BASE, {"session-id": "s"})
    assert len({by_cache_key, by_thread, by_session, conversation_of(_BASE, {})}) == 4
    assert by_thread == conversation_of({"input": "something else"}, {**headers, "session-id": "another"})


@pytest.mark.parametrize("fields", [{}, {"input": 1}, {"input": [1, None, {"role": 3}]}, {"prompt_cache_key": 5}])
def test_what_makes_no_sense_has_a_key_as_well(fields: dict[str, Any]) -> None:
    assert len(conversation_of(fields, {})) == 8


def test_a_huge_head_is_looked_at_in_part() -> None:
    head = "x" * 100_000
    assert conversation_of({"input": head + "a"}, {}) == conversation_of({"input": head + "b"}, {})
