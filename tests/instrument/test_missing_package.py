"""An adapter whose package is not installed says so, in one sentence."""

from __future__ import annotations

import sys
from importlib import import_module

import pytest

from turnwire.errors import ConfigurationError
from turnwire.instrument import missing_package


@pytest.mark.parametrize(
    ("adapter", "package", "missing"),
    [
        ("turnwire.instrument.opentelemetry", "opentelemetry", "opentelemetry.metrics"),
        ("turnwire.instrument.prometheus", "prometheus_client", "prometheus_client"),
    ],
)
def test_a_missing_package_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, adapter: str, package: str, missing: str
) -> None:
    monkeypatch.delitem(sys.modules, adapter, raising=False)
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ConfigurationError) as raised:
        import_module(adapter)
    assert str(raised.value) == (
        f'{package} is missing, which is an extra of turnwire: pip install "turnwire[telemetry]"'
    )


def test_an_import_that_fails_inside_a_package_stays_what_it_is() -> None:
    error = ModuleNotFoundError("No module named 'elsewhere'", name="elsewhere")
    assert missing_package(error, "prometheus_client") is error
