"""What can go wrong with an answer, as values: each is a small record, and `inflict` does it to an `Answer`.

Offsets (``after``) count bytes of the body as it leaves the server's encoder, without the chunked framing; one
beyond the body's end means its end. What a client should make of each fault stands with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias, assert_never

from msgspec import Struct
from msgspec.structs import replace

from turnwire.testing.answer import JSON_TYPE, Answer, Part, error_answer, split
from turnwire.wire.chat.response import encode_error
from turnwire.wire.sse import encode_comment, encode_event

__all__ = [
    "Comments",
    "CutCleanly",
    "DropBeforeHead",
    "EmptyBody",
    "ErrorEvent",
    "Fault",
    "Garbage",
    "HangAfterFinish",
    "HugeEvent",
    "NoSentinel",
    "NotHttp",
    "ResetAfter",
    "Stall",
    "Status",
    "StreamFault",
    "Trickle",
    "Truncate",
    "WrongType",
    "inflict",
]

_BLOCK = b"a" * 65536


class Status(Struct, frozen=True):
    """A status that says no; nothing of the turn's own answer is sent.

    The body is OpenAI's error object, unless ``body`` gives another. A client should raise an error that names the
    status, and obey a ``retry-after`` in ``headers`` where it tries again.
    """

    status: int
    message: str = "the scripted server says no"
    code: str | None = None
    kind: str = "invalid_request_error"
    """The ``type`` in the error object."""
    headers: Mapping[str, str] = {}
    body: bytes | None = None


class DropBeforeHead(Struct, frozen=True):
    """The connection is closed without a response: nothing was given out, so trying again is safe."""


class NotHttp(Struct, frozen=True):
    """Bytes of another protocol, then the end. A client should say that no HTTP is spoken here."""

    data: bytes = b"SSH-2.0-OpenSSH_9.9\r\n"


class WrongType(Struct, frozen=True):
    """A web page with status 200, as a captive portal sends it. It must not pass for an empty answer."""

    content_type: str = "text/html; charset=utf-8"
    body: bytes = b"<!doctype html>\n<title>Welcome</title>\n<p>Please sign in to use this network.</p>\n"


class EmptyBody(Struct, frozen=True):
    """Status 200 and a body of no bytes, as llama-cpp-python sends it on an overflow. It is an error, not an answer."""


class ResetAfter(Struct, frozen=True):
    """The connection is reset (RST) after so many bytes: with 0, after the head and before the first event.

    A client should report a lost connection. As with any reset, what it had not read yet may be lost to it.
    """

    after: int = 0


class Truncate(Struct, frozen=True):
    """The connection is closed (FIN) after so many bytes, in the midst of the chunked body.

    Unlike after `CutCleanly`, HTTP itself knows that something is missing.
    """

    after: int = 0


class CutCleanly(Struct, frozen=True):
    """The body ends after so many bytes, properly terminated: HTTP sees nothing wrong.

    Only the missing finish reason and ``[DONE]`` tell a client that the answer is not whole.
    """

    after: int = 0


class Stall(Struct, frozen=True):
    """Silence after so many bytes, till the client leaves; its idle timeout should make it.

    With ``comments_every`` a comment comes each so many seconds. Comments are no answer: the timeout still holds.
    """

    after: int = 0
    comments_every: float | None = None


class Garbage(Struct, frozen=True):
    """Bytes that nobody expects: instead of the body, or put in after so many bytes of it.

    A client should skip or report them, and neither crash nor take them for text.
    """

    data: bytes = b"data: {not json\n\ndata: [1, 2\n\nwhat?\n\n\xff\xfe\n\n"
    after: int | None = None


class Trickle(Struct, frozen=True):
    """The body in pieces of so many bytes, with so many seconds between them: the events must be the same."""

    size: int = 1
    interval: float = 0.0


class Comments(Struct, frozen=True):
    """A comment in front of each event, as OpenRouter sends it while it waits: a client should see none of them."""

    text: str = "OPENROUTER PROCESSING"


class HugeEvent(Struct, frozen=True):
    """After the first chunk, an event of so many bytes that never ends, then the end of the body.

    A client should have a bound, and give up when it is passed rather than when memory is.
    """

    size: int = 20 * 1024 * 1024


class ErrorEvent(Struct, frozen=True):
    """An ``error`` object after so many deltas, then ``[DONE]`` as if all were well, as vLLM does when its engine dies.

    A client should raise it, and not complete.
    """

    after: int = 0
    message: str = "the scripted engine died"
    code: str | int | None = 500
    kind: str = "InternalServerError"


class NoSentinel(Struct, frozen=True):
    """The body ends after the finish reason, without ``[DONE]``: a whole answer, as transformers sends it."""


class HangAfterFinish(Struct, frozen=True):
    """The finish reason, and usage where it is due, then neither ``[DONE]`` nor an end.

    The answer is whole, and a client should not wait for more for long.
    """


StreamFault: TypeAlias = Comments | HugeEvent | ErrorEvent | NoSentinel | HangAfterFinish
"""The faults that need a stream; with ``stream: false`` they can't be played."""

Fault: TypeAlias = (
    Status
    | DropBeforeHead
    | NotHttp
    | WrongType
    | EmptyBody
    | ResetAfter
    | Truncate
    | CutCleanly
    | Stall
    | Garbage
    | Trickle
    | StreamFault
)


def inflict(fault: Fault, answer: Answer) -> Answer:
    """The answer that goes out in place of a sound one."""
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
            heartbeat = None if comments_every is None else Part(encode_comment("keep-alive"), pause=comments_every)
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
            deltas = _of_kind(parts, "delta")[:after]
            return replace(answer, parts=(*_of_kind(parts, "start"), *deltas, error, *_of_kind(parts, "done")))
        case NoSentinel():
            return replace(answer, parts=_of_kind(parts, "start", "delta", "finish"))
        case HangAfterFinish():
            return replace(answer, parts=_of_kind(parts, "start", "delta", "finish"), ending="silence")
        case _:
            assert_never(fault)


def _refusal(fault: Status) -> Answer:
    if fault.body is None:
        return error_answer(fault.status, fault.message, kind=fault.kind, code=fault.code, headers=fault.headers)
    return Answer(status=fault.status, headers={"content-type": JSON_TYPE, **fault.headers}, parts=(Part(fault.body),))


def _of_kind(parts: Sequence[Part], *kinds: str) -> tuple[Part, ...]:
    return tuple(part for part in parts if part.kind in kinds)


def _trickled(parts: Sequence[Part], fault: Trickle) -> tuple[Part, ...]:
    body = b"".join(part.data for part in parts)
    return tuple(
        Part(body[at : at + fault.size], pause=fault.interval if at else 0.0) for at in range(0, len(body), fault.size)
    )


def _endless_event(size: int) -> tuple[Part, ...]:
    head = Part(b'data: {"choices":[{"index":0,"delta":{"content":"')
    blocks, rest = divmod(max(0, size - len(head.data)), len(_BLOCK))
    return (head, *[Part(_BLOCK)] * blocks, Part(_BLOCK[:rest]))
