"""Several processes behind one address, and the parent that starts, replaces and ends them.

Each worker has a listening socket of its own at the same port (``SO_REUSEPORT``), over which the system spreads
connections by a hash of their addresses. With one socket for all, whichever process wakes first takes every connection
that waits: of 400 that came at once, four workers got 3, 9, 96 and 292; with a socket each, 95 to 104.

A worker gets its configurations through its standard input, whose end tells it that the parent has gone. So all
workers agree, also one that replaces another. What they count is shared through files in a folder that the parent
makes and removes.
"""

from __future__ import annotations

import asyncio
import logging
import os
import pickle
import signal
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Sequence
from contextlib import suppress
from tempfile import TemporaryDirectory
from typing import BinaryIO

from prometheus_client.multiprocess import mark_process_dead

from turnwire.gateway.configuration import GatewayConfiguration
from turnwire.gateway.server import listen

__all__ = ["SHARED_COUNTS", "Workers", "configurations_from", "first_configuration"]

_log = logging.getLogger("turnwire.gateway")

SHARED_COUNTS = "PROMETHEUS_MULTIPROC_DIR"
"""The environment variable by which prometheus_client counts for several processes together, in files there."""
_SETTLED = 60.0
"""Seconds after which a worker that ends has not failed at its start."""
_LONGEST_PAUSE = 30.0
_SIZE = 4
"""Bytes before each configuration that say how long it is."""

_Command = Callable[[int, bool, Sequence[int]], Sequence[str]]


class Workers:
    """The parent of as many processes as the configuration says.

    ``command`` gives the command line of a worker: by its number, from 1 on, whether it is the first process of that
    number, and the descriptors of its sockets. It is to serve until SIGTERM as `turnwire.gateway.server` does. Making
    this raises `CannotServe` where nothing can listen at the address.
    """

    def __init__(self, configuration: GatewayConfiguration, command: _Command) -> None:
        self._configuration = configuration
        self._command = command
        self._host = configuration.host
        # Alone at first: shared sockets would go along with those of another gateway.
        alone = listen(configuration.host, configuration.port)
        self._port: int = alone[0].getsockname()[1]
        for bound in alone:
            bound.close()
        self._sockets = [listen(self._host, self._port, shared=True) for _ in range(configuration.workers)]
        self._processes: dict[int, Process] = {}
        self._stopping = asyncio.Event()

    async def run(self, configurations: AsyncIterable[GatewayConfiguration]) -> bool:
        """Runs them until SIGINT or SIGTERM; whether all have ended well. A second signal ends them at once.

        Each of the ``configurations`` is handed to all.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.stop, number)
        reloading = asyncio.create_task(self._hand_on(configurations))
        try:
            with TemporaryDirectory(prefix="turnwire-") as folder:
                count = len(self._sockets)
                return all(await asyncio.gather(*(self._keep(number, folder) for number in range(1, count + 1))))
        finally:
            reloading.cancel()
            with suppress(asyncio.CancelledError):
                await reloading
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)

    def stop(self, number: int) -> None:
        """Has all workers stop, as a signal of this number does."""
        _log.info("stopping %d workers on %s", len(self._processes), signal.Signals(number).name)
        self._stopping.set()
        for place in range(len(self._sockets)):
            self._close_sockets(place)
        for process in self._processes.values():
            _signal(process)

    async def _keep(self, number: int, folder: str) -> bool:
        """Runs the worker of this number, again and again; whether the last one has ended well."""
        failures = 0
        while True:
            begun = time.monotonic()
            process = await self._start(number, folder, first=not failures)
            code = await process.wait()
            del self._processes[number]
            mark_process_dead(process.pid, folder)  # type: ignore[no-untyped-call]
            if self._stopping.is_set():
                return code in (0, -signal.SIGTERM)  # by which it ends that was told before it could listen
            failures = 1 + (failures if time.monotonic() - begun < _SETTLED else 0)
            # The first is replaced at once, and connections that it did not take yet wait for the next.
            pause = 0.0 if failures == 1 else min(2.0 ** (failures - 2), _LONGEST_PAUSE)
            _log.warning("worker %d, process %d, %s; another starts in %g s", number, process.pid, _end(code), pause)
            if pause and await self._stopped_within(pause, number):
                return True

    async def _start(self, number: int, folder: str, *, first: bool) -> Process:
        descriptors = [bound.fileno() for bound in self._sockets[number - 1]]
        process = await asyncio.create_subprocess_exec(
            *self._command(number, first, descriptors),
            stdin=PIPE,
            pass_fds=descriptors,
            env={**os.environ, SHARED_COUNTS: folder},
            process_group=0,  # a terminal's Ctrl-C is for the parent alone
        )
        self._processes[number] = process
        self._tell(process)
        if self._stopping.is_set():
            _signal(process)
        return process

    async def _stopped_within(self, pause: float, number: int) -> bool:
        """Waits, while the other workers get the connections; whether it is to stop meanwhile."""
        self._close_sockets(number - 1)
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), pause)
            return True
        self._sockets[number - 1] = listen(self._host, self._port, shared=True)
        return False

    async def _hand_on(self, configurations: AsyncIterable[GatewayConfiguration]) -> None:
        async for configuration in configurations:
            self._configuration = configuration
            for process in self._processes.values():
                self._tell(process)

    def _tell(self, process: Process) -> None:
        assert process.stdin is not None  # noqa: S101 - it was started so
        written = pickle.dumps(self._configuration)
        process.stdin.write(len(written).to_bytes(_SIZE) + written)

    def _close_sockets(self, place: int) -> None:
        for bound in self._sockets[place]:
            bound.close()


def first_configuration(file: BinaryIO) -> GatewayConfiguration:
    """What a worker begins with, from its unbuffered standard input; raises `EOFError` where the parent has gone."""
    return _unpickled(_exactly(file, int.from_bytes(_exactly(file, _SIZE))))


async def configurations_from(file: BinaryIO) -> AsyncGenerator[GatewayConfiguration, None]:
    """What a worker is to serve by after the first, until its parent has gone."""
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), file)
    try:
        with suppress(asyncio.IncompleteReadError):
            while True:
                size = int.from_bytes(await reader.readexactly(_SIZE))
                yield _unpickled(await reader.readexactly(size))
    finally:
        transport.close()


def _unpickled(written: bytes) -> GatewayConfiguration:
    configuration = pickle.loads(written)  # noqa: S301 - the parent wrote it
    assert isinstance(configuration, GatewayConfiguration)  # noqa: S101 - and nothing else
    return configuration


def _exactly(file: BinaryIO, size: int) -> bytes:
    read = b""
    while len(read) < size:
        more = file.read(size - len(read))
        if not more:
            raise EOFError
        read += more
    return read


def _signal(process: Process) -> None:
    with suppress(ProcessLookupError):  # it has just ended
        process.terminate()


def _end(code: int) -> str:
    return f"ended with code {code}" if code >= 0 else f"was ended by {signal.Signals(-code).name}"
