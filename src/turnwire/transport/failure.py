"""What is said of a connection that fails, in the same words whoever carries it."""

from __future__ import annotations

import socket
import ssl

from turnwire.errors import ApiError, ConnectError, ConnectTimeout, Disconnected, ProtocolError, TlsError
from turnwire.transport.tls import reason

__all__ = ["broken_off", "lost", "no_http", "not_opened"]


def not_opened(error: Exception, where: str) -> ApiError:
    """The typed error for a connection that could not be opened: of the system's, of TLS, or a timeout of ours."""
    match error:
        case TimeoutError(errno=None):
            return ConnectTimeout(f"no connection to {where} within open_timeout")
        case socket.gaierror() | UnicodeError():
            return ConnectError(f"can't find the host of {where} (check the base_url)")
        case ssl.SSLCertVerificationError():
            return TlsError(f"can't trust {where}: {reason(error)} (for a certificate of your own, set ca_file)")
        case ssl.SSLError():
            return TlsError(f"no TLS with {where}: {reason(error)} (is it plain http?)")
    return ConnectError(f"can't connect to {where}: {reason(error)}")


def lost(where: str) -> Disconnected:
    """A connection that was closed before the response's head was whole."""
    return Disconnected(f"the connection to {where} was lost before the response was whole")


def broken_off(where: str) -> Disconnected:
    """A body that came without its end."""
    return Disconnected(f"{where} broke off in the middle of its response")


def no_http(where: str, complaint: str) -> ProtocolError:
    """Bytes that are none of HTTP's; ``complaint`` is the parser's."""
    return ProtocolError(f"{where} did not answer in proper HTTP: {complaint[:1].lower()}{complaint[1:]}")
