"""``turnwire doctor``: what it finds, what it says about it, and what it leaves out."""

import asyncio
import json
import re
import socket
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme
from msgspec import Struct

from tests.cli.command import Command, Run
from tests.transport.serving import RawServer, saying, silence
from turnwire.cli.doctor_checks import Finding, failed, ok, skipped, warning
from turnwire.cli.doctor_connection import check_reachable, check_tls
from turnwire.event import TokenUsage
from turnwire.item import FunctionCall
from turnwire.testing import (
    CutCleanly,
    Fault,
    LlamaServer,
    RecordedRequest,
    ScriptedServer,
    Stall,
    Status,
    Turn,
    WrongType,
)

NOTE = "the model is asked up to 6 short questions, some 4,000 tokens in all\n"
CALL = FunctionCall("get_weather", '{"city":"Zürich","unit":"celsius"}', "call_1")
DAYS = ("Mon", "day", " to ", "Sun", "day")
PAGE = b"<!doctype html><title>Welcome</title>"
WEB_PAGE = b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\nconnection: close\r\n\r\n" + PAGE


def healthy(request: RecordedRequest) -> Turn:
    """All that an agent could wish for; the answer takes a moment, so that it comes in more than one read."""
    usage = TokenUsage(1500, 1400, 5, 0, 1505)
    if request.json.get("tools"):
        return Turn(calls=[CALL], usage=usage)
    return Turn(text=DAYS, usage=usage, interval=0.01)


def plain(text: str) -> str:
    """The output without what differs from run to run, as wide as it was."""
    text = re.sub(r"127\.0\.0\.1([: ]| port )\d{5}\b", r"127.0.0.1\1PPPPP", text)
    return re.sub(r" in \d+ reads", " in N reads", re.sub(r"\d+ ms|\d\.\d\d s", "N ms", text))


class Report(Struct, frozen=True):
    code: int
    findings: tuple[Finding, ...]

    def row(self, what: str) -> Finding:
        (found,) = (finding for finding in self.findings if finding.what == what)
        return found

    def rows(self, status: str) -> list[Finding]:
        return [finding for finding in self.findings if finding.status == status]


async def examined(turnwire: Command, *options: str, **environment: str) -> Report:
    # In a thread, for the servers live on this one's loop; the whole outputs below come from a process of their own.
    run = await asyncio.to_thread(turnwire.here, "doctor", "--json", *options, **environment)
    assert run.stderr == NOTE
    fields = json.loads(run.stdout)
    assert run.stdout.count("\n") == 1
    return Report(run.code, tuple(Finding(**{**row, "found": plain(row["found"])}) for row in fields["findings"]))


async def test_a_server_that_can_all_of_it(turnwire: Command) -> None:
    async with ScriptedServer(healthy, token="token-of-the-turn", strict=True) as server:
        run = await turnwire("doctor", "--base-url", server.base_url)
    assert (
        plain(run.stdout)
        == """\
http://127.0.0.1:PPPPP/v1
reachable              ok       127.0.0.1 port PPPPP: connected in N ms
TLS                    skipped  the address is plain http
key                    ok       none is sent, and none is asked for
model                  ok       scripted, the only one listed
Chat Completions, SSE  ok       spoken, and the one in use
Responses, SSE         ok       spoken
Responses, WebSocket   ok       spoken
routing token          ok       Chat Completions, SSE: 17 characters (header);
                                Responses, SSE: 17 characters (header);
                                Responses, WebSocket: 17 characters (metadata)
streaming              ok       5 pieces in N reads
proper ending          ok       finish reason stop
tool calls             ok       called, with arguments that fit
usage                  ok       1,500 tokens in, 5 out
prompt cache           ok       93% of a repeated prompt was cached
12 ok, 1 skipped
"""
    )
    assert (run.code, run.stderr) == (0, NOTE)
    assert server.errors == []
    asked = [(request.wire, request.path) for request in server.requests]
    assert asked == [
        (None, "/v1/models"),
        ("chat", "/v1/chat/completions"),
        ("responses", "/v1/responses"),
        ("websocket", "/v1/responses"),
        *[("chat", "/v1/chat/completions")] * 3,
    ]
    # The repeated prompt is one turn's: its token goes with the second of the two, so that it meets its cache.
    tokens = [request.headers.get("x-codex-turn-state") for request in server.requests]
    assert tokens == [*[None] * 6, "token-of-the-turn"]


