"""Who calls: keys that clients show, of which only hashes are kept, and the rule for a gateway without any.

A key is told once, when it is made, and its hash stands in the configuration. Without a single key only this
machine is served, and not even all of that: a web page that its user happens to visit runs on this machine too.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
import secrets
from collections.abc import Iterable, Mapping
from functools import lru_cache
from urllib.parse import urlsplit

from msgspec import Struct

from turnwire.errors import ApiError, ConfigurationError

__all__ = ["Caller", "CallerKey", "Callers", "Unauthorized", "is_loopback", "key_hash", "make_key"]

_HASH = re.compile(r"sha256:[0-9a-f]{64}")
_FINGERPRINT = 16
"""Hexadecimal digits of a tenant: 64 bits, which no two keys of one gateway share by chance."""
_FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip")
_LOCAL_TENANT = "local"


class Unauthorized(ApiError):
    """A caller without a key that is known here: HTTP 401, with ``www-authenticate: Bearer``."""


class Caller(Struct, frozen=True):
    """Who sent a request; both may be logged."""

    name: str
    """The key's name in the configuration."""
    tenant: str
    """What separates one key's turns and stored answers from another's: a short fingerprint of the key's hash."""


class CallerKey(Struct, frozen=True):
    """A caller's name and the hash of its key, as ``turnwire key`` gives them; raises `ConfigurationError`."""

    name: str
    key_hash: str
    """``sha256:`` and 64 hexadecimal digits."""

    def __post_init__(self) -> None:
        if not (self.name and self.name.isprintable()):
            raise ConfigurationError(f"caller {self.name!r} needs a name that can be printed")
        if not _HASH.fullmatch(self.key_hash):
            # What stands there may well be the key itself, so it is not repeated.
            raise ConfigurationError(
                f"caller {self.name!r}: expected sha256: and 64 hexadecimal digits, as `turnwire key` gives them"
            )

    @property
    def caller(self) -> Caller:
        """Who shows this key."""
        return Caller(self.name, self.key_hash.removeprefix("sha256:")[:_FINGERPRINT])


class Callers:
    """All that may call. `identify` says who does, for each request."""

    def __init__(self, keys: Iterable[CallerKey]) -> None:
        self._keys = tuple(keys)

    def identify(self, headers: Mapping[str, str], client_host: str | None) -> Caller:
        """The caller of a request, by its headers (names in lower case) and its peer's address.

        A key comes as ``authorization: Bearer KEY``, ``api-key: KEY`` or ``x-api-key: KEY``; the first of them counts.
        Where no keys are configured, whatever a client sends as one is ignored, for Codex and the SDKs always send
        one. Raises `Unauthorized`.
        """
        if not self._keys:
            _require_local(headers, client_host)
            return Caller(_LOCAL_TENANT, _LOCAL_TENANT)
        key = _shown_key(headers)
        if key is None:
            raise Unauthorized("no API key came with the request: send one as authorization: Bearer KEY")
        shown = key_hash(key)
        found = None
        for known in self._keys:
            # All are compared, and each as a whole: the time taken says nothing of how near a guess was.
            if hmac.compare_digest(known.key_hash, shown):
                found = known
        if found is None:
            raise Unauthorized("the API key is not one of this gateway's: check it, or ask for one")
        return found.caller


def make_key() -> str:
    """A new key: ``tw-`` and 256 random bits."""
    return f"tw-{secrets.token_urlsafe(32)}"


def key_hash(key: str) -> str:
    """What is kept of a key.

    One round of SHA-256 and no salt, unlike for a password: nobody can guess 256 random bits, however fast the hash,
    and each request has to pay for it.
    """
    return f"sha256:{hashlib.sha256(key.encode()).hexdigest()}"


@lru_cache(maxsize=256)
def is_loopback(host: str) -> bool:
    """Whether an address or a name can only mean this machine."""
    if host == "localhost" or host.endswith(".localhost"):  # RFC 6761, section 6.3
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


def _shown_key(headers: Mapping[str, str]) -> str | None:
    scheme, _, key = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and key.strip():
        return key.strip()
    return headers.get("api-key") or headers.get("x-api-key") or None


def _require_local(headers: Mapping[str, str], client_host: str | None) -> None:
    """Refuses whoever is not a program of this machine that means this gateway."""
    if client_host is None or not is_loopback(client_host):
        raise _refusal(f"only this machine is served, not {client_host or 'an unknown one'}")
    for name in _FORWARDED:
        # A proxy on this machine makes everybody look local.
        if name in headers:
            raise _refusal(f"only this machine is served, and a proxy speaks for another ({name})")
    # A page whose own host name was pointed at this machine (DNS rebinding) gives that name away as the host, and any
    # other page where it comes from.
    for name in ("host", "origin"):
        value = headers.get(name)
        if value is not None and not _names_this_machine(value):
            raise _refusal(f"only this machine is served, by its own names, and {name} is {value!r}")


@lru_cache(maxsize=256)
def _names_this_machine(value: str) -> bool:
    """Whether a ``host`` or ``origin`` header can only mean this machine."""
    try:
        return is_loopback(urlsplit(value if "//" in value else f"//{value}").hostname or "")
    except ValueError:
        return False


def _refusal(reason: str) -> Unauthorized:
    return Unauthorized(
        f"{reason}: this gateway has no keys. Make one with `turnwire key`, configure its hash, and send the key"
    )
