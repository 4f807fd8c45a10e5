"""The log of a process that serves."""

from __future__ import annotations

import logging
from enum import StrEnum

__all__ = ["LogLevel", "begin_log"]


class LogLevel(StrEnum):
    """What is logged: this, and what is worse."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


def begin_log(log_level: LogLevel, *, who: str = "") -> None:
    """Logs on standard error; ``who`` stands in every line."""
    logging.basicConfig(format=f"%(asctime)s %(levelname)s {who}%(message)s", level=logging.WARNING)
    logging.getLogger("turnwire").setLevel(log_level.upper())
