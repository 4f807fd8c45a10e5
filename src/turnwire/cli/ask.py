"""``turnwire ask``: one question, and the answer while it streams."""

from __future__ import annotations

import asyncio
import base64
import mimetypes
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import typer

from turnwire.cli.answer import AnswerWriter, JsonWriter, Pace, TextWriter, losses, refusal, summary
from turnwire.cli.console import ExitCode, note, piped
from turnwire.cli.provider_choice import choose_provider, only_model
from turnwire.client import ModelClient, Provider
from turnwire.client.socket import FrameDecoder
from turnwire.errors import ConfigurationError
from turnwire.event import Completed, OutputItemDone
from turnwire.item import InputImage, InputText, Message
from turnwire.prompt import Prompt
from turnwire.telemetry import RequestRecord
from turnwire.wire.chat import ChatDialect

__all__ = ["ask"]


def ask(
    prompt: Annotated[
        list[str] | None,
        typer.Argument(help="The question; what is piped in follows it. Without one, or with -, all is read there."),
    ] = None,
    provider: Annotated[
        str | None, typer.Option("--provider", "-p", metavar="NAME", help="A configured provider, or a preset.")
    ] = None,
    base_url: Annotated[
        str | None, typer.Option(metavar="URL", help="The server's address, up to before /chat/completions.")
    ] = None,
    wire_api: Annotated[
        str | None, typer.Option(metavar="chat|responses", help="The API to ask over; with a bare --base-url: chat.")
    ] = None,
    websocket: Annotated[
        str | None,
        typer.Option(metavar="auto|on|off", help="Whether Responses go over WebSocket; auto tries it first."),
    ] = None,
    dialect: Annotated[
        str | None, typer.Option(metavar="NAME", help="How the server speaks chat; with a bare --base-url: tolerant.")
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", "-m", metavar="NAME", help="By default the only one that it serves.")
    ] = None,
    instructions: Annotated[
        str | None, typer.Option("--instructions", "--system", metavar="TEXT", help="The rules for the answer.")
    ] = None,
    image: Annotated[
        list[str] | None, typer.Option(metavar="FILE|URL", help="An image to ask about; may be repeated.")
    ] = None,
    max_output_tokens: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="The answer's bound; one that hits it ends with code 3.")
    ] = None,
    temperature: Annotated[float | None, typer.Option(metavar="T", help="How freely the model chooses.")] = None,
    reasoning_effort: Annotated[
        str | None, typer.Option(metavar="EFFORT", help="How long it thinks, in the server's words: low, high, …")
    ] = None,
    api_key_env: Annotated[
        str | None, typer.Option(metavar="NAME", help="The environment variable that holds the key.")
    ] = None,
    timeout: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="How long the server may stay silent.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Write the events, a JSON object per line.")] = False,
) -> None:
    """Stream a model's answer: its text to standard output, all else to standard error."""
    chosen = choose_provider(
        provider,
        base_url=base_url,
        wire_api=wire_api,
        websocket=_websocket(websocket, wire_api),
        dialect=None if dialect is None else ChatDialect.preset(dialect),
        api_key_env=api_key_env,
        idle_timeout=timeout,
    )
    asked = Prompt(
        [_message(_text(prompt or ()), image or ())],
        instructions=instructions,
        reasoning=None if reasoning_effort is None else {"effort": reasoning_effort},
        max_output_tokens=max_output_tokens,
        temperature=temperature,
    )
    raise typer.Exit(asyncio.run(_answer(chosen, model, asked, JsonWriter() if as_json else TextWriter())))


async def _answer(provider: Provider, model: str | None, prompt: Prompt, writer: AnswerWriter) -> ExitCode:
    model = model or provider.model
    if model is None:
        model = await only_model(provider)
        note(f"asking {model}")
    code = ExitCode.OK
    async with ModelClient(provider, model=model, request_telemetry=_RetryNotes()) as client:
        stream = client.new_session().stream(prompt)
        for feature in stream.dropped:
            note(f"{feature} can't be sent to {provider.name}, and was left out")
        pace = Pace()
        try:
            async with stream:
                if provider.websocket == "auto" and not isinstance(stream.decoder, FrameDecoder):
                    note(f"{provider.name} opens no WebSocket, and is asked by HTTP")
                async for event in stream:
                    pace.saw(event)
                    writer.write(event)
                    match event:
                        case OutputItemDone(Message() as message) if refusal(message):
                            code = ExitCode.INCOMPLETE
                        case Completed(incomplete_reason=reason):
                            note(summary(event, pace))
                            code = code if reason is None else ExitCode.INCOMPLETE
        finally:
            writer.close()
            for sentence in losses(stream.decoder):
                note(sentence)
    return code


class _RetryNotes:
    """Says why there is a pause, where it was the server that asked for one."""

    def on_request(self, record: RequestRecord, /) -> None:
        """Called after each attempt."""
        if record.status is not None and record.retry_delay is not None:
            note(f"the server answered {record.status}; asking again in {record.retry_delay:.1f} s")


def _websocket(wanted: str | None, wire_api: str | None) -> bool | Literal["auto"] | None:
    """The provider's ``websocket``; None where its own is to stay. Who asks for chat needs not say that it has none."""
    match wanted:
        case None:
            return False if wire_api == "chat" else None
        case "auto":
            return "auto"
        case "on" | "off":
            return wanted == "on"
    raise ConfigurationError(f"--websocket {wanted!r} is not known; known are auto, on and off")


def _text(words: Sequence[str]) -> str:
    """The question: the words, and what is piped in behind them."""
    text = " ".join(words)
    if text == "-":
        text = ""
    if not text or (sys.stdin is not None and not sys.stdin.isatty()):
        try:
            text = "\n\n".join(filter(None, (text, piped().decode().strip())))
        except UnicodeDecodeError:
            raise ConfigurationError("standard input is not UTF-8 text") from None
    if not text:
        raise ConfigurationError("the prompt is empty: write it behind `turnwire ask`, or pipe it in")
    return text


def _message(text: str, images: Sequence[str]) -> Message:
    return Message("user", (InputText(text), *(InputImage(_image_url(image)) for image in images)))


def _image_url(image: str) -> str:
    """The address as it is; a file as a ``data:`` URL."""
    if image.startswith(("http://", "https://", "data:")):
        return image
    kind, _ = mimetypes.guess_type(image)
    if kind is None or not kind.startswith("image/"):
        raise ConfigurationError(f"image {image!r} is neither an address nor a file with an image's suffix")
    try:
        data = Path(image).read_bytes()
    except OSError as error:
        raise ConfigurationError(f"image {image!r} can't be read: {error.strerror}") from error
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
