"""What decoding chat costs, without any socket: turnwire, the floor below it, and the openai SDK on the same bytes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

import msgspec
from msgspec import Struct

from answer import ANSWERS, Answer
from measurement import Comparison, Effort, Section, Target, alternate, timed
from sdk import sdk_chat
from turnwire.wire.chat import ChatDecoder
from turnwire.wire.chat.chunk import chunk_decoder

__all__ = ["measure_decoding"]

_OVER_FLOOR = Target(1.45, "times")
_UNDER_SDK = Target(40, "times less")


class _NarrowDelta(Struct, gc=False):
    content: str | None = None


class _NarrowChoice(Struct, gc=False):
    delta: _NarrowDelta


class _NarrowChunk(Struct, gc=False):
    choices: list[_NarrowChoice]


_narrow_decoder = msgspec.json.Decoder(_NarrowChunk)


def measure_decoding(effort: Effort) -> Iterator[Section]:
    """Three comparisons of the same rounds: with the floor, with the narrowest floor, and with the SDK."""
    over_floor, over_narrow, under_sdk = [], [], []
    for answer in ANSWERS.values():
        for cut, reads in (("one chunk per read", answer.events), ("64 KiB blocks", answer.blocks)):
            name = f"{answer.name}, {cut}"
            samples = _samples(answer, reads, effort)
            ours = samples["turnwire"]
            over_floor.append(Comparison(name, ours, samples["floor"], _OVER_FLOOR))
            over_narrow.append(Comparison(name, ours, samples["narrow"]))
            under_sdk.append(Comparison(name, ours, samples["sdk"], _UNDER_SDK, "times less"))
    yield Section("Decoder over the floor, per chunk", "µs", "floor", over_floor)
    yield Section("Decoder over the narrowest floor, per chunk", "µs", "narrowest floor", over_narrow)
    yield Section("Decoder against the openai SDK's, per chunk", "µs", "openai SDK", under_sdk)


def _samples(answer: Answer, reads: Sequence[bytes], effort: Effort) -> dict[str, list[float]]:
    repeats = effort.decoder_repeats
    sides = {
        "turnwire": timed(lambda: _turnwire(reads), repeats, answer.chunks),
        "floor": timed(lambda: _floor(reads, chunk_decoder.decode), repeats, answer.chunks),
        "narrow": timed(lambda: _floor(reads, _narrow_decoder.decode), repeats, answer.chunks),
        "sdk": timed(sdk_chat(reads), 1, answer.chunks),
    }
    return alternate(sides, effort.decoder_rounds)


def _turnwire(reads: Sequence[bytes]) -> float:
    started = time.perf_counter()
    decoder = ChatDecoder()
    for data in reads:
        for _ in decoder.feed(data):
            pass
    elapsed = time.perf_counter() - started
    assert decoder.done_seen
    return elapsed


def _floor(reads: Sequence[bytes], decode: Callable[[bytes], object]) -> float:
    """The least that anything could do: find a newline, cut the line out, have msgspec decode it into a typed view.

    It builds no event, keeps no text, and would fail on anything but ``data: `` lines.
    """
    started = time.perf_counter()
    rest = b""
    with suppress(msgspec.DecodeError):  # [DONE], which is last
        for data in reads:
            if rest:
                data = rest + data
            start = 0
            while (end := data.find(b"\n", start)) >= 0:
                decode(data[start + 6 : end])
                start = end + 2
            rest = data[start:]
    return time.perf_counter() - started
