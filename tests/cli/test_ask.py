"""``turnwire ask`` against the scripted server: what goes where, and the exit codes."""

import asyncio
import base64
import json
import os
import re
import signal

import msgspec
import pytest

from tests.cli.command import Command, Run
from turnwire.event import (
    Completed,
    Created,
    OutputItemAdded,
    OutputItemDone,
    OutputTextDelta,
    ReasoningContentDelta,
    ResponseEvent,
    TokenUsage,
)
from turnwire.item import FunctionCall, Message, OutputText, Reasoning, ReasoningText, decode_item
from turnwire.testing import (
    CutCleanly,
    ErrorEvent,
    Garbage,
    NotHttp,
    ScriptedServer,
    Stall,
    Status,
    Turn,
    WrongType,
)

USAGE = TokenUsage(100, 93, 5, 2, 105)
PACE = r"first token after (\d+ ms|\d+\.\d\d s)(, then \d+\.\d tokens/s)?"
SUMMARY = rf"no usage reported; {PACE}\n"
KINDS = {kind.__struct_config__.tag: kind for kind in ResponseEvent.__args__}


def decoded(line: str) -> ResponseEvent:
    fields = json.loads(line)
    kind = KINDS[fields["type"]]
    if "item" in fields:
        return kind(decode_item(fields["item"]))
    return msgspec.convert(fields, kind)


def only(run: Run, code: int, sentence: str) -> bool:
    """Whether all that the command did was to say that sentence."""
    return run == Run(code, "", f"error: {sentence}\n")


def failed(run: Run, stdout: str, words: str) -> bool:
    """Whether a turn failed behind that text, with one sentence that has these words: the library's own are longer."""
    error, colon, sentence = run.stderr.partition(": ")
    one = (error, colon) == ("error", ": ") and sentence.count("\n") == 1 and sentence.endswith("\n")
    return one and words in sentence and (run.code, run.stdout) == (1, stdout)


async def test_text_goes_to_standard_output_and_all_else_to_standard_error(turnwire: Command) -> None:
    call = FunctionCall("look_up", '{"word":"Grüezi"}', "call_1")
    turn = Turn(reasoning=["Let me ", "look."], text=["Grü", "ezi"], calls=[call], usage=USAGE)
    async with ScriptedServer([turn]) as server:
        run = await turnwire("ask", "--base-url", server.base_url, "Say", "hello")
    assert run.stdout == "Grüezi\n"
    notes = 'asking scripted\nLet me look.\ncall look_up {"word":"Grüezi"}\n'
    notes += "100 tokens in (93% cached), 5 out (2 reasoning); "
    assert re.fullmatch(re.escape(notes) + PACE + "\n", run.stderr)
    assert run.code == 0
    assert [(request.method, request.path) for request in server.requests] == [
        ("GET", "/v1/models"),
        ("POST", "/v1/chat/completions"),
    ]
    assert server.requests[1].json == {
        "model": "scripted",
        "messages": [{"role": "user", "content": "Say hello"}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    assert server.errors == []


async def test_json_gives_every_event_on_a_line_of_its_own(turnwire: Command) -> None:
    call = FunctionCall("look_up", '{"word":"Grüezi"}', "call_1", extra={"thought_signature": "x"})
    turn = Turn(reasoning="Hm.", text=["Grü", "ezi"], calls=[call], usage=USAGE)
    async with ScriptedServer([turn]) as server:
        run = await turnwire("ask", "--base-url", server.base_url, "--model", "scripted", "--json", "Say hello")
    assert [decoded(line) for line in run.stdout.splitlines()] == [
        OutputItemAdded(Reasoning(content=())),
        ReasoningContentDelta("Hm.", 0),
        OutputItemAdded(Message("assistant", ())),
        OutputTextDelta("Grü"),
        OutputTextDelta("ezi"),
        OutputItemDone(Reasoning(content=[ReasoningText("Hm.")])),
        OutputItemDone(call),
        OutputItemDone(Message("assistant", [OutputText("Grü"), OutputText("ezi")])),
        Completed("chatcmpl-1", USAGE, "tool_calls"),
    ]
    assert re.fullmatch(rf"100 tokens in \(93% cached\), 5 out \(2 reasoning\); {PACE}\n", run.stderr)
    assert run.code == 0


async def test_options_become_the_request(turnwire: Command) -> None:
    image = b"\x89PNG"
    (turnwire.folder / "cat.png").write_bytes(image)
    turnwire.configure('[providers.mine]\nbase_url = "http://127.0.0.1:1/v1"\nmodel = "small"\n')
    async with ScriptedServer([Turn(text="A cat.\n")], api_key="secret", models=["large"]) as server:
        run = await turnwire(
            *("ask", "What is this?", "--base-url", server.base_url, "--provider", "mine", "--dialect", "openai"),
            *("--model", "large", "--system", "Be short.", "--image", "cat.png", "--image", "https://a.example/b.png"),
            *("--max-output-tokens", "9", "--temperature", "0.5", "--reasoning-effort", "low"),
            *("--api-key-env", "MY_KEY", "--timeout", "5"),
            MY_KEY="secret",
        )
    assert (run.code, run.stdout) == (0, "A cat.\n")
    assert re.fullmatch(SUMMARY, run.stderr)
    address = f"data:image/png;base64,{base64.b64encode(image).decode()}"
    assert [request.json for request in server.requests] == [
        {
            "model": "large",
            "messages": [
                {"role": "system", "content": "Be short."},
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "What is this?"},
                        {"type": "image_url", "image_url": {"url": address}},
                        {"type": "image_url", "image_url": {"url": "https://a.example/b.png"}},
                    ],
                },
            ],
            "max_completion_tokens": 9,
            "temperature": 0.5,
            "reasoning_effort": "low",
            "stream": True,
            "stream_options": {"include_usage": True},
        }
    ]


