"""One process of several behind ``turnwire serve --workers``, started by `turnwire.gateway.workers` and by nobody else.

``python -m turnwire.cli.serve_worker NUMBER LOG-LEVEL FIRST DESCRIPTOR…``: the configurations come on standard input.
"""

from __future__ import annotations

import logging
import signal
import socket
import sys
from collections.abc import Sequence

from turnwire.cli.ending import ExitCode
from turnwire.cli.serve_log import LogLevel, begin_log
from turnwire.cli.serve_screen import Screen
from turnwire.errors import ApiError
from turnwire.gateway.workers import configurations_from, first_configuration

__all__ = ["arguments"]

_log = logging.getLogger("turnwire.gateway")


def arguments(number: int, first: bool, descriptors: Sequence[int], log_level: LogLevel) -> list[str]:
    """The command line of a worker; ``first`` is whether no other had its number before."""
    words = (number, log_level, int(first), *descriptors)
    return [sys.executable, "-Pm", "turnwire.cli.serve_worker", *map(str, words)]


def main() -> None:
    """Serves until the parent says otherwise, or has gone."""
    number, log_level, first, *descriptors = sys.argv[1:]
    begin_log(LogLevel(log_level), who=f"worker {number} ")
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # that is the parent's
    with open(0, "rb", buffering=0, closefd=False) as orders:
        try:
            configuration = first_configuration(orders)
        except EOFError:
            return
        # Only here, for the parent imports this module too, and serves nothing itself.
        from turnwire.cli.serve_gateway import serve_until_told

        # One of them shows what is found, and once: it is the same for all.
        screen = Screen() if (number, first) == ("1", "1") else None
        sockets = [socket.socket(fileno=int(descriptor)) for descriptor in descriptors]
        try:
            serve_until_told(configuration, configurations_from(orders), screen, sockets)
        except ApiError as error:
            _log.error("%s", error)
            sys.exit(ExitCode.FAILED)


if __name__ == "__main__":
    main()
