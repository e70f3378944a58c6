"""Kullback-Leibler divergence of a pruned model from the dense one."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from prunecast.plugins import EvaluationError, Loss, Measurement, Metric
from prunecast_plugins.evaluators.logits import CappedDivergence, LinearDivergence, divergence_from
from prunecast_plugins.evaluators.naming import metric_name
from prunecast_plugins.evaluators.windows import TextEvaluator, WindowOptions, loss_of

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

KLOptions = WindowOptions


class KL(TextEvaluator):
    """Mean over tokens of KL(dense || pruned), the divergence between the next-token distributions, in nats.

    The windows are those of ``perplexity``. Logits of the dense model are not stored: its output embedding is linear
    and not pruned, so ``tokens`` x D float32 numbers are enough to compute the divergence. If logits are soft-capped,
    its final hidden states are stored instead. The divergence of the dense model is 0. The standard error is that of
    the mean over windows.

    The scale of the metric is linear: like the logarithm of a perplexity, the divergence is in nats already, and its
    own logarithm is undefined for the dense model.
    """

    title = "kl"

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """``DATASET.SPLIT.kl``."""
        return (Metric(metric_name(self.options.dataset, self.options.split, "kl"), "minimize", "nats"),)

    def observe_dense(self, model: "PreTrainedModel") -> None:
        """Compute the dense model's part of the divergence for all windows, and keep it on the model's device."""
        windows = self.windows(model.device)
        self._divergence = divergence_from(model, (self.hidden_states(model, ids).flatten(0, 1) for ids in windows))

    def evaluate(self, model: "PreTrainedModel") -> list[Measurement]:
        """Mean over all predicted tokens. Raises EvaluationError if ``observe_dense`` was not called before."""
        if not hasattr(self, "_divergence"):
            raise EvaluationError(f"kl on {self.options.dataset}: the dense model is unknown; call observe_dense first")
        parts = [
            divergence(self.hidden_states(model, ids).flatten(0, 1)).view(len(ids), -1)
            for divergence, ids in self._batches(model)
        ]
        return [Measurement(self.metrics[0], *self.mean(parts))]

    def losses(self, model: "PreTrainedModel", rng: np.random.Generator) -> "Iterator[Loss]":
        """Contribution of each batch to the mean over all predicted tokens."""
        tokens = self.predicted(self.windows(model.device))
        for divergence, ids in self._batches(model):
            hidden = self.hidden_states(model, ids).flatten(0, 1)
            yield loss_of(model, hidden, divergence.differentiable(hidden), tokens, rng)

    def _batches(
        self, model: "PreTrainedModel"
    ) -> "Iterator[tuple[LinearDivergence | CappedDivergence, torch.Tensor]]":
        """Each batch of windows with the divergence there; they may be smaller than in ``observe_dense``."""
        start = 0
        for ids in self.windows(model.device):
            stop = start + self.targets(ids).numel()
            yield self._divergence.at(slice(start, stop)), ids
            start = stop
