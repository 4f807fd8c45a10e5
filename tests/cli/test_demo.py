"""``turnwire demo`` as it runs in CI: real llama.cpp servers, real gateways, no terminal."""

import re
import signal
import sys
from asyncio.subprocess import Process
from pathlib import Path

from msgspec import Struct

from tests.cli.command import Command, Run
from turnwire.cli.demo import _OPENING
from turnwire.cli.demo_rules import HOTEL, MARINA

WITHOUT_CODEX = {"TURNWIRE_DEMO_CODEX": "no"}
ROW = re.compile(
    r"(\d) {5}(\w+) +(\d)( elsewhere|) +(none|…[\w-]{6}|Codex's) +([12]?) +→ ([AB]) +([\d,]+) +(\d+)% +[\d.]+ m?s *\n",
    re.ASCII,
)


class Row(Struct, frozen=True):
    turn: int
    client: str
    request: int
    elsewhere: bool
    token: str
    gateway: str
    replica: str
    prompt: int
    cached: int


def rows(run: Run) -> list[Row]:
    return [
        Row(int(turn), client, int(request), bool(elsewhere), *words, int(prompt.replace(",", "")), int(cached))
        for turn, client, request, elsewhere, *words, prompt, cached in ROW.findall(run.stdout)
    ]


def other(replica: str) -> str:
    return "B" if replica == "A" else "A"


async def test_the_demo_keeps_each_turn_where_its_cache_is(turnwire: Command) -> None:
    # A proxy is no way to this machine.
    run = await turnwire("demo", **WITHOUT_CODEX, http_proxy="http://127.0.0.1:9")
    assert (run.code, run.stderr) == (0, "")
    assert "\x1b" not in run.stdout
    assert max(map(len, run.stdout.splitlines())) <= 80

    measured = rows(run)
    places, tokens = [measured[0].replica, measured[3].replica], [measured[1].token, measured[4].token]
    assert len({*tokens, "none"}) == 3
    assert [
        (row.turn, row.client, row.request, row.elsewhere, row.token, row.gateway, row.replica) for row in measured
    ] == [
        row
        for turn, (place, token) in enumerate(zip(places, tokens, strict=True), 1)
        for row in (
            (turn, "turnwire", 1, False, "none", "1", place),
            (turn, "turnwire", 2, False, token, "2", place),
            (turn, "turnwire", 2, True, "none", "", other(place)),
        )
    ]
    assert [row.cached > 80 for row in measured] == [False, True, False] * 2
    # What was sent elsewhere, and past the gateway, was the same request.
    assert [measured[1].prompt, measured[4].prompt] == [measured[2].prompt, measured[5].prompt]

    shown = [f"{row.prompt:,} tokens, {row.cached}% from cache" for row in measured]
    assert f"""

Turn 1, turnwire: How is the weather in Zürich?
   Let me think about it. The weather tool knows.
   I will check:
   call get_weather {{"city": "Zürich", "unit": "celsius"}}
→  request 1: gateway 1, replica {places[0]}, prompt of {shown[0]}
   get_weather gives 21 degrees celsius in Zürich, light rain
   It is 21 °C in Zürich with a little rain 🌦, so take an umbrella.
→  request 2: gateway 2, replica {places[0]}, prompt of {shown[1]}
→  the same elsewhere: replica {other(places[0])}, prompt of {shown[2]}

Turn 2, turnwire: What time is it, and how is the weather in Zürich?
   Two tools know that, so I ask both at once.
   call get_weather {{"city": "Zürich", "unit": "celsius"}}
   call get_time {{"zone": "CET"}}
→  request 1: gateway 1, replica {places[1]}, prompt of {shown[3]}
   get_weather gives 21 degrees celsius in Zürich, light rain
   get_time gives 14:05 CET
   It is 21 °C in Zürich with a little rain 🌦, so take an umbrella.
→  request 2: gateway 2, replica {places[1]}, prompt of {shown[4]}
→  the same elsewhere: replica {other(places[1])}, prompt of {shown[5]}

turn""" in run.stdout  # fmt: skip
    assert f"""
With its turn's token, a follow-up read {measured[1].cached}% and {measured[4].cached}% of its prompt from the
cache. Those that were sent elsewhere as well read {measured[2].cached}% and {measured[5].cached}% there.
""" in run.stdout  # fmt: skip


