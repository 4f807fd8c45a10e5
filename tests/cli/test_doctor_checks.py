"""What the doctor concludes from what was heard, check by check."""

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from turnwire.cli.doctor_checks import (
    Finding,
    Listing,
    check_cache,
    check_call,
    check_ending,
    check_key,
    check_model,
    check_pieces,
    check_token,
    check_usage,
    check_wire,
    failed,
    ok,
    skipped,
    warning,
)
from turnwire.cli.doctor_question import Heard, Wire
from turnwire.client import Provider
from turnwire.errors import (
    ApiError,
    ConfigurationError,
    ContextWindowExceeded,
    Disconnected,
    ErrorResponse,
    HttpStatusError,
    InvalidPrompt,
)
from turnwire.event import Completed, TokenUsage
from turnwire.item import FunctionCall

KEYLESS = Provider("mine", "http://host/v1")
KEYED = Provider("mine", "http://host/v1", api_key_env="MY_KEY")
WHOLE = Heard(completed=Completed("id", TokenUsage(1000, 400, 5, 0, 1005), "stop"), pieces=9, reads=4)


def status_error(status: int, sentence: str = "it said no", body: str = "") -> ApiError:
    return HttpStatusError(sentence, response=ErrorResponse(status, body=body))


def refused(status: int) -> Heard:
    return Heard(error=status_error(status))


def called(name: str = "get_weather", arguments: str = '{"city":"Zürich","unit":"celsius"}') -> Heard:
    return Heard(items=(FunctionCall(name, arguments, "call_1"),))


def broken(error: ApiError) -> Heard:
    error.committed = True
    return Heard(error=error)


LOST = broken(Disconnected("the connection was lost"))
LOST_ADVICE = "see what the server's log says, and whether the address should begin with https://"
ASK_ANOTHER = "ask a model that is made for tools"


@pytest.mark.parametrize(
    ("check", "heard", "finding"),
    [
        (check_pieces, WHOLE, ok("streaming", "9 pieces in 4 reads")),
        (
            check_pieces,
            replace(WHOLE, reads=1),
            warning(
                "streaming",
                "9 pieces, all at once",
                "look for a proxy that holds answers back, such as nginx without `proxy_buffering off`",
            ),
        ),
        (
            check_pieces,
            replace(WHOLE, pieces=1, reads=1),
            warning(
                "streaming", "the answer came in one piece", "look for a setting of the server that makes it stream"
            ),
        ),
        (
            check_pieces,
            replace(WHOLE, pieces=0, reads=0),
            warning("streaming", "no text within 256 tokens", "ask with another model if this one should give text"),
        ),
        (check_ending, WHOLE, ok("proper ending", "finish reason stop")),
        (
            check_ending,
            Heard(completed=Completed("id", None, "length", "max_output_tokens")),
            ok("proper ending", "finish reason length, for the answer was bounded (max_output_tokens)"),
        ),
        (
            check_ending,
            Heard(completed=Completed(), done_seen=True),
            warning(
                "proper ending",
                "[DONE] without a finish reason",
                "no need to act: an end is told from a cut, only its reason is not",
            ),
        ),
        (
            check_ending,
            Heard(completed=Completed()),
            failed(
                "proper ending",
                "neither a finish reason nor [DONE]",
                "do not trust an answer to be whole: one that was cut off looks the same",
            ),
        ),
        (check_ending, LOST, failed("proper ending", "the connection was lost", LOST_ADVICE)),
        (check_call, called(), ok("tool calls", "called, with arguments that fit")),
        (
            check_call,
            called(name="get_time"),
            warning("tool calls", "a call of a tool that does not exist", ASK_ANOTHER),
        ),
        *(
            (
                check_call,
                called(arguments=arguments),
                warning("tool calls", "a call whose arguments do not fit the tool", ASK_ANOTHER),
            )
            for arguments in ("{", "[]", "{}", '{"city":1,"unit":"celsius"}', '{"city":"a","unit":"b","more":"c"}')
        ),
        (
            check_call,
            WHOLE,
            warning(
                "tool calls",
                "the model answered without the tool",
                "ask a model that is made for tools, and see that the server parses its calls "
                "(vLLM: --tool-call-parser)",
            ),
        ),
        (
            check_call,
            replace(WHOLE, dropped_calls=("get_weather",)),
            failed(
                "tool calls",
                "a call came, and no finish reason that releases it",
                'set dialect = "tolerant", which takes it',
            ),
        ),
        (
            check_call,
            Heard(error=InvalidPrompt("auto tool choice needs an option")),
            failed(
                "tool calls",
                "auto tool choice needs an option",
                "start the server with what it needs for tools (vLLM: --enable-auto-tool-choice, llama.cpp: --jinja)",
            ),
        ),
        (check_call, LOST, failed("tool calls", "the connection was lost", LOST_ADVICE)),
        (check_usage, WHOLE, ok("usage", "1,000 tokens in, 5 out")),
        (
            check_usage,
            Heard(completed=Completed()),
            warning("usage", "not reported", "look for a setting of the server that makes it count"),
        ),
        (
            check_usage,
            Heard(error=ContextWindowExceeded("too long")),
            failed("usage", "too long", "give the model a larger context window: some 4,000 tokens are needed here"),
        ),
        (check_cache, WHOLE, ok("prompt cache", "40% of a repeated prompt was cached")),
        (
            check_cache,
            Heard(completed=Completed("id", TokenUsage(1000, 0, 5, 0, 1005), "stop")),
            warning(
                "prompt cache",
                "none of 1,000 repeated tokens is said to be cached",
                "turn the cache on, or its report (vLLM: --enable-prompt-tokens-details)",
            ),
        ),
        (check_cache, Heard(completed=Completed()), skipped("prompt cache", "no usage is reported")),
        (check_cache, LOST, failed("prompt cache", "the connection was lost", LOST_ADVICE)),
    ],
)
def test_an_answer_is_judged(check: Callable[[Heard], Finding], heard: Heard, finding: Finding) -> None:
    assert check(heard) == finding


