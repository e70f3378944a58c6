"""Checks of a tokenizer: that it is there, complete, and made for the model's embeddings.

transformers makes up a tokenizer where files are missing. It knows no text, and some of its special tokens may have no
embeddings.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from prunecast.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_VOCABULARIES = ("tokenizer.json", "*.model", "*.tiktoken", "tekken.json", "vocab.txt", "vocab.json")
"""Patterns of the files with a vocabulary; ``vocab.json`` needs ``merges.txt``."""

_OTHERS = ("merges.txt", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")

_ROLES = frozenset({"bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"})
"""Special tokens of text. The others, such as ``image_token``, stand for parts that a text model never reads."""

_TRIED = 100
"""Number of tokens that are turned into text and back."""


def check_tokenizer(
    tokenizer: "PreTrainedTokenizerBase", embeddings: int, name: str, folder: Path, files: Sequence[Path]
) -> None:
    """Raise ModelError if a tokenizer is made up, incomplete, or has tokens that the model has no embedding for.

    Placeholders of images and sound, which text models share with multimodal ones (Gemma 3), may have no embedding; so
    may special tokens that no file names and transformers adds.

    Args:
        tokenizer: the tokenizer as loaded.
        embeddings: number of embeddings of the model.
        name: name of the model, for the message.
        folder: where the tokenizer was read.
        files: files of the tokenizer that came with the model; none if transformers has written them.
    """
    vocabulary = tokenizer.get_vocab()
    # The tokenizers of mistral-common do not say which tokens were added.
    added = tokenizer.get_added_vocab() if hasattr(tokenizer, "get_added_vocab") else {}
    ordinary = vocabulary.keys() - set(tokenizer.all_special_tokens) - added.keys()
    if not ordinary:
        raise incomplete(name, folder)
    if not _is_merged(tokenizer, {token: vocabulary[token] for token in ordinary}):
        raise incomplete(name, folder, "text never becomes a token of several characters: the merges are missing")
    tolerated = {token for role, token in tokenizer.special_tokens_map.items() if role not in _ROLES}
    beyond = sorted((number, token) for token, number in vocabulary.items() if number >= embeddings)
    unfit = [
        (n, token) for n, token in beyond if token not in tolerated and (token in ordinary or _named(token, files))
    ]
    if unfit:
        (number, token), tokens = unfit[0], "token" if len(unfit) == 1 else "tokens"
        raise ModelError(
            f"model {name}: its tokenizer has {len(unfit):,} {tokens} beyond the model's {embeddings:,} embeddings, "
            f"the first is {token!r} with id {number:,}: use the tokenizer that the model was trained with, or give "
            f"the model embeddings for them (model.resize_token_embeddings({beyond[-1][0] + 1}))"
        )


def tokenizer_files(folder: Path) -> list[Path]:
    """Files of a tokenizer in a folder, those with a vocabulary first."""
    return [file for pattern in (*_VOCABULARIES, *_OTHERS) for file in sorted(folder.glob(pattern)) if file.is_file()]


def has_vocabulary(folder: Path) -> bool:
    """True if a folder has a file that holds the vocabulary of a stock tokenizer, and the one that belongs to it."""
    names = {file.name for file in tokenizer_files(folder)} - set(_OTHERS)
    return bool(names - {"vocab.json"}) or ("vocab.json" in names and (folder / "merges.txt").is_file())


def incomplete(name: str, folder: Path, reason: str = "") -> ModelError:
    """Error for a folder without a complete tokenizer, with the files of one that it has.

    Args:
        name: name of the model.
        folder: the folder.
        reason: reason that transformers gives, if any.
    """
    found = [file.name for file in tokenizer_files(folder)]
    has = f"of its files there are only {', '.join(found)}" if found else "there is none of its files"
    because = f" ({reason})" if reason else ""
    return ModelError(
        f"model {name}: no complete tokenizer in {folder}, {has}{because}: copy tokenizer.json (or tokenizer.model, or "
        "vocab.json and merges.txt) and tokenizer_config.json from the model it was made from"
    )


def _is_merged(tokenizer: "PreTrainedTokenizerBase", ordinary: Mapping[str, int]) -> bool:
    """False if text never becomes one of the tokens of several characters, although there are some.

    Args:
        tokenizer: the tokenizer.
        ordinary: ids of its tokens that are not special.
    """
    # Tokens such as <0x0A> are bytes, which stand for characters that are no tokens.
    longer = sorted(token for token in ordinary if len(token) > 3 and not token.startswith("<"))
    tried = [ordinary[token] for token in longer[:: max(1, len(longer) // _TRIED)]]
    return not tried or any(token in _ids(tokenizer, str(tokenizer.decode([token]))) for token in tried)


def _ids(tokenizer: "PreTrainedTokenizerBase", text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def _named(token: str, files: Sequence[Path]) -> bool:
    """True if one of the files names the token."""
    forms = {json.dumps(token, ensure_ascii=ascii_only) for ascii_only in (True, False)}
    texts = (file.read_text(encoding="utf-8", errors="replace") for file in files)
    return any(form in text for text in texts for form in forms)
