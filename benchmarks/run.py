"""Measures what docs/performance.md tells: ``make bench``. Options: ``--help``."""

from __future__ import annotations

import argparse
import itertools
from functools import partial
from pathlib import Path

from cached_share import cached_share_plot, measure_cached_share
from decoding import measure_decoding
from loopback import measure_clients
from measurement import Effort
from relay import measure_gateways
from relay_gateway import PEERS, peer_versions
from relay_plot import relay_plot
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
        gateway_rounds=4,
        gateway_time=1.5,
        gateway_settle_time=0.5,
        gateway_streams=20,
        gateway_first_requests=60,
        memory_rounds=2,
        fleet_turns=4,
        fleet_rules=70,
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
        gateway_rounds=1,
        gateway_time=1.0,
        gateway_settle_time=0.5,
        gateway_streams=20,
        gateway_first_requests=30,
        memory_rounds=1,
        fleet_turns=3,
        fleet_rules=70,
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
        gateway_rounds=1,
        gateway_time=0.2,
        gateway_settle_time=0.1,
        gateway_streams=2,
        gateway_first_requests=2,
        memory_rounds=1,
        fleet_turns=1,
        fleet_rules=5,
    ),
}


def main() -> None:
    """Measure, and print section by section."""
    parser = argparse.ArgumentParser(description="turnwire's decoders, client and gateway against their targets")
    pace = parser.add_mutually_exclusive_group()
    pace.add_argument("--quick", action="store_const", dest="effort", const="quick", help="under a minute, rougher")
    pace.add_argument(
        "--smoke", action="store_const", dest="effort", const="smoke", help="only see that all of it runs: no figures"
    )
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="also put the figures between FILE's marks")
    parser.add_argument(
        "--peers", type=Path, metavar="FOLDER", default=PEERS, help="the environment that has LiteLLM's proxy"
    )
    options = parser.parse_args()
    effort = options.effort or "full"

    peers = peer_versions(options.peers)
    facts = [
        *conditions(effort),
        ("other gateways", ", ".join(f"{name} {version}" for name, version in peers.items()) or "none"),
    ]
    print(*(f"{name}: {value}" for name, value in facts), "", sep="\n", flush=True)
    sections = []
    gateways = partial(measure_gateways, peers=options.peers)
    measures = (measure_decoding, measure_responses_decoding, measure_clients, gateways, measure_cached_share)
    for section in itertools.chain.from_iterable(measure(_EFFORTS[effort]) for measure in measures):
        print(to_text(section), flush=True)
        sections.append(section)
    if options.markdown is not None:
        put_into(options.markdown, to_markdown(facts, sections))
        images = options.markdown.parent / "images"
        images.mkdir(exist_ok=True)
        (images / "gateways.svg").write_text(relay_plot(sections), encoding="utf-8")
        (images / "cached_share.svg").write_text(cached_share_plot(sections), encoding="utf-8")


if __name__ == "__main__":
    main()
