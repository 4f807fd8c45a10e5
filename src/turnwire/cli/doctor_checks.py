"""What the doctor concludes: from what was heard to a finding each, without any I/O.

A check has *failed* where a turn can't be had as it stands. It is a *warning* where turns can be had, and something is
missing that an agent would profit from.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec
from msgspec import Struct

from turnwire.cli.console import percent
from turnwire.cli.doctor_question import BOUND, TOOL_NAME, WIRES, Heard, Wire
from turnwire.client import Provider
from turnwire.errors import (
    ApiError,
    ConfigurationError,
    ConnectError,
    ContextWindowExceeded,
    Disconnected,
    HttpStatusError,
    IdleTimeout,
    InvalidPrompt,
    ProtocolError,
    QuotaExceeded,
    RateLimited,
    StreamError,
    TlsError,
    UsageNotIncluded,
)
from turnwire.item import FunctionCall

__all__ = [
    "Finding",
    "Listing",
    "check_cache",
    "check_call",
    "check_ending",
    "check_key",
    "check_model",
    "check_pieces",
    "check_token",
    "check_usage",
    "check_wire",
    "failed",
    "ok",
    "skipped",
    "warning",
]

_REFUSED = frozenset({401, 403})
_NOT_SERVED = frozenset({404, 405, 426, 501})
_MAX_NAMES = 10
_MAX_TOKEN = 2048
"""Characters of a token that still travel through every server's ``client_metadata``."""


class Finding(Struct, frozen=True):
    """One row: what was looked at, how it is, what was found, and what to do about it where something is wrong."""

    what: str
    status: Literal["ok", "warning", "failed", "skipped"]
    found: str
    advice: str | None = None


class Listing(Struct, frozen=True):
    """The models that the server lists, or why there is no list."""

    names: Sequence[str] = ()
    error: ApiError | None = None


def ok(what: str, found: str) -> Finding:
    """All is well."""
    return Finding(what, "ok", found)


def warning(what: str, found: str, advice: str) -> Finding:
    """It works, but not as well as it might."""
    return Finding(what, "warning", found, advice)


def failed(what: str, found: str, advice: str) -> Finding:
    """It does not work."""
    return Finding(what, "failed", found, advice)


def skipped(what: str, why: str) -> Finding:
    """It was not looked at."""
    return Finding(what, "skipped", why)


def check_key(provider: Provider, listing: Listing, heard: Heard | None) -> Finding:
    """Whether the key opens the door. The list of models may be for everybody, or for nobody: an answer outranks it."""
    what = "key"
    answered = heard is not None and heard.spoken
    errors = (None if heard is None else heard.error, listing.error)
    refusal = next((error for error in errors if error is not None and _status(error) in _REFUSED), None)
    if refusal is not None and not answered:
        return failed(what, _told(refusal)[0], _key_advice(provider))
    if not answered and listing.error is not None:
        return skipped(what, "nothing that asks for a key answered")
    if provider.api_key is None and provider.api_key_env is None:
        return ok(what, "none is sent, and none is asked for")
    return ok(what, "accepted")


def check_model(model: str | None, listing: Listing, heard: Heard | None) -> Finding:
    """Whether there is a model to ask, and whether the server lists it."""
    what = "model"
    names = listing.names
    if model is None:
        if listing.error is not None:
            return failed(what, *_told(listing.error))
        if not names:
            return failed(what, "the server lists none", "load one, or name one with --model")
        return failed(what, f"none is named, and {len(names)} are listed", f"name one with --model: {_listed(names)}")
    if heard is not None and _model_is_unknown(heard.error, model):
        advice = f"name one that is listed: {_listed(names)}" if names else "check the name given with --model"
        return failed(what, f"the server does not know {model!r}", advice)
    if listing.error is not None:
        return warning(
            what, f"{model}; {_told(listing.error)[0]}", "no need to act: only the list of models is missing"
        )
    if model in names:
        return ok(what, f"{model}, the only one listed" if len(names) == 1 else f"{model}, one of {len(names)} listed")
    return warning(what, f"{model}, which is not listed", f"see that the name is meant; listed are {_listed(names)}")


