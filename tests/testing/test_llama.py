"""A real llama.cpp server with the scripted model, spoken to in plain HTTP."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import pytest

from turnwire.testing.llama import SCRIPTED_TOOLS, LlamaServer, LlamaServerError

QUICK = {"chat_template_kwargs": {"enable_thinking": False}}
WEATHER_CALL = ("get_weather", '{"city": "Zürich", "unit": "celsius"}')
TIME_CALL = ("get_time", '{"zone": "CET"}')


class Answer(NamedTuple):
    finish_reason: str
    reasoning: str = ""
    text: str = ""
    calls: tuple[tuple[str, str], ...] = ()


WEATHER = Answer("tool_calls", "Let me think about it. The weather tool knows.", "I will check:\n", (WEATHER_CALL,))
TIME = Answer("tool_calls", "Two tools know that, so I ask both at once.", "", (WEATHER_CALL, TIME_CALL))
RESULT = Answer("stop", "", "It is 21 °C in Zürich with a little rain 🌦, so take an umbrella.")
CHAT = Answer("stop", "No tool can help here.", "Hello! Zürich sends you 21 °C and a 🌦 of its own.")
SHELL = Answer(
    "tool_calls", "A file may say so.", "Let me look it up.\n", (("exec_command", '{"cmd": "cat weather.txt"}'),)
)
COUNT = Answer("length", "This will go on for ever.", "one two three")


@pytest.fixture
async def server() -> AsyncIterator[LlamaServer]:
    async with LlamaServer() as server:
        yield server


def said(text: str, **request: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}], **request}


def asked(text: str, **request: Any) -> dict[str, Any]:
    return said(text, tools=SCRIPTED_TOOLS, **request)


def answered(*calls: tuple[str, str], **request: Any) -> dict[str, Any]:
    return asked("What is the weather?") | {
        "messages": [
            {"role": "user", "content": "What is the weather?"},
            {
                "role": "assistant",
                "content": "I will check:\n",
                "tool_calls": [
                    {"id": name, "type": "function", "function": {"name": name, "arguments": arguments}}
                    for name, arguments in calls
                ],
            },
            *({"role": "tool", "tool_call_id": name, "content": "21 °C, rain"} for name, _ in calls),
        ],
        **request,
    }


@asynccontextmanager
async def post(server: LlamaServer, request: dict[str, Any], **headers: str) -> AsyncIterator[aiohttp.ClientResponse]:
    url = f"{server.base_url}/chat/completions"
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.post(url, json={"model": server.model_name, **request}) as response,
    ):
        yield response


async def chunks(response: aiohttp.ClientResponse) -> AsyncIterator[dict[str, Any]]:
    async for line in response.content:
        if line.startswith(b"data: {"):
            yield json.loads(line.removeprefix(b"data: "))


async def stream(server: LlamaServer, request: dict[str, Any]) -> list[dict[str, Any]]:
    """The choice of every chunk, with the calls' random ids left out."""
    async with post(server, {**request, "stream": True}) as response:
        choices = [chunk["choices"][0] async for chunk in chunks(response)]
    for choice in choices:
        for call in choice["delta"].get("tool_calls", ()):
            call.pop("id", None)
    return choices


async def streamed_answer(server: LlamaServer, request: dict[str, Any]) -> Answer:
    choices = await stream(server, request)
    deltas = [choice["delta"] for choice in choices]
    calls: dict[int, tuple[str, str]] = {}
    for call in (call for delta in deltas for call in delta.get("tool_calls", ())):
        name, arguments = calls.get(call["index"], ("", ""))
        function = call["function"]
        calls[call["index"]] = (name + function.get("name", ""), arguments + function["arguments"])
    return Answer(
        choices[-1]["finish_reason"],
        "".join(delta.get("reasoning_content") or "" for delta in deltas),
        "".join(delta.get("content") or "" for delta in deltas),
        tuple(calls.values()),
    )


async def whole_answer(server: LlamaServer, request: dict[str, Any]) -> Answer:
    async with post(server, request) as response:
        choice = (await response.json())["choices"][0]
    message = choice["message"]
    calls = [call["function"] for call in message.get("tool_calls", ())]
    return Answer(
        choice["finish_reason"],
        message.get("reasoning_content", ""),
        message["content"],
        tuple((call["name"], call["arguments"]) for call in calls),
    )


