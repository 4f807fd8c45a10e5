"""Why something failed, as the log may tell it."""

from __future__ import annotations

from turnwire.errors import ApiError, ConfigurationError, HttpStatusError, StreamError, TransportError

__all__ = ["reason"]

_OWN_SENTENCES = (ConfigurationError, StreamError, TransportError)
"""Errors that no upstream has words for."""


def reason(error: ApiError, *, own: bool = False) -> str:
    """An error in our own words alone: an upstream's may repeat the prompt, which is not for the log.

    ``own`` says that it is the gateway's error whatever its kind.
    """
    kind = type(error).__name__
    if isinstance(error, HttpStatusError):
        return f"{kind} {error.status}"
    return f"{kind}: {error}" if own or isinstance(error, _OWN_SENTENCES) else kind
