"""Perplexity of a text."""

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from prunecast.plugins import Loss, Measurement, Metric
from prunecast_plugins.evaluators.logits import differentiable_losses, next_token_losses
from prunecast_plugins.evaluators.naming import metric_name
from prunecast_plugins.evaluators.windows import TextEvaluator, WindowOptions, loss_of

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

PerplexityOptions = WindowOptions


class Perplexity(TextEvaluator):
    """Exponential of the mean next-token cross-entropy over non-overlapping windows of ``context`` tokens.

    The first token of each window is context only, so a window of T tokens gives T - 1 losses. A shorter last window is
    used too, unless it is a single token. With ``bos`` the model reads a beginning-of-sequence token in front of each
    window, on top of its T tokens. It is not predicted, nor is the first token after it, so the same tokens are
    predicted with it and without it. No other special tokens are added. The standard error is that of the mean over
    windows, multiplied by the perplexity (delta method).
    """

    title = "perplexity"

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """``DATASET.SPLIT.ppl``."""
        name = metric_name(self.options.dataset, self.options.split, "ppl")
        return (Metric(name, "minimize", "perplexity", "log"),)

    def evaluate(self, model: "PreTrainedModel") -> list[Measurement]:
        """Perplexity over all predicted tokens."""
        loss = self.mean([self._losses(model, ids) for ids in self.windows(model.device)])
        perplexity = _exp(loss.value)
        error = None if loss.error is None else perplexity * loss.error
        return [Measurement(self.metrics[0], perplexity, error, loss.tokens)]

    def losses(self, model: "PreTrainedModel", rng: np.random.Generator) -> "Iterator[Loss]":
        """Contribution of each batch to the mean cross-entropy, the logarithm of the perplexity."""
        windows = self.windows(model.device)
        tokens = self.predicted(windows)
        for ids in windows:
            hidden = self.hidden_states(model, ids).flatten(0, 1)
            losses = differentiable_losses(model, hidden, self.targets(ids).flatten())
            yield loss_of(model, hidden, losses, tokens, rng)

    def _losses(self, model: "PreTrainedModel", ids: "torch.Tensor") -> "torch.Tensor":
        """Cross-entropy of each predicted token, float32 of shape (B, T - 1)."""
        hidden = self.hidden_states(model, ids).flatten(0, 1)
        return next_token_losses(model, hidden, self.targets(ids).flatten()).view(len(ids), -1)


def _exp(loss: float) -> float:
    return math.exp(min(loss, 700.0))