# As the Codex CLI declares it, shortened.
EXEC_COMMAND = {
    "type": "function",
    "function": {
        "name": "exec_command",
        "parameters": {
            "type": "object",
            "properties": {"cmd": {"type": "string"}, "tty": {"type": "boolean"}, "workdir": {"type": "string"}},
            "required": ["cmd"],
            "additionalProperties": False,
        },
    },
}
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "degrees": {"type": "integer"}, "rain": {"type": "boolean"}},
    "required": ["city", "degrees", "rain"],
}
JSON_SCHEMA = {"type": "json_schema", "json_schema": {"name": "weather", "schema": SCHEMA}}

ANSWERS: dict[str, tuple[dict[str, Any], Answer]] = {
    "tools": (asked("Hello"), WEATHER),
    "tools, quick": (asked("Hello", **QUICK), WEATHER._replace(reasoning="")),
    "tools, hot": (asked("Hello", temperature=2.0), WEATHER),
    "tools, required": (asked("Hello", tool_choice="required"), WEATHER),
    "time": (asked("What time is it?"), TIME),
    "time, quick": (asked("Time and weather, please", **QUICK), TIME._replace(reasoning="")),
    "time, parallel": (asked("What time is it?", parallel_tool_calls=True), TIME),
    # llama.cpp does not hold the model to it.
    "time, not parallel": (asked("What time is it?", parallel_tool_calls=False), TIME),
    "shell": (said("What time is it?", tools=[*SCRIPTED_TOOLS, EXEC_COMMAND]), SHELL),
    "shell, quick": (said("Hello", tools=[EXEC_COMMAND], **QUICK), SHELL._replace(reasoning="")),
    "result": (answered(WEATHER_CALL), RESULT),
    "result, quick": (answered(WEATHER_CALL, **QUICK), RESULT),
    "results": (answered(WEATHER_CALL, TIME_CALL), RESULT),
    "no tools": (said("What time is it?"), CHAT),
    "no tools, quick": (said("Hello", **QUICK), CHAT._replace(reasoning="")),
    "count": (said("Count to ten", max_tokens=10), COUNT),
    "count, quick": (asked("count", max_tokens=3, **QUICK), COUNT._replace(reasoning="")),
    "schema": (said("Hello", response_format=JSON_SCHEMA), CHAT._replace(text='{"city":"","degrees":0,"rain":false}')),
}


@pytest.mark.parametrize("case", ANSWERS)
async def test_the_last_message_chooses_what_the_model_says(server: LlamaServer, case: str) -> None:
    request, answer = ANSWERS[case]
    assert [await streamed_answer(server, request), await whole_answer(server, request)] == [answer, answer]


async def test_a_stream_comes_word_by_word(server: LlamaServer) -> None:
    def call(**function: str) -> dict[str, Any]:
        return {"tool_calls": [{"index": 0, "function": function}]}

    reasoning = ["Let", " me", " think", " about", " it", ". The", " weather", " tool", " knows", "."]
    deltas = [
        {"role": "assistant", "content": None},
        *({"reasoning_content": word} for word in reasoning),
        *({"content": word} for word in ("I will", " check", ":\n")),
        {"tool_calls": [{"index": 0, "type": "function", "function": {"name": "get_weather", "arguments": "{"}}]},
        call(arguments='"city'),
        call(arguments='": "Zürich'),
        call(arguments='", "unit'),
        call(arguments='": "celsius'),
        call(arguments='"}'),
    ]
    assert await stream(server, asked("Hello")) == [
        *({"index": 0, "finish_reason": None, "delta": delta} for delta in deltas),
        {"index": 0, "finish_reason": "tool_calls", "delta": {}},
    ]


async def test_an_answer_without_bound_ends_where_the_slots_context_does() -> None:
    async with LlamaServer(parallel=3, context_size=256) as server, post(server, said("count")) as response:
        answer = await response.json()
    assert (answer["choices"][0]["finish_reason"], answer["usage"]["total_tokens"]) == ("length", 256)


async def test_a_prompt_over_the_slots_context_is_refused() -> None:
    prompt = "x" * 280
    async with LlamaServer(parallel=3, context_size=256) as server, post(server, said(prompt)) as response:
        error = (await response.json())["error"]
    # A byte is a token, a control token is one, and so are the line ends and words of two messages' heads.
    tokens = 1 + len("user\n") + len(prompt) + 1 + len("\n") + 1 + len("assistant\n") + 1
    assert (response.status, error) == (
        400,
        {
            "code": 400,
            "type": "exceed_context_size_error",
            "message": f"request ({tokens} tokens) exceeds the available context size (256 tokens), try increasing it",
            "n_prompt_tokens": tokens,
            "n_ctx": 256,
        },
    )


