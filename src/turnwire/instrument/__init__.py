"""Adapters from the telemetry hooks to what operators look at: `.opentelemetry` and `.prometheus`.

Both are extras: ``pip install "turnwire[telemetry]"``.
"""

from __future__ import annotations

from turnwire.errors import ConfigurationError

__all__ = ["missing_package"]


def missing_package(error: ModuleNotFoundError, package: str) -> ModuleNotFoundError | ConfigurationError:
    """What to raise for an import that failed: one sentence where the package itself is what is not installed."""
    if (error.name or "").partition(".")[0] != package:
        return error
    return ConfigurationError(f'{package} is missing, which is an extra of turnwire: pip install "turnwire[telemetry]"')
