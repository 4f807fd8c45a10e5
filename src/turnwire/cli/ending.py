"""How a command ends: its exit code, and the line that tells why."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum

from turnwire.cli.terminal import leave_unread, note, tell_error
from turnwire.errors import ApiError, ConfigurationError

__all__ = ["ExitCode", "ends_told"]


class ExitCode(IntEnum):
    """What a command's exit code says."""

    OK = 0
    FAILED = 1
    """The turn failed: the server, the connection or the stream."""
    USAGE = 2
    """The command, the configuration or the installation is not right."""
    INCOMPLETE = 3
    """The answer came and is not whole: bounded, filtered, refused, or cut."""
    INTERRUPTED = 130
    """Ctrl-C, as a shell counts it: 128 + SIGINT."""
    BROKEN_PIPE = 141
    """Nobody reads the output any more: 128 + SIGPIPE."""


@contextmanager
def ends_told() -> Iterator[None]:
    """What ends a command early is told in a line on standard error, and becomes `SystemExit` with its code."""
    try:
        yield
    except ConfigurationError as error:
        tell_error(str(error))
        sys.exit(ExitCode.USAGE)
    except ApiError as error:
        tell_error(str(error))
        sys.exit(ExitCode.FAILED)
    except KeyboardInterrupt:
        note("interrupted")
        sys.exit(ExitCode.INTERRUPTED)
    except BrokenPipeError:
        # Whoever read our output has what they wanted.
        leave_unread()
        sys.exit(ExitCode.BROKEN_PIPE)
