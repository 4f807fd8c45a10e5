"""The files of deploy/ and what the documents say of them, each checked by the tools of its own kind."""

from __future__ import annotations

import asyncio
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from configparser import ConfigParser
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import kubernetes_validate.utils as kubernetes
import promql_parser
import pytest
import trustme
import yaml
from prometheus_client import CollectorRegistry

from tests.gateway.serving import MODEL, ServedGateway, answered, serving, upstream_at
from turnwire import ModelClient, OutputTextDelta, Provider
from turnwire.gateway.configuration import GatewayConfiguration, load_gateway_configuration
from turnwire.gateway.metrics import Metrics
from turnwire.gateway.openapi import DESCRIPTION
from turnwire.gateway.server import LAST_WORDS
from turnwire.testing import ScriptedServer, Stall, Turn

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "deploy"
DOCS = ROOT / "docs"

_TOML = re.compile(r"^```toml\n(.*?)^```", re.DOTALL | re.MULTILINE)
_CODE = re.compile(r"`([^`]*turnwire_[^`]*)`")
_PIN = re.compile(r"^(\S+)==(\S+)", re.MULTILINE)
_LABEL_SHOWN = re.compile(r"\$labels\.(\w+)")
_SCRAPED = {"job", "instance"}
"""Labels that Prometheus adds to each series."""
_SPARE = 5.0
"""Seconds that an end may take beyond its own bounds."""


def _documents(path: Path) -> list[Any]:
    return list(yaml.safe_load_all(path.read_text(encoding="utf-8")))


def _load(text: str, folder: Path) -> GatewayConfiguration:
    path = folder / "turnwire.toml"
    path.write_text(text, encoding="utf-8")
    return load_gateway_configuration([path])


# Configuration


EXAMPLE = (DEPLOY / "turnwire.toml").read_text(encoding="utf-8")
MANIFEST = {document["kind"]: document for document in _documents(DEPLOY / "kubernetes.yaml")}
CONFIGURED = MANIFEST["ConfigMap"]["data"]["turnwire.toml"]
SHOWN = [
    pytest.param(block, id=path.name)
    for path in sorted(DOCS.glob("*.md"))
    if path.name in {"deployment.md", "operations.md", "turn-token.md"}
    for block in _TOML.findall(path.read_text(encoding="utf-8"))
]


@pytest.mark.parametrize(
    "text", [pytest.param(EXAMPLE, id="example"), pytest.param(CONFIGURED, id="config map"), *SHOWN]
)
def test_a_configuration_that_is_shown_can_be_used(text: str, tmp_path: Path) -> None:
    upstreams = _load(text, tmp_path).upstreams
    assert len({tuple(upstream.models or ()) for upstream in upstreams}) == 1, "they are shown as replicas"


# systemd


