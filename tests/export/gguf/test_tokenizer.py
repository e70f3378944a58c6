"""Tokenizers in GGUF files: written, copied, refused; and what llama.cpp makes of them."""

import json
from pathlib import Path
from typing import Any

import pytest
from gguf_models import CONFIGS, SPECIAL, TEXTS, VOCABULARY, byte_tokenizer, engine_tokens, source_of, written
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from prunecast.errors import ExportError
from prunecast.export.gguf.pre_tokenizers import KNOWN, PROBE, recognised
from prunecast.export.gguf.tokenizer import padded, tokenizer_fields, written_fields
from prunecast.export.gguf.verify import engine_version
from prunecast.models.source import resolve_source

NAMES = [known.name for known in KNOWN]
OTHER = "Wörter wie Straßenbahn, 12 345 678 Dinge;\t\tx = y+1  // 'RE and 're it's\r\n\r\n 日本 ۱۲۳ 🤷🏽‍♀️  end"
needs_engine = pytest.mark.skipif(engine_version() is None, reason="xllamacpp is not installed")


def sentencepiece(prefix: bool) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    replace = normalizers.Replace(" ", "▁")
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), replace]) if prefix else replace
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    special = [*SPECIAL.values(), *(f"<0x{byte:02X}>" for byte in range(256))]
    english = [TEXTS[1], "The dog's 12 cats; it was 1814, he said."] * 4
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY + 80, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(english, trainer)
    content = json.loads(tokenizer.to_str())
    content["added_tokens"] = content["added_tokens"][: len(SPECIAL)]
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(content)), **SPECIAL)


def fast(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **SPECIAL)


@pytest.mark.parametrize("name", NAMES)
def test_every_known_pre_tokenizer_is_recognised_as_itself(name: str) -> None:
    known = next(each for each in KNOWN if each.name == name)
    assert recognised(known.built, known.ignores_merges) is known


@needs_engine
@pytest.mark.parametrize("name", NAMES)
def test_llama_cpp_splits_texts_as_the_tokenizer_does(name: str, tmp_path: Path) -> None:
    tokenizer = byte_tokenizer(name, VOCABULARY)
    for text in (PROBE, OTHER, "a b"):
        expected = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert engine_tokens(tmp_path, tokenizer, text) == expected
    assert written_fields(tokenizer, "it")["tokenizer.ggml.pre"] == name


@needs_engine
@pytest.mark.parametrize("prefix", [True, False])
def test_llama_cpp_splits_texts_as_sentencepiece_does(prefix: bool, tmp_path: Path) -> None:
    tokenizer = sentencepiece(prefix)
    fields = written_fields(tokenizer, "it")
    assert fields["tokenizer.ggml.model"] == "llama"
    assert fields["tokenizer.ggml.add_space_prefix"] is prefix
    for text in (TEXTS[1], OTHER, "  the  cat\n sat"):
        expected = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert engine_tokens(tmp_path, tokenizer, text) == expected


def test_embeddings_without_a_token_get_an_unused_one(tmp_path: Path) -> None:
    source = source_of(tmp_path, CONFIGS["llama"], byte_tokenizer(vocabulary=300))
    fields = padded(tokenizer_fields(source), VOCABULARY, "it")
    assert len(fields["tokenizer.ggml.tokens"]) == len(fields["tokenizer.ggml.token_type"]) == VOCABULARY
    assert fields["tokenizer.ggml.tokens"][-1] == f"[PAD{VOCABULARY - 1}]"
    assert fields["tokenizer.ggml.token_type"][-1] == 5


def test_more_tokens_than_embeddings_are_refused(tmp_path: Path) -> None:
    source = source_of(tmp_path, CONFIGS["llama"], byte_tokenizer(vocabulary=310))
    with pytest.raises(ExportError, match="has 10 tokens more than the model embeddings"):
        padded(tokenizer_fields(source), 300, "it")


def test_special_tokens_and_the_chat_template_are_written() -> None:
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = "{{ messages[0].content }}"
    fields = written_fields(tokenizer, "it")
    assert fields["tokenizer.chat_template"] == tokenizer.chat_template
    assert fields["tokenizer.ggml.bos_token_id"] == 0
    assert fields["tokenizer.ggml.eos_token_id"] == 1
    assert fields["tokenizer.ggml.unknown_token_id"] == 2
    assert not fields["tokenizer.ggml.add_bos_token"]
    assert fields["tokenizer.ggml.token_type"][:4] == [3, 3, 3, 1]


def test_the_fields_of_a_gguf_file_are_copied(tmp_path: Path) -> None:
    file, _ = written(tmp_path, "llama", "4x2+96*4")
    first = padded(tokenizer_fields(resolve_source(str(tmp_path / "model"))), VOCABULARY, "it")
    assert tokenizer_fields(resolve_source(str(file.path))) == first


def unsplit() -> Tokenizer:
    return Tokenizer(models.BPE(vocab={"a": 0, "<s>": 1, "</s>": 2, "<unk>": 3}, merges=[]))


def refused(kind: str) -> Any:
    if kind == "unigram":
        return Tokenizer(models.Unigram([("<unk>", 0.0), ("a", -1.0)], unk_id=0))
    tokenizer = unsplit()
    if kind == "split":
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Split(Regex(r"\w+|\W"), "isolated"), pre_tokenizers.ByteLevel(use_regex=False)]
        )
    if kind == "lowercase":
        tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.ByteLevel()
    return tokenizer


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("unigram", "its model is Unigram"),
        ("split", "splits texts like none of gpt-2"),
        ("none", "splits texts like none"),
        ("lowercase", "changes texts by Lowercase"),
    ],
)
def test_other_tokenizers_are_refused_in_one_line(kind: str, reason: str) -> None:
    with pytest.raises(ExportError, match=rf"^the tokenizer of it cannot be written as GGUF \(.*{reason}") as raised:
        written_fields(fast(refused(kind)), "it")
    assert "\n" not in str(raised.value)