async def test_a_real_llama_cpp(turnwire: Command) -> None:
    async with LlamaServer() as server:
        report = await examined(turnwire, "--base-url", server.base_url)
    assert (
        report
        == Report(
            0,
            (
                ok("reachable", "127.0.0.1 port PPPPP: connected in N ms"),
                skipped("TLS", "the address is plain http"),
                ok("key", "none is sent, and none is asked for"),
                ok("model", "scripted, the only one listed"),
                ok("Chat Completions, SSE", "spoken, and the one in use"),
                ok("Responses, SSE", "spoken"),
                warning(
                    "Responses, WebSocket",
                    "not spoken (404)",
                    "no need to act: SSE says the same, with somewhat more to send",
                ),
                warning(
                    "routing token",
                    "none",
                    "no need to act with one machine behind the address; "
                    "with more, put a sticky router in front of them",
                ),
                *report.findings[8:9],  # how many reads and tokens there are is llama.cpp's own affair
                ok("proper ending", "finish reason stop"),
                ok("tool calls", "called, with arguments that fit"),
                *report.findings[11:],
            ),
        )
    )
    assert [(row.what, row.status) for row in (*report.findings[8:9], *report.findings[11:])] == [
        ("streaming", "ok"),
        ("usage", "ok"),
        ("prompt cache", "ok"),
    ]


async def test_a_port_where_nobody_listens(turnwire: Command) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        run = await turnwire("doctor", "--base-url", f"http://127.0.0.1:{unused.getsockname()[1]}/v1")
    assert (
        plain(run.stdout)
        == """\
http://127.0.0.1:PPPPP/v1
reachable              failed   127.0.0.1 port PPPPP: connection refused
                                → check the address, that the server runs, and
                                that no firewall stands in between
TLS                    skipped  the server can't be reached
key                    skipped  the server can't be reached
model                  skipped  the server can't be reached
Chat Completions, SSE  skipped  the server can't be reached
Responses, SSE         skipped  the server can't be reached
Responses, WebSocket   skipped  the server can't be reached
routing token          skipped  the server can't be reached
streaming              skipped  the server can't be reached
proper ending          skipped  the server can't be reached
tool calls             skipped  the server can't be reached
usage                  skipped  the server can't be reached
prompt cache           skipped  the server can't be reached
1 failed, 12 skipped
"""
    )
    assert (run.code, run.stderr) == (1, NOTE)


async def test_a_web_page(turnwire: Command) -> None:
    async with RawServer(saying(WEB_PAGE)) as server:
        without = await examined(turnwire, "--base-url", server.url)
        run = await turnwire("doctor", "--base-url", server.url, "--model", "small")
    advice = "check the base_url; where it is right, name a model with --model"
    assert without.row("model") == failed("model", "/models gave no list of models", advice)
    assert {row.found for row in without.rows("skipped")} == {
        "the address is plain http",
        "nothing that asks for a key answered",
        "there is no model to ask",
    }
    assert (
        plain(run.stdout)
        == """\
http://127.0.0.1:PPPPP
reachable              ok       127.0.0.1 port PPPPP: connected in N ms
TLS                    skipped  the address is plain http
key                    skipped  nothing that asks for a key answered
model                  warning  small; /models gave no list of models
                                → no need to act: only the list of models is
                                missing
Chat Completions, SSE  failed   the server answered with a web page instead of
                                an event stream: check the base_url
                                → check the base_url: it ends where
                                /chat/completions or /responses begins
Responses, SSE         warning  the server answered with a web page instead of
                                an event stream: check the base_url
                                → check the base_url: it ends where
                                /chat/completions or /responses begins
Responses, WebSocket   warning  /responses does not speak WebSocket: it answered
                                200
                                → check the base_url: it ends where
                                /chat/completions or /responses begins
routing token          skipped  no wire gave an answer
streaming              skipped  no wire gave an answer
proper ending          skipped  no wire gave an answer
tool calls             skipped  no wire gave an answer
usage                  skipped  no wire gave an answer
prompt cache           skipped  no wire gave an answer
1 ok, 3 warnings, 1 failed, 8 skipped
"""
    )
    assert (run.code, run.stderr) == (1, NOTE)