UNIT = DEPLOY / "turnwire.service"
_analyze = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not there")


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit as it is, but for a program that is there."""
    text = UNIT.read_text(encoding="utf-8").replace("/opt/turnwire/bin/turnwire", sys.executable)
    path = tmp_path / UNIT.name
    path.write_text(text, encoding="utf-8")
    return path


@_analyze
def test_systemd_finds_nothing_wrong_with_the_unit(unit: Path) -> None:
    found = _run("systemd-analyze", "verify", "--recursive-errors=no", str(unit))
    assert (found.returncode, found.stdout) == (0, "")


@_analyze
def test_systemd_takes_the_unit_for_well_confined(unit: Path) -> None:
    found = _run("systemd-analyze", "security", "--offline=true", "--threshold=15", str(unit))
    if "unrecognized option" in found.stdout:
        pytest.skip("this systemd can't tell offline")
    assert found.returncode == 0, found.stdout


def test_systemd_waits_longer_for_the_gateway_than_the_gateway_for_its_answers(tmp_path: Path) -> None:
    parsed = ConfigParser(strict=False, interpolation=None, delimiters=["="], comment_prefixes=["#"])
    parsed.optionxform = str  # type: ignore[assignment,method-assign]
    parsed.read_string(UNIT.read_text(encoding="utf-8"))
    service = parsed["Service"]
    assert float(service["TimeoutStopSec"]) >= _end_of(_load(EXAMPLE, tmp_path))
    assert {name: service[name] for name in ("KillMode", "DynamicUser", "ProtectSystem", "Restart")} == {
        "KillMode": "mixed",
        "DynamicUser": "yes",
        "ProtectSystem": "strict",
        "Restart": "always",
    }


# The container


CONTAINER = DEPLOY / "Containerfile"


def test_hadolint_finds_nothing_wrong_with_the_container() -> None:
    hadolint = shutil.which("hadolint", path=Path(sys.executable).parent)
    assert hadolint is not None
    found = _run(hadolint, str(CONTAINER))
    assert (found.returncode, found.stdout) == (0, "")


def test_the_container_is_made_of_files_that_are_there_and_runs_as_nobody() -> None:
    steps = re.findall(r"^(COPY|USER|CMD) (.*)", CONTAINER.read_text(encoding="utf-8"), re.MULTILINE)
    copied = [words.split()[:-1] for step, words in steps if step == "COPY" and not words.startswith("--from")]
    assert [source for sources in copied for source in sources if not (ROOT / source).exists()] == []
    assert [words for step, words in steps if step == "USER"] == ["10001:10001"]


def test_the_container_has_the_versions_that_were_tested() -> None:
    pins = {
        part: dict(_PIN.findall((ROOT / "requirements" / f"{part}.txt").read_text())) for part in ("gateway", "dev")
    }
    assert {name: pins["dev"].get(name) for name in pins["gateway"]} == pins["gateway"]


# Kubernetes


@pytest.mark.parametrize("version", ["1.30", kubernetes.latest_version()])
@pytest.mark.parametrize("kind", MANIFEST)
def test_kubernetes_knows_every_field_of_the_manifest(kind: str, version: str) -> None:
    kubernetes.validate(MANIFEST[kind], version, strict=True)


def test_the_manifest_holds_together(tmp_path: Path) -> None:
    configuration = _load(CONFIGURED, tmp_path)
    deployment = MANIFEST["Deployment"]["spec"]
    labels = deployment["template"]["metadata"]["labels"]
    assert deployment["selector"]["matchLabels"] == labels
    assert MANIFEST["Service"]["spec"]["selector"] == labels
    assert MANIFEST["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels
    pod = deployment["template"]["spec"]
    (container,) = pod["containers"]
    (port,) = container["ports"]
    assert port == {"name": "http", "containerPort": configuration.port}
    assert [service["targetPort"] for service in MANIFEST["Service"]["spec"]["ports"]] == [port["name"]]
    assert [volume["configMap"]["name"] for volume in pod["volumes"]] == [MANIFEST["ConfigMap"]["metadata"]["name"]]
    assert [mount["mountPath"] for mount in container["volumeMounts"]] == ["/etc/turnwire"]
    probes = {name: container[name]["httpGet"] for name in ("startupProbe", "livenessProbe", "readinessProbe")}
    paths = {"startupProbe": "/healthz", "livenessProbe": "/healthz", "readinessProbe": "/readyz"}
    assert probes == {name: {"path": path, "port": port["name"]} for name, path in paths.items()}
    assert set(paths.values()) <= DESCRIPTION["paths"].keys()


def test_kubernetes_waits_longer_for_the_gateway_than_the_gateway_for_its_answers(tmp_path: Path) -> None:
    pod = MANIFEST["Deployment"]["spec"]["template"]["spec"]
    first = pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod["terminationGracePeriodSeconds"] >= first + _end_of(_load(CONFIGURED, tmp_path))


def test_the_pod_has_the_least_rights() -> None:
    pod = MANIFEST["Deployment"]["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": 10001,
        "runAsGroup": 10001,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert [container["securityContext"] for container in pod["containers"]] == [
        {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
    ]


# nginx


SITE = DEPLOY / "nginx.conf"
_nginx = pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not there")


def _nginx_configuration(folder: Path, authority: trustme.CA, changes: dict[str, str]) -> Path:
    """The site as nginx runs it as anybody: in a folder of its own, with a certificate for this machine."""
    issued = authority.issue_cert("localhost")
    key, certificate = folder / "site.key", folder / "site.pem"
    issued.private_key_pem.write_to_path(key)
    for pem in issued.cert_chain_pems:
        pem.write_to_path(certificate, append=True)
    shown = {"/etc/nginx/models.example.pem": str(certificate), "/etc/nginx/models.example.key": str(key), **changes}
    site = SITE.read_text(encoding="utf-8")
    for before, after in shown.items():
        assert before in site
        site = site.replace(before, after)
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    folders = "".join(f"{kind}_temp_path {folder}/{kind};\n" for kind in kinds)
    path = folder / "nginx.conf"
    process = f"pid {folder}/pid;\ndaemon off;\nmaster_process off;\nevents {{}}\n"
    path.write_text(f"{process}http {{\naccess_log off;\n{folders}{site}}}\n", encoding="utf-8")
    return path


@_nginx
def test_nginx_finds_nothing_wrong_with_its_configuration(tmp_path: Path) -> None:
    changes = {"listen 443 ssl": f"listen unix:{tmp_path}/socket ssl"}
    path = _nginx_configuration(tmp_path, trustme.CA(), changes)
    found = _run("nginx", "-t", "-q", "-e", "stderr", "-c", str(path))
    assert (found.returncode, found.stdout) == (0, "")


@asynccontextmanager
async def _site(folder: Path, *gateways: ServedGateway) -> AsyncIterator[tuple[str, Path]]:
    """nginx in front of two gateways: its address, and the certificate of its authority."""
    authority = trustme.CA()
    trusted = folder / "authority.pem"
    authority.cert_pem.write_to_path(trusted)
    servers = {
        f"server {shown};": f"server {urlsplit(gateway.base_url).netloc};"
        for shown, gateway in zip(("10.0.0.21:8088", "10.0.0.22:8088"), gateways, strict=True)
    }
    with socket.socket() as held:  # bound and not listening, it keeps the port for nginx, which shares it
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
        listening = {"listen 443 ssl": f"listen 127.0.0.1:{port} ssl reuseport"}
        path = _nginx_configuration(folder, authority, {**listening, **servers})
        process = await asyncio.create_subprocess_exec("nginx", "-e", str(folder / "errors"), "-c", str(path))
        try:
            async with asyncio.timeout(10):
                await _listens(port)
            yield f"https://localhost:{port}/v1", trusted
        finally:
            with suppress(ProcessLookupError):
                process.terminate()
            await process.wait()


async def _listens(port: int) -> None:
    """Returns once somebody listens there."""
    while True:
        with suppress(ConnectionRefusedError):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            await writer.wait_closed()
            return
        await asyncio.sleep(0.01)


@_nginx
@pytest.mark.parametrize("websocket", [False, True])
async def test_a_turn_goes_through_nginx_and_two_gateways_event_by_event(
    websocket: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TURN_TOKEN_SECRET", "s" * 32)
    secrets: dict[str, Any] = {"token_secrets_env": ("TURN_TOKEN_SECRET",)}
    async with AsyncExitStack() as stack:
        # Each replica answers twice; the second answer is held back in its midst, when its first words have gone out.
        script = [Turn(text="One."), Turn(text="Two. " * 40, fault=Stall(2000))]
        replicas = [await stack.enter_async_context(ScriptedServer(script)) for _ in range(2)]
        upstreams = [upstream_at(replica.base_url, name=f"gpu-{n}") for n, replica in enumerate(replicas)]
        gateways = [await stack.enter_async_context(serving(*upstreams, **secrets)) for _ in range(2)]
        url, trusted = await stack.enter_async_context(_site(tmp_path, *gateways))
        server = Provider("site", url, wire_api="responses", websocket=websocket, ca_file=trusted, open_timeout=5)
        async with ModelClient(server, model=MODEL) as client, client.new_session() as turn:
            said = [event async for event in turn.stream("Hi") if isinstance(event, OutputTextDelta)]
            async with turn.stream("And?") as stream:
                async for event in stream:
                    if isinstance(event, OutputTextDelta):
                        break
        assert "".join(event.delta for event in said) == "One."
        assert sorted(len(answered(replica)) for replica in replicas) == [0, 2]


# Alerts, and the expressions of the documents


ALERTS = DEPLOY / "alerts.yaml"
RULES = [rule for group in _documents(ALERTS)[0]["groups"] for rule in group["rules"]]
OPERATIONS = (DOCS / "operations.md").read_text(encoding="utf-8")
SHOWN_QUERIES = [
    query for cell in re.findall(r"^\| .* \| (`.*`) \|$", OPERATIONS, re.MULTILINE) for query in _CODE.findall(cell)
]


def _series() -> dict[str, set[str]]:
    """The labels of each series that can be asked for. What was not counted yet has no samples to tell them by."""
    registry = CollectorRegistry()
    Metrics(registry)
    known = {"up": set(_SCRAPED)}
    for collector in registry._collector_to_names:
        labels = {*collector._labelnames, *_SCRAPED}
        for family in collector.describe():
            suffixes = {"counter": ["_total"], "histogram": ["_bucket", "_count", "_sum"]}.get(family.type, [""])
            known |= {f"{family.name}{suffix}": labels for suffix in suffixes}
            known |= {f"{family.name}_bucket": {*labels, "le"}} if family.type == "histogram" else {}
    return known


SERIES = _series()


def _faults(query: str) -> list[str]:
    """What a query asks for and nobody counts; raises ValueError where it can't be read."""
    faults: list[str] = []

    def labels_in(expression: promql_parser.Expr) -> set[str]:
        """The labels that all series below have."""
        selectors: list[promql_parser.VectorSelector] = []

        def note(node: promql_parser.Expr) -> None:
            if isinstance(node, promql_parser.VectorSelector):
                selectors.append(node)

        promql_parser.walk(expression, note)
        return set.intersection(*(SERIES.get(str(selector.name), set()) for selector in selectors))

    def visit(node: promql_parser.Expr) -> None:
        if isinstance(node, promql_parser.VectorSelector):
            if node.name not in SERIES:
                faults.append(f"there is no series {node.name}")
                return
            asked = [matcher.name for matcher in node.matchers.matchers]
        elif isinstance(node, promql_parser.AggregateExpr) and node.modifier is not None:
            asked = node.modifier.labels
        else:
            return
        faults.extend(f"{node.prettify()} has no label {name}" for name in asked if name not in labels_in(node))

    promql_parser.walk(promql_parser.parse(query), visit)
    return faults


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_asks_for_what_is_counted(rule: dict[str, Any]) -> None:
    assert rule.keys() - {"for"} == {"alert", "expr", "labels", "annotations"}
    assert promql_parser.parse_duration(rule.get("for", "1m"))
    assert rule["labels"]["severity"] in {"page", "ticket"}
    assert _faults(rule["expr"]) == []
    shown = set(_LABEL_SHOWN.findall(rule["annotations"]["summary"]))
    kept = set(re.findall(r"\w+", " ".join(re.findall(r"by \(([^)]*)\)", rule["expr"])))) or _SCRAPED
    assert shown <= kept, "an aggregation drops all labels but those that it is by"


@pytest.mark.parametrize("query", SHOWN_QUERIES)
def test_a_query_of_the_document_asks_for_what_is_counted(query: str) -> None:
    assert _faults(query) == []


def test_a_query_for_what_nobody_counts_is_noticed() -> None:
    assert _faults('sum by (color) (rate(turnwire_answers_total{size="XL"}[5m])) > up * turnwire_nothing') == [
        'sum by (color) (rate(turnwire_answers_total{size="XL"}[5m])) has no label color',
        'turnwire_answers_total{size="XL"} has no label size',
        "there is no series turnwire_nothing",
    ]


def test_the_document_explains_each_alert() -> None:
    explained = dict(re.findall(r"^\| `(Turnwire\w+)`( \(page\))? \|", OPERATIONS, re.MULTILINE))
    assert explained == {rule["alert"]: " (page)" * (rule["labels"]["severity"] == "page") for rule in RULES}


def _end_of(configuration: GatewayConfiguration) -> float:
    """Seconds that a gateway may take from its first signal to its last word."""
    return configuration.drain_timeout + LAST_WORDS + _SPARE


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    """Runs a tool; what it says on either stream is its ``stdout``."""
    return subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8", timeout=60, check=False
    )
