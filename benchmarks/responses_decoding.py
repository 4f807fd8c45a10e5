"""What decoding Responses costs, without any socket: turnwire and the openai SDK on the same bytes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

from measurement import Comparison, Effort, Section, Target, alternate, timed
from responses_answer import RESPONSES_ANSWER
from sdk import sdk_responses, sdk_responses_messages
from turnwire.event import ResponseEvent
from turnwire.wire.responses import ResponsesDecoder

__all__ = ["measure_responses_decoding"]

_UNDER_SDK = Target(30, "times less")


def measure_responses_decoding(effort: Effort) -> Iterator[Section]:
    """One comparison, over both transports."""
    messages, events, blocks = RESPONSES_ANSWER.messages, RESPONSES_ANSWER.events, RESPONSES_ANSWER.blocks
    sides = {
        "SSE, one event per read": (partial(_turnwire, ResponsesDecoder.feed, events), sdk_responses(events)),
        "SSE, 64 KiB blocks": (partial(_turnwire, ResponsesDecoder.feed, blocks), sdk_responses(blocks)),
        "WebSocket, one event per message": (
            partial(_turnwire, ResponsesDecoder.feed_frame, messages),
            sdk_responses_messages(messages),
        ),
    }
    comparisons = []
    for name, (ours, theirs) in sides.items():
        samples = alternate(
            {
                "turnwire": timed(ours, effort.decoder_repeats, len(messages)),
                "sdk": timed(theirs, 1, len(messages)),
            },
            effort.decoder_rounds,
        )
        comparisons.append(Comparison(name, samples["turnwire"], samples["sdk"], _UNDER_SDK, "times less"))
    yield Section("Responses decoder against the openai SDK's, per event", "µs", "openai SDK", comparisons)


def _turnwire(feed: Callable[[ResponsesDecoder, bytes], Iterable[ResponseEvent]], pieces: Sequence[bytes]) -> float:
    """With calls watched, for the SDK tells their arguments as well."""
    started = time.perf_counter()
    decoder = ResponsesDecoder(watch_calls=True)
    for piece in pieces:
        for _ in feed(decoder, piece):
            pass
    elapsed = time.perf_counter() - started
    assert decoder.finish_reason == "completed"
    return elapsed