async def test_a_wrong_key_is_told_and_nothing_of_it_shown(turnwire: Command) -> None:
    async with ScriptedServer(healthy, api_key="right", models=["small"]) as server:
        for options, advice in (
            ((), "name the environment variable that holds the key with --api-key-env"),
            (("--api-key-env", "MY_KEY", "-m", "small"), "check the key in MY_KEY, and what it may use"),
        ):
            report = await examined(turnwire, "--base-url", server.base_url, *options, MY_KEY="wrong-key")
            path = "/chat/completions" if options else "/models"
            said = f"{path} answered 401: the API key is missing or not the right one"
            assert report.row("key") == failed("key", said, advice)
            assert {row.found for row in report.findings[3:]} == {"the key is not accepted"}
            assert report.code == 1
        right = await examined(turnwire, "--base-url", server.base_url, "--api-key-env", "MY_KEY", MY_KEY="right")
        assert (right.row("key"), right.code) == (ok("key", "accepted"), 0)


async def test_a_key_that_only_the_answers_ask_for(turnwire: Command) -> None:
    async with LlamaServer(api_key="right") as server:
        wrong = await examined(turnwire, "--base-url", server.base_url, "-m", "scripted")
        right = await examined(turnwire, "--base-url", server.base_url, "--api-key-env", "MY_KEY", MY_KEY="right")
    assert (wrong.row("key").status, wrong.row("key").found) == (
        "failed",
        "/chat/completions answered 401: Invalid API Key",
    )
    assert (right.row("key"), right.code) == (ok("key", "accepted"), 0)


async def test_what_a_server_repeats_of_a_key_is_not_shown(turnwire: Command) -> None:
    fault = Status(401, message="no such key: canary-key")
    async with ScriptedServer(lambda _: Turn(fault=fault)) as server:
        report = await examined(turnwire, "--base-url", server.base_url, "--api-key-env", "MY_KEY", MY_KEY="canary-key")
    assert report.row("key").found == "/chat/completions answered 401: no such key: …"


async def test_what_a_server_repeats_of_a_token_is_not_shown(turnwire: Command) -> None:
    def script(request: RecordedRequest) -> Turn:
        token = request.headers.get("x-codex-turn-state")
        return healthy(request) if token is None else Turn(fault=Status(400, message=f"no such token: {token}"))

    async with ScriptedServer(script, token="canary-token") as server:
        report = await examined(turnwire, "--base-url", server.base_url)
    assert report.rows("failed") == [failed("prompt cache", "no such token: …", "look into the server's log")]
    assert "canary" not in str(report)


async def test_a_model_that_the_server_does_not_know(turnwire: Command) -> None:
    async with ScriptedServer(healthy, models=["small", "large"]) as server:
        unknown = await examined(turnwire, "--base-url", server.base_url, "-m", "huge")
        unnamed = await examined(turnwire, "--base-url", server.base_url)
        known = await examined(turnwire, "--base-url", server.base_url, "-m", "large")
    assert unknown.rows("failed") == [
        failed("model", "the server does not know 'huge'", "name one that is listed: small, large")
    ]
    assert unnamed.rows("failed") == [
        failed("model", "none is named, and 2 are listed", "name one with --model: small, large")
    ]
    for report in (unknown, unnamed):
        assert {row.found for row in report.findings[4:]} == {"there is no model to ask"}
    assert (unknown.code, unnamed.code, known.code) == (1, 1, 0)
    assert known.row("model") == ok("model", "large, one of 2 listed")


