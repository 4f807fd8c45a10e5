"""Tools and calls, there and back: a model calls what the caller declared, whatever a chat server knows of it."""

import json
from itertools import groupby

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.decoding import DONE, check
from tests.encoding import user
from turnwire.event import OutputItemAdded, OutputItemDone, ToolCallArgumentsDelta
from turnwire.item import (
    CustomToolCall,
    CustomToolCallOutput,
    FunctionCall,
    FunctionCallOutput,
    OtherItem,
    ToolSearchCall,
    ToolSearchOutput,
)
from turnwire.prompt import Prompt
from turnwire.wire.chat import ChatDialect, ChatEncoder, encode_request
from turnwire.wire.chat.tool import ToolOrigin

modest = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])

# Few names, made to fall together: in a namespace or out of it, cut at 64 characters, or those of other kinds of tools.
names = st.sampled_from(
    ["a", "b", "c", "a__b", "b__c", "tool_search", "local_shell", "x" * 70, "x" * 69 + "y", "a__b_0c6bf1d5"]
)
namespaces = st.none() | names
calls_by_type = {
    "function": lambda tool, call_id, text: FunctionCall(tool.name, text, call_id, namespace=tool.namespace),
    "custom": lambda tool, call_id, text: CustomToolCall(tool.name, text, call_id, namespace=tool.namespace),
    "tool_search": lambda tool, call_id, text: ToolSearchCall({"query": text}, "client", call_id),
}
tools = st.builds(ToolOrigin, st.sampled_from(["function", "custom"]), names, namespaces) | st.just(
    ToolOrigin("tool_search", "tool_search")
)
texts = st.sampled_from(["x", '"', "\\", '\\"', "}", '"}', "\n", "\\u00e9", "é😀", "*** Begin Patch\n"]) | st.text(
    max_size=8
)


def definitions(declared):
    """Definitions of the tools, those next to each other in one namespace together."""
    for namespace, members in groupby(declared, lambda tool: tool.namespace):
        group = [
            {"type": tool.type, "execution": "client"}
            if tool.type == "tool_search"
            else {"type": tool.type, "name": tool.name}
            for tool in members
        ]
        yield from group if namespace is None else [{"type": "namespace", "name": namespace, "tools": group}]


def output(call):
    if isinstance(call, ToolSearchCall):
        return ToolSearchOutput([], "client", call.call_id)
    kind = FunctionCallOutput if isinstance(call, FunctionCall) else CustomToolCallOutput
    return kind(call.call_id, "done")


@st.composite
def histories(draw):
    """Calls with their outputs, and tools that are found on the way; gives the tools that were called in order."""
    items, called = [user("go")], []
    for place in range(draw(st.integers(0, 5))):
        if draw(st.booleans()):
            found = [*definitions(draw(st.lists(tools, max_size=3)))]
            items.append(OtherItem({"type": "additional_tools", "role": "developer", "tools": found}))
        tool = draw(tools)
        call = calls_by_type[tool.type](tool, f"c{place}", draw(texts))
        items += [call, output(call)]
        called.append(tool)
    return items, called


@modest
@given(declared=st.lists(tools, max_size=6), history=histories())
def test_every_tool_has_a_name_of_its_own_and_calls_use_it(declared, history):
    items, called = history
    request = encode_request(Prompt(items, tools=[*definitions(declared)]), model="m")
    body = msgspec.json.decode(request.body)
    assert request.dropped == ()
    assert len(set(request.tools.values())) == len(request.tools)
    assert request.tools.keys() >= {tool["function"]["name"] for tool in body.get("tools", ())}
    assert set(request.tools.values()) >= {*declared, *called}
    sent = [call["function"]["name"] for message in body["messages"] for call in message.get("tool_calls", ())]
    assert [request.tools[name] for name in sent] == called


@modest
@given(declared=st.lists(tools, max_size=6), history=histories(), end=st.integers(0, 12))
def test_a_conversation_that_grows_keeps_the_names_of_its_tools(declared, history, end):
    items, _ = history
    defined = [*definitions(declared)]
    shorter, longer = (encode_request(Prompt(some, tools=defined), model="m") for some in (items[:end], items))
    assert shorter.tools.items() <= longer.tools.items()


@st.composite
def answers(draw, functions):
    """The stream of an answer that calls some of the functions, and the calls that it means."""
    encoder = ChatEncoder(ChatDialect(), response_id="r", model="m", created=0)
    body, meant, pieces = encoder.start(), [], []
    for place, name in enumerate(draw(st.lists(st.sampled_from(sorted(functions)), max_size=3))):
        tool, call_id, text = functions[name], f"call_{place}", draw(texts)
        meant.append(calls_by_type[tool.type](tool, call_id, text))
        key = {"function": None, "custom": "input", "tool_search": "query"}[tool.type]
        arguments = text if key is None else json.dumps({key: text}, ensure_ascii=draw(st.booleans()))
        body += encoder.call_added(FunctionCall(name, "", call_id))
        places = sorted(draw(st.lists(st.integers(0, len(arguments)), max_size=4)))
        for start, end in zip([0, *places], [*places, len(arguments)], strict=True):
            pieces.append((call_id, arguments[start:end]))
    order = draw(st.permutations(range(len(meant))))  # whose fragments come first
    pieces.sort(key=lambda piece: order[int(piece[0].removeprefix("call_"))])
    for call_id, piece in pieces:
        body += encoder.call_arguments(call_id, piece)
    return body + encoder.finish() + DONE, meant


@modest
@given(declared=st.lists(tools, min_size=1, max_size=5), history=histories(), data=st.data())
def test_a_call_comes_back_as_that_of_the_tool_that_was_declared(declared, history, data):
    request = encode_request(Prompt(history[0], tools=[*definitions(declared)]), model="m")
    body, meant = data.draw(answers(request.tools))
    places = data.draw(st.lists(st.integers(0, 1 << 16), max_size=6))
    events, error = check(body, places, tools=request.tools)
    assert error is None
    assert [event.item for event in events if isinstance(event, OutputItemDone)] == meant

    watched, _ = check(body, places, tools=request.tools, watch_calls=True)
    assert [event.item for event in watched if isinstance(event, OutputItemDone)] == meant
    told = dict.fromkeys((call.call_id for call in meant), "")
    for event in watched:
        if isinstance(event, ToolCallArgumentsDelta):
            told[event.call_id] += event.delta
    assert [type(event.item) for event in watched if isinstance(event, OutputItemAdded)] == [*map(type, meant)]
    assert [*told.values()] == [
        call.arguments if isinstance(call, FunctionCall) else call.input if isinstance(call, CustomToolCall) else ""
        for call in meant
    ]
    # What came back can be sent again, and means the same tools.
    again = encode_request(Prompt([*history[0], *meant], tools=[*definitions(declared)]), model="m")
    assert again.tools == request.tools