async def test_the_only_configured_provider_is_asked_and_gets_its_key(turnwire: Command) -> None:
    async with ScriptedServer([Turn(text="Yes.")], api_key="secret", models=["small"]) as server:
        turnwire.configure(
            f'[providers.mine]\nbase_url = "{server.base_url}"\napi_key_env = "MY_KEY"\nmodel = "small"\n'
        )
        run = await turnwire("ask", "Is it?", MY_KEY="secret")
    assert (run.code, run.stdout) == (0, "Yes.\n")
    assert re.fullmatch(SUMMARY, run.stderr)


async def test_a_preset_is_asked_at_another_address(turnwire: Command) -> None:
    async with ScriptedServer([Turn(text="Yes.")], models=["small"]) as server:
        run = await turnwire("ask", "--provider", "vllm", "--base-url", server.base_url, "Is it?")
    assert (run.code, run.stdout) == (0, "Yes.\n")
    assert re.fullmatch("asking small\n" + SUMMARY, run.stderr)


async def test_any_wire_gives_the_same_answer(turnwire: Command) -> None:
    table: dict[tuple[str, ...], str] = {
        (): "chat",
        ("--wire-api", "chat"): "chat",
        ("--wire-api", "responses"): "responses",
        ("--wire-api", "responses", "--websocket", "off"): "responses",
        ("--wire-api", "responses", "--websocket", "on"): "websocket",
        ("--wire-api", "responses", "--websocket", "auto"): "websocket",
    }
    turn = Turn(reasoning="Hm.", text=["Grü", "ezi"], usage=USAGE)
    async with ScriptedServer(lambda _: turn, strict=True) as server:
        for options, wire in table.items():
            run = await turnwire("ask", "--base-url", server.base_url, "--model", "m", *options, "Say hello")
            assert (run.code, run.stdout, server.requests[-1].wire) == (0, "Grüezi\n", wire)
            assert re.fullmatch(rf"Hm\.\n100 tokens in \(93% cached\), 5 out \(2 reasoning\); {PACE}\n", run.stderr)
    assert (server.errors, len(server.requests)) == ([], len(table))