def test_a_key_is_judged_by_an_answer_rather_than_by_the_list_of_models() -> None:
    listed, unlisted, closed = Listing(["m"]), Listing(error=status_error(404)), Listing(error=status_error(403))
    missing = "name the environment variable that holds the key with --api-key-env"
    wrong = "check the key in MY_KEY, and what it may use"
    table = [
        (KEYLESS, listed, WHOLE, ok("key", "none is sent, and none is asked for")),
        (KEYED, listed, WHOLE, ok("key", "accepted")),
        (KEYED, closed, WHOLE, ok("key", "accepted")),
        (KEYED, closed, LOST, ok("key", "accepted")),
        (KEYED, listed, None, ok("key", "accepted")),
        (KEYED, listed, refused(401), failed("key", "it said no", wrong)),
        (KEYLESS, listed, refused(403), failed("key", "it said no", missing)),
        (KEYLESS, closed, None, failed("key", "it said no", missing)),
        (KEYED, closed, refused(404), failed("key", "it said no", wrong)),
        (KEYED, unlisted, None, skipped("key", "nothing that asks for a key answered")),
        (KEYED, unlisted, refused(500), skipped("key", "nothing that asks for a key answered")),
    ]
    assert [check_key(*case[:3]) for case in table] == [finding for *_, finding in table]


def test_a_model_is_judged_by_the_list_and_by_an_answer() -> None:
    many = Listing([f"m{number}" for number in range(12)])
    page = Listing(error=ConfigurationError("/models gave no list of models (check the base_url)"))
    shown = "m0, m1, m2, m3, m4, m5, m6, m7, m8, m9 and 2 more"
    named = Heard(error=status_error(404, body='{"error":{"message":"model \\"new\\" not found"}}'))
    coded = Heard(error=status_error(404, body='{"error":{"code":"model_not_found"}}'))
    table = [
        ("m", Listing(["m"]), WHOLE, ok("model", "m, the only one listed")),
        ("m1", many, WHOLE, ok("model", "m1, one of 12 listed")),
        (
            "new",
            many,
            WHOLE,
            warning("model", "new, which is not listed", f"see that the name is meant; listed are {shown}"),
        ),
        (
            "new",
            many,
            refused(404),
            warning("model", "new, which is not listed", f"see that the name is meant; listed are {shown}"),
        ),
        ("new", many, named, failed("model", "the server does not know 'new'", f"name one that is listed: {shown}")),
        ("new", page, coded, failed("model", "the server does not know 'new'", "check the name given with --model")),
        (
            "new",
            page,
            WHOLE,
            warning(
                "model",
                "new; /models gave no list of models",
                "no need to act: only the list of models is missing",
            ),
        ),
        (
            None,
            page,
            None,
            failed(
                "model",
                "/models gave no list of models",
                "check the base_url; where it is right, name a model with --model",
            ),
        ),
        (None, Listing(), None, failed("model", "the server lists none", "load one, or name one with --model")),
        (None, many, None, failed("model", "none is named, and 12 are listed", f"name one with --model: {shown}")),
    ]
    assert [check_model(*case[:3]) for case in table] == [finding for *_, finding in table]


