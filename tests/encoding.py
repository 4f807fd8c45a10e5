"""Encoding for tests: items to send, the JSON that a server gets for them, and how to get from the one to the other."""

import json

from turnwire.item import FunctionCall, FunctionCallOutput, InputText, Message, OutputText, Reasoning, ReasoningText
from turnwire.prompt import Prompt
from turnwire.wire.chat.dialect import ChatDialect
from turnwire.wire.chat.request import encode_request

NO_OUTPUT = "No output of this call was recorded."
PIXEL = "data:image/png;base64,AAAA"


def user(*texts):
    return Message("user", [InputText(text) for text in texts])


def developer(text):
    return Message("developer", [InputText(text)])


def assistant(*texts):
    return Message("assistant", [OutputText(text) for text in texts])


def thought(text):
    return Reasoning(content=[ReasoningText(text)])


def call(call_id, name="f"):
    return FunctionCall(name, "{}", call_id)


def output(call_id, text="done"):
    return FunctionCallOutput(call_id, text)


def chat_call(call_id, name="f", arguments="{}"):
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def chat_calls(*call_ids, content=None):
    return {"role": "assistant", "content": content, "tool_calls": [chat_call(call_id) for call_id in call_ids]}


def chat_output(call_id, text="done"):
    return {"role": "tool", "tool_call_id": call_id, "content": text}


def chat_tool(name="f", **fields):
    return {
        "type": "function",
        "function": {"name": name, "parameters": {"type": "object", "properties": {}}, **fields},
    }


def encoded(prompt, dialect=ChatDialect(), **options):  # noqa: B008
    request = encode_request(prompt, model="m", dialect=dialect, **options)
    return json.loads(request.body), request.dropped


def dropped(prompt, dialect=ChatDialect()):  # noqa: B008
    """What a request could not carry over."""
    return list(encode_request(prompt, model="m", dialect=dialect).dropped)


def messages(*items, dialect=ChatDialect(), **options):  # noqa: B008
    """The messages of a history that is carried over without loss."""
    body, dropped = encoded(Prompt(items), dialect, **options)
    assert dropped == ()
    return body["messages"]


def fields(dialect=ChatDialect(), **prompt):  # noqa: B008
    """The body for a prompt that is carried over without loss, but for what every body has."""
    body, dropped = encoded(Prompt("hi", **prompt), dialect)
    assert dropped == ()
    return {key: value for key, value in body.items() if key not in ("model", "messages", "stream", "stream_options")}
