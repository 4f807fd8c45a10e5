"""A Chat Completions server on loopback that says what a test wrote down, and fails as the test wants it to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Self

import msgspec

from turnwire.client.turn_state import TURN_STATE_HEADER
from turnwire.testing.answer import JSON_TYPE, Answer, Part, error_answer
from turnwire.testing.connection import ClientLeft, Connection, ConnectionProtocol
from turnwire.testing.request import BadRequest, RecordedRequest
from turnwire.testing.script import ChatRequest, Script, Turn, answer_turn
from turnwire.wire.chat.dialect import ChatDialect

__all__ = ["ScriptedServer"]

_COMPLETIONS = ("POST", "/v1/chat/completions")
_MODELS = ("GET", "/v1/models")


class ScriptedServer:
    """Plays ``script``, one turn per request to ``POST {base_url}/chat/completions``.

    An async context manager: it listens on 127.0.0.1, at a free port, while it is open. On exit all connections
    are closed, stalled ones too, and no task or socket is left.

    What the script did not foresee (more requests than turns, an unknown path, HTTP or JSON that can't be read, a
    script that raises) is answered by an error status and noted in ``errors``: let a test end with
    ``assert server.errors == []``.

    ``dialect`` says how it speaks; the default is `ChatDialect`'s. ``token`` is handed out in the header
    ``x-codex-turn-state`` of each turn's response, unless the turn has its own. ``api_key`` and ``models``, where
    given, are checked: 401 and 404 otherwise, with OpenAI's error bodies.
    """

    def __init__(
        self,
        script: Script = (),
        *,
        dialect: ChatDialect | None = None,
        token: str | None = None,
        api_key: str | None = None,
        models: Iterable[str] | None = None,
    ) -> None:
        self._next_turn = script if callable(script) else _in_order(script)
        self._dialect = dialect or ChatDialect()
        self._token = token
        self._api_key = api_key
        self._models = None if models is None else tuple(models)
        self._server: asyncio.Server | None = None
        self._connections: dict[asyncio.Task[None], Connection] = {}
        self._connection_count = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self.requests: list[RecordedRequest] = []
        """All requests in the order in which they came, whatever they asked for."""
        self.abandoned: list[RecordedRequest] = []
        """The requests whose client left before the answer was whole."""
        self.errors: list[str] = []
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
                    self.requests.append(request)
                    answer = self._answer(request)
                    await self._play(connection, request, answer)
                    if answer.ending != "whole" or not _kept(request):
                        break
        except BadRequest as error:
            with suppress(ClientLeft):
                await connection.play(self._unforeseen(error.status, str(error)))
        finally:
            await connection.close()

    async def _play(self, connection: Connection, request: RecordedRequest, answer: Answer) -> None:
        self.open_streams += 1
        self._idle.clear()
        try:
            await connection.play(answer)
        except ClientLeft:
            self.abandoned.append(request)
            raise
        finally:
            self.open_streams -= 1
            if not self.open_streams:
                self._idle.set()

    def _answer(self, request: RecordedRequest) -> Answer:
        if self._api_key is not None and request.headers.get("authorization") != f"Bearer {self._api_key}":
            return error_answer(401, "the API key is missing or not the right one", code="invalid_api_key")
        asked = (request.method, request.path)
        if asked == _COMPLETIONS:
            return self._completion(request)
        if asked == _MODELS:
            return self._model_list()
        served = " and ".join(" ".join(route) for route in (_COMPLETIONS, _MODELS))
        return self._unforeseen(404, f"{' '.join(asked)} is not served, only {served} are")

    def _completion(self, request: RecordedRequest) -> Answer:
        try:
            asked = msgspec.json.decode(request.body, type=ChatRequest)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            return self._unforeseen(400, f"the request's body is not one of Chat Completions: {error}")
        if self._models is not None and asked.model not in self._models:
            return error_answer(404, f"the model {asked.model!r} does not exist", code="model_not_found")
        number = len(self.requests)
        headers = {"x-request-id": f"request-{number}"}
        try:
            turn = self._next_turn(request)
            token = self._token if turn.token is None else turn.token
            if token:
                headers[TURN_STATE_HEADER] = token
            response_id = f"chatcmpl-{number}"
            return answer_turn(turn, asked, self._dialect, headers=headers, response_id=response_id)
        except _ScriptOver:
            return self._unforeseen(500, f"the script is over: it has no turn for request {number}")
        except Exception as error:  # noqa: BLE001 - whatever a test's own script raises is told to the test
            return self._unforeseen(500, f"the script failed on request {number}: {error!r}")

    def _model_list(self) -> Answer:
        names = self._models or (ChatRequest().model,)
        models = [{"id": name, "object": "model", "created": 0, "owned_by": "turnwire"} for name in names]
        body = msgspec.json.encode({"object": "list", "data": models})
        return Answer(headers={"content-type": JSON_TYPE}, parts=(Part(body),))

    def _unforeseen(self, status: int, message: str) -> Answer:
        self.errors.append(message)
        return error_answer(status, message, kind="server_error" if status >= 500 else "invalid_request_error")


class _ScriptOver(Exception):
    """More requests came than there are turns."""


def _in_order(turns: Sequence[Turn]) -> Callable[[RecordedRequest], Turn]:
    rest = iter(tuple(turns))

    def next_turn(_: RecordedRequest) -> Turn:
        for turn in rest:
            return turn
        raise _ScriptOver

    return next_turn


def _kept(request: RecordedRequest) -> bool:
    """Whether the connection serves for more: after methods that we don't know, a body may confuse the client."""
    return request.method in ("GET", "POST") and request.headers.get("connection", "").lower() != "close"
