"""``turnwire demo`` as it runs in CI: real llama.cpp servers, no terminal."""

import re
import signal
from asyncio.subprocess import Process

from msgspec import Struct

from tests.cli.command import Command
from turnwire.cli.demo_rules import HOTEL, MARINA

ROW = re.compile(
    r"(\d) {5}(\d)( elsewhere|)\s+(none|[0-9a-f]{6}…)\s+replica ([AB])\s+([\d,]+)\s+(\d+)%\s+[\d.]+ m?s\s*\n"
)


class Row(Struct, frozen=True):
    turn: str
    request: str
    elsewhere: str
    token: str
    replica: str
    prompt: int
    cached: int


async def test_the_demo_keeps_each_turn_where_its_cache_is(turnwire: Command) -> None:
    run = await turnwire("demo")
    assert (run.code, run.stderr) == (0, "")
    assert "\x1b" not in run.stdout
    assert max(map(len, run.stdout.splitlines())) <= 80

    rows = [Row(*row[:5], int(row[5].replace(",", "")), int(row[6])) for row in ROW.findall(run.stdout)]
    first, second = rows[1].token, rows[4].token
    assert [(row.turn, row.request, row.elsewhere, row.token, row.replica) for row in rows] == [
        ("1", "1", "", "none", "A"),
        ("1", "2", "", first, "A"),
        ("1", "2", " elsewhere", "none", "B"),
        ("2", "1", "", "none", "B"),
        ("2", "2", "", second, "B"),
        ("2", "2", " elsewhere", "none", "A"),
    ]
    assert first != second
    assert [row.cached > 80 for row in rows] == [False, True, False, False, True, False]
    # What was sent elsewhere was the same request.
    assert [rows[1].prompt, rows[4].prompt] == [rows[2].prompt, rows[5].prompt]

    for token, replica in ((first, "A"), (second, "B")):
        assert f"Request 1 carries no token, goes to replica {replica}, and is handed {token}\n" in run.stdout
        assert f"Request 2 carries {token}, goes to replica {replica}\n" in run.stdout
    assert (
        """
   Let me think about it. The weather tool knows.
   I will check:
   call get_weather {"city": "Zürich", "unit": "celsius"}
"""
        in run.stdout
    )
    assert (
        """
   Two tools know that, so I ask both at once.
   call get_weather {"city": "Zürich", "unit": "celsius"}
   call get_time {"zone": "CET"}
"""
        in run.stdout
    )
    assert run.stdout.count("   It is 21 °C in Zürich with a little rain 🌦, so take an umbrella.\n") == 2
    assert run.stdout.endswith(
        f"Where its token took it, a follow-up read {rows[1].cached}% and {rows[4].cached}% of its prompt from the\n"
        f"cache. Sent elsewhere, the same ones read {rows[2].cached}% and {rows[5].cached}%.\n"
    )


async def test_ctrl_c_ends_the_demo_and_its_servers(turnwire: Command) -> None:
    process: Process = await turnwire.start("demo")
    assert process.stdout is not None
    await process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, stderr = await process.communicate()
    assert (process.returncode, stderr) == (130, b"interrupted\n")


def test_the_rules_of_two_houses_have_nothing_in_common_but_their_style() -> None:
    for house in (HOTEL, MARINA):
        assert 500 <= len(house.rules().split()) <= 700
    assert HOTEL.rules()[0] != MARINA.rules()[0]


async def test_a_server_that_does_not_start_is_told_with_its_log(turnwire: Command) -> None:
    (turnwire.folder / "xllamacpp.py").write_text("raise SystemExit('this machine is too old')")
    run = await turnwire("demo", PYTHONPATH=str(turnwire.folder))
    sentence = "error: llama.cpp ended before it was ready; its log ends with:\nthis machine is too old\n"
    assert (run.code, run.stdout, run.stderr.rstrip("\n") + "\n") == (1, "", sentence)
