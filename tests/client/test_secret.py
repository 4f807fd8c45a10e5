"""Keys, tokens and prompts: none of them in a repr, an error, a record or a log line."""

from __future__ import annotations

import logging
import traceback
from typing import Any

import pytest
from msgspec.structs import replace

from tests.client.hearing import HELLO, hear, impatient, size_of
from tests.client.test_fault import FAILURES
from turnwire import ApiError, InputText, Message, ModelClient, Prompt, Provider, TurnState, run_turn
from turnwire.client import TURN_STATE_HEADER
from turnwire.telemetry import RequestRecord, SsePollRecord
from turnwire.testing import Fault, RecordedRequest, ScriptedServer, Status, Truncate, Turn
from turnwire.transport.message import HttpRequest

pytestmark = pytest.mark.usefixtures("nothing_left")

KEY, TOKEN, PROMPT, HEADER, QUERY = "canary-key", "canary-token", "canary prompt", "canary-header", "canary-query"
CANARY = "canary"


def provider_of(server: ScriptedServer, **changes: Any) -> Provider:
    secrets = {"api_key": KEY, "headers": {"x-secret": HEADER}, "query": {"key": QUERY}}
    limits = {"idle_timeout": 0.1, "max_event_size": 100_000}
    return impatient(server.base_url, **{**secrets, **limits, **changes})


class Records:
    def __init__(self) -> None:
        self.shown: list[str] = []

    def on_request(self, record: RequestRecord, /) -> None:
        self.shown.append(repr(record))

    def on_sse_poll(self, record: SsePollRecord, /) -> None:
        self.shown.append(repr(record))


def shown_by(error: ApiError) -> list[str]:
    """All that a log or a crash report may show of an error."""
    shown = [str(error), repr(error), repr(error.response), repr(error.__cause__), repr(vars(error))]
    return [*shown, *traceback.format_exception(error)]


@pytest.mark.parametrize("fault", [fault for fault, _ in FAILURES], ids=lambda fault: repr(fault)[:60])
async def test_no_error_record_or_log_line_shows_a_secret(
    fault: Fault, caplog: pytest.LogCaptureFixture, pauses: list[float]
) -> None:
    caplog.set_level(logging.DEBUG)
    if isinstance(fault, Status):  # even one that hands out a token
        fault = replace(fault, headers={**fault.headers, TURN_STATE_HEADER: TOKEN})
    records = Records()
    first = replace(HELLO, token=TOKEN, headers={"connection": "close"})
    async with ScriptedServer([first, replace(HELLO, token=TOKEN, fault=fault)]) as server:
        provider = provider_of(server)
        async with ModelClient(provider, request_telemetry=records, sse_telemetry=records) as client:
            session = client.new_session()
            assert (await hear(session.stream(PROMPT))).error is None
            assert session.turn_state.get() == TOKEN
            stream = session.stream(Prompt([Message("user", [InputText(PROMPT)])], instructions=PROMPT))
            error = (await hear(stream)).error
            assert error is not None
            shown = [*shown_by(error), *records.shown, *map(repr, (provider, client, session, stream, stream.decoder))]
            shown += [repr(session.turn_state)]
        assert CANARY in str(server.requests[1])  # the secrets did go out
    turnwire_log = [record for record in caplog.records if record.name.startswith("turnwire")]
    shown += [record.getMessage() for record in turnwire_log]
    assert [text for text in shown if CANARY in text] == []


async def test_a_turn_logs_no_secret(caplog: pytest.LogCaptureFixture, pauses: list[float]) -> None:
    caplog.set_level(logging.DEBUG)

    def script(request: RecordedRequest) -> Turn:
        faults = {1: Status(503), 2: Truncate(0), 3: Truncate(size_of(HELLO, parts=2))}
        return replace(HELLO, text=[PROMPT], token=TOKEN, fault=faults.get(len(server.requests)))

    async with ScriptedServer(script) as server:
        provider = provider_of(server, request_max_retries=2, stream_max_retries=3)
        async with ModelClient(provider) as client:
            await run_turn(client.new_session(), PROMPT)
        assert len(server.requests) == 4
    lines = [record.getMessage() for record in caplog.records if record.name.startswith("turnwire")]
    assert len(lines) == 3
    assert [line for line in lines if CANARY in line] == []


def test_what_holds_a_secret_does_not_show_it() -> None:
    provider = Provider("mine", "http://host/v1", api_key=KEY, headers={"x": HEADER}, query={"key": QUERY})
    state = TurnState()
    state.set(TOKEN)
    request = HttpRequest(provider.url("chat/completions"), {"authorization": KEY}, PROMPT.encode())
    client = ModelClient(provider)
    shown = [repr(provider), repr(state), repr(request), repr(client), str(vars(client))]
    assert [text for text in shown if CANARY in text] == []
    assert repr(provider) == "<Provider mine http://host/v1>"
