"""The habits of docs/dialects.md, one test or one case each, in the same order."""

import re
from pathlib import Path

import pytest

from tests.decoding import DONE, call, calls, check, chunk, decode, events_of, message, reasoning, sse
from tests.recording import RECORDINGS
from turnwire.errors import ContextWindowExceeded, InvalidPrompt, RetryableError, StreamError
from turnwire.event import Completed, OutputItemAdded, OutputItemDone, TokenUsage, ToolCallArgumentsDelta
from turnwire.item import FunctionCall, Message, OutputText, Reasoning, Refusal
from turnwire.wire.chat import ChatDecoder, ChatDialect, decode_completion
from turnwire.wire.failure import failure_from_response

TOLERANT = ChatDialect.preset("tolerant")
BY_NAME = {recording.name: recording for recording in RECORDINGS}
STOP = Completed(finish_reason="stop")
STOPPED = chunk("stop")


def recorded(name, **options):
    """The whole outcome of a recording, checked to be the same however it is cut."""
    recording = BY_NAME[name]
    return check(recording.body, (7, 77, 777), max_output_tokens_set=recording.max_output_tokens_set, **options)


def done(name, arguments, call_id, **extra):
    return OutputItemDone(FunctionCall(name, arguments, call_id, extra=extra))


# Framing


@pytest.mark.parametrize("text", ["\u2028", "\u2029", "\x85", "a\u2028b"])
def test_line_separators_of_unicode_end_no_line(text):
    body = b'data: {"choices":[{"delta":{"content":"%b"}}]}\n\n' % text.encode()
    assert check(body, (45,)).events == [*message(text), Completed()]


def test_a_character_may_be_cut_between_two_reads():
    assert "Zürich" in recorded("llamacpp/scripted_tools2_nothink_required").events[0].item.arguments
    whole = sse('{"choices":[{"delta":{"content":"€"}}]}'.encode())
    place = whole.index("€".encode())
    for inside in (1, 2):
        assert decode([whole[: place + inside], whole[place + inside :]]).events == [*message("€"), Completed()]


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"\xef\xbb\xbf" + sse(chunk(content="a")) + DONE, id="a BOM in front"),
        pytest.param(sse(chunk(content="a")).replace(b"\n", b"\r") + DONE, id="CR alone"),
        pytest.param(sse(chunk(content="a")).replace(b"\n", b"\r\n") + DONE, id="CRLF"),
        pytest.param(sse(chunk(content="a")).replace(b"data: ", b"data:") + DONE, id="no space behind data:"),
        pytest.param(sse(chunk(content="a")) + b"data: DONE\n\n", id="DONE without brackets"),
    ],
)
def test_framing_follows_the_rules_of_the_whatwg(body):
    assert check(body, (20,)).events == [*message("a"), Completed()]


def test_comments_are_skipped():
    body = b": OPENROUTER PROCESSING\n\n:\n" + sse(chunk(content="a")) + b": OPENROUTER PROCESSING\n\n" + DONE
    assert check(body, (10,)).events == [*message("a"), Completed()]
    outcome = recorded("llamacpp/keepalive_comments")
    assert (outcome.events[-1].finish_reason, outcome.said["skipped"]) == ("length", 0)


def test_the_end_of_the_body_ends_a_stream_without_done():
    outcome = recorded("transformers/scripted_text_nothink")
    assert outcome.events[-1].finish_reason == "stop"
    assert outcome.said["done_seen"] is False


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("vllm/err_bad_schema", "InvalidPrompt: Grammar error: Invalid type: nope"),
        (
            "vllm/cut_engine_sigkill_chat",
            "RetryableError: the server failed in mid-stream: EngineCore encountered an issue. "
            "See stack trace (above) for the root cause.",
        ),
    ],
)
def test_an_error_outranks_the_done_behind_it(name, error):
    outcome = recorded(name)
    assert (outcome.error, outcome.said["done_seen"]) == (error, False)
    assert not any(isinstance(event, Completed) for event in outcome.events)


def test_an_empty_body_is_an_error():
    empty = "StreamError: the server sent an empty body instead of an answer"
    assert [*recorded("llama-cpp-python/err_no_messages")] == [[], empty]
    assert [*decode([b": ping\n\n"])] == [[], empty]


def test_a_stream_that_stalls_stays_open():
    decoder = ChatDecoder()
    list(decoder.feed(BY_NAME["vllm/cut_sigterm_chat"].body))
    assert (decoder.over, decoder.ending) == (False, "open")


