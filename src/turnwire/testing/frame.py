"""One response as it will go over a WebSocket, as a value: the twin of `turnwire.testing.answer` for messages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, TypeAlias

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from turnwire.testing.answer import PartKind

__all__ = ["ClosingHandshake", "Frame", "FrameAnswer", "FrameEnding", "error_frame", "split_frames"]


class Frame(Struct, frozen=True, gc=False):
    """A message that is written in one go, after ``pause`` seconds of silence."""

    data: bytes
    kind: PartKind = "other"
    """What it is in the stream, for the faults that look at events rather than bytes."""
    pause: float = 0.0
    form: Literal["text", "binary", "ping"] = "text"
    fragment_size: int | None = None
    """Bytes that one frame of the message takes; None for all of it in one."""
    missing: int = 0
    """Bytes that its frame announces behind ``data`` and that never come: for the last frame of a broken answer."""


class ClosingHandshake(Struct, frozen=True):
    """The answer ends, and the connection with it, by a close frame (RFC 6455, section 5.5.1)."""

    code: int = 1000
    reason: str = ""


FrameEnding: TypeAlias = Literal["whole", "close", "reset", "silence"] | ClosingHandshake
"""What follows the last message, as in `turnwire.testing.answer.Ending`: ``close`` is an end without a close frame."""


class FrameAnswer(Struct, frozen=True, kw_only=True):
    """A response: its messages, and how it ends."""

    frames: Sequence[Frame] = ()
    ending: FrameEnding = "whole"
    heartbeat: Frame | None = None
    """What comes again and again during ``silence``."""

    @property
    def completes(self) -> bool:
        """Whether the response gets to its end, so that a later one may go on from it."""
        return any(frame.kind == "finish" and not frame.missing for frame in self.frames)


def split_frames(frames: Iterable[Frame], offset: int) -> tuple[tuple[Frame, ...], tuple[Frame, ...]]:
    """The messages before a byte offset, the last of them cut where it falls into one, and those wholly behind it."""
    before: list[Frame] = []
    after: list[Frame] = []
    for frame in frames:
        if offset <= 0:
            after.append(frame)
        elif offset < len(frame.data):
            before.append(replace(frame, data=frame.data[:offset], missing=len(frame.data) - offset))
        else:
            before.append(frame)
        offset -= len(frame.data)
    return tuple(before), tuple(after)


def error_frame(
    message: str,
    *,
    kind: str = "invalid_request_error",
    code: str | int | None = None,
    status: int | None = None,
    headers: Mapping[str, str] = {},
) -> Frame:
    """The message that refuses a request; Codex looks at few of them that have no ``status``."""
    fields: dict[str, Any] = {"type": "error"}
    if status is not None:
        fields["status"] = status
    fields["error"] = {"type": kind, "code": code, "message": message, "param": None}
    if headers:
        fields["headers"] = headers
    return Frame(msgspec.json.encode(fields))
