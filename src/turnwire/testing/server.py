"""A model server on loopback that says what a test wrote down, and fails as the test wants it to."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Self

from turnwire.testing.answer import Answer
from turnwire.testing.asked import Refusal
from turnwire.testing.channel import Channel
from turnwire.testing.connection import ClientLeft, Connection, ConnectionProtocol
from turnwire.testing.fault import HandshakeFault
from turnwire.testing.request import BadRequest, RecordedRequest
from turnwire.testing.responder import WEBSOCKET, Responder
from turnwire.testing.responses_answer import TokenPlace
from turnwire.testing.script import Script
from turnwire.wire.chat.dialect import ChatDialect

__all__ = ["ScriptedServer"]


class ScriptedServer:
    """Plays ``script``, one turn per request for an answer, whatever it comes over.

    Under ``base_url``, ``POST chat/completions`` is Chat Completions, ``POST responses`` is Responses, ``GET
    responses`` a WebSocket for any number of Responses, and ``POST responses/compact`` folds a conversation into the
    turn's items.

    An async context manager: it listens on 127.0.0.1, at a free port, while it is open. On exit all connections
    are closed, stalled ones too, and no task or socket is left.

    What the script did not foresee (more requests than turns, an unknown path, HTTP or JSON that can't be read, a
    script that raises) is answered by an error status or an error frame and noted in ``errors``: let a test end with
    ``assert server.errors == []``.

    ``dialect`` says how it speaks Chat; the default is `ChatDialect`'s. ``token`` is handed out as
    ``x-codex-turn-state`` with each turn's response, unless the turn has its own: in a header over HTTP, and over
    WebSocket where ``token_place`` says (`turnwire.testing.responses_answer.TokenPlace`). ``api_key`` and ``models``,
    where given, are checked: 401 and 404 otherwise, with OpenAI's error bodies. ``handshakes`` are the faults of the
    first WebSocket handshakes, None for a sound one; a single fault is that of all of them.

    A WebSocket connection remembers its responses, so that a request can go on from one by ``previous_response_id``,
    unless that failed; responses with ``store`` not false are remembered for all. A request with ``generate: false``
    takes no turn: it is answered by a response without items.

    With ``strict`` a Responses request may hold OpenAI's fields only, and must name ``model`` and ``input``; a
    WebSocket's handshake must have the header ``openai-beta``, and its messages must be text, have a ``type``, and wait
    until the one before is answered. Without it, a message that does not wait has to.
    """

    def __init__(
        self,
        script: Script = (),
        *,
        dialect: ChatDialect | None = None,
        token: str | None = None,
        token_place: TokenPlace = "after_created",  # noqa: S107 - it says where, and is no secret
        api_key: str | None = None,
        models: Iterable[str] | None = None,
        handshakes: HandshakeFault | Sequence[HandshakeFault | None] = (),
        strict: bool = False,
    ) -> None:
        self._responder = Responder(
            script,
            dialect=dialect or ChatDialect(),
            token=token,
            token_place=token_place,
            api_key=api_key,
            models=models,
            handshakes=handshakes,
            strict=strict,
        )
        self._server: asyncio.Server | None = None
        self._connections: dict[asyncio.Task[None], Connection] = {}
        self._connection_count = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self.requests = self._responder.requests
        """All requests in the order in which they came, whatever they asked for; each message of a WebSocket is one."""
        self.handshakes = self._responder.handshakes
        """The handshakes of WebSockets, refused ones included."""
        self.abandoned: list[RecordedRequest] = []
        """The requests whose client left before the answer was whole."""
        self.errors = self._responder.errors
        """What the script did not foresee, one sentence each."""
        self.open_streams = 0
        """How many answers are being given right now."""

    def __repr__(self) -> str:
        where = "closed" if self._server is None else self.base_url
        return f"<ScriptedServer: {where}, {len(self.requests)} requests, {self.open_streams} open streams>"

    @property
    def base_url(self) -> str:
        """What a client is configured with, such as ``http://127.0.0.1:40123/v1``."""
        host, port = self._listening().sockets[0].getsockname()
        return f"http://{host}:{port}/v1"

    async def wait_idle(self) -> None:
        """Wait until no answer is being given: each is whole, or its client has left."""
        await self._idle.wait()

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: ConnectionProtocol(self._connected), "127.0.0.1", 0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        server = self._listening()
        server.close()
        while connections := dict(self._connections):
            for task in connections:
                task.cancel()
            await asyncio.wait(connections)
            for connection in connections.values():
                await connection.close()  # a task that was cancelled before its first step has not done so
        await server.wait_closed()
        self._server = None

    def _listening(self) -> asyncio.Server:
        if self._server is None:
            raise RuntimeError("the server is closed: open it with 'async with' first")
        return self._server

    def _connected(self, connection: Connection) -> None:
        task = asyncio.create_task(self._serve(connection, self._connection_count))
        self._connection_count += 1
        self._connections[task] = connection
        task.add_done_callback(self._connections.pop)

    async def _serve(self, connection: Connection, number: int) -> None:
        try:
            with suppress(ClientLeft, ConnectionError):
                while request := await connection.read_request(number):
                    if _is_handshake(request):
                        answer = await self._serve_websocket(connection, request)
                    else:
                        request, answer = self._responder.answer(request)
                        await self._play(request, connection.play(answer))
                    if answer is None or answer.ending != "whole" or not _kept(request):
                        break
        except BadRequest as error:
            with suppress(ClientLeft):
                await connection.play(self._responder.refused(Refusal(error.status, str(error))).answer)
        finally:
            await connection.close()

    async def _serve_websocket(self, connection: Connection, handshake: RecordedRequest) -> Answer | None:
        """Serves a WebSocket to its end; where the handshake is refused, what it was refused with."""
        channel = Channel(connection)
        refusal = self._responder.refusal_of_handshake(handshake)
        if refusal is None:
            refusal = await channel.open(handshake, self._responder.handshake_headers())
        if refusal is not None:
            await connection.play(refusal)
            return refusal
        memory = self._responder.new_memory()
        while message := await channel.receive():
            request, answer = self._responder.answer_message(handshake, message, memory)
            await self._play(request, channel.play(answer))
        if channel.complaint is not None:
            self.errors.append(channel.complaint)
        return None

    async def _play(self, request: RecordedRequest, playing: Awaitable[None]) -> None:
        self.open_streams += 1
        self._idle.clear()
        try:
            await playing
        except ClientLeft:
            self.abandoned.append(request)
            raise
        finally:
            self.open_streams -= 1
            if not self.open_streams:
                self._idle.set()


def _is_handshake(request: RecordedRequest) -> bool:
    return (request.method, request.path) == WEBSOCKET and "upgrade" in request.headers


def _kept(request: RecordedRequest) -> bool:
    """Whether the connection serves for more: after methods that we don't know, a body may confuse the client."""
    return request.method in ("GET", "POST") and request.headers.get("connection", "").lower() != "close"