@pytest.mark.parametrize("lessons", [0, 1, 3], ids=lambda count: f"behind {count} that fit")
def test_an_endless_event_is_an_error(lessons):
    small, large = sse(chunk(content="a")), sse(chunk(content="b" * 500))
    bound = {"max_event_size": len(large) - 3}
    too_large = f"ProtocolError: an event takes more than max_event_size, {len(large) - 3} bytes"
    for body in (small * lessons + large + DONE, small * lessons + large[:-2]):
        events, error = check(body, (5, 300), **bound)
        assert (len(events), error) == (lessons + 1 if lessons else 0, too_large)
    assert decode([small * lessons, large], max_event_size=len(large) - 2).error is None


# Chunks

USAGE = {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11}
COUNTED = Completed(finish_reason="stop", token_usage=TokenUsage(9, 0, 2, 0, 11))


@pytest.mark.parametrize(
    "payloads",
    [
        pytest.param([STOPPED, {"choices": [], "usage": USAGE}], id="no choice"),
        pytest.param([STOPPED, {"usage": USAGE}], id="no choices"),
        pytest.param([STOPPED, {"choices": [{"index": 0, "delta": {}}], "usage": USAGE}], id="an empty delta"),
        pytest.param([STOPPED | {"usage": USAGE}], id="on the finish chunk"),
        pytest.param([chunk() | {"usage": {"prompt_tokens": 9}}, STOPPED | {"usage": USAGE}], id="on every chunk"),
        pytest.param([STOPPED | {"usage": USAGE}, {"choices": [], "usage": None}], id="null on the others"),
    ],
)
def test_usage_is_found_wherever_it_stands(payloads):
    assert events_of(*payloads) == [COUNTED]


@pytest.mark.parametrize(
    ("name", "usage"),
    [
        ("llamacpp/usage", TokenUsage(28, 27, 5, 0, 33)),
        ("vllm/usage_continuous_stats", TokenUsage(13, 0, 5, 5, 18)),
        ("litellm/via_vllm_tools_required", TokenUsage(682, 256, 49, 0, 731)),
        ("transformers/usage", TokenUsage(28, 0, 80, 0, 108)),
        ("llamacpp/n2", TokenUsage(28, 27, 5, 0, 33)),
        ("aimock/text_usage", TokenUsage(2, 0, 14, 0, 16)),
        ("llama-cpp-python/text", None),
    ],
)
def test_the_last_usage_counts_once(name, usage):
    assert recorded(name).events[-1].token_usage == usage


@pytest.mark.parametrize(
    "fields",
    [
        {"usage": USAGE | {"prompt_tokens_details": {"cached_tokens": 7}}},
        {"usage": USAGE | {"prompt_tokens_details": None}, "timings": {"cache_n": 7}},
        {"usage": USAGE | {"prompt_cache_hit_tokens": 7}},
    ],
    ids=["prompt_tokens_details", "timings", "prompt_cache_hit_tokens"],
)
def test_cached_tokens_are_found_under_all_their_names(fields):
    assert events_of(STOPPED | fields)[-1].token_usage == TokenUsage(9, 7, 2, 0, 11)


@pytest.mark.parametrize("first", [{}, {"content": None}, {"content": ""}, {"content": []}, {"reasoning": ""}])
def test_a_first_delta_with_nothing_in_it_says_nothing(first):
    assert events_of(chunk(role="assistant", **first), chunk(content="a"), STOPPED) == [*message("a"), STOP]


def test_a_first_delta_may_hold_text_already():
    assert events_of(chunk(role="assistant", content="a"), STOPPED) == [*message("a"), STOP]


def test_an_absent_finish_reason_is_none():
    bare = {"choices": [{"delta": {"content": "a"}}]}
    assert events_of(bare, STOPPED) == events_of(chunk(content="a"), STOPPED) == [*message("a"), STOP]


def test_a_finish_chunk_may_carry_the_last_text():
    assert events_of(chunk(content="a"), chunk("stop", content="b")) == [*message("a", "b"), STOP]
    said = recorded("vllm/text").said
    assert (said["finish_reason"], said["text"].endswith(" st")) == ("length", True)


