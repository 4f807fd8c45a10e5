"""Trust, and failures in the words of OpenSSL and the system."""

from __future__ import annotations

import os
import ssl
from pathlib import Path

from turnwire.errors import ConfigurationError

__all__ = ["reason", "tls_context"]


def tls_context(ca_file: Path | None) -> ssl.SSLContext | None:
    """What to trust: the certificates of a PEM file, or None for the system's.

    Raises `ConfigurationError` for a file that can't be used.
    """
    if ca_file is None:
        return None
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        raise ConfigurationError(f"ca_file {ca_file} can't be used: {reason(error)}") from error


def reason(error: Exception) -> str:
    """A failure in a few words; what asyncio adds to them only repeats the address."""
    match error:
        case ssl.SSLCertVerificationError():
            return error.verify_message.rstrip(".").lower()
        case ssl.SSLError(reason=str(words)):
            return words.replace("_", " ").lower()
        case OSError(errno=int(number)):
            return os.strerror(number).lower()
    return str(error)