def test_a_wire_is_judged_by_whether_the_provider_is_asked_over_it() -> None:
    chat, sse, websocket = "Chat Completions, SSE", "Responses, SSE", "Responses, WebSocket"
    over_chat = "ask over Chat Completions: --wire-api chat, or wire_api in turnwire.toml"
    over_sse = "ask over Responses: --wire-api responses --websocket off, or wire_api and websocket in turnwire.toml"
    log = "look into the server's log"
    table: list[tuple[Wire, Wire, dict[Wire, Heard], Finding]] = [
        ("chat", "chat", {"chat": WHOLE}, ok(chat, "spoken, and the one in use")),
        ("chat", "chat", {"chat": LOST}, ok(chat, "spoken, and the one in use")),
        ("chat", "responses", {"chat": WHOLE}, ok(chat, "spoken")),
        (
            "responses",
            "chat",
            {"responses": refused(404)},
            warning(sse, "not spoken (404)", "no need to act: Chat Completions serve most agents"),
        ),
        (
            "chat",
            "responses",
            {"chat": refused(405)},
            warning(chat, "not spoken (405)", "no need to act: Responses do all that it does"),
        ),
        (
            "websocket",
            "responses",
            {"websocket": refused(426)},
            warning(websocket, "not spoken (426)", "no need to act: SSE says the same, with somewhat more to send"),
        ),
        ("websocket", "responses", {"websocket": refused(500)}, warning(websocket, "it said no", log)),
        ("responses", "responses", {"responses": refused(500), "chat": WHOLE}, failed(sse, "it said no", log)),
        (
            "responses",
            "responses",
            {"responses": refused(404), "chat": WHOLE},
            failed(sse, "not spoken (404)", over_chat),
        ),
        ("chat", "chat", {"chat": refused(404), "responses": WHOLE}, failed(chat, "not spoken (404)", over_sse)),
        ("chat", "chat", {"chat": refused(404)}, failed(chat, "not spoken (404)", "check the base_url")),
    ]
    assert [check_wire(wire, heard, own) for wire, own, heard, _ in table] == [finding for *_, finding in table]


def test_of_a_token_only_the_length_and_the_place_are_told() -> None:
    table: list[tuple[dict[Wire, Heard], Finding]] = [
        (
            {"chat": WHOLE, "responses": WHOLE},
            warning(
                "routing token",
                "none",
                "no need to act with one machine behind the address; with more, put a sticky router in front of them",
            ),
        ),
        (
            {"chat": WHOLE, "websocket": replace(WHOLE, token_size=200, token_place="handshake")},
            ok("routing token", "Responses, WebSocket: 200 characters (handshake)"),
        ),
        (
            {"chat": replace(WHOLE, token_size=2049, token_place="header")},
            warning(
                "routing token",
                "Chat Completions, SSE: 2049 characters (header)",
                "keep it to 2,048 characters: longer ones may be dropped on the way",
            ),
        ),
        (
            {"chat": replace(WHOLE, token_place="header"), "responses": replace(WHOLE, token_place="header")},
            warning(
                "routing token",
                "one that can't be sent back, over Chat Completions, SSE and Responses, SSE",
                "let the server hand out visible ASCII of at most 8 KiB",
            ),
        ),
    ]
    assert [check_token(heard) for heard, _ in table] == [finding for _, finding in table]
