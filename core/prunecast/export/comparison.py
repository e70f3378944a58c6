"""Log-probabilities and a continuation of a text by the measured model, with which written files are compared.

Notation:
    T  tokens of a window
    P  positions in a window
    V  size of the vocabulary
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from prunecast.plugins.exporter import Reference

if TYPE_CHECKING:
    from torch import Tensor

WINDOW, PROMPT, GENERATED = 512, 16, 32
"""Largest number of tokens of a window; tokens of the prompt of a greedy continuation, and of the continuation."""

DETAILED = 64
"""Largest number of positions at which the probabilities of all tokens are kept."""


@dataclass(frozen=True)
class Expected:
    """Log-probabilities and a greedy continuation of a text by the measured model.

    Attributes:
        windows: the text, token ids of shape (T,) each.
        of_tokens: log-probabilities of the tokens of each window but the first.
        detailed: log-probabilities of all tokens at the first positions of the first window, float32 of shape (P, V), P
            at most :data:`DETAILED`.
        prompt: the first tokens of the first window.
        greedy: their most probable continuation.
    """

    windows: Sequence[Sequence[int]]
    of_tokens: Sequence[Sequence[float]]
    detailed: "Tensor"
    prompt: Sequence[int]
    greedy: Sequence[int]


_KNOWN: WeakKeyDictionary[Reference, Expected | None] = WeakKeyDictionary()
"""Results by reference, for as long as it exists: the targets of an export share one."""


def windows_of(reference: Reference) -> list[list[int]]:
    """The text in windows of equal length, each token ids of shape (T,); empty if it is too short for a window.

    Windows leave room in the context for the generated tokens, and begin as texts of the model do.
    """
    begin, tokens = list(reference.bos), list(reference.tokens)
    length = min(WINDOW - len(begin), reference.context - GENERATED - len(begin), len(tokens))
    if length < 2:
        return []
    return [begin + tokens[start : start + length] for start in range(0, len(tokens) - length + 1, length)]


def expected_of(reference: Reference) -> Expected | None:
    """Results of a reference on its text, computed once; None if the text is too short."""
    if reference not in _KNOWN:
        windows = windows_of(reference)
        _KNOWN[reference] = _computed(reference, windows) if windows else None
    return _KNOWN[reference]


def _computed(reference: Reference, windows: list[list[int]]) -> Expected:
    first = _log_probabilities(reference, windows[0])
    others = (_of_tokens(_log_probabilities(reference, window), window) for window in windows[1:])
    of_tokens = [_of_tokens(first, windows[0]), *others]
    prompt = windows[0][:PROMPT]
    return Expected(windows, of_tokens, first[:DETAILED].clone(), prompt, _continued(reference, prompt))


def _log_probabilities(reference: Reference, window: Sequence[int]) -> "Tensor":
    """Natural logarithms of the probabilities of the next token, float32 of shape (T - 1, V)."""
    import torch

    with torch.inference_mode():
        logits = reference.logits(torch.tensor([list(window)]))[0, :-1].float().cpu()
        return logits.log_softmax(-1)


def _of_tokens(expected: "Tensor", window: Sequence[int]) -> list[float]:
    """Log-probabilities of the tokens of a window but the first, from those of all tokens."""
    import torch

    values: list[float] = expected.gather(1, torch.tensor(list(window[1:]))[:, None])[:, 0].tolist()
    return values


def perplexity(log_probabilities: Sequence[float]) -> float:
    """Perplexity of tokens with these log-probabilities; infinite beyond the range of floats."""
    mean = -math.fsum(log_probabilities) / len(log_probabilities)
    return math.exp(mean) if mean < 700 else math.inf


def _continued(reference: Reference, prompt: Sequence[int]) -> list[int]:
    """The most probable continuation of a prompt, token by token."""
    import torch

    tokens = list(prompt)
    with torch.inference_mode():
        for _ in range(GENERATED):
            tokens.append(int(reference.logits(torch.tensor([tokens]))[0, -1].argmax()))
    return tokens[len(prompt) :]
