"""Tokenizers that are missing, incomplete, or not the model's: refused with the file or the token."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from prunecast.errors import ModelError
from prunecast.models.source import resolve_source

EMBEDDINGS = 400
SPECIAL = ("<s>", "</s>", "<unk>")
TEXT = "It was the best of times, it was the worst of times, it was the age of wisdom, it was the age of foolishness. "

Maker = Callable[..., Path]


@pytest.fixture(scope="module")
def trained() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([TEXT] * 9, trainer)
    return tokenizer


@pytest.fixture
def model(tiny_model: Callable[..., Any], tmp_path: Path) -> Maker:
    """Maker of a folder with the weights of a tiny model, and no tokenizer."""

    def make(family: str = "llama", embeddings: int = EMBEDDINGS) -> Path:
        folder = tmp_path / f"tiny-{family}"
        tiny_model(family, vocab_size=embeddings).save_pretrained(folder)
        return folder

    return make


def save(tokenizer: Tokenizer, folder: Path, added: tuple[str, ...] = (), **config: Any) -> None:
    made = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **dict(zip(ROLES, SPECIAL, strict=True)))
    made.add_tokens(list(added), special_tokens=True)
    made.save_pretrained(folder)
    edit(folder / "tokenizer_config.json", config)


ROLES = ("bos_token", "eos_token", "unk_token")


def edit(path: Path, changes: dict[str, Any]) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def refusal(folder: Path) -> str:
    with pytest.raises(ModelError) as caught:
        resolve_source(str(folder)).tokenizer()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("family", ["llama", "gpt2", "qwen2", "gemma2", "opt", "phi3"])
def test_a_folder_without_a_tokenizer_says_which_files_to_copy(family: str, model: Maker) -> None:
    found = refusal(model(family))
    assert "no complete tokenizer in" in found
    assert "there is none of its files: copy tokenizer.json" in found


@pytest.mark.parametrize(
    ("family", "files"),
    [
        ("llama", {"tokenizer_config.json": {"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>"}}),
        ("gemma2", {"tokenizer_config.json": {"tokenizer_class": "GemmaTokenizer"}, "special_tokens_map.json": {}}),
        ("qwen2", {"added_tokens.json": {"<|im_start|>": 5}}),
        ("gpt2", {"vocab.json": {"a": 0, "b": 1}}),
        ("opt", {"merges.txt": "#version: 0.2\na b"}),
    ],
)
def test_half_a_tokenizer_is_refused_with_the_files_that_are_there(
    family: str, files: dict[str, Any], model: Maker
) -> None:
    folder = model(family)
    for name, content in files.items():
        (folder / name).write_text(content if isinstance(content, str) else json.dumps(content))
    found = refusal(folder)
    assert "no complete tokenizer in" in found
    assert f"of its files there are only {', '.join(files)}: copy" in found


@pytest.mark.parametrize("lost", ["merges of tokenizer.json", "merges.txt"])
def test_a_tokenizer_that_lost_its_merges_is_refused(lost: str, model: Maker, trained: Tokenizer) -> None:
    folder = model("gpt2")
    content = json.loads(trained.to_str())
    if lost == "merges.txt":
        (folder / "vocab.json").write_text(json.dumps(content["model"]["vocab"]))
        (folder / lost).write_text("#version: 0.2\n")
    else:
        content["model"]["merges"] = []
        save(Tokenizer.from_str(json.dumps(content)), folder)
    assert "the merges are missing" in refusal(folder)


def test_a_complete_tokenizer_of_the_model_is_taken(model: Maker, trained: Tokenizer) -> None:
    folder = model()
    save(trained, folder)
    assert resolve_source(str(folder)).tokenizer().decode(trained.encode(TEXT).ids) == TEXT


def test_a_tokenizer_of_two_files_is_taken(model: Maker, trained: Tokenizer) -> None:
    folder = model("qwen2")
    content = json.loads(trained.to_str())["model"]
    (folder / "vocab.json").write_text(json.dumps(content["vocab"]))
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in content["merges"]]
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]))
    assert len(resolve_source(str(folder)).tokenizer()(TEXT)["input_ids"]) < len(TEXT) / 2


def test_a_vocabulary_larger_than_the_embeddings_is_refused_with_its_first_token(
    model: Maker, trained: Tokenizer
) -> None:
    folder = model(embeddings=290)
    save(trained, folder)
    first = trained.id_to_token(290)
    count = trained.get_vocab_size() - 290
    found = refusal(folder)
    assert f"has {count:,} tokens beyond the model's 290 embeddings, the first is {first!r} with id 290: use" in found
    assert f"resize_token_embeddings({trained.get_vocab_size()})" in found


@pytest.mark.parametrize(("added", "fits"), [(1, True), (2, False)])
def test_added_tokens_need_embeddings(added: int, fits: bool, model: Maker, trained: Tokenizer) -> None:
    size = trained.get_vocab_size()
    folder = model(embeddings=size + 1)
    save(trained, folder, added=("<|im_start|>", "<|im_end|>")[:added])
    if fits:
        assert len(resolve_source(str(folder)).tokenizer()) == size + 1
    else:
        assert f"the first is '<|im_end|>' with id {size + 1:,}" in refusal(folder)


def test_the_padding_token_needs_an_embedding_too(model: Maker, trained: Tokenizer) -> None:
    folder = model(embeddings=trained.get_vocab_size())
    save(trained, folder, added=("[PAD]",), pad_token="[PAD]")
    assert "the first is '[PAD]'" in refusal(folder)


def test_a_placeholder_of_images_needs_no_embedding(model: Maker, trained: Tokenizer) -> None:
    folder = model("gemma2", embeddings=trained.get_vocab_size())
    image = {"image_token": "<image_soft_token>"}
    save(trained, folder, added=("<image_soft_token>",), **image, extra_special_tokens=image)
    tokenizer = resolve_source(str(folder)).tokenizer()
    assert tokenizer.convert_tokens_to_ids("<image_soft_token>") == trained.get_vocab_size()


def test_tokens_that_only_transformers_adds_need_no_embedding(model: Maker, trained: Tokenizer) -> None:
    folder = model("gemma2", embeddings=trained.get_vocab_size())
    save(trained, folder, tokenizer_class="GemmaTokenizer")  # a class with a mask token of its own
    tokenizer = resolve_source(str(folder)).tokenizer()
    assert tokenizer.convert_tokens_to_ids("<mask>") >= trained.get_vocab_size()