@pytest.mark.parametrize(
    ("deltas", "texts", "name"),
    [
        pytest.param([{"reasoning": "a"}, {"reasoning": "b"}], ["a", "b"], "reasoning", id="reasoning"),
        pytest.param(
            [{"reasoning": {"text": "a"}}, {"reasoning": {"content": "b"}}], ["a", "b"], "reasoning", id="objects"
        ),
        pytest.param(
            [{"reasoning_content": "a"}, {"reasoning_content": "b"}], ["a", "b"], "reasoning_content", id="content"
        ),
        pytest.param(
            [{"reasoning": "a", "reasoning_content": "a"}, {"reasoning": "b", "reasoning_content": "b"}],
            ["a", "b"],
            "reasoning",
            id="two names for one text",
        ),
        pytest.param(
            [{"reasoning": "a"}, {"reasoning_content": "b"}], ["a", "b"], "reasoning", id="two names that alternate"
        ),
        pytest.param(
            [{"reasoning": "a", "reasoning_details": [{"type": "reasoning.text", "text": "a", "signature": "s"}]}],
            ["a"],
            "reasoning_details",
            id="details beside reasoning",
        ),
        pytest.param(
            [{"reasoning_content": "a", "reasoning_details": [{"type": "reasoning.text", "text": "a"}]}],
            ["a"],
            "reasoning_details",
            id="details beside reasoning_content",
        ),
        pytest.param(
            [{"reasoning_details": [{"type": "reasoning.summary", "summary": "a"}, {"text": "b"}]}],
            ["ab"],
            "reasoning_details",
            id="details alone",
        ),
        pytest.param(
            [{"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "a"}]}]}],
            ["a"],
            "thinking",
            id="thinking parts",
        ),
        pytest.param([{"content": [{"type": "thinking", "thinking": "a"}]}], ["a"], "thinking", id="a thinking text"),
    ],
)
def test_reasoning_is_known_by_all_its_names_and_counted_once(deltas, texts, name):
    outcome = check(sse(*(chunk(**delta) for delta in deltas), STOPPED) + DONE, (50, 90))
    assert outcome.events == [*reasoning(*texts), STOP]
    assert outcome.said["reasoning_name"] == name


def test_encrypted_reasoning_is_kept():
    events = events_of(chunk(reasoning_details=[{"type": "reasoning.encrypted", "data": "x"}]), STOPPED)
    assert events == [
        OutputItemAdded(Reasoning(content=())),
        OutputItemDone(Reasoning(content=(), encrypted_content="x")),
        STOP,
    ]


@pytest.mark.parametrize(
    ("name", "reasoning_name"),
    [
        ("vllm/reasoning", "reasoning"),
        ("llamacpp/tools_required_thinking", "reasoning_content"),
        ("llama-cpp-python/text", None),
    ],
)
def test_the_name_of_reasoning_is_remembered(name, reasoning_name):
    assert recorded(name).said["reasoning_name"] == reasoning_name


def test_reasoning_in_a_message_of_a_chunk_counts():
    assert events_of({"choices": [{"message": {"reasoning": "a"}}]}, STOPPED) == [*reasoning("a"), STOP]


def test_a_refusal_is_a_part_of_the_message_and_no_text():
    events = events_of(chunk(content="a"), chunk(refusal="No"), chunk(refusal="."), STOPPED)
    parts = (OutputText("a"), Refusal("No"), Refusal("."))
    assert events == [*message("a")[:-1], OutputItemDone(Message("assistant", parts)), STOP]


@pytest.mark.parametrize("code", [400, "400"])
@pytest.mark.parametrize("choices", [{}, {"choices": []}, {"choices": [{"delta": {"content": "b"}}]}])
def test_an_error_object_is_looked_for_before_choices(code, choices):
    body = sse(chunk(content="a"), choices | {"error": {"message": "no", "code": code}}) + DONE
    assert [*check(body, (3,))] == [message("a")[:-1], "InvalidPrompt: no"]


@pytest.mark.parametrize("error", [None, {}, "", False])
def test_an_error_that_says_nothing_is_none(error):
    assert events_of(chunk(content="a") | {"error": error}, STOPPED) == [*message("a"), STOP]


@pytest.mark.parametrize("reason", ["content_filter", "error", "eos", "max_tokens"])
def test_an_odd_finish_reason_is_told_in_the_end(reason):
    completed = Completed(finish_reason=reason, incomplete_reason=reason)
    assert events_of(chunk(content="a"), chunk(reason)) == [*message("a"), completed]


def test_length_is_what_a_caller_asked_for_who_set_a_bound():
    completed = Completed(finish_reason="length", incomplete_reason="max_output_tokens")
    bounded = events_of(chunk(content="a"), chunk("length"), max_output_tokens_set=True)
    assert bounded == [*message("a"), completed]
    assert [*decode([sse(chunk(content="a"), chunk("length"))])] == [
        message("a")[:-1],
        "ContextWindowExceeded: the answer did not fit the model's context window (finish reason length)",
    ]


@pytest.mark.parametrize("name", ["llamacpp/cut_sigterm_chat", "transformers/cut_sigkill_chat"])
def test_a_cut_is_told_apart_from_a_proper_end(name):
    outcome = recorded(name)
    assert outcome.events[-1].finish_reason is None
    assert outcome.said["done_seen"] is False


def test_a_legacy_function_call_is_one_call():
    first, second = chunk(function_call={"name": "f", "arguments": "{"}), chunk(function_call={"arguments": "}"})
    expected = [done("f", "{}", "tool-call-0"), Completed(finish_reason="function_call")]
    assert events_of(first, second, chunk("function_call")) == expected


def test_a_call_that_is_told_under_both_names_is_one_call():
    function = {"name": "f", "arguments": "{}"}
    both = chunk(function_call=function, tool_calls=[{"index": 0, "id": "a", "function": function}])
    assert events_of(both, chunk("tool_calls")) == [done("f", "{}", "a"), Completed(finish_reason="tool_calls")]


# Tool calls

CALLED = Completed(finish_reason="tool_calls")
WHOLE = done("f", '{"x":1}', "a")


@pytest.mark.parametrize(
    "fragments",
    [
        pytest.param(
            [
                call(0, id="a", type="function", name="f", arguments=""),
                call(0, arguments='{"x"'),
                call(0, arguments=":1}"),
            ],
            id="fragments by index",
        ),
        pytest.param(
            [call(0, id="a", name="f", arguments='{"x"'), call(0, id="a", name="f", arguments=":1}")],
            id="id and name repeated on every delta",
        ),
        pytest.param(
            [call(0, id="a", type="function", name="f"), call(0, type="function", arguments='{"x":1}')],
            id="a first delta without arguments, type repeated",
        ),
        pytest.param([call(0, id="a", name="f", arguments='{"x":1}')], id="a whole call in one delta"),
        pytest.param(
            [call(id="a", name="f", arguments='{"x"'), call(index=None, arguments=":1}")], id="an index missing or null"
        ),
        pytest.param(
            [call(0, id="a", name="f", arguments='{"x"'), call(0, id="", name="", arguments=":1}"), call(0, id=None)],
            id="later ids and names empty or null",
        ),
        pytest.param([call(0, id="a", name="f", arguments={"x": 1})], id="arguments as an object"),
    ],
)
def test_a_call_comes_whole_however_it_is_told(fragments):
    assert events_of(*map(calls, fragments), chunk("tool_calls")) == [WHOLE, CALLED]


def test_two_ids_under_one_index_are_two_calls():
    first, second = call(0, id="a", name="f", arguments='{"x":1}'), call(0, id="b", name="g", arguments="{}")
    assert events_of(calls(first), calls(second), chunk("tool_calls")) == [WHOLE, done("g", "{}", "b"), CALLED]


@pytest.mark.parametrize(("arguments", "text"), [("null", "null"), ("true", "true"), (True, "true"), (None, "")])
def test_arguments_that_are_no_object_are_kept_as_text(arguments, text):
    fragment = call(0, id="a", name="f", arguments=arguments)
    assert events_of(calls(fragment), chunk("tool_calls")) == [done("f", text, "a"), CALLED]


@pytest.mark.parametrize(
    ("name", "names_and_arguments"),
    [
        ("vllm/tools_required", [("get_time", "null")]),
        ("transformers/scripted_tools_think", [("get_weather", '{"city": "Z\\u00fcrich", "unit": "celsius"}')]),
        (
            "llamacpp/scripted_tools2_nothink_required",
            [("get_weather", '{"city": "Zürich", "unit": "celsius"}'), ("get_time", '{"zone": "CET"}')],
        ),
    ],
)
def test_recorded_calls_come_whole(name, names_and_arguments):
    items = [item for item in recorded(name).said["items"] if isinstance(item, FunctionCall)]
    assert [(item.name, item.arguments) for item in items] == names_and_arguments


def test_ids_that_the_conversation_has_used_are_made_unique():
    events = events_of(
        calls(call(0, id="call_0", name="f", arguments="{}"), call(1, name="g", arguments="{}")),
        chunk("tool_calls"),
        taken_call_ids=["call_0", "tool-call-1"],
    )
    assert events == [done("f", "{}", "call_0-2"), done("g", "{}", "tool-call-1-2"), CALLED]


@pytest.mark.parametrize("finish", [[STOPPED], []], ids=["stop", "no finish"])
def test_calls_that_no_finish_released_go_by_the_dialect(finish):
    body = sse(calls(call(0, id="a", name="f", arguments='{"x":1}'), call(1, name="g", arguments="{")), *finish) + DONE
    completed = STOP if finish else Completed()
    dropped, given = decode([body]), decode([body], TOLERANT)
    assert (dropped.events, dropped.said["dropped_calls"]) == ([completed], ("f", "g"))
    assert (given.events, given.said["dropped_calls"]) == ([WHOLE, completed], ("g",))


def test_calls_that_a_cut_answer_left_open_are_never_given():
    body = sse(calls(call(0, id="a", name="f", arguments='{"x":1}')), chunk("content_filter")) + DONE
    expected = [Completed(finish_reason="content_filter", incomplete_reason="content_filter")]
    assert decode([body], TOLERANT).events == expected


def test_unknown_keys_of_a_call_are_kept():
    signature = {"google": {"thought_signature": "s"}}
    fragment = call(0, id="a", name="f", arguments="{}", extra_content=signature)
    assert events_of(calls(fragment, finish_reason="tool_calls")) == [
        done("f", "{}", "a", extra_content=signature),
        CALLED,
    ]


def test_several_choices_are_merged_into_one_assistant():
    events = events_of(
        chunk(index=1, content="b"), chunk(content="a"), chunk("stop", index=1), chunk(content="c"), STOPPED, choices=2
    )
    assert events == [*message("b", "a"), *message("c"), STOP]
    for name in ("llamacpp/n2", "litellm/via_vllm_n2"):
        assert isinstance(recorded(name, choices=2).events[-1], Completed)


def test_a_call_can_be_watched_while_it_grows():
    fragments = [call(0, id="a", name="f"), call(0, arguments='{"x"'), call(0, arguments=":1}")]
    assert events_of(*map(calls, fragments), chunk("tool_calls"), watch_calls=True) == [
        OutputItemAdded(FunctionCall("f", "", "a")),
        ToolCallArgumentsDelta("a", '{"x"'),
        ToolCallArgumentsDelta("a", ":1}"),
        WHOLE,
        CALLED,
    ]


# Endings


def test_completed_comes_once_and_last():
    late = [chunk(content="b"), STOPPED, {"id": "late", "choices": [], "usage": USAGE}]
    assert events_of(chunk(content="a") | {"id": "c"}, STOPPED, *late) == [
        *message("a"),
        *message("b"),
        Completed("c", TokenUsage(9, 0, 2, 0, 11), "stop"),
    ]


def test_an_ending_says_how_much_is_still_to_come():
    decoder = ChatDecoder(choices=2)
    endings = [decoder.ending]
    for payload in (chunk(content="a"), STOPPED, chunk("stop", index=1), {"choices": [], "usage": USAGE}):
        list(decoder.feed(sse(payload)))
        endings.append(decoder.ending)
    assert endings == ["open", "open", "open", "finished", "settled"]


def test_what_is_parsed_grows_with_all_that_is_no_comment():
    decoder = ChatDecoder()
    parsed = []
    for data in (b": ping\n\n", *[sse(chunk(content=text)) for text in ("a", "", "")], sse(b"<html>"), b":\n\n", DONE):
        before = decoder.parsed
        list(decoder.feed(data))
        parsed.append(decoder.parsed > before)
    assert parsed == [False, True, True, True, True, False, True]


def test_its_repr_says_where_it_stands():
    decoder = ChatDecoder()
    states = [repr(decoder)]
    for data in (sse(STOPPED), DONE):
        list(decoder.feed(data))
        states.append(repr(decoder))
    assert states == [
        "<ChatDecoder open, finish_reason=None, skipped=0>",
        "<ChatDecoder finished, finish_reason='stop', skipped=0>",
        "<ChatDecoder over, finish_reason='stop', skipped=0>",
    ]


def test_what_is_not_json_is_skipped_and_counted(caplog):
    outcome = decode([sse(b"<html>", chunk(content="a"), b"{", b" ", STOPPED) + DONE])
    assert (outcome.events, outcome.said["skipped"]) == ([*message("a"), STOP], 2)
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == [
        "skipped an event of 6 characters that is not JSON",
        "skipped an event of 1 characters that is not JSON",
    ]


@pytest.mark.parametrize(
    "odd",
    [{"choices": {}}, {"choices": [None, 5]}, [], None, 5, {"choices": [{"delta": "x", "message": []}]}, {"id": 5}],
    ids=str,
)
def test_json_in_an_odd_shape_means_nothing(odd):
    assert events_of(odd, chunk(content="a"), odd, STOPPED) == [*message("a"), STOP]


def test_an_odd_chunk_gives_what_is_plain_in_it():
    odd = {"choices": [None, {"delta": {"content": "a"}, "message": 5, "finish_reason": "stop"}], "usage": USAGE}
    assert events_of(odd) == [*message("a"), COUNTED]


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"<html>", b'{"choices":[]}', b"[1]", b"\xff", b"[" * 5000], ids=lambda body: repr(body[:12])
)
def test_an_answer_that_is_no_completion_is_an_error(body):
    with pytest.raises(StreamError, match=r"^the server sent neither a stream nor a chat\.completion object$"):
        list(decode_completion(body))


