"""``turnwire top``: what it makes of two looks at a gateway, and how that looks."""

from __future__ import annotations

import asyncio
import os
import pty
import re
import signal
import sys
from contextlib import suppress

import pytest
from rich.console import Console

from tests.cli.command import Command
from tests.gateway.asking import ask
from tests.gateway.serving import MODEL, serving, upstream_at
from turnwire.cli import top
from turnwire.cli.top_figures import MEMORY, Figures, History, Scrape, UpstreamFigures, figures_of, read_scrape
from turnwire.cli.top_screen import screen
from turnwire.errors import ConfigurationError
from turnwire.gateway.caller import CallerKey, key_hash
from turnwire.testing import ScriptedServer, Turn
from turnwire.transport.http import HttpTransport

NOTHING = Figures(
    open=0,
    waiting=0,
    callers=0,
    answers=0.0,
    input_tokens=0.0,
    output_tokens=0.0,
    cached_share=None,
    dropped=0,
    refused_tokens=0,
    upstreams=[],
)


def exposition(
    *,
    answers: int = 0,
    failed: int = 0,
    tokens: tuple[int, int, int] = (0, 0, 0),
    began: tuple[int, int, int] = (0, 0, 0),
    well: int = 1,
    open_: int = 0,
) -> str:
    """What a gateway with one upstream tells; ``began`` are the answers within 1 s, 2 s, and at any time."""
    route = 'upstream="a",model="m"'
    return "\n".join(
        [
            "turnwire_requests_waiting 1.0",
            'turnwire_upstream_well{upstream="a"} ' + str(well),
            'turnwire_upstream_requests_open{upstream="a"} ' + str(open_),
            'turnwire_ejections_total{upstream="a"} 2',
            'turnwire_failovers_total{upstream="a"} 3',
            'turnwire_answers_open{api="chat"} ' + str(open_),
            'turnwire_caller_answers_open{caller="laptop"} ' + str(open_),
            'turnwire_caller_answers_open{caller="ci"} 0',
            f'turnwire_answers_total{{api="chat",{route},end="completed"}} {answers}',
            f'turnwire_answers_total{{api="chat",{route},end="failed"}} {failed}',
            f"turnwire_input_tokens_total{{{route}}} {tokens[0]}",
            f"turnwire_cached_input_tokens_total{{{route}}} {tokens[1]}",
            f"turnwire_output_tokens_total{{{route}}} {tokens[2]}",
            *(
                f'turnwire_first_output_seconds_bucket{{{route},le="{bound}"}} {count}'
                for bound, count in zip(("1.0", "2.0", "+Inf"), began, strict=True)
            ),
            'turnwire_dropped_features_total{feature="truncation"} 4',
            'turnwire_refused_tokens_total{reason="forged"} 5',
            "",
        ]
    )


def scrape(time: float, text: str) -> Scrape:
    found = read_scrape(text, time)
    assert found is not None
    return found


def history(*scrapes: Scrape) -> History:
    made = History()
    for one in scrapes:
        made.add(one)
    return made


def test_figures_are_what_is_between_two_scrapes() -> None:
    first = exposition(answers=10, failed=1, tokens=(100, 50, 30), began=(2, 2, 2))
    second = exposition(answers=14, failed=2, tokens=(300, 200, 130), began=(6, 12, 12), open_=2)
    upstream = UpstreamFigures(
        name="a",
        well=True,
        open=2,
        answers=2.5,
        output_tokens=50.0,
        pace=[50.0],
        cached_share=0.75,
        first_output=(pytest.approx(1 + 1 / 6), pytest.approx(1 + 5.5 / 6)),  # type: ignore[arg-type]
        failed=1,
        ejections=2,
        failovers=3,
    )
    assert figures_of([history(scrape(0.0, first), scrape(2.0, second)), History()]) == Figures(
        open=2,
        waiting=1,
        callers=1,
        answers=2.5,
        input_tokens=100.0,
        output_tokens=50.0,
        cached_share=0.75,
        dropped=4,
        refused_tokens=5,
        upstreams=[upstream],
    )


def test_several_gateways_add_up_and_an_upstream_is_well_where_all_find_it_so() -> None:
    one = history(scrape(0.0, exposition()), scrape(1.0, exposition()), scrape(2.0, exposition(tokens=(8, 8, 8))))
    other = history(scrape(7.0, exposition()), scrape(9.0, exposition(tokens=(8, 0, 8), well=0, open_=1)))
    figures = figures_of([one, other])
    (upstream,) = figures.upstreams
    assert (upstream.well, upstream.open, upstream.output_tokens, upstream.cached_share) == (False, 1, 8.0, 0.5)
    assert upstream.pace == [0.0, 12.0]
    assert (figures.open, figures.waiting, figures.callers) == (1, 2, 1)


