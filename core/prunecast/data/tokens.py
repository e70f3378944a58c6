"""Tokenisation of texts, always without special tokens.

A text that the tokenizer was not made for is an error: one that mostly becomes unknown tokens, or nothing at all.
"""

from collections.abc import Iterable, Sequence
from hashlib import blake2b
from itertools import chain, islice
from typing import TYPE_CHECKING

import numpy as np

from prunecast.errors import DataError
from prunecast.text import counted

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

_MARGIN = 256
"""Tokens before a truncation of the text that are discarded, as they may differ from those of the whole text. A
tokenizer looks about a word ahead, far less than this."""

_PROBED = 2000
"""Characters at the beginning of a text that are decoded again."""

_MOST_UNKNOWN = 0.5
"""Largest share of a text that may be unknown to the tokenizer."""


def tokenize_head(tokenizer: "PreTrainedTokenizerBase", text: str, tokens: int) -> "torch.LongTensor":
    """First ``tokens`` ids of a text, int64 of shape (tokens,), equal to those of the whole text tokenised at once.

    Only as much of the text as needed is tokenised.

    Raises:
        DataError: the text has fewer tokens, or is mostly unknown to the tokenizer; the message gives the numbers.
    """
    import torch

    characters = 8 * (tokens + _MARGIN)
    while True:
        ids = _ids(tokenizer, text[:characters])
        complete = characters >= len(text)
        if complete or len(ids) >= tokens + _MARGIN:
            break
        characters *= 2
    _check_known(tokenizer, [text], ids)
    _check_length(ids, tokens)
    return torch.LongTensor(ids[:tokens])


def tokenize_spread(tokenizer: "PreTrainedTokenizerBase", text: str, windows: int, context: int) -> "torch.LongTensor":
    """Windows of ``context`` tokens at equal distances; the first starts the text, the last ends it.

    Returns int64 of shape (windows x context,), one window after another.

    Raises:
        DataError: the text has fewer than windows x context tokens, or is mostly unknown to the tokenizer; the message
            gives the numbers.
    """
    import torch

    ids = _ids(tokenizer, text)
    _check_known(tokenizer, [text], ids)
    _check_length(ids, windows * context)
    starts = torch.linspace(0, len(ids) - context, windows, dtype=torch.float64).long().tolist()
    return torch.LongTensor([token for start in starts for token in ids[start : start + context]])


def sample_windows(
    tokenizer: "PreTrainedTokenizerBase", documents: list[str], samples: int, tokens: int, seed: int
) -> "torch.LongTensor":
    """Random windows of documents, int64 of shape (samples, tokens).

    Documents are visited in random order, each once before any is visited again. Each visit samples a window at a
    random position; documents shorter than ``tokens`` are skipped. The same arguments give the same windows.

    Raises:
        DataError: the documents of at least ``tokens`` tokens have fewer than ``samples`` x ``tokens`` tokens in total,
            or are mostly unknown to the tokenizer.
    """
    import torch

    rng = np.random.default_rng(seed)
    tokenised: dict[int, list[int]] = {}
    windows: list[list[int]] = []
    while len(windows) < samples:
        for number in rng.permutation(len(documents)).tolist():
            if number not in tokenised:
                tokenised[number] = _ids(tokenizer, documents[number])
            room = len(tokenised[number]) - tokens
            if room >= 0 and len(windows) < samples:
                start = int(rng.integers(room + 1))
                windows.append(tokenised[number][start : start + tokens])
        if len(windows) < samples:
            _check_known(tokenizer, documents, chain.from_iterable(tokenised.values()))
            _check_enough([len(ids) for ids in tokenised.values()], samples, tokens)
    _check_known(tokenizer, documents, chain.from_iterable(windows))
    return torch.LongTensor(windows)


def encode(tokenizer: "PreTrainedTokenizerBase", texts: Sequence[str]) -> list[list[int]]:
    """Token ids of each text.

    Raises:
        DataError: the texts together are mostly unknown to the tokenizer.
    """
    # verbose=False suppresses the warning about texts longer than the model's context, which callers report themselves.
    ids = list(tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]) if texts else []
    _check_known(tokenizer, texts, chain.from_iterable(ids))
    return ids


def check_embedded(tokenizer: "PreTrainedTokenizerBase", ids: Iterable[int], embeddings: int) -> None:
    """Raise DataError, naming the token, if an id is beyond the number of the model's embeddings."""
    beyond = next((token for token in ids if token >= embeddings), None)
    if beyond is not None:
        raise DataError(
            f"the text has the token {tokenizer.convert_ids_to_tokens(beyond)!r}, id {beyond:,}, and the model has "
            f"{embeddings:,} embeddings: take it out of the text, or use the tokenizer of the model"
        )


def content_hash(ids: "torch.Tensor") -> str:
    """Hash of token ids of any shape: BLAKE2b-16 of shape and little-endian int64 bytes, 32 hexadecimal digits."""
    values = np.ascontiguousarray(ids.cpu().numpy(), dtype="<i8")
    return blake2b(str(values.shape).encode() + values.tobytes(), digest_size=16).hexdigest()


def _check_length(ids: list[int], wanted: int) -> None:
    if len(ids) < wanted:
        raise DataError(f"text has {len(ids):,} tokens, {wanted:,} are wanted: ask for fewer, or choose a longer text")


def _ids(tokenizer: "PreTrainedTokenizerBase", text: str) -> list[int]:
    # verbose=False suppresses the warning about texts longer than the model's context, which is expected here.
    return list(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])


def _check_known(tokenizer: "PreTrainedTokenizerBase", texts: Iterable[str], ids: Iterable[int]) -> None:
    """Raise DataError if more than half of the ids are the unknown token, or of the text's beginning is lost."""
    counted = list(ids)
    unknown = counted.count(tokenizer.unk_token_id) / len(counted) if counted else 0.0
    share = max(unknown, _lost_share(tokenizer, texts))
    if share > _MOST_UNKNOWN:
        raise DataError(
            f"{share:.0%} of the text is unknown to the model's tokenizer: choose text that the model was made for, or "
            "give the model its own tokenizer"
        )


def _lost_share(tokenizer: "PreTrainedTokenizerBase", texts: Iterable[str]) -> float:
    """Share of the characters at the beginning of texts that their known tokens do not give back, white space aside.

    Some tokenizers leave out a character that they do not know, without a token for it.
    """
    text = "\n".join(islice(texts, _PROBED))[:_PROBED]
    known = [token for token in _ids(tokenizer, text) if token != tokenizer.unk_token_id]
    given, back = ("".join(characters.split()) for characters in (text, str(tokenizer.decode(known))))
    return 1 - len(back) / len(given) if given else 0.0


def _check_enough(lengths: list[int], samples: int, tokens: int) -> None:
    usable = [length for length in lengths if length >= tokens]
    if sum(usable) < samples * tokens:
        windows = f"{counted(samples, 'window')} of {counted(tokens, 'token')}"
        longest = max(lengths, default=0)
        raise DataError(
            f"wanted are {windows}; long enough are {len(usable):,} of {counted(len(lengths), 'document')}, with "
            f"{sum(usable):,} tokens in total (the longest has {longest:,}): "
            "ask for fewer or shorter windows, or choose another data set"
        )