def check_wire(wire: Wire, heard: Mapping[Wire, Heard], own: Wire) -> Finding:
    """Whether the server speaks a wire. To lack its own one is a provider's failure; to lack another is none."""
    what = WIRES[wire]
    error = heard[wire].error
    if error is None or heard[wire].spoken:
        return ok(what, "spoken, and the one in use" if wire == own else "spoken")
    found, advice = _told(error)
    missing = heard[wire].status in _NOT_SERVED
    if missing:
        found = f"not spoken ({heard[wire].status})"
    if wire != own:
        return warning(what, found, _LACKING[wire] if missing else advice)
    others = [other for other in heard if heard[other].spoken]
    if missing and others:
        return failed(what, found, _OVER[others[0]])
    return failed(what, found, "check the base_url" if missing else advice)


def check_token(heard: Mapping[Wire, Heard]) -> Finding:
    """Whether a routing token is handed out, and over which wires. Of the token itself only its length is told."""
    what = "routing token"
    good = {wire: answer for wire, answer in heard.items() if answer.token_size is not None}
    bad = [WIRES[wire] for wire, answer in heard.items() if answer.token_size is None and answer.token_place]
    if bad:
        return warning(
            what,
            f"one that can't be sent back, over {' and '.join(bad)}",
            "let the server hand out visible ASCII of at most 8 KiB",
        )
    if not good:
        return warning(
            what,
            "none",
            "no need to act with one machine behind the address; with more, put a sticky router in front of them",
        )
    found = "; ".join(
        f"{WIRES[wire]}: {answer.token_size} characters ({answer.token_place})" for wire, answer in good.items()
    )
    if max(answer.token_size or 0 for answer in good.values()) > _MAX_TOKEN:
        return warning(what, found, f"keep it to {_MAX_TOKEN:,} characters: longer ones may be dropped on the way")
    return ok(what, found)


def check_pieces(heard: Heard) -> Finding:
    """Whether an answer comes while it is made."""
    what = "streaming"
    if heard.reads > 1:
        return ok(what, f"{heard.pieces} pieces in {heard.reads} reads")
    if heard.pieces > 1:
        return warning(
            what,
            f"{heard.pieces} pieces, all at once",
            "look for a proxy that holds answers back, such as nginx without `proxy_buffering off`",
        )
    if heard.pieces == 1:
        return warning(what, "the answer came in one piece", "look for a setting of the server that makes it stream")
    return warning(what, f"no text within {BOUND} tokens", "ask with another model if this one should give text")


def check_ending(heard: Heard) -> Finding:
    """Whether an end can be told from a cut."""
    what = "proper ending"
    if heard.error is not None:
        return failed(what, *_told(heard.error))
    completed = heard.completed
    if completed is None or completed.finish_reason is None:
        if heard.done_seen:
            return warning(
                what,
                "[DONE] without a finish reason",
                "no need to act: an end is told from a cut, only its reason is not",
            )
        return failed(
            what,
            "neither a finish reason nor [DONE]",
            "do not trust an answer to be whole: one that was cut off looks the same",
        )
    bounded = (
        "" if completed.incomplete_reason is None else f", for the answer was bounded ({completed.incomplete_reason})"
    )
    return ok(what, f"finish reason {completed.finish_reason}{bounded}")


def check_call(heard: Heard) -> Finding:
    """Whether the model's call of a tool arrives, with arguments that can be read."""
    what = "tool calls"
    if heard.error is not None:
        found, advice = _told(heard.error)
        if isinstance(heard.error, InvalidPrompt | HttpStatusError):
            advice = (
                "start the server with what it needs for tools (vLLM: --enable-auto-tool-choice, llama.cpp: --jinja)"
            )
        return failed(what, found, advice)
    if heard.dropped_calls:
        return failed(
            what, "a call came, and no finish reason that releases it", 'set dialect = "tolerant", which takes it'
        )
    calls = [item for item in heard.items if isinstance(item, FunctionCall)]
    if not calls:
        return warning(
            what,
            "the model answered without the tool",
            "ask a model that is made for tools, and see that the server parses its calls (vLLM: --tool-call-parser)",
        )
    if any(call.name != TOOL_NAME for call in calls):
        return warning(what, "a call of a tool that does not exist", "ask a model that is made for tools")
    if not all(_fits(call.arguments) for call in calls):
        return warning(what, "a call whose arguments do not fit the tool", "ask a model that is made for tools")
    return ok(what, "called, with arguments that fit")