def test_a_gateway_that_began_anew_counts_from_nothing() -> None:
    figures = figures_of(
        [history(scrape(0.0, exposition(tokens=(90, 0, 90))), scrape(1.0, exposition(tokens=(5, 0, 5))))]
    )
    assert (figures.input_tokens, figures.output_tokens) == (5.0, 5.0)


def test_one_scrape_tells_no_rates() -> None:
    (upstream,) = figures_of([history(scrape(0.0, exposition(answers=9, tokens=(9, 9, 9), began=(9, 9, 9))))]).upstreams
    assert (upstream.answers, upstream.pace, upstream.cached_share, upstream.first_output) == (0.0, [], None, None)


@pytest.mark.parametrize(
    ("began", "first_output"),
    [
        ((0, 0, 0), None),
        ((4, 4, 4), (0.5, 0.95)),
        ((0, 4, 4), (1.5, 1.95)),
        ((1, 1, 4), (2.0, 2.0)),  # beyond the last bound nothing is known
    ],
)
def test_a_share_of_answers_began_within_a_time(
    began: tuple[int, int, int], first_output: tuple[float, float] | None
) -> None:
    (upstream,) = figures_of([history(scrape(0.0, exposition()), scrape(1.0, exposition(began=began)))]).upstreams
    assert upstream.first_output == (None if first_output is None else pytest.approx(first_output))


def test_what_is_too_old_is_forgotten_and_so_is_a_gateway_that_is_gone() -> None:
    kept = history(*(scrape(time, exposition()) for time in (0.0, 1.0, MEMORY + 1.0)))
    assert [one.time for one in kept.scrapes] == [1.0, MEMORY + 1.0]
    assert repr(kept) == "<History of 2 scrapes>"
    kept.forget()
    assert figures_of([kept]) == NOTHING
    assert (kept.sum("turnwire_requests_waiting"), kept.grown("turnwire_answers_total", MEMORY)) == (0.0, 0.0)


@pytest.mark.parametrize("text", ["", "<html>", "up 1\n", "turnwire_requests_waiting many\n"])
def test_what_is_no_gateways_is_none(text: str) -> None:
    assert read_scrape(text, 0.0) is None


def shown(figures: Figures, *complaints: str, width: int = 140) -> str:
    console = Console(width=width, color_system=None)
    with console.capture() as capture:
        console.print(screen(figures, ["http://one", "http://two"], complaints, width=width))
    return "".join(f"{line.rstrip()}\n" for line in capture.get().splitlines())


BUSY = UpstreamFigures("gpu-0", True, 3, 2.51, 1234.5, [0.0, 10.0, 20.0], 0.834, (0.031, 1.2), 0, 0, 0)
GONE = UpstreamFigures("gpu-1", False, 0, 0.0, 0.0, [0.0, 0.0, 0.0], None, None, 2, 1, 12)


def test_it_shows_totals_and_a_row_for_each_upstream() -> None:
    figures = Figures(1203, 2, 1, 2.51, 20_000.0, 1234.5, 0.834, 7, 5, [BUSY, GONE])
    titles = "first output     95%  failed  left out  moved on  pace"
    assert shown(figures) == (
        "turnwire top  http://one  http://two\n"
        "1,203 open  2 waiting  1 caller  2.5 answers/s  20,000 tokens/s in, 1,234 out  83% cached  7 features dropped"
        "  5 turn tokens refused\n"
        "\n"
        f"upstream              open  answers/s  tokens/s  cached  {titles}\n"
        "gpu-0     ● well         3        2.5     1,234     83%  "
        "       31 ms  1.20 s       0         0         0   ▅█\n"
        "gpu-1     ○ left out     0          0         0       -  "
        "           -       -       2         1        12\n"
    )


def test_in_a_narrow_terminal_it_leaves_out_what_matters_least() -> None:
    lines = shown(Figures(3, 0, 2, 2.51, 1.0, 1234.5, 0.834, 0, 0, [BUSY, GONE]), width=80).splitlines()
    assert lines[1:] == [
        "3 open  0 waiting  2 callers  2.5 answers/s  1.0 tokens/s in, 1,234 out  83%",
        "cached",
        "",
        "upstream              open  tokens/s  cached  first output     95%  failed",
        "gpu-0     ● well         3     1,234     83%         31 ms  1.20 s       0",
        "gpu-1     ○ left out     0         0       -             -       -       2",
    ]


def test_a_gateway_that_does_not_answer_is_told() -> None:
    assert shown(NOTHING, "no gateway answers: \x1b[2J") == (
        "turnwire top  http://one  http://two\n"
        "0 open  0 waiting  0 callers  0 answers/s  0 tokens/s in, 0 out  - cached\n"
        "no gateway answers: �[2J\n"
    )


