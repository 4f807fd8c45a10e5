"""Servers to test agents and clients with: a scripted one with its faults, and a real llama.cpp."""

from turnwire.testing.fault import (
    Close,
    Comments,
    ConnectionLimit,
    CutCleanly,
    DropBeforeHead,
    EmptyBody,
    ErrorEvent,
    Failed,
    Fault,
    Garbage,
    HangAfterFinish,
    HugeEvent,
    NoSentinel,
    NotHttp,
    ResetAfter,
    Stall,
    Status,
    Trickle,
    Truncate,
    WrongType,
)
from turnwire.testing.llama import SCRIPTED_TOOLS, LlamaServer, LlamaServerError
from turnwire.testing.request import RecordedRequest
from turnwire.testing.script import Script, Turn
from turnwire.testing.server import ScriptedServer

__all__ = [
    "SCRIPTED_TOOLS",
    "Close",
    "Comments",
    "ConnectionLimit",
    "CutCleanly",
    "DropBeforeHead",
    "EmptyBody",
    "ErrorEvent",
    "Failed",
    "Fault",
    "Garbage",
    "HangAfterFinish",
    "HugeEvent",
    "LlamaServer",
    "LlamaServerError",
    "NoSentinel",
    "NotHttp",
    "RecordedRequest",
    "ResetAfter",
    "Script",
    "ScriptedServer",
    "Stall",
    "Status",
    "Trickle",
    "Truncate",
    "Turn",
    "WrongType",
]
