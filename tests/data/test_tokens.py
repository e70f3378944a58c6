"""Tokenisation, windows of tokens and content hashes."""

import random
from typing import TYPE_CHECKING

import pytest
import torch

from prunecast.data import (
    check_embedded,
    content_hash,
    encode,
    read_documents,
    read_text,
    sample_windows,
    tokenize_head,
    tokenize_spread,
)
from prunecast.errors import DataError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def byte_level_tokenizer() -> "PreTrainedTokenizerBase":
    """Byte-level BPE trained here, with a split into words first, as in GPT-2, Llama 3, Qwen and SmolLM."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=["<s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(read_documents("python-docs", "calibration")[:10], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>")


def sentence_tokenizer() -> "PreTrainedTokenizerBase":
    """BPE trained here over the whole text, with a start token and without any split, as in Llama 2."""
    from tokenizers import Tokenizer, models, normalizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=["<s>", "<unk>"], initial_alphabet=list("äöü日本é🙂"), show_progress=False
    )
    tokenizer.train_from_iterator(read_text("python-docs", "calibration")[:20_000].split("\n"), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", unk_token="<unk>")


@pytest.fixture(scope="module", params=[byte_level_tokenizer, sentence_tokenizer], ids=["bytes", "sentence"])
def tokenizer(request: pytest.FixtureRequest) -> "PreTrainedTokenizerBase":
    made: PreTrainedTokenizerBase = request.param()
    return made


def whole(tokenizer: "PreTrainedTokenizerBase", text: str) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


@pytest.mark.parametrize("tokens", [1, 2, 100, 1000, 5000])
def test_head_has_the_ids_of_the_whole_text(tokenizer: "PreTrainedTokenizerBase", tokens: int) -> None:
    text = read_text("python-docs", "test")
    assert tokenize_head(tokenizer, text, tokens).tolist() == whole(tokenizer, text)[:tokens]


@pytest.mark.parametrize("alphabet", ["ab", "a \n", "äöü \u0301", "日本語", "a1,. \t\n", "é🙂 x"])
def test_head_has_the_ids_of_the_whole_text_for_every_cut_position(
    tokenizer: "PreTrainedTokenizerBase", alphabet: str
) -> None:
    draw = random.Random(alphabet)
    text = "".join(draw.choice(alphabet) for _ in range(30_000))
    expected = whole(tokenizer, text)
    for tokens in (1, 50, 333, 1024):
        assert tokenize_head(tokenizer, text, tokens).tolist() == expected[:tokens]


def test_head_tokenises_only_what_it_needs(tokenizer: "PreTrainedTokenizerBase") -> None:
    seen = []

    class Watched:
        def __call__(self, text: str, **options: object) -> object:
            seen.append(len(text))
            return tokenizer(text, **options)

        def __getattr__(self, name: str) -> object:
            return getattr(tokenizer, name)

    tokenize_head(Watched(), read_text("python-docs", "calibration"), 100)  # type: ignore[arg-type]
    assert sum(seen) < 20_000


def test_head_is_int64_without_special_tokens() -> None:
    ids = tokenize_head(sentence_tokenizer(), "some text", 2)
    assert ids.dtype == torch.int64
    assert ids.shape == (2,)
    assert 0 not in ids


def test_short_text_error_reports_the_number_of_tokens(tokenizer: "PreTrainedTokenizerBase") -> None:
    there = len(whole(tokenizer, "a few words"))
    with pytest.raises(DataError, match=rf"text has {there} tokens, 5,000 are wanted"):
        tokenize_head(tokenizer, "a few words", 5000)


def test_text_of_exactly_the_wanted_length_is_enough(tokenizer: "PreTrainedTokenizerBase") -> None:
    ids = whole(tokenizer, "a few words")
    assert tokenize_head(tokenizer, "a few words", len(ids)).tolist() == ids


def test_windows_are_pieces_of_documents(tokenizer: "PreTrainedTokenizerBase") -> None:
    documents = read_documents("python-docs", "test")
    windows = sample_windows(tokenizer, documents, samples=8, tokens=32, seed=0)
    assert windows.shape == (8, 32)
    assert windows.dtype == torch.int64
    tokenised = [" ".join(map(str, ["", *whole(tokenizer, document), ""])) for document in documents]
    for window in windows.tolist():
        assert any(" ".join(map(str, ["", *window, ""])) in ids for ids in tokenised)


def test_windows_depend_on_the_seed_only(tokenizer: "PreTrainedTokenizerBase") -> None:
    documents = read_documents("python-docs", "test")
    first, again, other = (sample_windows(tokenizer, documents, 4, 64, seed) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_every_document_is_used_before_one_is_used_twice(tokenizer: "PreTrainedTokenizerBase") -> None:
    documents = [letter * 400 for letter in "abcd"]
    windows = sample_windows(tokenizer, documents, samples=4, tokens=3, seed=0)
    assert len({tuple(window) for window in windows.tolist()}) == 4


def test_document_of_window_length_is_one_whole_window(tokenizer: "PreTrainedTokenizerBase") -> None:
    ids = whole(tokenizer, "a few words")
    assert sample_windows(tokenizer, ["a few words", "a"], 1, len(ids), seed=0).tolist() == [ids]


def test_too_little_text_for_the_windows_is_refused(tokenizer: "PreTrainedTokenizerBase") -> None:
    with pytest.raises(DataError, match="documents"):
        sample_windows(tokenizer, ["a few words"] * 3, samples=10, tokens=4, seed=0)
    with pytest.raises(DataError, match="longest"):
        sample_windows(tokenizer, ["short"] * 1000, samples=1, tokens=100, seed=0)


def test_content_hash_is_the_stored_one() -> None:
    """A changed hash would make every metric in existing registries unreachable."""
    assert content_hash(torch.arange(6)) == "8c92265789e5ec7dc55340a2d4b0be30"


def test_content_hash_depends_on_values_and_shape_but_not_layout() -> None:
    ids = torch.arange(6)
    assert content_hash(ids) != content_hash(ids + 1)
    assert content_hash(ids) != content_hash(ids.view(2, 3))
    assert content_hash(ids.view(2, 3).T.contiguous().T) == content_hash(ids.view(2, 3))
    assert content_hash(ids.to(torch.int32)) == content_hash(ids)


@pytest.mark.parametrize("windows", [1, 2, 7, 30])
def test_windows_are_spread_from_the_first_token_to_the_last(
    tokenizer: "PreTrainedTokenizerBase", windows: int
) -> None:
    text = read_text("python-docs", "calibration")[:20_000]
    ids = whole(tokenizer, text)
    starts = [int(place * (len(ids) - 100) / max(windows - 1, 1)) for place in range(windows)]
    expected = [ids[start : start + 100] for start in starts]
    found = tokenize_spread(tokenizer, text, windows, 100)
    assert found.view(windows, 100).tolist() == expected
    assert windows == 1 or expected[-1] == ids[-100:]


def test_spread_windows_do_not_overlap_and_short_text_is_refused(tokenizer: "PreTrainedTokenizerBase") -> None:
    text = read_text("python-docs", "calibration")[:2_000]
    ids = whole(tokenizer, text)
    assert tokenize_spread(tokenizer, text, len(ids), 1).tolist() == ids
    with pytest.raises(DataError, match=r"^text has [\d,]+ tokens, [\d,]+ are wanted: ask for fewer"):
        tokenize_spread(tokenizer, text, len(ids) + 1, 1)


CHINESE = "天地玄黄宇宙洪荒"


def letters_tokenizer(unknown: str | None) -> "PreTrainedTokenizerBase":
    """One token per letter of English; others become ``unknown``, or nothing if that is None."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    known = [*"abcdefghijklmnopqrstuvwxyz .", *filter(None, [unknown])]
    vocabulary = {token: number for number, token in enumerate(known)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token=unknown))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "isolated")
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token=unknown)