async def test_a_provider_s_own_wire_must_be_spoken_and_the_others_need_not(turnwire: Command) -> None:
    table = {
        'wire_api = "chat"': "warning",
        'wire_api = "responses"': "warning",
        'wire_api = "responses"\nwebsocket = "auto"': "warning",
        'wire_api = "responses"\nwebsocket = true': "failed",
    }
    async with ScriptedServer(healthy, handshakes=Status(426)) as server:
        for lines, status in table.items():
            turnwire.configure(f'[providers.mine]\nbase_url = "{server.base_url}"\nmodel = "scripted"\n{lines}\n')
            report = await examined(turnwire)
            assert (report.row("Responses, WebSocket").status, report.code) == (status, int(status == "failed"))
    assert report.row("Responses, WebSocket") == failed(
        "Responses, WebSocket",
        "not spoken (426)",
        "ask over Chat Completions: --wire-api chat, or wire_api in turnwire.toml",
    )
    assert server.errors == []


@pytest.mark.parametrize(
    ("fault", "finding"),
    [
        (
            CutCleanly(after=500),
            failed(
                "proper ending",
                "the stream ended without a finish reason or [DONE]: it was cut off",
                "see what cuts the answer off: the server's log, or a proxy's timeout",
            ),
        ),
        (
            Stall(after=500),
            failed(
                "proper ending",
                "the answer was not whole within 0.5 s",
                "give it more time with --timeout, or see what holds the server up",
            ),
        ),
        (
            Stall(),
            failed(
                "Chat Completions, SSE",
                "the answer was not whole within 0.5 s",
                "give it more time with --timeout, or see what holds the server up",
            ),
        ),
        (
            Status(429, message="slow down"),
            failed("Chat Completions, SSE", "slow down", "wait, or ask the provider for a higher limit"),
        ),
        (
            Status(500, message="no GPU"),
            failed("Chat Completions, SSE", "/chat/completions answered 500: no GPU", "look into the server's log"),
        ),
        (
            WrongType(),
            failed(
                "Chat Completions, SSE",
                "the server answered with a web page instead of an event stream: check the base_url",
                "check the base_url: it ends where /chat/completions or /responses begins",
            ),
        ),
    ],
    ids=lambda value: "" if isinstance(value, Finding) else repr(value),
)
async def test_an_answer_that_fails_is_told_with_what_to_do(turnwire: Command, fault: Fault, finding: Finding) -> None:
    def script(request: RecordedRequest) -> Turn:
        first = request.wire == "chat" and sum(other.wire == "chat" for other in server.requests) == 1
        return Turn(text=DAYS, fault=fault) if first else healthy(request)

    async with ScriptedServer(script) as server:
        report = await examined(turnwire, "--base-url", server.base_url, "--timeout", "0.5")
    assert (report.rows("failed"), report.code) == ([finding], 1)
    # What can be had over another wire is looked at there.
    assert report.row("tool calls") == ok("tool calls", "called, with arguments that fit")


async def test_what_an_agent_would_miss_is_a_warning(turnwire: Command) -> None:
    async with ScriptedServer(lambda _: Turn(text="Yes.")) as server:
        report = await examined(turnwire, "--base-url", server.base_url)
    warnings = {row.what: row.found for row in report.rows("warning")}
    assert warnings == {
        "routing token": "none",
        "streaming": "the answer came in one piece",
        "tool calls": "the model answered without the tool",
        "usage": "not reported",
    }
    assert report.row("prompt cache") == skipped("prompt cache", "no usage is reported")
    assert report.code == 0


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA(organization_name="Tests")


