"""``turnwire replay``: recorded bodies, and what is shown of them."""

import json
from pathlib import Path

import pytest

from tests.cli.command import Command, Run
from tests.cli.test_ask import decoded
from turnwire.event import Completed, OutputItemAdded, OutputItemDone, OutputTextDelta, TokenUsage
from turnwire.item import FunctionCall, Message, OutputText
from turnwire.wire.chat import ChatDialect, ChatEncoder
from turnwire.wire.sse import encode_event

CALL = FunctionCall("look_up", '{"word":"x"}', "call_1")
USAGE = TokenUsage(1000, 500, 5, 0, 1005)

SHOWN = """\
added      reasoning
reasoning  "Hm.\\n"
reasoning  "Well."
added      message
text       "Grü"
text       "ezi\\n"
done       reasoning
done       function_call
done       message
completed  tool_calls

reasoning
  Hm.
  Well.

function_call
  look_up {"word":"x"} as call_1

message
  Grüezi

1,000 tokens in (50% cached), 5 out
"""


@pytest.fixture
def encoder() -> ChatEncoder:
    return ChatEncoder(ChatDialect(), response_id="r", model="m", created=0, include_usage=True)


def recording(encoder: ChatEncoder) -> bytes:
    parts = [encoder.start(), encoder.reasoning("Hm.\n"), encoder.reasoning("Well."), encoder.text("Grü")]
    parts += [encoder.text("ezi\n"), encoder.call(CALL), encoder.finish(usage=USAGE), encoder.done()]
    return b"".join(parts)


async def test_a_stream_is_shown_event_by_event_then_item_by_item(
    turnwire: Command, encoder: ChatEncoder, tmp_path: Path
) -> None:
    body = recording(encoder)
    (tmp_path / "answer.sse").write_bytes(body)
    assert await turnwire("replay", "answer.sse") == Run(0, SHOWN, "")
    assert turnwire.here("replay", "-", "--cut", "1", stdin=body) == Run(0, SHOWN, "")


def test_calls_are_shown_while_they_grow_for_whoever_watches(turnwire: Command, encoder: ChatEncoder) -> None:
    run = turnwire.here("replay", "-", "--watch-calls", stdin=recording(encoder))
    growing = 'added      function_call\narguments  "{\\"word\\":\\"x\\"}"\ndone       reasoning\n'
    assert run == Run(0, SHOWN.replace("done       reasoning\n", growing), "")


def test_a_whole_answer_is_shown_like_a_stream(turnwire: Command, encoder: ChatEncoder) -> None:
    body = encoder.completion(text="Yes.", refusal="But no.", usage=USAGE)
    run = turnwire.here("replay", "-", "--json", stdin=body)
    message = Message("assistant", [OutputText("Yes.")])
    assert (run.code, run.stderr) == (0, "")
    added, delta, done, completed = map(decoded, run.stdout.splitlines())
    assert (added, delta, completed) == (
        OutputItemAdded(Message("assistant", ())),
        OutputTextDelta("Yes."),
        Completed("r", USAGE, "stop"),
    )
    assert isinstance(done, OutputItemDone)
    assert isinstance(done.item, Message)
    assert done.item.text == message.text


@pytest.mark.parametrize(
    ("tail", "options", "expected"),
    [
        (
            ("length",),
            ("--max-output-tokens-set",),
            Run(
                3,
                'added      message\ntext       "Yes"\ndone       message\n'
                "completed  length, incomplete: max_output_tokens\n\nmessage\n  Yes\n\nno usage reported\n",
                "",
            ),
        ),
        (
            ("length",),
            (),
            Run(
                1,
                'added      message\ntext       "Yes"\n',
                "error: the answer did not fit the model's context window (finish reason length)\n",
            ),
        ),
        (
            (),
            (),
            Run(
                3,
                'added      message\ntext       "Yes"\ndone       message\ncompleted  without a finish reason\n'
                "\nmessage\n  Yes\n\nno usage reported\n",
                "the stream ended without a finish reason or [DONE]: a client takes the answer for cut off\n",
            ),
        ),
    ],
    ids=["bounded", "full", "cut"],
)
def test_how_an_answer_ended_is_its_code(
    turnwire: Command, encoder: ChatEncoder, tail: tuple[str, ...], options: tuple[str, ...], expected: Run
) -> None:
    body = encoder.text("Yes") + b"".join(map(encoder.finish, tail))
    assert turnwire.here("replay", "-", *options, stdin=body) == expected


def test_what_was_skipped_or_dropped_is_named(turnwire: Command, encoder: ChatEncoder) -> None:
    body = encode_event("{no json") * 2 + encoder.call(CALL) + encoder.finish("stop") + encoder.done()
    notes = "the call of look_up was never released, and was dropped\n2 events held no JSON, and went unread\n"
    shown = "completed  stop\n\nno usage reported\n"
    assert turnwire.here("replay", "-", stdin=body) == Run(0, shown, notes)
    tolerant = turnwire.here("replay", "-", "--dialect", "tolerant", stdin=body)
    shown = f"done       function_call\ncompleted  stop\n\nfunction_call\n  look_up {CALL.arguments} as call_1\n\n"
    assert tolerant == Run(0, f"{shown}no usage reported\n", "2 events held no JSON, and went unread\n")


def test_what_is_no_recording_is_one_sentence(turnwire: Command) -> None:
    runs = [
        turnwire.here("replay", "nowhere.sse"),
        turnwire.here("replay", "."),
        turnwire.here("replay", "-", stdin=b""),
        turnwire.here("replay", "-", stdin=b'{"error":{"message":"no such key"}}'),
    ]
    assert runs == [
        Run(2, "", "error: nowhere.sse can't be read: No such file or directory\n"),
        Run(2, "", "error: . can't be read: Is a directory\n"),
        Run(1, "", "error: the server sent an empty body instead of an answer\n"),
        Run(1, "", "error: the server failed in mid-stream: no such key\n"),
    ]


def test_reasoning_that_only_the_server_can_read_is_named(turnwire: Command) -> None:
    delta = {"reasoning_details": [{"type": "reasoning.encrypted", "data": "x"}]}
    body = encode_event(json.dumps({"choices": [{"delta": delta, "finish_reason": "stop"}]}))
    shown = (
        "added      reasoning\ndone       reasoning\ncompleted  stop\n\nreasoning\n  (only the server can read it)\n\n"
    )
    assert turnwire.here("replay", "-", stdin=body) == Run(0, f"{shown}no usage reported\n", "")
