"""Proofs in the cache: found again for the same description, config and versions, and made again for any other."""

import json
import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest
from family_cases import GROUPED
from transformers import LlamaConfig

from prunecast.errors import ModelError
from prunecast.export.proof import kept
from prunecast.export.proof.kept import kept_proof, proven
from prunecast.models.families.family import Family

LLAMA = Family("llama")
CONFIG = LlamaConfig(**GROUPED)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PRUNECAST_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_proof_is_found_again(cache: Path) -> None:
    assert kept_proof(LLAMA, CONFIG) is None
    proof = proven(LLAMA, CONFIG)
    (file,) = (cache / "proofs").iterdir()
    written = file.stat().st_mtime_ns
    assert proven(LLAMA, CONFIG) == kept_proof(LLAMA, CONFIG) == proof
    assert file.stat().st_mtime_ns == written
    assert proven(LLAMA, CONFIG, again=True).comparisons == proof.comparisons
    assert file.stat().st_mtime_ns > written


def test_another_model_of_the_same_kind_has_the_same_proof_and_one_of_another_kind_has_not(cache: Path) -> None:
    proof = proven(LLAMA, CONFIG)
    deeper = LlamaConfig(**GROUPED, num_hidden_layers=24, vocab_size=49152, intermediate_size=1536)
    assert kept_proof(LLAMA, deeper) == proof
    assert kept_proof(LLAMA, LlamaConfig(**GROUPED, attention_bias=True)) is None
    assert kept_proof(replace(LLAMA, bos=True), CONFIG) is None


def test_another_version_of_transformers_has_not(monkeypatch: pytest.MonkeyPatch) -> None:
    proven(LLAMA, CONFIG)
    monkeypatch.setattr("transformers.__version__", "5.99.0")
    assert kept_proof(LLAMA, CONFIG) is None


def test_another_version_of_prunecast_has_not(monkeypatch: pytest.MonkeyPatch) -> None:
    proven(LLAMA, CONFIG)
    monkeypatch.setattr(kept, "version", lambda name: "99.0")
    assert kept_proof(LLAMA, CONFIG) is None


def test_a_proof_of_fewer_checks_is_none_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    proven(LLAMA, CONFIG)
    monkeypatch.setattr(kept, "CHECKS", kept.CHECKS[1:])
    assert kept_proof(LLAMA, CONFIG) is None


def test_a_failure_is_not_kept(cache: Path) -> None:
    for _ in range(2):
        with pytest.raises(ModelError, match="not described rightly"):
            proven(replace(LLAMA, follows={}), CONFIG)
    assert not list(cache.glob("proofs/*"))


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["", "{", "[]", json.dumps({"family": "llama"})])
def test_a_damaged_proof_is_made_again(cache: Path, damage: str) -> None:
    proven(LLAMA, CONFIG)
    (file,) = (cache / "proofs").iterdir()
    file.write_text(damage)
    assert kept_proof(LLAMA, CONFIG) is None
    assert proven(LLAMA, CONFIG) == kept_proof(LLAMA, CONFIG)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="the superuser may write everywhere")
def test_a_cache_that_cannot_be_written_is_no_failure(cache: Path) -> None:
    cache.mkdir()
    cache.chmod(stat.S_IRUSR | stat.S_IXUSR)
    assert proven(LLAMA, CONFIG).worst < 1e-9
    assert not list(cache.iterdir())


def test_a_file_in_the_place_of_the_cache_is_no_failure(cache: Path) -> None:
    cache.write_text("no folder")
    assert proven(LLAMA, CONFIG).worst < 1e-9
    assert cache.read_text() == "no folder"
