"""``turnwire top``: what gateways are doing, second by second."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping, Sequence
from time import monotonic
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer
from rich.live import Live

from turnwire.cli.console import Output
from turnwire.errors import ApiError, ConfigurationError
from turnwire.transport.http import HttpTransport
from turnwire.transport.message import HttpRequest, read_whole

if TYPE_CHECKING:
    from turnwire.cli.top_figures import Scrape

__all__ = ["top"]

_DEFAULT = "http://127.0.0.1:8088"
_KEY_ENV = "TURNWIRE_API_KEY"
_TIMEOUT = 5.0
"""Seconds that a gateway is given for what it counts."""
_PRINTED_WIDTH = 140
"""Columns where there is no terminal to have any."""
_MAX_SIZE = 16 * 1024 * 1024
"""Bytes of it."""


class NoGateway(ApiError):
    """Nobody answers at an address, or no gateway, or one that may not be looked at."""


def top(
    gateway: Annotated[
        list[str] | None, typer.Option("--gateway", "-g", metavar="URL", help="A gateway; may be repeated.")
    ] = None,
    interval: Annotated[float, typer.Option(metavar="SECONDS", min=0.1, help="The time between two looks.")] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="Look twice, and print what is between.")] = False,
) -> None:
    """Watch gateways: their upstreams, answers under way, tokens per second and cached share. Ctrl-C ends it.

    A gateway with keys wants one of them, from TURNWIRE_API_KEY. Into a pipe it is printed once.
    """
    urls = list(dict.fromkeys(_address(url) for url in gateway or [_DEFAULT]))
    width = None if sys.stdout.isatty() else _PRINTED_WIDTH
    console = Output(highlight=False, markup=False, emoji=False, width=width)
    try:
        asyncio.run(_watch(urls, console, interval, once=once or not console.is_terminal))
    except KeyboardInterrupt:
        return
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "prometheus_client":
            raise
        raise ConfigurationError('to watch gateways is an extra of turnwire: pip install "turnwire[gateway]"') from None


def _address(url: str) -> str:
    """A gateway's address without a path: clients are configured with one that has it."""
    parts = urlsplit(url if "://" in url else f"http://{url}")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigurationError(f"--gateway {url!r} is no address; expected something like {_DEFAULT}")
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


async def _watch(urls: Sequence[str], console: Output, interval: float, *, once: bool) -> None:
    from turnwire.cli.top_figures import History, figures_of
    from turnwire.cli.top_screen import screen

    histories = {url: History() for url in urls}
    transport = HttpTransport(open_timeout=_TIMEOUT)

    async def look() -> list[NoGateway]:
        """Looks at all; why some do not answer."""
        silent = []
        found = await asyncio.gather(*(_scrape_if_any(url, transport) for url in urls))
        for url, scrape in zip(urls, found, strict=True):
            if isinstance(scrape, NoGateway):
                histories[url].forget()
                silent.append(scrape)
            else:
                histories[url].add(scrape)
        return silent

    try:
        silent = await look()
        if len(silent) == len(urls):
            raise silent[0] if len(silent) == 1 else NoGateway("; ".join(_words(silent)))
        if once:
            await asyncio.sleep(interval)
            silent = await look()
            figures = figures_of(list(histories.values()))
            console.print(screen(figures, urls, _words(silent), width=console.width))
            return
        with Live(console=console, screen=True, auto_refresh=False) as live:
            while True:
                figures = figures_of(list(histories.values()))
                live.update(screen(figures, urls, _words(silent), width=console.width), refresh=True)
                await asyncio.sleep(interval)
                silent = await look()
    finally:
        await transport.close()


def _words(errors: Sequence[Exception]) -> list[str]:
    return [str(error) for error in errors]


async def _scrape_if_any(url: str, transport: HttpTransport) -> Scrape | NoGateway:
    try:
        return await _scrape(url, transport)
    except NoGateway as error:
        return error


async def _scrape(url: str, transport: HttpTransport) -> Scrape:
    """What a gateway counts now; `NoGateway` says what is wrong."""
    from turnwire.cli.top_figures import read_scrape

    try:
        async with asyncio.timeout(_TIMEOUT):
            response = await transport.send(HttpRequest(f"{url}/metrics", _headers(), b"", "GET"))
            try:
                body = await read_whole(response, _MAX_SIZE)
            finally:
                response.close()
    except TimeoutError:
        raise NoGateway(f"no gateway answers at {url} within {_TIMEOUT:g} s") from None
    except ApiError as error:
        raise NoGateway(
            f"no gateway answers: {error}; start one with `turnwire serve`, or say where it is with --gateway"
        ) from None
    if response.status == 401:
        raise NoGateway(f"the gateway at {url} wants a key of its callers: put one into {_KEY_ENV}")
    scrape = read_scrape(body.decode(errors="replace"), monotonic()) if response.status == 200 else None
    if scrape is None:
        raise NoGateway(f"what answers at {url} is no gateway of turnwire")
    return scrape


def _headers() -> Mapping[str, str]:
    key = os.environ.get(_KEY_ENV)
    return {"authorization": f"Bearer {key}"} if key else {}
