"""Chat answers of some 500 chunks, as servers write them: the bytes that every side of a benchmark is given."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias

import msgspec
from msgspec import Struct

from turnwire.wire.sse import encode_event

__all__ = ["ANSWERS", "Answer", "blocks", "texts"]

Delta: TypeAlias = dict[str, Any]

_CHUNKS = 500
_BLOCK = 64 * 1024
_ROLE: Delta = {"role": "assistant", "content": ""}
_TOKENS = (
    *(" The", " quick", " brown", " fox", " jumps", " over", " the", " lazy", " dog", " in", " Z", "ürich"),
    *(",", " and", " says", ' "', "good", " night", '"', ".", "\n\n", "- ", "21", " °C", " 🌦", " |", " `", "x", "`"),
)
_USAGE = {
    "prompt_tokens": 732,
    "completion_tokens": _CHUNKS,
    "total_tokens": 732 + _CHUNKS,
    "prompt_tokens_details": {"cached_tokens": 640},
}


class Answer(Struct, frozen=True):
    """One streamed answer: its events as bytes, ``[DONE]`` included."""

    name: str
    events: list[bytes]

    @property
    def chunks(self) -> int:
        """How many events hold a chunk."""
        return len(self.events) - 1

    @property
    def blocks(self) -> list[bytes]:
        """The same bytes as 64 KiB reads."""
        return blocks(self.events)


def blocks(events: Iterable[bytes]) -> list[bytes]:
    """Events as 64 KiB reads, cut wherever that falls."""
    body = b"".join(events)
    return [body[start : start + _BLOCK] for start in range(0, len(body), _BLOCK)]


def texts(count: int) -> Iterator[str]:
    """What a model says, a token at a time."""
    return (_TOKENS[number % len(_TOKENS)] for number in range(count))


def _answer(name: str, chunks: Iterable[dict[str, Any]]) -> Answer:
    return Answer(name, [*(encode_event(msgspec.json.encode(chunk)) for chunk in chunks), encode_event("[DONE]")])


def _vllm(deltas: Iterable[Delta], finish: str = "stop") -> Iterator[dict[str, Any]]:
    head = {
        "id": "chatcmpl-929d58f0e1c6c802",
        "object": "chat.completion.chunk",
        "created": 1795366250,
        "model": "Qwen/Qwen3-32B",
    }
    still = {"logprobs": None, "finish_reason": None, "token_ids": None}
    yield head | {"choices": [{"index": 0, "delta": _ROLE, "logprobs": None, "finish_reason": None}]}
    for delta in deltas:
        yield head | {"choices": [{"index": 0, "delta": delta} | still]}
    yield head | {"choices": [{"index": 0, "delta": {"content": ""}} | still | {"finish_reason": finish}]}
    yield head | {"choices": [], "usage": _USAGE}


def _llamacpp(deltas: Iterable[Delta]) -> Iterator[dict[str, Any]]:
    tail = {
        "created": 1795366994,
        "id": "chatcmpl-hLyiIH5mIZSuS8ibSJZOpbfe60O4DEoK",
        "model": "Qwen3-32B-Q4_K_M.gguf",
        "system_fingerprint": "b6527-unknown",
        "object": "chat.completion.chunk",
    }
    yield {"choices": [{"finish_reason": None, "index": 0, "delta": {"role": "assistant", "content": None}}]} | tail
    for delta in deltas:
        yield {"choices": [{"finish_reason": None, "index": 0, "delta": delta}]} | tail
    yield {"choices": [{"finish_reason": "stop", "index": 0, "delta": {}}]} | tail
    yield {"choices": []} | tail | {"usage": _USAGE, "timings": {"cache_n": 640, "prompt_n": 92, "predicted_n": 500}}


def _openai(deltas: Iterable[Delta]) -> Iterator[dict[str, Any]]:
    """A hosted server that pads every chunk to hide how long its text is, so that no two are framed alike."""
    chance = random.Random(7)
    head = {
        "id": "chatcmpl-CIG2tEDJmGJ4gzeW5qCzfWPKxTEoN",
        "object": "chat.completion.chunk",
        "created": 1795366250,
        "model": "gpt-4o-2024-08-06",
        "service_tier": "default",
        "system_fingerprint": "fp_f33640a400",
    }

    def padding() -> dict[str, str]:
        letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
        return {"obfuscation": "".join(chance.choices(letters, k=chance.randint(1, 16)))}

    still = {"logprobs": None, "finish_reason": None}
    role = _ROLE | {"refusal": None}
    for delta in (role, *deltas):
        yield head | {"choices": [{"index": 0, "delta": delta} | still], "usage": None} | padding()
    yield head | {"choices": [{"index": 0, "delta": {}} | still | {"finish_reason": "stop"}], "usage": None} | padding()
    yield head | {"choices": [], "usage": _USAGE} | padding()


def _agent_turn() -> Iterator[Delta]:
    """Reasoning, a text, and a call whose arguments come in fragments."""
    for text in texts(_CHUNKS * 2 // 5):
        yield {"reasoning": text}
    for text in texts(_CHUNKS * 2 // 5):
        yield {"content": text}
    name = {"name": "write_file", "arguments": ""}
    yield {"tool_calls": [{"id": "chatcmpl-tool-1f0c", "type": "function", "index": 0, "function": name}]}
    for text in ('{"text": "', *texts(_CHUNKS // 5), '"}'):
        arguments = text if text.startswith(('{"', '"}')) else msgspec.json.encode(text).decode()[1:-1]
        yield {"tool_calls": [{"index": 0, "function": {"arguments": arguments}}]}


ANSWERS = {
    answer.name: answer
    for answer in (
        _answer("vllm", _vllm({"content": text} for text in texts(_CHUNKS))),
        _answer("llamacpp", _llamacpp({"content": text} for text in texts(_CHUNKS))),
        _answer("openai", _openai({"content": text} for text in texts(_CHUNKS))),
        _answer("agent-turn", _vllm(_agent_turn(), finish="tool_calls")),
    )
}
"""By name; ``openai`` is padded differently in every chunk, ``agent-turn`` reasons, speaks and calls."""
