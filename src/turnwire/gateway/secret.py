"""The secrets that sign turn tokens: those that the environment holds, else one that is made once per user and kept."""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import platformdirs

from turnwire.errors import ConfigurationError

__all__ = ["token_secrets"]

_MIN_LENGTH = 32
"""Characters: a shorter secret might be guessed from a token, offline and for as long as it takes."""
_FILE_NAME = "gateway.secret"


def token_secrets(names: Sequence[str], folder: Path | None = None) -> tuple[str, ...]:
    """The secrets in the environment variables called so, in their order; without names, the one kept in a file.

    The first one signs, all of them count: to change the secret, put a new one in front and take the old one away once
    its tokens have expired. Several machines must be given the same ones. ``folder`` is the user's state folder
    otherwise. Raises `ConfigurationError`.
    """
    if names:
        return tuple(_from_environment(name) for name in names)
    return (_kept(folder or platformdirs.user_state_path("turnwire")),)


def _from_environment(name: str) -> str:
    value = os.environ.get(name, "")
    if len(value) < _MIN_LENGTH:
        found = f"has {len(value)} characters" if value else "is not set"
        raise ConfigurationError(
            f"token_secrets_env: {name} {found}, and a secret needs {_MIN_LENGTH} or more; "
            "`openssl rand -hex 32` makes one"
        )
    return value


def _kept(folder: Path) -> str:
    """The secret in the folder's file, made where there is none."""
    path = folder / _FILE_NAME
    try:
        if not path.exists():
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            _keep(secrets.token_urlsafe(_MIN_LENGTH), path)
        secret = path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise ConfigurationError(
            f"the secret that signs turn tokens can't be kept in {path}: {reason}; "
            "name an environment variable that holds one in token_secrets_env"
        ) from error
    if len(secret) < _MIN_LENGTH:
        raise ConfigurationError(f"{path} holds no secret of {_MIN_LENGTH} or more characters: remove the file")
    return secret


def _keep(secret: str, path: Path) -> None:
    """Writes the file, unless another process was faster: then its secret is the one for all.

    The file appears under its name when it is whole, so that nobody reads a part of it.
    """
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
            file.write(secret)
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            path.hardlink_to(draft)
    finally:
        draft.unlink(missing_ok=True)