async def test_json_gives_the_events_of_a_websocket_too(turnwire: Command) -> None:
    async with ScriptedServer([Turn(text="Yes.")]) as server:
        options = ("--base-url", server.base_url, "--wire-api", "responses", "--websocket", "on", "--model", "m")
        run = await turnwire("ask", *options, "--json", "Is it?")
    events = [decoded(line) for line in run.stdout.splitlines()]
    assert [type(event) for event in events] == [
        *(Created, OutputItemAdded, OutputTextDelta, OutputItemDone, Completed)
    ]
    assert run.code == 0


async def test_a_configured_provider_brings_its_wire_and_options_outrank_it(turnwire: Command) -> None:
    async with ScriptedServer(lambda _: Turn(text="Yes.")) as server:
        turnwire.configure(
            f'[providers.mine]\nbase_url = "{server.base_url}"\nwire_api = "responses"\nwebsocket = "auto"\n'
        )
        for options in ((), ("--websocket", "off"), ("--wire-api", "chat")):
            run = await turnwire("ask", "--model", "m", *options, "Is it?")
            assert (run.code, run.stdout) == (0, "Yes.\n")
    assert [request.wire for request in server.requests] == ["websocket", "responses", "chat"]


async def test_a_server_without_websocket_is_asked_by_http_and_that_is_told(turnwire: Command) -> None:
    async with ScriptedServer([Turn(text="Yes.")], handshakes=Status(426)) as server:
        options = ("--base-url", server.base_url, "--wire-api", "responses", "--model", "m", "--websocket")
        auto = await turnwire("ask", *options, "auto", "Is it?")
        on = await turnwire("ask", *options, "on", "Is it?")
    assert (auto.code, auto.stdout) == (0, "Yes.\n")
    assert re.fullmatch(rf"http://\S+ opens no WebSocket, and is asked by HTTP\n{SUMMARY}", auto.stderr)
    assert failed(on, "", "(WebSocket) answered 426")
    assert [request.wire for request in server.requests] == ["responses"]


async def test_the_prompt_comes_from_the_words_from_standard_input_or_from_both(turnwire: Command) -> None:
    table = {
        ("Why?",): (b"", "Why?"),
        (): (b"Gr\xc3\xbcezi\n", "Grüezi"),
        ("-",): (b"Gr\xc3\xbcezi\n", "Grüezi"),
        ("Translate", "this:"): (b"Gr\xc3\xbcezi\n", "Translate this:\n\nGrüezi"),
    }
    async with ScriptedServer(lambda _: Turn(text="Yes.")) as server:
        for words, (stdin, _) in table.items():
            await turnwire("ask", "--base-url", server.base_url, "--model", "m", *words, stdin=stdin)
    asked = [request.json["messages"][0]["content"] for request in server.requests]
    assert asked == [content for _, content in table.values()]


async def test_an_answer_that_is_not_whole_ends_with_its_own_code(turnwire: Command) -> None:
    table: dict[str, tuple[Turn, tuple[str, ...], str]] = {
        "bounded": (
            Turn(text="One two", finish_reason="length"),
            ("--max-output-tokens", "2"),
            r"incomplete \(max_output_tokens\); " + SUMMARY,
        ),
        "filtered": (
            Turn(text="One two", finish_reason="content_filter"),
            (),
            r"incomplete \(content_filter\); " + SUMMARY,
        ),
        "refused": (Turn(text="One two", refusal="I won't."), (), "refused: I won't\\.\n" + SUMMARY),
    }
    for name, (turn, options, stderr) in table.items():
        async with ScriptedServer([turn]) as server:
            run = await turnwire("ask", "--base-url", server.base_url, "--model", "m", *options, "Count")
        assert (name, run.code, run.stdout) == (name, 3, "One two\n")
        assert re.fullmatch(stderr, run.stderr), run.stderr


