"""Secrets: those of the environment, in their order, or one that all processes of a user agree on."""

from __future__ import annotations

import stat
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

from turnwire.errors import ConfigurationError
from turnwire.gateway import secret
from turnwire.gateway.secret import token_secrets

NEW, OLD = "n" * 32, "o" * 64


def sentence(*names: str, folder: Path | None = None) -> str:
    with pytest.raises(ConfigurationError) as caught:
        token_secrets(names, folder)
    return str(caught.value)


def test_the_environment_s_secrets_come_in_the_order_of_their_names(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("NEW", NEW)
    monkeypatch.setenv("OLD", OLD)
    assert token_secrets(["NEW", "OLD"], tmp_path) == (NEW, OLD)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("value", "found"), [(None, "is not set"), ("", "is not set"), ("short", "has 5 characters")])
def test_a_secret_that_is_missing_or_short_is_refused_and_not_repeated(
    value: str | None, found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SET", NEW)
    if value is not None:
        monkeypatch.setenv("MY_SECRET", value)
    assert sentence("SET", "MY_SECRET") == (
        f"token_secrets_env: MY_SECRET {found}, and a secret needs 32 or more; `openssl rand -hex 32` makes one"
    )


def test_without_names_one_is_made_kept_and_found_again(tmp_path: Path) -> None:
    folder = tmp_path / "state" / "turnwire"
    (made,) = token_secrets([], folder)
    assert len(made) == 43
    assert token_secrets([], folder) == (made,)
    (path,) = folder.iterdir()
    assert path.read_text() == made
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_the_user_s_state_folder_keeps_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platformdirs.user_state_path", lambda name: tmp_path / name)
    (made,) = token_secrets([])
    assert (tmp_path / "turnwire" / "gateway.secret").read_text() == made


def _made(folder: Path) -> tuple[str, ...]:
    return token_secrets([], folder)


def test_processes_that_start_at_once_agree_on_one(tmp_path: Path) -> None:
    with ProcessPoolExecutor(4, mp_context=get_context("forkserver")) as processes:
        found = set(processes.map(_made, [tmp_path] * 16))
    assert len(found) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["gateway.secret"]


def test_who_was_slower_takes_the_other_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "gateway.secret"
    make = secret.secrets.token_urlsafe

    def overtaken(size: int) -> str:
        path.write_text(OLD)
        return make(size)

    monkeypatch.setattr(secret.secrets, "token_urlsafe", overtaken)
    assert token_secrets([], tmp_path) == (OLD,)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"short", "{path} holds no secret of 32 or more characters: remove the file"),
        (b"", "{path} holds no secret of 32 or more characters: remove the file"),
        (
            b"\xff" * 40,
            "the secret that signs turn tokens can't be kept in {path}: it is not text; "
            "name an environment variable that holds one in token_secrets_env",
        ),
    ],
)
def test_a_file_without_a_secret_is_refused(content: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "gateway.secret"
    path.write_bytes(content)
    assert sentence(folder=tmp_path) == words.format(path=path)


@pytest.mark.skipif(sys.platform == "win32", reason="files are no folders elsewhere")
def test_a_folder_that_can_t_be_made_is_one_sentence_with_a_way_out(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    folder = tmp_path / "file" / "turnwire"
    assert sentence(folder=folder) == (
        f"the secret that signs turn tokens can't be kept in {folder}/gateway.secret: Not a directory; "
        "name an environment variable that holds one in token_secrets_env"
    )
