"""Measures what docs/performance.md tells: ``make bench``. Options: ``--help``."""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

from decoding import measure_decoding
from loopback import measure_clients
from measurement import Effort
from report import conditions, put_into, to_markdown, to_text
from responses_decoding import measure_responses_decoding

_EFFORTS = {
    "full": Effort(
        decoder_rounds=25,
        decoder_repeats=10,
        client_rounds=5,
        client_time=2.0,
        settle_time=1.5,
        paced_streams=50,
        first_requests=200,
        idle_streams=500,
    ),
    "quick": Effort(
        decoder_rounds=5,
        decoder_repeats=5,
        client_rounds=1,
        client_time=1.0,
        settle_time=1.5,
        paced_streams=50,
        first_requests=100,
        idle_streams=500,
    ),
    "smoke": Effort(
        decoder_rounds=1,
        decoder_repeats=1,
        client_rounds=1,
        client_time=0.2,
        settle_time=0.2,
        paced_streams=2,
        first_requests=2,
        idle_streams=5,
    ),
}


def main() -> None:
    """Measure, and print section by section."""
    parser = argparse.ArgumentParser(description="turnwire's decoders and client against their targets")
    pace = parser.add_mutually_exclusive_group()
    pace.add_argument("--quick", action="store_const", dest="effort", const="quick", help="under a minute, rougher")
    pace.add_argument(
        "--smoke", action="store_const", dest="effort", const="smoke", help="only see that all of it runs: no figures"
    )
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="also put the figures between FILE's marks")
    options = parser.parse_args()
    effort = options.effort or "full"

    facts = conditions(effort)
    print(*(f"{name}: {value}" for name, value in facts), "", sep="\n", flush=True)
    sections = []
    measures = (measure_decoding, measure_responses_decoding, measure_clients)
    for section in itertools.chain.from_iterable(measure(_EFFORTS[effort]) for measure in measures):
        print(to_text(section), flush=True)
        sections.append(section)
    if options.markdown is not None:
        put_into(options.markdown, to_markdown(facts, sections))


if __name__ == "__main__":
    main()
