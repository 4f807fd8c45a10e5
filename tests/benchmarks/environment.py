"""What a benchmark is run with."""

import os

__all__ = ["uncovered"]


def uncovered() -> dict[str, str]:
    """This environment without what has coverage follow a process: benchmarks count nothing there, and are slowed."""
    return {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
