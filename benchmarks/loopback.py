"""What reading costs over loopback: turnwire's client and the openai SDK's, each in a fresh process, in turn."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import msgspec

from answer import ANSWERS
from measurement import Comparison, Effort, Section, Target, alternate
from pump import PACE
from reader import Job, Task

__all__ = ["measure_clients"]

_HERE = Path(__file__).parent
_SDK = "openai SDK"


def measure_clients(effort: Effort) -> Iterator[Section]:
    """CPU time flooded and paced, time to the first text, memory of idle streams."""
    with _pump() as address:
        clients = _Clients(address, effort)
        target = Target(20, "times less")
        yield Section(
            "Client flooded over loopback, CPU time per chunk",
            "µs",
            _SDK,
            [
                clients.compare("flooded", "vllm", "asyncio", target),
                clients.compare("flooded", "openai", "asyncio", target),
                clients.compare("flooded", "vllm", "uvloop", target),
            ],
        )
        target, streams = Target(5, "times less"), effort.paced_streams
        yield Section(
            f"Client at {streams} streams x {1 / PACE:g} chunks/s over loopback, CPU time per chunk",
            "µs",
            _SDK,
            [
                clients.compare("paced", "vllm", "asyncio", target, manner="in-step", count=streams),
                clients.compare("paced", "vllm", "asyncio", target, manner="out-of-step", count=streams),
                clients.compare("paced", "vllm", "uvloop", target, manner="in-step", count=streams),
            ],
        )
        target = Target(3, "times less")
        yield Section(
            "Client, time to the first text over loopback",
            "ms",
            _SDK,
            [clients.compare("first", "vllm", "asyncio", target, count=effort.first_requests)],
        )
        target = Target(30, "value")
        yield Section(
            f"Client, memory per idle open stream, of {effort.idle_streams}",
            "KiB",
            _SDK,
            [clients.compare("idle", "vllm", "asyncio", target, count=effort.idle_streams)],
        )


class _Clients:
    """The two clients as sides of a comparison, reading from one pump."""

    def __init__(self, address: str, effort: Effort) -> None:
        self._address = address
        self._effort = effort

    def compare(
        self,
        task: Task,
        answer: str,
        loop: Literal["asyncio", "uvloop"],
        target: Target,
        *,
        manner: str | None = None,
        count: int = 0,
    ) -> Comparison:
        """Both clients at one task; ``manner`` is the pump's, where the task does not name it."""

        def measure(side: Literal["turnwire", "openai"]) -> float:
            job = Job(
                side,
                task,
                base_url=f"{self._address}/{manner or task}/{answer}",
                loop=loop,
                chunks=ANSWERS[answer].chunks,
                count=count,
                seconds=self._effort.client_time,
                settle=self._effort.settle_time,
                rate=1 / PACE,
            )
            return _read(job)

        sides = {"turnwire": lambda: measure("turnwire"), "openai": lambda: measure("openai")}
        # A reader warms itself up, so that no round goes to waste.
        samples = alternate(sides, self._effort.client_rounds, warm_up=0)
        name = ", ".join(filter(None, (answer, manner, loop)))
        return Comparison(name, samples["turnwire"], samples["openai"], target, "times less")


@contextmanager
def _pump() -> Iterator[str]:
    """The address of a running pump."""
    with subprocess.Popen(
        [sys.executable, _HERE / "pump.py"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as pump:
        assert pump.stdout is not None
        yield f"http://127.0.0.1:{int(pump.stdout.readline())}"


def _read(job: Job) -> float:
    command = [sys.executable, str(_HERE / "reader.py"), msgspec.json.encode(job).decode()]
    return float(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
