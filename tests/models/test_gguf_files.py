"""GGUF files: split ones, odd names, folders, and families that are refused by the header."""

import os
import shutil
from pathlib import Path

import pytest
import torch
from saved_models import logits_of, write_gguf

from prunecast.errors import ModelError
from prunecast.models.described import described
from prunecast.models.fingerprint import count_parameters, fingerprint, tokenizer_digest
from prunecast.models.source import resolve_source
from prunecast.plugins.families import families_of
from prunecast.plugins.host import PluginHost

pytestmark = pytest.mark.usefixtures("cache")


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    return write_gguf(tmp_path / "whole.gguf")


@pytest.fixture
def parts(tmp_path: Path) -> list[Path]:
    (tmp_path / "parts").mkdir()
    write_gguf(tmp_path / "parts" / "tiny.gguf", tensors_a_file=8)
    return sorted((tmp_path / "parts").iterdir())


@pytest.mark.parametrize("named", [0, 1, -1])
def test_any_part_stands_for_all(whole: Path, parts: list[Path], named: int) -> None:
    assert len(parts) == 3
    one, split = resolve_source(str(whole)), resolve_source(str(parts[named]))
    assert split.fingerprint() == one.fingerprint()
    assert torch.equal(logits_of(split.load(torch.float32)), logits_of(one.load(torch.float32)))
    assert split.tokenizer().tokenize("ABC") == ["AB", "C"]


def test_parts_are_converted_to_the_weights_of_the_whole(parts: list[Path], whole: Path, cache: Path) -> None:
    """Conversions are named by content, so the cache is emptied between the two."""
    split = dict(resolve_source(str(parts[0])).load(torch.float32).named_parameters())
    shutil.rmtree(cache)
    for name, weight in resolve_source(str(whole)).load(torch.float32).named_parameters():
        assert torch.equal(weight, split[name])


def damage_unnoticed(file: Path) -> None:
    """Overwrite the header of a file that keeps its size, modification time and inode."""
    stat = file.stat()
    with file.open("r+b") as opened:
        opened.write(b"GGUF" + bytes(1000))
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def test_a_file_is_read_once_for_its_fingerprint_its_tokenizer_and_its_size(whole: Path, tmp_path: Path) -> None:
    other = Path(shutil.copy(whole, tmp_path / "other.gguf"))
    fingerprint(whole)
    damage_unnoticed(whole)
    assert tokenizer_digest(whole) == tokenizer_digest(other)
    assert count_parameters(whole) == sum(
        p.numel() for p in resolve_source(str(other)).load(torch.float32).parameters()
    )


def test_the_header_of_a_converted_file_is_not_read_again(whole: Path) -> None:
    layers = resolve_source(str(whole)).config().num_hidden_layers
    stat = whole.stat()
    damage_unnoticed(whole)
    assert resolve_source(str(whole)).config().num_hidden_layers == layers
    os.utime(whole, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    with pytest.raises(ModelError, match="not a readable GGUF file"):
        resolve_source(str(whole)).config()


def test_a_folder_of_parts_is_the_model(parts: list[Path], whole: Path) -> None:
    assert resolve_source(str(parts[0].parent)).fingerprint() == resolve_source(str(whole)).fingerprint()


def test_a_missing_part_is_named(parts: list[Path]) -> None:
    parts[1].unlink()
    with pytest.raises(
        ModelError, match=r"tiny-00002-of-00003.gguf: no such file, one of the 3 .*complete the download"
    ):
        resolve_source(str(parts[0]))


def test_a_part_that_is_a_pointer_is_named(parts: list[Path]) -> None:
    parts[2].write_text("version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 123\n")
    with pytest.raises(ModelError, match=r"tiny-00003-of-00003.gguf: a git-lfs pointer .*git lfs pull"):
        resolve_source(str(parts[0]))


@pytest.mark.parametrize("name", ["TINY.GGUF", "tiny.Gguf", "sha256-0123456789abcdef"])
def test_the_suffix_does_not_matter(whole: Path, name: str) -> None:
    expected = resolve_source(str(whole)).fingerprint()
    source = resolve_source(str(whole.rename(whole.with_name(name))))
    assert (source.kind, source.fingerprint()) == ("gguf", expected)
    assert source.load(torch.float32).config.num_hidden_layers == 2


def test_several_models_in_a_folder_are_named(tmp_path: Path) -> None:
    folder = tmp_path / "several"
    folder.mkdir()
    for name in ("tiny.Q4.gguf", "tiny.Q8.gguf"):
        write_gguf(folder / name)
    with pytest.raises(ModelError, match=r"several GGUF models \(tiny.Q4.gguf, tiny.Q8.gguf\); name one"):
        resolve_source(str(folder))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"<!DOCTYPE html>Entry not found", "an error page was saved"),
        (b"Entry not found", "an error page was saved"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
    ],
)
def test_what_is_no_model_is_named(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "tiny.gguf").write_bytes(content)
    with pytest.raises(ModelError, match=words) as caught:
        resolve_source(str(tmp_path / "tiny.gguf"))
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_gguf_is_told_to_be_one_of_a_folder(saved: Path) -> None:
    with pytest.raises(ModelError, match=r"model.safetensors is a file, and not a GGUF one; name the folder"):
        resolve_source(str(saved / "model.safetensors"))


def test_a_file_that_was_cut_off_is_named(whole: Path) -> None:
    whole.write_bytes(whole.read_bytes()[:20000])
    with pytest.raises(ModelError, match="cut off or damaged, 20,000 bytes long"):
        resolve_source(str(whole)).load(torch.float32)


def test_a_family_that_cannot_be_pruned_is_refused_before_the_file_is_converted(tmp_path: Path, cache: Path) -> None:
    """Also before it is hashed: for a model of 270 million parameters the two took a minute."""
    source = resolve_source(str(write_gguf(tmp_path / "other.gguf", architecture="mamba")))
    with pytest.raises(ModelError, match=r"type 'mamba' is not described, and cannot be detected: it has state space"):
        described(source, families_of(PluginHost.discover()))
    assert not (cache / "models").exists()
    assert not (cache / "fingerprints.json").exists()