async def test_a_turn_that_fails_is_one_sentence_behind_what_had_come(turnwire: Command) -> None:
    two = ["One ", "two"]
    table: dict[str, tuple[Turn, str, str]] = {
        "full": (Turn(text=two, finish_reason="length"), "One two\n", "did not fit the model's context window"),
        "dead": (Turn(text=two, fault=ErrorEvent(after=1)), "One \n", "the scripted engine died"),
        "cut": (Turn(text=two, fault=CutCleanly(after=350)), "One \n", "without a finish reason or [DONE]"),
        "silent": (Turn(text=two, fault=Stall(after=350)), "One \n", "no event from mine for 0.5 s"),
        "refused": (Turn(fault=Status(400, message="no \x1b[31mtools")), "", "no \N{REPLACEMENT CHARACTER}[31mtools"),
        "a web page": (Turn(fault=WrongType()), "", "answered with a web page"),
        "no http": (Turn(fault=NotHttp()), "", "HTTP"),
    }
    for turn, stdout, words in table.values():
        async with ScriptedServer([turn]) as server:
            turnwire.configure(f'[providers.mine]\nbase_url = "{server.base_url}"\n')
            run = await turnwire("ask", "--timeout", "0.5", "--model", "m", "Count")
        assert failed(run, stdout, words), run


async def test_a_wrong_address_key_or_model_is_one_sentence(turnwire: Command) -> None:
    async with ScriptedServer(api_key="secret", models=["small"]) as server:
        base = server.base_url
        table: dict[tuple[str, ...], str] = {
            (): f"{base}/models answered 401: the API key is missing",
            ("--model", "small"): f"{base}/chat/completions answered 401: the API key is missing",
            ("--model", "huge", "--api-key-env", "MY_KEY"): "answered 404: the model 'huge' does not exist",
        }
        for options, words in table.items():
            run = await turnwire("ask", "Why?", "--base-url", base, *options, MY_KEY="secret")
            assert failed(run, "", words), run
    gone = await turnwire("ask", "Why?", "--base-url", base)
    assert failed(gone, "", f"can't connect to {base}/models: "), gone


def test_what_is_not_right_before_anything_is_asked_ends_with_code_2(turnwire: Command) -> None:
    (turnwire.folder / "two.txt").write_text("no image")
    table = {
        ("Why?",): (
            "no provider is configured: name a preset with --provider, give a server's address with --base-url, "
            "or write a [providers.NAME] table into turnwire.toml"
        ),
        ("Why?", "--base-url", "localhost:8080"): (
            "provider 'localhost:8080' can't be used: base_url 'localhost:8080' is not an http or https address"
        ),
        ("Why?", "--provider", "nobody"): (
            "no provider is called 'nobody'; known are azure, deepseek, gemini, groq, llama.cpp, lmstudio, mistral, "
            "ollama, openai, openrouter, sglang, tolerant, vllm"
        ),
        ("Why?", "--provider", "azure"): "the preset azure is for servers at many addresses: give a base_url",
        ("Why?", "--provider", "openai", "-m", "small"): (
            "provider 'openai' can't be used: its key is missing: set the environment variable OPENAI_API_KEY"
        ),
        ("Why?", "--provider", "vllm", "--timeout", "0"): (
            "provider 'vllm' can't be used: idle_timeout must be more than 0, not 0.0"
        ),
        (
            "Why?",
            "--provider",
            "vllm",
            "--image",
            "one.png",
        ): "image 'one.png' can't be read: No such file or directory",
        ("Why?", "--provider", "vllm", "--image", "two.txt"): (
            "image 'two.txt' is neither an address nor a file with an image's suffix"
        ),
        ("Why?", "--provider", "vllm", "--wire-api", "smoke"): (
            "provider 'vllm' can't be used: wire_api 'smoke' is not known; known are 'chat' and 'responses'"
        ),
        ("Why?", "--provider", "vllm", "--websocket", "on"): (
            "provider 'vllm' can't be used: Chat Completions has no WebSocket; "
            "set wire_api to 'responses' or websocket to false"
        ),
        ("Why?", "--provider", "vllm", "--websocket", "true"): (
            "--websocket 'true' is not known; known are auto, on and off"
        ),
        ("--provider", "vllm"): "the prompt is empty: write it behind `turnwire ask`, or pipe it in",
    }
    runs = [turnwire.here("ask", *options) for options in table]
    assert runs == [Run(2, "", f"error: {sentence}\n") for sentence in table.values()]
    dialect = turnwire.here("ask", "Why?", "--dialect", "klingon")
    assert (dialect.code, dialect.stdout) == (2, "")
    assert dialect.stderr.startswith("error: no dialect is called 'klingon'; known are azure, ")
    binary = turnwire.here("ask", "--provider", "vllm", stdin=b"\xff\xfe")
    assert only(binary, 2, "standard input is not UTF-8 text")


