"""What can go wrong with an answer, as values: each is a small record. What a client should make of it stands with it.

Where ``after`` counts bytes, they are those of the body as it leaves the server's encoder, without the chunked
framing; one beyond the body's end means its end. Over WebSocket the messages are the body, one behind the other, and
an offset within one lies within its frame.

A fault that a wire can't show is refused by `check`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from msgspec import Struct

from turnwire.testing.request import Wire

__all__ = [
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
    "HandshakeFault",
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
    "check",
]


class Status(Struct, frozen=True):
    """A status that says no; nothing of the turn's own answer is sent.

    The body is OpenAI's error object, unless ``body`` gives another. A client should raise an error that names the
    status, and obey a ``retry-after`` in ``headers`` where it tries again.

    Over WebSocket it is an error frame with ``status`` and ``headers``; as a handshake's fault it refuses that.
    """

    status: int
    message: str = "the scripted server says no"
    code: str | None = None
    kind: str = "invalid_request_error"
    """The ``type`` in the error object."""
    headers: Mapping[str, str] = {}
    body: bytes | None = None


class DropBeforeHead(Struct, frozen=True):
    """The connection is closed without a response: nothing was given out, so trying again is safe.

    Over WebSocket no close frame is sent.
    """


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

    A client should report a lost connection. As with any reset, what it had not read yet may be lost to it. Over
    WebSocket this is how a reset in the midst of a frame is played.
    """

    after: int = 0


class Truncate(Struct, frozen=True):
    """The connection is closed (FIN) after so many bytes, in the midst of the chunked body.

    Unlike after `CutCleanly`, HTTP itself knows that something is missing; WebSocket knows it by the missing close
    frame.
    """

    after: int = 0


class CutCleanly(Struct, frozen=True):
    """The body ends after so many bytes, properly terminated: HTTP sees nothing wrong.

    Only the missing finish reason and ``[DONE]``, or the missing ``response.completed``, tell a client that the answer
    is not whole. Over WebSocket it is a close frame with code 1000, behind a message that is whole.
    """

    after: int = 0


class Stall(Struct, frozen=True):
    """Silence after so many bytes, till the client leaves; its idle timeout should make it.

    With ``comments_every`` a comment, or over WebSocket a ping, comes each so many seconds. They are no answer: the
    timeout still holds.
    """

    after: int = 0
    comments_every: float | None = None


class Garbage(Struct, frozen=True):
    """Bytes that nobody expects: instead of the body, or put in after so many bytes of it.

    A client should skip or report them, and neither crash nor take them for text. Over WebSocket they are a message, a
    binary one where they are not UTF-8, in front of the message that the offset falls into.
    """

    data: bytes = b"data: {not json\n\ndata: [1, 2\n\nwhat?\n\n\xff\xfe\n\n"
    after: int | None = None


class Trickle(Struct, frozen=True):
    """The body in pieces of so many bytes, with so many seconds between them: the events must be the same.

    Over WebSocket each message is fragmented (RFC 6455, section 5.4), and the pause is between messages.
    """

    size: int = 1
    interval: float = 0.0


class Comments(Struct, frozen=True):
    """A comment in front of each event, as OpenRouter sends it while it waits: a client should see none of them.

    Over WebSocket it is a ping, with as much of the text as a ping can hold.
    """

    text: str = "OPENROUTER PROCESSING"


class HugeEvent(Struct, frozen=True):
    """After the first chunk, an event of so many bytes that never ends, then the end of the body.

    A client should have a bound, and give up when it is passed rather than when memory is. Over WebSocket it is one
    message of so many bytes, which take little room on the wire where the client offered compression.
    """

    size: int = 20 * 1024 * 1024


class ErrorEvent(Struct, frozen=True):
    """An ``error`` object after so many deltas, then ``[DONE]`` as if all were well, as vLLM does when its engine dies.

    A client should raise it, and not complete. Over Responses it is an ``error`` event, and nothing comes behind it;
    over WebSocket it is a frame without ``status``.
    """

    after: int = 0
    message: str = "the scripted engine died"
    code: str | int | None = 500
    kind: str = "InternalServerError"


class NoSentinel(Struct, frozen=True):
    """The body ends after the finish reason, without ``[DONE]``: a whole answer, as transformers sends it.

    Over Chat Completions only, for Responses have no such sentinel.
    """


class HangAfterFinish(Struct, frozen=True):
    """The finish reason, and usage where it is due, then neither ``[DONE]`` nor an end.

    The answer is whole, and a client should not wait for more for long. Over WebSocket the connection then answers no
    other request.
    """


class Failed(Struct, frozen=True):
    """``response.failed`` after so many deltas, as the Responses API ends an answer that it can't finish.

    A client should raise the error that ``code`` stands for; ``rate_limit_exceeded`` says in its message when to come
    back (``Please try again in 1.5s.``).
    """

    code: str = "server_error"
    message: str = "the scripted engine died"
    after: int = 0


class Close(Struct, frozen=True):
    """A close frame after so many deltas: 1001 is a server that goes away, 1011 one that failed, 1012 a restart.

    For WebSocket. A client should report a lost connection, whatever the code; 1000 is no whole answer either.
    """

    code: int = 1011
    reason: str = ""
    after: int = 0


class ConnectionLimit(Struct, frozen=True):
    """The error frame ``websocket_connection_limit_reached`` instead of an answer, then a close frame.

    For WebSocket: OpenAI closes a connection after 60 minutes. A client should ask again on another one.
    """


StreamFault: TypeAlias = Comments | HugeEvent | ErrorEvent | NoSentinel | HangAfterFinish | Failed
"""The faults that need a stream; with ``stream: false`` they can't be played."""

HandshakeFault: TypeAlias = Status | DropBeforeHead | NotHttp | WrongType
"""What a WebSocket handshake can be answered with instead of 101."""

Fault: TypeAlias = (
    HandshakeFault
    | EmptyBody
    | ResetAfter
    | Truncate
    | CutCleanly
    | Stall
    | Garbage
    | Trickle
    | StreamFault
    | Close
    | ConnectionLimit
)

_UNPLAYABLE: Mapping[Wire, tuple[type[Fault], ...]] = {
    "chat": (Failed, Close, ConnectionLimit),
    "responses": (NoSentinel, Close, ConnectionLimit),
    "websocket": (NotHttp, WrongType, EmptyBody, NoSentinel),
}
_NAMES: Mapping[Wire, str] = {
    "chat": "over Chat Completions",
    "responses": "over Responses by HTTP",
    "websocket": "over WebSocket",
}


def check(fault: Fault, wire: Wire, *, streamed: bool) -> None:
    """`ValueError` where the fault can't be played."""
    if isinstance(fault, _UNPLAYABLE[wire]):
        raise ValueError(f"{fault} can't be played {_NAMES[wire]}")  # noqa: TRY004 - the value is of a proper type
    if isinstance(fault, StreamFault) and not streamed:
        raise ValueError(f"{fault} can only be played in a stream, and the request does not ask for one")
