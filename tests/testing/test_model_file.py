"""The scripted model's file: what tools/make_model.py writes is what is committed."""

from __future__ import annotations

import gzip
import importlib.util
import sys
from importlib.resources import files
from pathlib import Path
from types import ModuleType

import gguf
import pytest

ROOT = Path(__file__).parents[2]
COMMITTED = files("turnwire.testing").joinpath("models", "scripted.gguf.gz").read_bytes()


@pytest.fixture(scope="module")
def make_model() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_model", ROOT / "tools" / "make_model.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["make_model"] = module
    spec.loader.exec_module(module)
    return module


def test_the_generator_writes_the_committed_model(make_model: ModuleType, tmp_path: Path) -> None:
    make_model.write_model(tmp_path / "once.gz")
    # Not the packed bytes: another zlib packs the same model in its own way.
    assert gzip.decompress((tmp_path / "once.gz").read_bytes()) == gzip.decompress(COMMITTED)


def test_the_same_script_gives_the_same_bytes(make_model: ModuleType, tmp_path: Path) -> None:
    make_model.write_model(tmp_path / "once.gz")
    make_model.write_model(tmp_path / "twice.gz")
    assert (tmp_path / "once.gz").read_bytes() == (tmp_path / "twice.gz").read_bytes()


def test_the_packed_model_is_small_and_names_neither_time_nor_file() -> None:
    flags, mtime = COMMITTED[3], COMMITTED[4:8]
    assert (flags, mtime) == (0, bytes(4))
    assert len(COMMITTED) < 14_000


def test_no_token_is_in_the_vocabulary_twice(tmp_path: Path) -> None:
    model = tmp_path / "scripted.gguf"
    model.write_bytes(gzip.decompress(COMMITTED))
    tokens = gguf.GGUFReader(model).fields["tokenizer.ggml.tokens"].contents()
    assert len(tokens) == len(set(tokens))


def test_a_word_that_is_taken_joins_the_next_and_a_long_character_is_cut(make_model: ModuleType) -> None:
    byte = {character: number for number, character in enumerate(make_model.ALPHABET)}
    taken: set[str] = set()

    def cut(text: str) -> list[bytes]:
        return [bytes(byte[character] for character in token) for token in make_model.cut(text, taken)]

    assert [cut("<think>\nIt is 21 °C now"), cut("<think>\nIs it so? It is 21 °C"), cut("It is")] == [
        [b"<think>\n", b"It", b" is", b" 21 \xc2", b"\xb0C now"],
        [b"<think>\nIs", b" it", b" so", b"? It", b" is 21 \xc2", b"\xb0C"],
        [b"It is"],
    ]


def test_a_text_that_can_not_be_cut_into_tokens_of_its_own_is_refused(make_model: ModuleType) -> None:
    taken: set[str] = set()
    assert [make_model.cut("ha", taken), make_model.cut("ha ha", taken)] == [["ha"], ["haĠha"]]
    with pytest.raises(ValueError, match="the script says 'ha ha' too often"):
        make_model.cut("ha ha", taken)
