"""``python -m turnwire``: the same command line as ``turnwire``."""

from turnwire.cli import main

main()
