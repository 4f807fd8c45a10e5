"""The gateways that are compared, as processes: how each is set up and started, what it costs."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal, TypeAlias
from urllib.error import URLError
from urllib.request import urlopen

from msgspec import Struct

__all__ = ["PEERS", "Gateway", "Missing", "Name", "Starter", "floor", "litellm", "nginx", "peer_versions", "turnwire"]

Name: TypeAlias = Literal["turnwire", "LiteLLM", "nginx", "floor"]

PEERS = Path(__file__).parents[1] / ".venv-peers"
"""The environment that ``make bench`` sets up for LiteLLM's proxy."""
_START_TIMEOUT = 120.0
_STOP_TIMEOUT = 20.0


class Missing(Exception):
    """A gateway can't be had here, and its sentence says why."""


class Gateway(Struct, frozen=True):
    """A gateway that runs. Its figures are those of all its processes."""

    port: int
    pid: int

    @property
    def cpu_time(self) -> float:
        """Seconds of user and system time so far."""
        # The kernel has a clock for each process, as clock_getcpuclockid(3) names it; /proc tells but hundredths.
        return sum(time.clock_gettime((~pid << 3) | 2) for pid in _family(self.pid))

    @property
    def resident(self) -> int:
        """Bytes of memory that it has now; what several processes share counts for each."""
        pages = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in _family(self.pid))
        return pages * os.sysconf("SC_PAGE_SIZE")


Starter: TypeAlias = Callable[[str], AbstractContextManager[Gateway]]
"""Starts a gateway in front of a model server, given its ``base_url``; raises `Missing`."""


@contextmanager
def turnwire(base_url: str) -> Iterator[Gateway]:
    """The gateway, with no other word said than where the model server is."""
    with _folder() as folder:
        port = _free_port()
        command = [sys.executable, "-m", "turnwire", "serve", "--upstream", base_url, "--port", str(port)]
        with _running(command, folder, port, "/readyz", XDG_STATE_HOME=str(folder)) as gateway:
            yield gateway


def litellm(environment: Path) -> Starter:
    """LiteLLM's proxy with one worker, without database, keys or callbacks."""

    @contextmanager
    def start(base_url: str) -> Iterator[Gateway]:
        program = environment / "bin" / "litellm"
        if not program.exists():
            raise Missing("not installed; make bench does it")
        with _folder() as folder:
            settings = folder / "litellm.yaml"
            settings.write_text(_LITELLM.format(base_url=base_url), encoding="utf-8")
            port = _free_port()
            command = [str(program), "--config", str(settings), "--host", "127.0.0.1", "--port", str(port)]
            variables = {
                "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",
                "LITELLM_LOCAL_MODEL_COST_MAP": "True",
                "LITELLM_MODE": "PRODUCTION",
            }
            with _running(command, folder, port, "/health/liveliness", **variables) as gateway:
                yield gateway

    return start


@contextmanager
def nginx(base_url: str) -> Iterator[Gateway]:
    """nginx with one worker, which passes bytes on as they come."""
    program = _nginx_program()
    if program is None:
        raise Missing("not installed; apt-get install nginx")
    with _folder() as folder:
        port = _free_port()
        address = base_url.removeprefix("http://").partition("/")[0]
        settings = folder / "nginx.conf"
        settings.write_text(_NGINX.replace("{port}", str(port)).replace("{address}", address), encoding="utf-8")
        command = [program, "-p", str(folder), "-e", "error.log", "-c", str(settings)]
        with _running(command, folder, port, "/v1/models") as gateway:
            yield gateway


@contextmanager
def floor(base_url: str) -> Iterator[Gateway]:
    """The translation alone, between two connections."""
    with _folder() as folder:
        port = _free_port()
        command = [sys.executable, str(Path(__file__).with_name("relay_floor.py")), str(port), base_url]
        with _running(command, folder, port, "/") as gateway:
            yield gateway


_LITELLM = """\
model_list:
  - model_name: "*"
    litellm_params:
      model: openai/*
      api_base: {base_url}
      api_key: none
      use_chat_completions_api: true
litellm_settings:
  telemetry: false
"""
_NGINX = """\
daemon off;
worker_processes 1;
pid nginx.pid;
events { worker_connections 4096; }
http {
  access_log access.log;
  client_body_temp_path body;
  proxy_temp_path proxy;
  fastcgi_temp_path fastcgi;
  uwsgi_temp_path uwsgi;
  scgi_temp_path scgi;
  keepalive_requests 1000000;
  upstream model {
    server {address};
    keepalive 64;
    keepalive_requests 1000000;
  }
  server {
    listen 127.0.0.1:{port} backlog=1024;
    location / {
      proxy_pass http://model;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering off;
      proxy_read_timeout 300s;
    }
  }
}
"""


def peer_versions(environment: Path) -> Mapping[str, str]:
    """The releases of the other gateways that are there."""
    found = {}
    for metadata in environment.glob("lib/python*/site-packages/litellm-*.dist-info"):
        found["litellm"] = metadata.name.removesuffix(".dist-info").partition("-")[2]
    if (program := _nginx_program()) is not None:
        said = subprocess.run([program, "-v"], capture_output=True, text=True, check=True).stderr
        found["nginx"] = said.strip().partition("/")[2]
    return found


def _nginx_program() -> str | None:
    """Where nginx is: Debian keeps it where only root looks."""
    return shutil.which("nginx", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")


@contextmanager
def _folder() -> Iterator[Path]:
    with TemporaryDirectory(prefix="turnwire-bench-") as folder:
        yield Path(folder)


@contextmanager
def _running(command: Sequence[str], folder: Path, port: int, ready_path: str, **variables: str) -> Iterator[Gateway]:
    """A process once it answers at ``ready_path``; what it prints is told where it does not."""
    log = folder / "output.log"
    with (
        log.open("wb") as output,
        subprocess.Popen(
            command, cwd=folder, env={**os.environ, **variables}, stdout=output, stderr=subprocess.STDOUT
        ) as process,
    ):
        try:
            _await(f"http://127.0.0.1:{port}{ready_path}", process, log)
            yield Gateway(port, process.pid)
        finally:
            process.terminate()
            try:
                process.wait(_STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                process.kill()


def _await(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_TIMEOUT
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with urlopen(url, timeout=1) as response:
                response.read()
                return
        except (URLError, OSError):
            time.sleep(0.05)
    last = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
    raise Missing(f"did not start: {' '.join(last)}")


def _family(pid: int) -> list[int]:
    """A process and all below it."""
    family = [pid]
    for member in family:
        for task in Path(f"/proc/{member}/task").iterdir():
            family += map(int, (task / "children").read_text().split())
    return family


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as bound:
        port: int = bound.getsockname()[1]
        return port
