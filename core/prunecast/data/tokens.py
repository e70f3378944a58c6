"""Tokenisation of texts, always without special tokens."""

from hashlib import blake2b
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


def tokenize_head(tokenizer: "PreTrainedTokenizerBase", text: str, tokens: int) -> "torch.LongTensor":
    """First ``tokens`` ids of a text, int64 of shape (tokens,), equal to those of the whole text tokenised at once.

    Only as much of the text as needed is tokenised.

    Raises:
        DataError: the text has fewer tokens; the message gives their number.
    """
    import torch

    characters = 8 * (tokens + _MARGIN)
    while True:
        ids = _ids(tokenizer, text[:characters])
        complete = characters >= len(text)
        if complete or len(ids) >= tokens + _MARGIN:
            break
        characters *= 2
    _check_length(ids, tokens)
    return torch.LongTensor(ids[:tokens])


def tokenize_spread(tokenizer: "PreTrainedTokenizerBase", text: str, windows: int, context: int) -> "torch.LongTensor":
    """Windows of ``context`` tokens at equal distances; the first starts the text, the last ends it.

    Returns int64 of shape (windows x context,), one window after another.

    Raises:
        DataError: the text has fewer than windows x context tokens; the message gives their number.
    """
    import torch

    ids = _ids(tokenizer, text)
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
        DataError: the documents of at least ``tokens`` tokens have fewer than ``samples`` x ``tokens`` tokens in total.
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
            _check_enough([len(ids) for ids in tokenised.values()], samples, tokens)
    return torch.LongTensor(windows)


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