def test_a_bad_configuration_file_is_one_sentence(turnwire: Command) -> None:
    table = {
        "[providers": "turnwire.toml is not TOML: Expected ']' at the end of a table declaration (at end of document)",
        "[server]": "turnwire.toml: 'server' is not known; known are [providers.NAME], [[upstreams]] and [gateway]",
        "[providers.mine]\nbase_url = 3\n": "turnwire.toml: [providers.mine] base_url: expected `str`, got `int`",
        '[providers.a]\npreset = "vllm"\n[providers.b]\npreset = "ollama"\n': (
            "2 providers are configured, choose one with --provider: a, b"
        ),
    }
    for text, sentence in table.items():
        turnwire.configure(text)
        assert only(turnwire.here("ask", "Why?"), 2, sentence)


@pytest.mark.parametrize(
    ("status", "body", "code", "sentence"),
    [
        (200, '{"data":[]}', 2, "MINE serves no model: load one, or name one with --model"),
        (
            200,
            json.dumps({"data": [{"id": f"m{number}"} for number in range(12)]}),
            2,
            "MINE serves 12 models, name one with --model: m0, m1, m2, m3, m4, m5, m6, m7, m8, m9 and 2 more",
        ),
        (
            200,
            "<!doctype html>",
            2,
            "MINE/models gave no list of models (check the base_url; where it is right, name a model with --model)",
        ),
        (
            404,
            "not found",
            2,
            "MINE/models answered 404 (check the base_url; where it is right, name a model with --model)",
        ),
        (500, "", 1, "MINE/models answered 500"),
        (None, "", 1, "no list of models from MINE/models within 0.3 s"),
    ],
)
async def test_without_a_model_the_server_must_list_exactly_one(
    turnwire: Command, status: int | None, body: str, code: int, sentence: str
) -> None:
    left = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        if status is not None:
            writer.write(f"HTTP/1.1 {status} Said\r\ncontent-length: {len(body)}\r\n\r\n{body}".encode())
        await reader.read()
        writer.close()
        await writer.wait_closed()
        left.set()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    base = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    run = await turnwire("ask", "Why?", "--base-url", base, "--timeout", "0.3" if status is None else "60")
    assert only(run, code, sentence.replace("MINE", base))
    await left.wait()
    server.close()
    await server.wait_closed()


async def test_an_answer_of_nothing_is_an_answer(turnwire: Command) -> None:
    async with ScriptedServer([Turn()]) as server:
        run = await turnwire("ask", "--base-url", server.base_url, "--model", "m", "Is it?")
    assert run == Run(0, "", "no usage reported; no output\n")