@pytest.mark.parametrize("unknown", ["<unk>", None], ids=["unknown-token", "left-out"])
def test_a_text_that_is_mostly_unknown_is_an_error_with_the_share(unknown: str | None) -> None:
    tokenizer, text = letters_tokenizer(unknown), (CHINESE * 6 + "a few words. ") * 50
    for tokenise in (
        lambda: tokenize_head(tokenizer, text, 100),
        lambda: tokenize_spread(tokenizer, text, 4, 25),
        lambda: sample_windows(tokenizer, [text] * 3, 4, 25, seed=0),
        lambda: encode(tokenizer, [text, text]),
    ):
        with pytest.raises(DataError, match=r"^[89]\d% of the text is unknown to the model's tokenizer: choose text"):
            tokenise()


@pytest.mark.parametrize("unknown", ["<unk>", None], ids=["unknown-token", "left-out"])
def test_a_text_with_some_unknown_words_is_taken(unknown: str | None) -> None:
    tokenizer, text = letters_tokenizer(unknown), ("a few english words before " * 4 + CHINESE) * 50
    assert len(tokenize_head(tokenizer, text, 100)) == 100
    assert sample_windows(tokenizer, [text] * 3, 4, 25, seed=0).shape == (4, 25)
    assert len(encode(tokenizer, [text, "and none"])) == 2


def test_special_tokens_in_a_text_are_known(tokenizer: "PreTrainedTokenizerBase") -> None:
    assert tokenize_head(tokenizer, "<s>" * 200, 100).unique().numel() <= 2


def test_a_token_beyond_the_embeddings_is_named() -> None:
    tokenizer = letters_tokenizer("<unk>")
    tokenizer.add_tokens(["<image>"])
    beyond = len(tokenizer) - 1
    ids = tokenize_head(tokenizer, "a few <image> words", 10).tolist()
    with pytest.raises(DataError, match=f"has the token '<image>', id {beyond}, and the model has {beyond} embeddings"):
        check_embedded(tokenizer, ids, beyond)
    check_embedded(tokenizer, ids, beyond + 1)
