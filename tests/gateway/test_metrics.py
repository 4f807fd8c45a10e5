"""What the gateway counts."""

import asyncio
import json
import os
import subprocess
import sys

import aiohttp
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest

from tests.gateway.asking import FORMS, ask
from tests.gateway.serving import MODEL, serving, upstream_at
from turnwire.errors import ConnectError
from turnwire.event import TokenUsage
from turnwire.gateway.catalog import Catalog
from turnwire.gateway.metrics import Metrics
from turnwire.gateway.pool import Pool, QueueLimits
from turnwire.gateway.upstream import Upstream
from turnwire.testing import ScriptedServer, Turn

ROUTE = {"upstream": "gpu", "model": "m"}


def test_an_answer_is_open_until_it_is_over():
    metrics = Metrics(CollectorRegistry())
    sample = metrics.registry.get_sample_value
    metrics.answer_begins("responses", "laptop")
    metrics.answer_begins("responses", "laptop")
    assert sample("turnwire_answers_open", {"api": "responses"}) == 2
    assert sample("turnwire_caller_answers_open", {"caller": "laptop"}) == 2
    metrics.answer_over(
        "responses",
        "laptop",
        "gpu",
        "m",
        "completed",
        duration=2.0,
        first_output_after=0.3,
        usage=TokenUsage(9, 4, 2, 1, 11),
    )
    metrics.answer_over("responses", "laptop", "gpu", "m", "left", duration=0.1)
    assert sample("turnwire_answers_open", {"api": "responses"}) == 0
    assert sample("turnwire_caller_answers_open", {"caller": "laptop"}) == 0
    assert {
        end: sample("turnwire_answers_total", {"api": "responses", **ROUTE, "end": end})
        for end in ("completed", "left")
    } == {"completed": 1, "left": 1}
    assert sample("turnwire_answer_seconds_sum", ROUTE) == 2.1
    assert sample("turnwire_first_output_seconds_count", ROUTE) == 1
    assert sample("turnwire_first_output_seconds_bucket", {**ROUTE, "le": "0.32"}) == 1
    assert sample("turnwire_first_output_seconds_bucket", {**ROUTE, "le": "0.16"}) == 0
    counts = {
        name: sample(f"turnwire_{name}_total", ROUTE)
        for name in ("input_tokens", "cached_input_tokens", "output_tokens")
    }
    assert counts == {"input_tokens": 9, "cached_input_tokens": 4, "output_tokens": 2}


def test_labels_are_words_of_our_own():
    metrics = Metrics(CollectorRegistry())
    metrics.dropped(["tool of type 'secret'", "tool of type 'other'", "truncation"])
    metrics.token_refused("forged")
    metrics.moved("gpu")
    metrics.waited("gpu", 0.5)
    metrics.kept_alive(3)
    metrics.asked_again("chat")
    sample = metrics.registry.get_sample_value
    assert sample("turnwire_dropped_features_total", {"feature": "tool of type …"}) == 2
    assert sample("turnwire_dropped_features_total", {"feature": "truncation"}) == 1
    assert sample("turnwire_refused_tokens_total", {"reason": "forged"}) == 1
    assert sample("turnwire_failovers_total", {"upstream": "gpu"}) == 1
    assert sample("turnwire_keepalives_total") == 3
    assert sample("turnwire_client_retries_total", {"api": "chat"}) == 1
    assert sample("turnwire_queue_seconds_sum", {"upstream": "gpu"}) == 0.5
    assert b"secret" not in generate_latest(metrics.registry)


@pytest.mark.usefixtures("nothing_left")
async def test_a_request_counts_as_sent_before_where_its_client_says_so():
    said = [(form, count) for form in FORMS for count in ("2", None)]
    said += [("chat", count) for count in ("10", "0", "00", "", "-1", "often", "²")]
    async with (
        ScriptedServer([Turn(text="hi")] * len(said), models=[MODEL]) as upstream,
        serving(upstream.base_url) as gateway,
        aiohttp.ClientSession() as session,
    ):
        for form, count in said:
            headers = {} if count is None else {"x-stainless-retry-count": count}
            assert (await ask(gateway, form, headers=headers)).text == "hi"
        async with session.get(f"{gateway.server.url}/metrics") as response:
            scraped = await response.text()
    # A WebSocket's headers tell of its handshake.
    assert [line for line in scraped.splitlines() if line.startswith("turnwire_client_retries_total")] == [
        'turnwire_client_retries_total{api="responses"} 2.0',
        'turnwire_client_retries_total{api="chat"} 3.0',
    ]