async def test_a_retry_that_the_server_caused_is_told(turnwire: Command) -> None:
    script = [Turn(fault=Status(503, headers={"retry-after-ms": "10"})), Turn(text="Yes.")]
    async with ScriptedServer(script) as server:
        run = await turnwire("ask", "--base-url", server.base_url, "--model", "m", "Is it?")
    assert (run.code, run.stdout) == (0, "Yes.\n")
    assert re.fullmatch("the server answered 503; asking again in 0.2 s\n" + SUMMARY, run.stderr)


async def test_what_was_skipped_dropped_or_left_out_is_told(turnwire: Command) -> None:
    call = FunctionCall("look_up", "{}", "call_1")
    turn = Turn(text="Yes.", calls=[call], finish_reason="stop", fault=Garbage(b"data: {not json\n\n", after=0))
    async with ScriptedServer([turn]) as server:
        options = ("--dialect", "deepseek", "--reasoning-effort", "low", "--model", "m")
        run = await turnwire("ask", "--base-url", server.base_url, *options, "Is it?")
    assert (run.code, run.stdout) == (0, "Yes.\n")
    first, *rest = run.stderr.splitlines(keepends=True)
    assert re.fullmatch(r".* can't be sent to http\S+, and was left out\n", first)
    assert re.fullmatch(
        SUMMARY + "the call of look_up was never released, and was dropped\n1 event held no JSON, and went unread\n",
        "".join(rest),
    )


async def test_ctrl_c_closes_the_connection_and_keeps_what_had_come(turnwire: Command) -> None:
    async with ScriptedServer([Turn(text=["One ", "two"], fault=Stall(after=350))]) as server:
        process = await turnwire.start("ask", "--base-url", server.base_url, "--model", "m", "Count")
        assert process.stdout is not None
        first = await process.stdout.readexactly(4)
        process.send_signal(signal.SIGINT)
        rest, stderr = await process.communicate()
        await server.wait_idle()
        assert server.abandoned == server.requests
    assert (process.returncode, first + rest, stderr) == (130, b"One \n", b"interrupted\n")


async def test_a_reader_who_leaves_ends_it_quietly(turnwire: Command) -> None:
    reader, writer = os.pipe()
    turn = Turn(text=["x" * 1000] * 10_000, interval=0.001)
    async with ScriptedServer([turn]) as server:
        process = await turnwire.start("ask", "--base-url", server.base_url, "--model", "m", "Go on", stdout=writer)
        os.close(writer)
        await asyncio.to_thread(os.read, reader, 1)
        os.close(reader)
        _, stderr = await process.communicate()
        await server.wait_idle()
        assert server.abandoned == server.requests
    assert (process.returncode, stderr) == (141, b"")


async def test_a_character_that_the_locale_lacks_does_not_end_the_answer(turnwire: Command) -> None:
    async with ScriptedServer([Turn(text="Grüezi")]) as server:
        options = ("--base-url", server.base_url, "--model", "m")
        run = await turnwire("ask", *options, "Say hello", PYTHONIOENCODING="ascii")
    assert (run.code, run.stdout) == (0, "Gr?ezi\n")


async def test_a_terminal_is_not_given_control_characters_and_a_file_is(turnwire: Command) -> None:
    text = "a\x1b[2Jb\r\n\tc"
    async with ScriptedServer(lambda _: Turn(text=text)) as server:
        options = ("ask", "--base-url", server.base_url, "--model", "m", "Draw")
        assert (await turnwire(*options)).stdout == f"{text}\n"
        master, slave = os.openpty()
        process = await turnwire.start(*options, stdout=slave)
        os.close(slave)
        shown = await asyncio.to_thread(_read_terminal, master)
        _, stderr = await process.communicate()
    assert shown == "a\N{REPLACEMENT CHARACTER}[2Jb\r\n\tc\r\n"
    assert re.fullmatch(SUMMARY, stderr.decode())


def _read_terminal(master: int) -> str:
    shown = b""
    try:
        while data := os.read(master, 4096):
            shown += data
    except OSError:
        pass  # Linux reports the other side's end as an error
    os.close(master)
    return shown.decode()