def check_usage(heard: Heard) -> Finding:
    """Whether the server says what an answer took."""
    what = "usage"
    if heard.error is not None:
        return failed(what, *_told(heard.error))
    usage = None if heard.completed is None else heard.completed.token_usage
    if usage is None:
        return warning(what, "not reported", "look for a setting of the server that makes it count")
    return ok(what, f"{usage.input_tokens:,} tokens in, {usage.output_tokens:,} out")


def check_cache(heard: Heard) -> Finding:
    """Whether a prompt that was asked before is found in the server's cache."""
    what = "prompt cache"
    if heard.error is not None:
        return failed(what, *_told(heard.error))
    usage = None if heard.completed is None else heard.completed.token_usage
    if usage is None:
        return skipped(what, "no usage is reported")
    if not usage.cached_input_tokens:
        return warning(
            what,
            f"none of {usage.input_tokens:,} repeated tokens is said to be cached",
            "turn the cache on, or its report (vLLM: --enable-prompt-tokens-details)",
        )
    return ok(what, f"{percent(usage.cached_share)} of a repeated prompt was cached")


def _told(error: ApiError) -> tuple[str, str]:
    """What an error says, and what to do about it: advice that its own sentence ends with gives way to ours."""
    return re.sub(r" \((?:check|for a certificate|is it plain) [^()]*\)$", "", str(error)), _advice(error)


def _model_is_unknown(error: ApiError | None, model: str) -> bool:
    """The server answered that it does not know the model; 404 alone may as well mean the address."""
    if error is None or error.response is None or error.response.status not in (400, 404):
        return False
    said = f"{error.response.body} {error.code} {error}"
    return "model_not_found" in said or bool(re.search(rf"['\"`]{re.escape(model)}\\?['\"`]", said))


def _status(error: ApiError | None) -> int | None:
    return None if error is None or error.response is None else error.response.status


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MAX_NAMES} more" if len(names) > _MAX_NAMES else ""
    return ", ".join(names[:_MAX_NAMES]) + more


def _key_advice(provider: Provider) -> str:
    if provider.api_key_env is not None:
        return f"check the key in {provider.api_key_env}, and what it may use"
    return "name the environment variable that holds the key with --api-key-env"


def _fits(arguments: str) -> bool:
    try:
        fields: dict[str, Any] = msgspec.json.decode(arguments, type=dict[str, Any])
    except msgspec.DecodeError:
        return False
    return fields.keys() == {"city", "unit"} and all(isinstance(value, str) for value in fields.values())


_LACKING: Mapping[Wire, str] = {
    "chat": "no need to act: Responses do all that it does",
    "responses": "no need to act: Chat Completions serve most agents",
    "websocket": "no need to act: SSE says the same, with somewhat more to send",
}
"""What to make of a wire that a server does not speak, and that nobody asked for."""

_OVER: Mapping[Wire, str] = {
    "chat": "ask over Chat Completions: --wire-api chat, or wire_api in turnwire.toml",
    "responses": "ask over Responses: --wire-api responses --websocket off, or wire_api and websocket in turnwire.toml",
    "websocket": "ask over WebSocket: --wire-api responses --websocket on, or wire_api and websocket in turnwire.toml",
}
"""How to ask over another wire, where the provider's own is not spoken."""

_ADVICE: tuple[tuple[type[ApiError] | tuple[type[ApiError], ...], str], ...] = (
    (ConfigurationError, "check the base_url; where it is right, name a model with --model"),
    (TlsError, "set ca_file for a certificate of your own; write http:// for a server without TLS"),
    (ConnectError, "check the address, and that the server runs"),
    (Disconnected, "see what the server's log says, and whether the address should begin with https://"),
    (IdleTimeout, "give it more time with --timeout, or see what holds the server up"),
    (RateLimited, "wait, or ask the provider for a higher limit"),
    ((QuotaExceeded, UsageNotIncluded), "look at the account's balance and plan"),
    (ContextWindowExceeded, "give the model a larger context window: some 4,000 tokens are needed here"),
    (ProtocolError, "check the base_url: it ends where /chat/completions or /responses begins"),
    (StreamError, "see what cuts the answer off: the server's log, or a proxy's timeout"),
)


def _advice(error: ApiError) -> str:
    """What to do about an error, by its kind; some statuses say it better than a kind."""
    status = _status(error)
    if status in _REFUSED:
        return "check the api key, and what it may use"
    if status in _NOT_SERVED or (status is not None and 300 <= status < 400):
        return "check the base_url and the model's name"
    return next((advice for kind, advice in _ADVICE if isinstance(error, kind)), "look into the server's log")
