"""Fuzzes the chat decoder with what recordings become when they are torn apart.

    python fuzz/fuzz_chat_decoder.py --seconds 60

With atheris (``pip install -e . atheris``; it is not among the locked requirements) the search is guided by coverage;
without it, recordings are mutated at random. What must hold is `tests.decoding.check`, which the property tests share.
The first two bytes of an input choose the options and the cuts, the others are the body. An input that fails is
written to ``crash-<sha1>`` in the working directory, and running the script with its name tries it again.
"""

import argparse
import hashlib
import importlib.util
import logging
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

INSTRUMENTED = ["turnwire.wire.sse", "turnwire.wire.failure", "turnwire.wire.chat"]
MAX_SIZE = 4096
TOKENS = [
    *(
        b"data: ",
        b"data:",
        b"\n\n",
        b"\r",
        b"\r\n",
        b":\n",
        b"event: e\n",
        b"\xef\xbb\xbf",
        b"[DONE]",
        b"\\",
        b'"',
        b"\xff",
    ),
    *(b"null", b"{}", b"[]", b'"a"', b"1e999", b'"usage":', b'"error":', b'"index":', b'"id":"",', b'"reasoning":"r",'),
    *(
        b'"content":',
        b'"tool_calls":[{"function":{"name":"f","arguments":{}}}],',
        b'"finish_reason":"stop"',
        b"\\u2028",
    ),
]


def try_input(data: bytes) -> None:
    """Raises where something does not hold for this input."""
    from tests.decoding import check
    from turnwire.wire.chat import ChatDialect

    flags, spread, body = data[0] if data else 0, data[1] if data[1:] else 0, data[2:]
    options = {"max_output_tokens_set": bool(flags & 1), "watch_calls": bool(flags & 2)}
    if flags & 4:
        options["max_event_size"] = 3 + 8 * (flags >> 4)
    places = [spread * step for step in range(1, 8)]
    check(body, places, ChatDialect.preset("tolerant") if flags & 8 else ChatDialect(), **options)


def corpus() -> list[bytes]:
    """The beginning and the end of each recorded stream, cut between events."""
    from tests.recording import STREAMS

    inputs = []
    for number, recording in enumerate(STREAMS):
        events = recording.body.split(b"\n\n")
        inputs.append(bytes([number, 37]) + b"\n\n".join([*events[:6], *events[-4:]])[: MAX_SIZE - 2])
    return inputs


def mutants(seeds: list[bytes], chance: random.Random) -> Iterator[bytes]:
    """Seeds with pieces left out, repeated, put elsewhere, taken from another seed, or replaced by what may hurt."""
    while True:
        data = chance.choice(seeds)
        for _ in range(chance.randint(1, 6)):
            start, end = sorted(chance.randrange(len(data) + 1) for _ in range(2))
            other = chance.choice(seeds)
            piece = chance.choice(
                [
                    b"",
                    data[start:end] * 2,
                    chance.choice(TOKENS),
                    other[start:end],
                    chance.randbytes(chance.randint(1, 3)),
                ]
            )
            end = chance.choice([start, end, start + len(piece)])
            data = (data[:start] + piece + data[end:])[:MAX_SIZE]
        yield data


def fuzz_at_random(seconds: float, seed: int) -> None:
    """Tries mutants until the time is over; the seed makes a run repeatable."""
    end, count = time.monotonic() + seconds, 0
    for data in mutants(corpus(), random.Random(seed)):
        try:
            try_input(data)
        except Exception:
            crash = Path(f"crash-{hashlib.sha1(data).hexdigest()}")
            crash.write_bytes(data)
            print(f"{crash} fails:")
            raise
        count += 1
        if time.monotonic() > end:
            break
    print(f"{count} inputs, all of them sound")


def fuzz_by_coverage(seconds: float, seed: int) -> None:
    """Hands over to libFuzzer, which ends the process itself."""
    import atheris

    with atheris.instrument_imports(include=INSTRUMENTED, enable_loader_override=False):
        try_input(b"")
    with tempfile.TemporaryDirectory() as folder:
        for data in corpus():
            Path(folder, hashlib.sha1(data).hexdigest()).write_bytes(data)
        bounds = [f"-max_total_time={seconds:.0f}", f"-max_len={MAX_SIZE}", f"-seed={seed}"]
        atheris.Setup([sys.argv[0], *bounds, folder], try_input)
        atheris.Fuzz()


def main() -> None:
    parser = argparse.ArgumentParser(description="Fuzzes the chat decoder.")
    parser.add_argument("inputs", nargs="*", type=Path, help="inputs to try again, instead of fuzzing")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    logging.disable()
    sys.path.insert(0, str(Path(__file__).parent.parent))
    for path in arguments.inputs:
        try_input(path.read_bytes())
    if not arguments.inputs:
        guided = importlib.util.find_spec("atheris") is not None
        (fuzz_by_coverage if guided else fuzz_at_random)(arguments.seconds, arguments.seed)


if __name__ == "__main__":
    main()