def serving_tls(authority: trustme.CA, ends: datetime | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1", not_after=ends).configure_cert(context)
    return context


async def test_a_certificate_that_nobody_vouches_for(turnwire: Command, authority: trustme.CA) -> None:
    async with RawServer(saying(WEB_PAGE), tls=serving_tls(authority)) as server:
        report = await examined(turnwire, "--base-url", server.url)
        assert server.requests == []
    assert report.rows("failed") == [
        failed(
            "TLS",
            "unable to get local issuer certificate",
            "set ca_file in turnwire.toml for a certificate of your own, or renew it",
        )
    ]
    assert {row.found for row in report.findings[2:]} == {"the server is not trusted"}


async def test_a_certificate_is_told_with_its_end(authority: trustme.CA, tmp_path: Path) -> None:
    ca_file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(ca_file)
    ends = datetime(2037, 5, 17, 12, tzinfo=UTC)
    async with RawServer(silence, tls=serving_tls(authority, ends)) as server:
        early = await check_tls(server.url, ca_file, 5, ends - timedelta(days=14))
        late = await check_tls(server.url, ca_file, 5, ends - timedelta(days=3))
    found = "TLSv1.3, certificate by Tests until 2037-05-17"
    assert early == ok("TLS", found)
    assert late == warning("TLS", f"{found}, in 3 days", "renew the certificate")


async def test_a_server_without_tls(authority: trustme.CA) -> None:
    async with RawServer(saying(b"HTTP/1.1 400 Bad Request\r\n\r\n"), greets=True) as server:
        finding = await check_tls(server.url.replace("http:", "https:"), None, 5, datetime.now(UTC))
    assert finding == failed("TLS", "wrong version number", "write http:// if the server has no TLS")


async def test_a_tls_handshake_that_stalls_is_left() -> None:
    async with RawServer(silence, greets=True) as server:
        finding = await check_tls(server.url.replace("http:", "https:"), None, 0.1, datetime.now(UTC))
    assert finding == failed("TLS", "no handshake within 0.1 s", "check that the port is one for https")


async def test_behind_a_proxy_it_is_the_proxy_that_is_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    async with RawServer(silence) as proxy:
        monkeypatch.setenv("https_proxy", proxy.url)
        reachable = await check_reachable("https://model.example/v1", 5)
        tls = await check_tls("https://model.example/v1", None, 5, datetime.now(UTC))
    found = ok("reachable", "127.0.0.1 port PPPPP by its proxy: connected in N ms")
    assert Finding(reachable.what, reachable.status, plain(reachable.found)) == found
    assert tls == skipped("TLS", "not looked at behind a proxy")


async def test_a_host_without_an_address() -> None:
    finding = await check_reachable("http://nowhere.invalid/v1", 5)
    assert finding == failed("reachable", "nowhere.invalid: no such host", "check the address, and the name server")


def test_what_is_not_right_before_anything_is_asked_ends_with_code_2(turnwire: Command) -> None:
    turnwire.configure('[providers.mine]\nbase_url = "https://a.example"\nca_file = "none.pem"\n')
    table = {
        ("--base-url", "localhost:8080"): (
            "provider 'localhost:8080' can't be used: base_url 'localhost:8080' is not an http or https address"
        ),
        ("--provider", "openai"): (
            "provider 'openai' can't be used: its key is missing: set the environment variable OPENAI_API_KEY"
        ),
        ("--provider", "vllm", "--timeout", "0"): (
            "provider 'vllm' can't be used: idle_timeout must be more than 0, not 0.0"
        ),
        (): "ca_file none.pem can't be used: no such file or directory",
    }
    runs = [turnwire.here("doctor", *options) for options in table]
    assert runs == [Run(2, "", f"error: {sentence}\n") for sentence in table.values()]
