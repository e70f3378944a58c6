"""What the measured model says of a text: the numbers that written files are compared with.

Notation:
    T  tokens of a window
    V  size of the vocabulary
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from prunecast.plugins.exporter import Reference

if TYPE_CHECKING:
    from torch import Tensor

WINDOW, PROMPT, GENERATED = 512, 16, 32
"""Largest number of tokens of a window; tokens of the prompt of a greedy continuation, and of the continuation."""


def windows_of(reference: Reference) -> list[list[int]]:
    """The text in windows of equal length, each token ids of shape (T,); empty if it is too short for one to compare.

    Windows leave room in the context for the generated tokens, and begin as texts of the model do.
    """
    begin, tokens = list(reference.bos), list(reference.tokens)
    length = min(WINDOW - len(begin), reference.context - GENERATED - len(begin), len(tokens))
    if length < 2:
        return []
    return [begin + tokens[start : start + length] for start in range(0, len(tokens) - length + 1, length)]


def log_probabilities(reference: Reference, window: Sequence[int]) -> "Tensor":
    """Natural logarithms of the probabilities of the next token, float32 of shape (T - 1, V)."""
    import torch

    with torch.inference_mode():
        logits = reference.logits(torch.tensor([list(window)]))[0, :-1].float().cpu()
        return logits.log_softmax(-1)


def of_tokens(expected: "Tensor", window: Sequence[int]) -> list[float]:
    """Log-probabilities of the tokens of a window but the first, from those of :func:`log_probabilities`."""
    import torch

    values: list[float] = expected.gather(1, torch.tensor(list(window[1:]))[:, None])[:, 0].tolist()
    return values


def perplexity(log_probabilities: Sequence[float]) -> float:
    """Perplexity of tokens with these log-probabilities; infinite beyond the range of floats."""
    mean = -math.fsum(log_probabilities) / len(log_probabilities)
    return math.exp(mean) if mean < 700 else math.inf


def continued(reference: Reference, prompt: Sequence[int]) -> list[int]:
    """A prompt with its most probable continuation, token by token."""
    import torch

    tokens = list(prompt)
    with torch.inference_mode():
        for _ in range(GENERATED):
            tokens.append(int(reference.logits(torch.tensor([tokens]))[0, -1].argmax()))
    return tokens