async def test_a_follow_up_finds_its_prompt_on_the_replica_that_had_the_turn(server: LlamaServer) -> None:
    request = answered(WEATHER_CALL)
    rules = {"role": "system", "content": "".join(f"Rule {number}: say nothing of it. " for number in range(120))}
    first, *later = request["messages"]

    async def cached_share(replica: LlamaServer, messages: list[dict[str, Any]]) -> float:
        async with post(replica, {**request, "messages": messages}) as response:
            usage = (await response.json())["usage"]
        share: float = usage["prompt_tokens_details"]["cached_tokens"] / usage["prompt_tokens"]
        return share

    async with LlamaServer() as other:
        await cached_share(server, [rules, first])
        assert await cached_share(server, [rules, first, *later]) > 0.9
        assert await cached_share(other, [rules, first, *later]) == 0


async def test_a_caller_that_leaves_frees_its_slot(server: LlamaServer) -> None:
    busy = [await server.busy_slots()]
    async with post(server, said("count", stream=True)) as one, post(server, said("count", stream=True)) as two:
        await anext(chunks(one))
        await anext(chunks(two))
        busy.append(await server.busy_slots())
    async with asyncio.timeout(10):
        while await server.busy_slots():
            pass
    assert busy == [0, 2]


async def test_a_killed_server_cuts_its_streams_and_refuses_the_next(server: LlamaServer) -> None:
    async with post(server, said("count", stream=True)) as response:
        stream = chunks(response)
        await anext(stream)
        server.kill()
        with pytest.raises(aiohttp.ClientPayloadError):
            async for _ in stream:
                pass
    with pytest.raises(aiohttp.ClientConnectorError):
        await server.busy_slots()


async def answers(base_url: str) -> bool:
    try:
        async with aiohttp.ClientSession() as session, session.get(f"{base_url}/models"):
            return True
    except aiohttp.ClientConnectionError:
        return False


async def test_a_server_ends_with_the_process_that_started_it() -> None:
    program = """if True:
        import asyncio, sys
        from turnwire.testing.llama import LlamaServer
        server = LlamaServer()
        asyncio.run(server.start())
        print(server.base_url, flush=True)
        sys.stdin.read()
    """
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout is not None
    url = (await parent.stdout.readline()).decode().strip()
    assert await answers(url)
    parent.kill()
    await parent.communicate()
    async with asyncio.timeout(10):
        while await answers(url):
            pass


async def test_a_key_is_asked_for_and_the_server_itself_has_it() -> None:
    async with LlamaServer(api_key="secret") as server:
        statuses = []
        for headers in ({}, {"Authorization": "Bearer secret"}):
            async with post(server, said("Hello"), **headers) as response:
                statuses.append(response.status)
        assert (statuses, await server.busy_slots()) == ([401, 200], 0)


async def test_a_long_silence_is_filled_with_comments() -> None:
    # A prompt that takes many times longer to read than the test waits.
    async with (
        LlamaServer(keepalive_interval=1, context_size=131_072) as server,
        post(server, said("x" * 120_000, stream=True)) as response,
    ):
        assert await response.content.readline() == b":\n"


async def test_the_model_goes_by_the_name_it_is_given() -> None:
    async with (
        LlamaServer(model_name="mine") as server,
        aiohttp.ClientSession() as session,
        session.get(f"{server.base_url}/models") as response,
    ):
        models = (await response.json())["data"]
    assert (server.model_name, [model["id"] for model in models]) == ("mine", ["mine"])


async def test_a_server_can_be_started_again_after_stop_and_only_then() -> None:
    server = LlamaServer()
    with pytest.raises(RuntimeError, match="no address before start"):
        print(server.base_url)
    async with server:
        with pytest.raises(RuntimeError, match=r"<LlamaServer http://127\.0\.0\.1:\d+> was started before"):
            await server.start()
    await server.stop()
    async with server:
        assert await streamed_answer(server, said("Hello")) == CHAT
    assert repr(server) == "<LlamaServer without address>"


async def test_nothing_is_left_on_the_terminal_or_on_the_disk(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    async with LlamaServer() as server:
        assert await streamed_answer(server, said("Hello")) == CHAT
        # Already now, so not even a server that is killed leaves anything.
        assert (capfd.readouterr(), os.listdir(tmp_path)) == (("", ""), [])


async def test_a_server_that_does_not_come_up_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(LlamaServerError, match="failed to open GGUF file"):
        await LlamaServer(model=tmp_path / "missing.gguf").start()
    with pytest.raises(LlamaServerError, match=r"llama\.cpp is not ready after 0 s"):
        await LlamaServer(open_timeout=0).start()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(LlamaServerError, match=r"pip install turnwire\[demo\]"):
        await LlamaServer().start()
