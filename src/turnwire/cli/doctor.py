"""``turnwire doctor``: a provider examined, from its address to its prompt cache."""

from __future__ import annotations

import asyncio
from typing import Annotated

import msgspec
import typer
from msgspec.structs import replace
from rich.text import Text

from turnwire.cli.console import ExitCode, Output, note, visible, write
from turnwire.cli.doctor_checks import Finding
from turnwire.cli.doctor_examination import examine
from turnwire.cli.doctor_question import QUESTIONS
from turnwire.cli.provider_choice import choose_provider
from turnwire.client import Provider
from turnwire.transport.tls import tls_context

__all__ = ["doctor"]

_TOKENS = 4_000
"""What the questions and their answers come to, roughly, with models of today."""
_SHORTEST_SECRET = 6
"""Characters: what is shorter is a version or a flag, and would tear holes into any sentence."""
_WHAT, _STATUS = 23, 9
_INDENT = _WHAT + _STATUS
_NARROWEST = 20
"""Columns: of the two on the left, and the least that is left for words on a narrow terminal."""
_STYLES = {"ok": "green", "warning": "yellow", "failed": "bold red", "skipped": "dim"}


def doctor(
    provider: Annotated[
        str | None, typer.Option("--provider", "-p", metavar="NAME", help="A configured provider, or a preset.")
    ] = None,
    base_url: Annotated[
        str | None, typer.Option(metavar="URL", help="The server's address, up to before /chat/completions.")
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", "-m", metavar="NAME", help="By default the only one that it serves.")
    ] = None,
    api_key_env: Annotated[
        str | None, typer.Option(metavar="NAME", help="The environment variable that holds the key.")
    ] = None,
    timeout: Annotated[float, typer.Option(metavar="SECONDS", help="How long each of the checks may take.")] = 60.0,
    as_json: Annotated[bool, typer.Option("--json", help="Write the findings as one JSON object.")] = False,
) -> None:
    """Examine a provider: what works, what does not, and what to do. Asks a few short questions."""
    chosen = choose_provider(provider, base_url=base_url, api_key_env=api_key_env, idle_timeout=timeout)
    chosen = chosen.with_changes(open_timeout=min(chosen.open_timeout, timeout))
    raise typer.Exit(asyncio.run(_examine(chosen, model or chosen.model, as_json=as_json)))


async def _examine(provider: Provider, model: str | None, *, as_json: bool) -> ExitCode:
    # What is not right here is told before anything is asked: the key's variable, the file of certificates.
    secrets = await _secrets(provider)
    tls_context(provider.ca_file)
    note(f"the model is asked up to {QUESTIONS} short questions, some {_TOKENS:,} tokens in all")
    console = Output(highlight=False, markup=False, emoji=False)
    findings: list[Finding] = []
    if not as_json:
        console.print(Text(_heading(provider), style="bold"), soft_wrap=True)
    async for finding in examine(provider, model):
        findings.append(_plain(finding, provider, secrets))
        if not as_json:
            console.print(_row(findings[-1], console), soft_wrap=True)
    if as_json:
        report = {"provider": provider.name, "base_url": provider.base_url, "findings": findings}
        write(msgspec.json.encode(report).decode() + "\n")
    else:
        console.print(_sum(findings))
    return ExitCode.FAILED if any(finding.status == "failed" for finding in findings) else ExitCode.OK


async def _secrets(provider: Provider) -> tuple[str, ...]:
    """What may not be shown even where a server repeats it; `ConfigurationError` where the key is missing."""
    values = (*(await provider.request_headers()).values(), *provider.query.values())
    return tuple(
        value for value in (value.removeprefix("Bearer ") for value in values) if len(value) >= _SHORTEST_SECRET
    )


def _plain(finding: Finding, provider: Provider, secrets: tuple[str, ...]) -> Finding:
    """A finding without secrets, and without the address that stands in the heading already."""
    found = finding.found
    for secret in secrets:
        found = found.replace(secret, "…")
    base = provider.base_url.rstrip("/")
    return replace(finding, found=found.replace(f"{base}/", "/").replace(base, "the server"))


def _heading(provider: Provider) -> str:
    return provider.base_url if provider.name == provider.base_url else f"{provider.name}, {provider.base_url}"


def _row(finding: Finding, console: Output) -> Text:
    """One row, shown as soon as it is known; what was found is wrapped into its column, advice below it."""
    words = [Text(_line(finding.found))]
    if finding.advice is not None:
        words.append(Text(f"→ {_line(finding.advice)}", style="italic"))
    lines = [line for part in words for line in part.wrap(console, max(_NARROWEST, console.width - _INDENT))]
    for line in lines:
        line.rstrip()
    row = Text.assemble(f"{finding.what:<{_WHAT}}", (f"{finding.status:<{_STATUS}}", _STYLES[finding.status]))
    return row.append(Text("\n" + " " * _INDENT).join(lines))


def _line(text: str) -> str:
    return " ".join(visible(text).split())


def _sum(findings: list[Finding]) -> str:
    counts = {status: sum(finding.status == status for finding in findings) for status in _STYLES}
    return ", ".join(
        f"{count} {status}{'s' if status == 'warning' and count > 1 else ''}"
        for status, count in counts.items()
        if count
    )
