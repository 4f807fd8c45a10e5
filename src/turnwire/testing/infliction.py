"""What each fault does to an answer: the answer that goes out in place of a sound one, over HTTP and over WebSocket.

`Failed`, and `ErrorEvent` over Responses, are not here: they are events, and whoever writes the stream writes them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol, TypeVar

from msgspec.structs import replace

from turnwire.testing.answer import JSON_TYPE, Answer, Part, PartKind, error_answer, split
from turnwire.testing.fault import (
    Close,
    Comments,
    ConnectionLimit,
    CutCleanly,
    DropBeforeHead,
    EmptyBody,
    ErrorEvent,
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
from turnwire.testing.frame import ClosingHandshake, Frame, FrameAnswer, error_frame, split_frames
from turnwire.wire.chat.response import encode_error
from turnwire.wire.sse import encode_comment, encode_event

__all__ = ["inflict", "inflict_frames", "up_to_delta"]

_BLOCK = b"a" * 65536
_KEEP_ALIVE = "keep-alive"


class _Kinded(Protocol):
    @property
    def kind(self) -> PartKind: ...


_Piece = TypeVar("_Piece", bound=_Kinded)


def inflict(fault: Fault, answer: Answer) -> Answer:
    """The answer over HTTP. An `ErrorEvent` becomes that of Chat Completions."""
    parts = answer.parts
    match fault:
        case Status():
            return _refusal(fault)
        case DropBeforeHead():
            return Answer(bare=True, ending="close")
        case NotHttp(data):
            return Answer(bare=True, parts=(Part(data),), ending="close")
        case WrongType():
            return Answer(headers={"content-type": fault.content_type}, parts=(Part(fault.body),))
        case EmptyBody():
            return replace(answer, parts=())
        case ResetAfter(after):
            return replace(answer, parts=split(parts, after)[0], ending="reset")
        case Truncate(after):
            return replace(answer, parts=split(parts, after)[0], ending="close")
        case CutCleanly(after):
            return replace(answer, parts=split(parts, after)[0])
        case Stall(after, comments_every):
            heartbeat = None if comments_every is None else Part(encode_comment(_KEEP_ALIVE), pause=comments_every)
            return replace(answer, parts=split(parts, after)[0], ending="silence", heartbeat=heartbeat)
        case Garbage(data, after):
            before, behind = ((), ()) if after is None else split(parts, after)
            return replace(answer, parts=(*before, Part(data), *behind))
        case Trickle():
            return replace(answer, parts=_trickled(parts, fault))
        case Comments(text):
            comment = encode_comment(text)
            return replace(answer, parts=tuple(piece for part in parts for piece in (Part(comment), part)))
        case HugeEvent(size):
            return replace(answer, parts=(*_of_kind(parts, "start"), *_endless_event(size)))
        case ErrorEvent(after):
            error = Part(encode_event(encode_error(fault.message, kind=fault.kind, code=fault.code)))
            return replace(answer, parts=(*up_to_delta(parts, after), error, *_of_kind(parts, "done")))
        case NoSentinel():
            return replace(answer, parts=_up_to_finish(parts))
        case HangAfterFinish():
            return replace(answer, parts=_up_to_finish(parts), ending="silence")
    raise ValueError(f"{fault} is none of HTTP")


def inflict_frames(fault: Fault, answer: FrameAnswer) -> FrameAnswer:
    """The answer over WebSocket."""
    frames = answer.frames
    match fault:
        case Status(body=None):
            refusal = error_frame(
                fault.message, kind=fault.kind, code=fault.code, status=fault.status, headers=fault.headers
            )
            return FrameAnswer(frames=(refusal,))
        case Status(body=bytes(body)):
            return FrameAnswer(frames=(_message(body),))
        case DropBeforeHead():
            return FrameAnswer(ending="close")
        case ResetAfter(after):
            return replace(answer, frames=split_frames(frames, after)[0], ending="reset")
        case Truncate(after):
            return replace(answer, frames=split_frames(frames, after)[0], ending="close")
        case CutCleanly(after):
            before = split_frames(frames, after)[0]
            whole = tuple(frame for frame in before if not frame.missing)
            return replace(answer, frames=whole, ending=ClosingHandshake())
        case Stall(after, comments_every):
            ping = None if comments_every is None else Frame(_KEEP_ALIVE.encode(), form="ping", pause=comments_every)
            return replace(answer, frames=split_frames(frames, after)[0], ending="silence", heartbeat=ping)
        case Garbage(data, after):
            count = 0 if after is None else sum(not frame.missing for frame in split_frames(frames, after)[0])
            behind = () if after is None else frames[count:]
            return replace(answer, frames=(*frames[:count], _message(data), *behind))
        case Trickle(size, interval):
            return replace(answer, frames=tuple(replace(frame, fragment_size=size, pause=interval) for frame in frames))
        case Comments(text):
            ping = Frame(text.encode(), form="ping")
            return replace(answer, frames=tuple(piece for frame in frames for piece in (ping, frame)))
        case HugeEvent(size):
            head, tail = b'{"type":"response.output_text.delta","delta":"', b'"}'
            huge = Frame(head + b"a" * max(0, size - len(head) - len(tail)) + tail)
            return replace(answer, frames=(*_of_kind(frames, "start"), huge), ending="close")
        case HangAfterFinish():
            return replace(answer, frames=_up_to_finish(frames), ending="silence")
        case Close(code, reason, after):
            return replace(answer, frames=up_to_delta(frames, after), ending=ClosingHandshake(code, reason))
        case ConnectionLimit():
            limit = error_frame(
                "this connection has reached its limit of 60 minutes: open another one",
                code="websocket_connection_limit_reached",
                status=400,
            )
            return FrameAnswer(frames=(limit,), ending=ClosingHandshake())
    raise ValueError(f"{fault} is none of WebSocket")


def up_to_delta(pieces: Sequence[_Piece], count: int) -> tuple[_Piece, ...]:
    """The beginning of a stream, up to so many deltas; what the next delta opens is not among it."""
    deltas = [at for at, piece in enumerate(pieces) if piece.kind == "delta"][:count]
    return tuple(pieces[: deltas[-1] + 1]) if deltas else _of_kind(pieces, "start")


def _up_to_finish(pieces: Sequence[_Piece]) -> tuple[_Piece, ...]:
    return tuple(piece for piece in pieces if piece.kind != "done")


def _of_kind(pieces: Iterable[_Piece], kind: PartKind) -> tuple[_Piece, ...]:
    return tuple(piece for piece in pieces if piece.kind == kind)


def _refusal(fault: Status) -> Answer:
    if fault.body is None:
        return error_answer(fault.status, fault.message, kind=fault.kind, code=fault.code, headers=fault.headers)
    return Answer(status=fault.status, headers={"content-type": JSON_TYPE, **fault.headers}, parts=(Part(fault.body),))


def _message(data: bytes) -> Frame:
    try:
        data.decode()
    except UnicodeDecodeError:
        return Frame(data, form="binary")
    return Frame(data)


def _trickled(parts: Sequence[Part], fault: Trickle) -> tuple[Part, ...]:
    body = b"".join(part.data for part in parts)
    return tuple(
        Part(body[at : at + fault.size], pause=fault.interval if at else 0.0) for at in range(0, len(body), fault.size)
    )


def _endless_event(size: int) -> tuple[Part, ...]:
    head = Part(b'data: {"choices":[{"index":0,"delta":{"content":"')
    blocks, rest = divmod(max(0, size - len(head.data)), len(_BLOCK))
    return (head, *[Part(_BLOCK)] * blocks, Part(_BLOCK[:rest]))