@pytest.mark.parametrize(
    ("given", "address"),
    [
        ("localhost:8088", "http://localhost:8088"),
        ("http://[::1]:1/v1", "http://[::1]:1"),
        ("https://key@gateway.example/v1/", "https://gateway.example"),
    ],
)
def test_a_gateways_address_may_be_that_of_its_clients(given: str, address: str) -> None:
    assert top._address(given) == address


@pytest.mark.parametrize("given", ["", "ftp://x", "http://"])
def test_what_is_no_address_is_refused(given: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^--gateway '{given}' is no address; expected something like http"):
        top._address(given)


async def test_into_a_pipe_it_prints_one_table(turnwire: Command) -> None:
    async with (
        ScriptedServer([Turn(text="hi")], models=[MODEL]) as upstream,
        serving(upstream_at(upstream.base_url, name="gpu"), callers=(CallerKey("ci", key_hash("secret")),)) as gateway,
    ):
        await ask(gateway, "responses", headers={"authorization": "Bearer secret"})
        address, nowhere = gateway.server.url, "http://127.0.0.1:1"
        told = await turnwire(
            "top", "-g", gateway.base_url, "-g", nowhere, "--interval", "0.1", TURNWIRE_API_KEY="secret"
        )
    assert (told.code, told.stderr) == (0, "")
    assert [line.split() for line in told.stdout.splitlines()] == [
        line.split()
        for line in (
            f"turnwire top {address} {nowhere}",
            "0 open 0 waiting 0 callers 0 answers/s 0 tokens/s in, 0 out - cached",
            f"no gateway answers: can't connect to {nowhere}/metrics: connection refused; start one with "
            "`turnwire serve`, or say where it is",
            "with --gateway",
            "",
            "upstream open answers/s tokens/s cached first output 95% failed left out moved on pace",
            "gpu ● well 0 0 0 - - - 0 0 0",
        )
    ]


async def test_where_nobody_answers_or_nobody_that_may_be_watched_it_says_so(turnwire: Command) -> None:
    callers = (CallerKey("ci", key_hash("secret")),)
    async with ScriptedServer() as server, serving(upstream_at(server.base_url), callers=callers) as gateway:
        address, none = gateway.server.url, server.base_url.removesuffix("/v1")
        told = [
            (run.code, run.stdout, run.stderr)
            for run in [
                await turnwire("top", "--once", "-g", "127.0.0.1:1"),
                await turnwire("top", "--once", "-g", gateway.base_url, "-g", none),
            ]
        ]
    assert told == [
        (
            1,
            "",
            "error: no gateway answers: can't connect to http://127.0.0.1:1/metrics: connection refused; start one "
            "with `turnwire serve`, or say where it is with --gateway\n",
        ),
        (
            1,
            "",
            f"error: the gateway at {address} wants a key of its callers: put one into TURNWIRE_API_KEY; "
            f"what answers at {none} is no gateway of turnwire\n",
        ),
    ]


def test_without_what_reads_metrics_it_says_what_to_install(turnwire: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "turnwire.cli.top_figures")
    monkeypatch.setitem(sys.modules, "prometheus_client.parser", None)
    told = turnwire.here("top", "--once")
    assert (told.code, told.stderr) == (
        2,
        'error: to watch gateways is an extra of turnwire: pip install "turnwire[gateway]"\n',
    )


async def test_a_gateway_that_says_nothing_is_not_waited_for_any_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    left = asyncio.Event()

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()
        await writer.wait_closed()
        left.set()

    monkeypatch.setattr(top, "_TIMEOUT", 0.02)
    transport = HttpTransport(open_timeout=1.0)
    async with await asyncio.start_server(say_nothing, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        told = await top._scrape_if_any(f"http://{host}:{port}", transport)
        await transport.close()
        await left.wait()
    assert str(told) == f"no gateway answers at http://{host}:{port} within 0.02 s"


async def test_in_a_terminal_it_goes_on_until_ctrl_c(turnwire: Command) -> None:
    ours, theirs = pty.openpty()
    try:
        async with ScriptedServer(models=[MODEL]) as upstream, serving(upstream.base_url) as gateway:
            options = ("-g", gateway.base_url, "--interval", "0.1")
            process = await turnwire.start("top", *options, stdin=theirs, stdout=theirs, TERM="xterm", COLUMNS="100")
            text = ""
            while text.count("upstream-0") < 3:
                text += (await asyncio.to_thread(os.read, ours, 65536)).decode()
            process.send_signal(signal.SIGINT)
            _, error = await process.communicate()
    finally:
        for end in (ours, theirs):
            with suppress(OSError):
                os.close(end)
    assert (process.returncode, error) == (0, b"")
    assert re.search("● well", text)
