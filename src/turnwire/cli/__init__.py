"""The command line, one file per command."""

import sys

__all__ = ["main"]


def main() -> None:
    """The entry point; what it needs beyond the library is imported here, so that its absence is one sentence."""
    try:
        from turnwire.cli.application import application
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("typer", "rich"):
            raise
        sys.stderr.write('error: the command line is an extra of turnwire: pip install "turnwire[cli]"\n')
        sys.exit(2)
    application(prog_name="turnwire")
