from __future__ import annotations

import ssl
from pathlib import Path

import pytest
import trustme

from tests.transport.sending import Kind
from turnwire.transport.direct import DirectTransport
from turnwire.transport.http import HttpTransport


@pytest.fixture(params=[HttpTransport, DirectTransport], ids=["aiohttp", "direct"])
def kind(request: pytest.FixtureRequest) -> Kind:
    """What holds for one transport holds for the other."""
    kind: Kind = request.param
    return kind


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> Path:
    file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(file)
    return file


@pytest.fixture
def tls(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context