@pytest.mark.usefixtures("nothing_left")
async def test_what_the_pool_knows_is_read_from_it():
    upstreams = [Upstream(upstream_at("http://127.0.0.1:1/v1", name=name, max_concurrency=1)) for name in "ab"]
    pool = Pool(Catalog(upstreams), limits=QueueLimits(timeout=10.0))
    metrics = Metrics(CollectorRegistry())

    def read() -> dict[str, float | None]:
        metrics.read(pool, "ab")
        sample = metrics.registry.get_sample_value
        found = {
            f"{series} {name}": sample(f"turnwire_{series}", {"upstream": name})
            for series in ("upstream_requests_open", "upstream_well", "ejections_total")
            for name in "ab"
        }
        return {**found, "waiting": sample("turnwire_requests_waiting")}

    idle = {
        "upstream_requests_open a": 0,
        "upstream_requests_open b": 0,
        "upstream_well a": 1,
        "upstream_well b": 1,
        "ejections_total a": 0,
        "ejections_total b": 0,
        "waiting": 0,
    }
    assert read() == idle
    pool.failed("a", ConnectError("gone"))
    lease = await pool.lease("m", b"key")
    waiting = asyncio.create_task(pool.lease("m", b"key"))
    await asyncio.sleep(0)
    left_out = {**idle, "upstream_well a": 0, "ejections_total a": 1}
    assert read() == {**left_out, "upstream_requests_open b": 1, "waiting": 1}
    lease.end()
    (await waiting).end()
    assert read() == left_out
    pool.succeeded("a")
    assert read() == {**idle, "ejections_total a": 1}
    for upstream in upstreams:
        await upstream.close()


async def test_a_process_that_is_not_scraped_reads_its_pool_and_its_store_all_the_same():
    catalog = Catalog([Upstream(upstream_at("http://127.0.0.1:1/v1", name="a"))])
    pool = Pool(catalog)
    failures = {"get": 0, "put": 2}
    metrics = Metrics(CollectorRegistry())
    sample = metrics.registry.get_sample_value
    told: list[tuple[float | None, ...]] = []

    async def sleep(_: float) -> None:
        counts = [sample("turnwire_store_failures_total", {"operation": name}) for name in ("get", "put")]
        told.append((sample("turnwire_upstream_well", {"upstream": "a"}), *counts))
        pool.failed("a", ConnectError("gone"))
        failures["put"] += 1
        if len(told) == 2:
            raise EOFError

    with pytest.raises(EOFError):
        await metrics.keep_reading(pool, ["a"], failures, sleep=sleep)
    assert told == [(1, 0, 2), (0, 0, 3)]
    await catalog.close()


def test_of_several_processes_what_is_open_adds_up_and_an_upstream_is_well_where_all_find_it_so(tmp_path):
    code = """
import json, sys
from types import SimpleNamespace
from prometheus_client import CollectorRegistry
from prometheus_client.multiprocess import MultiProcessCollector
from turnwire.gateway.metrics import Metrics

back_at = json.loads(sys.argv[1])
metrics = Metrics(CollectorRegistry())
metrics.answer_begins("chat", "laptop")
health = SimpleNamespace(back_at=back_at, ejections=1)
metrics.read(SimpleNamespace(waiting=2, load=lambda name: 3, health=lambda name: health), ["a"])
if back_at:
    import subprocess
    subprocess.run([sys.executable, "-c", sys.argv[2], "null", ""], check=True)
both = CollectorRegistry()
MultiProcessCollector(both)
families = both.collect()
if back_at:
    print(json.dumps({sample.name: sample.value for family in families for sample in family.samples}))
"""
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    told = subprocess.run(
        [sys.executable, "-c", code, "1.5", code], env=environment, capture_output=True, text=True, check=True
    )
    read = json.loads(told.stdout)
    # The other process has ended, but nobody has said so yet.
    assert read == {
        "turnwire_answers_open": 2,
        "turnwire_caller_answers_open": 2,
        "turnwire_upstream_requests_open": 6,
        "turnwire_upstream_well": 0,
        "turnwire_ejections_total": 2,
        "turnwire_keepalives_total": 0,
        "turnwire_requests_waiting": 4,
    }


def test_every_series_is_named_in_the_classs_table():
    metrics = Metrics(CollectorRegistry())
    documented = {line.split("``")[1] for line in (Metrics.__doc__ or "").splitlines() if line.strip().startswith("``")}
    made = set()
    for family in metrics.registry.collect():
        made.add(f"{family.name}_total" if family.type == "counter" else family.name)
    assert made == documented


async def test_an_upstream_that_is_there_no_more_keeps_nobody_awake():
    upstreams = [Upstream(upstream_at("http://127.0.0.1:1/v1", name=name)) for name in "ab"]
    pool = Pool(Catalog(upstreams))
    metrics = Metrics(CollectorRegistry())
    pool.failed("a", ConnectError("gone"))
    lease = await pool.lease(MODEL, b"key", held_by="a")
    sample = metrics.registry.get_sample_value
    for names, well, load in (("ab", 0, pool.load("a")), ("b", 1, 0)):
        metrics.read(pool, names)
        assert sample("turnwire_upstream_well", {"upstream": "a"}) == well
        assert sample("turnwire_upstream_requests_open", {"upstream": "a"}) == load
    lease.end()
    for upstream in upstreams:
        await upstream.close()