async def test_codex_takes_a_turn_of_its_own(turnwire: Command) -> None:
    programs = turnwire.folder / "bin"
    programs.mkdir()
    codex = programs / "codex"
    codex.write_text(f"#!{sys.executable}\n{Path(__file__).with_name('stand_in_codex.py').read_text()}")
    codex.chmod(0o755)
    run = await turnwire("demo", PATH=f"{programs}:/usr/bin:/bin")
    assert (run.code, run.stderr) == (0, "")

    first, second = rows(run)[6:]
    assert [(row.turn, row.client, row.request, row.token, row.gateway) for row in (first, second)] == [
        (3, "Codex", 1, "Codex's", "2"),
        (3, "Codex", 2, "Codex's", "2"),
    ]
    assert (first.replica, first.cached < 20, second.cached > 50) == (second.replica, True, True)
    assert f"""

Turn 3, Codex 0.0.1: How is the weather in Zürich? It stands in weather.txt.
   Let me look it up.
   call shell cat weather.txt
→  request 1: gateway 2, replica {first.replica}, prompt of {first.prompt:,} tokens, {first.cached}% from cache
   shell gives 21 degrees celsius in Zürich, light rain
   It is 21 °C in Zürich with a little rain 🌦, so take an umbrella.
→  request 2: gateway 2, replica {first.replica}, prompt of {second.prompt:,} tokens, {second.cached}% from cache

turn""" in run.stdout  # fmt: skip


async def test_without_codex_the_demo_says_why_and_goes_on(turnwire: Command) -> None:
    run = await turnwire("demo", PATH=str(turnwire.folder))
    assert (run.code, run.stderr, len(rows(run))) == (0, "", 6)
    assert "\n\nCodex is left out: there is neither codex nor npm on the PATH\n\nturn" in run.stdout


async def test_ctrl_c_ends_the_demo_and_its_servers(turnwire: Command) -> None:
    process: Process = await turnwire.start("demo", **WITHOUT_CODEX)
    assert process.stdout is not None
    while b"Turn 1" not in await process.stdout.readline():
        pass
    process.send_signal(signal.SIGINT)
    _, stderr = await process.communicate()  # which ends when none of its processes holds the other end
    assert (process.returncode, stderr) == (130, b"interrupted\n")


def test_the_rules_of_two_houses_have_nothing_in_common_but_their_style() -> None:
    for house in (HOTEL, MARINA):
        assert 500 <= len(house.rules().split()) <= 700
    assert HOTEL.rules()[0] != MARINA.rules()[0]


async def test_a_model_server_that_does_not_start_is_told_with_its_log(turnwire: Command) -> None:
    (turnwire.folder / "xllamacpp.py").write_text("raise SystemExit('this machine is too old')")
    run = await turnwire("demo", PYTHONPATH=str(turnwire.folder))
    sentence = "error: llama.cpp ended before it was ready; its log ends with:\nthis machine is too old\n"
    assert (run.code, run.stdout, run.stderr.rstrip("\n") + "\n") == (1, f"{_OPENING}\n", sentence)


async def test_a_gateway_that_does_not_start_is_told_with_its_log(turnwire: Command) -> None:
    (turnwire.folder / "uvicorn.py").write_text("raise SystemExit('there is no room')")
    run = await turnwire("demo", PYTHONPATH=str(turnwire.folder))
    sentence = "error: the gateway ended before it was ready; its log ends with:\nthere is no room\n"
    assert (run.code, run.stdout, run.stderr) == (1, f"{_OPENING}\n", sentence)