def test_a_whole_answer_with_an_error_in_it_is_that_error():
    with pytest.raises(InvalidPrompt, match=r"^no$"):
        list(decode_completion(b'{"error":{"message":"no","code":400}}'))


# Errors before the stream


@pytest.mark.parametrize(
    "name",
    [
        "llamacpp/err_context_overflow",
        "vllm/err_context_overflow",
        "litellm/mock_context",
        "litellm/via_vllm_err_context_overflow",
    ],
)
def test_a_context_overflow_is_known_by_each_servers_words(name):
    failure = failure_from_response(BY_NAME[name].error_response, where="x")
    assert type(failure) is ContextWindowExceeded


def test_transformers_goes_on_after_a_context_overflow():
    events, _ = decode([BY_NAME["transformers/err_context_overflow"].body], max_output_tokens_set=True)
    usage = TokenUsage(36013, 0, 4, 0, 36017)
    assert events[-1] == Completed(events[-1].response_id, usage, "length", "max_output_tokens")


def test_llama_cpp_python_gives_nothing_after_a_failure():
    assert recorded("llama-cpp-python/fc_tools_required").error.startswith("StreamError: the server sent an empty body")


def test_an_overflow_that_comes_in_the_stream_is_known_too():
    error = {
        "message": "Requested tokens (5000) exceed context window of 2048",
        "type": "internal_server_error",
        "code": 500,
    }
    assert decode([sse({"error": error})]).error == f"ContextWindowExceeded: {error['message']}"


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("llamacpp/err_auth", "llama answered 401: Invalid API Key (check the api key)"),
        ("transformers/err_unknown_model", "Server is pinned to 'models/tiny-hf'; requested 'no-such-model'."),
        ("transformers/err_bad_param_type", "llama answered 500: Internal Server Error"),
        ("litellm/err_bad_json", "Invalid JSON payload: unexpected end of data: line 1 column 11 (char 10)"),
    ],
)
def test_a_refusal_is_told_in_the_servers_own_words(name, sentence):
    assert str(failure_from_response(BY_NAME[name].error_response, where="llama")) == sentence


def test_an_error_in_the_stream_may_pass():
    decoder = ChatDecoder()
    with pytest.raises(RetryableError, match="try again in 2s") as raised:
        list(decoder.feed(sse({"error": {"message": "hiccup, try again in 2s", "code": 500}})))
    assert (raised.value.delay, decoder.over) == (2.0, True)


def test_every_test_and_recording_that_the_document_names_exists():
    root = Path(__file__).parents[3]
    document = (root / "docs" / "dialects.md").read_text()
    links = dict(re.findall(r"^\[(\w+)\]: \.\./(\S+)$", document, re.MULTILINE))
    for name, link in re.findall(r"`(test_\w+)`\]\[(\w+)\]", document):
        assert f"def {name}(" in (root / links[link]).read_text(), name
    assert set(re.findall(r"`([a-z-]+/\w+)`", document)) <= set(BY_NAME)
