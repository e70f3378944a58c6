"""Divergence of a pruned model from the dense one."""

from typing import TYPE_CHECKING

from prunecast.errors import EvaluationError
from prunecast.interfaces import Measurement, Metric
from prunecast_plugins.evaluators.logits import divergences
from prunecast_plugins.evaluators.naming import metric_name
from prunecast_plugins.evaluators.windows import TextEvaluator, WindowOptions, hidden_states

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

KLOptions = WindowOptions


class KL(TextEvaluator):
    """Mean over tokens of KL(dense || pruned), the divergence of the next-token distributions, in nats.

    The windows are those of ``perplexity``. Of the dense model only the final hidden states are kept, ``tokens`` x D
    numbers in its dtype; its logits are made again from them, a few rows at a time, by the output embedding, which
    pruning leaves alone. The dense model's own divergence is 0. The standard error is that of the mean over windows.

    The scale is linear: like the logarithm of a perplexity, and unlike the perplexity, the divergence is in nats
    already; and its own logarithm does not exist for the dense model.
    """

    title = "kl"

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """``DATASET.SPLIT.kl``."""
        return (Metric(metric_name(self.options.dataset, self.options.split, "kl"), "minimize", "nats"),)

    def observe_dense(self, model: "PreTrainedModel") -> None:
        """Keep the final hidden states of all windows, on the model's device."""
        self._dense = [hidden_states(model, ids) for ids in self.windows(model.device)]

    def evaluate(self, model: "PreTrainedModel") -> list[Measurement]:
        """Mean over all predicted tokens. Raises EvaluationError unless the dense model was observed before."""
        if not hasattr(self, "_dense"):
            raise EvaluationError(f"kl on {self.options.dataset}: no dense model to compare with; call observe_dense")
        pairs = zip(self._dense, self.windows(model.device), strict=True)
        divergence = self.mean([_of_batch(model, dense, hidden_states(model, ids)) for dense, ids in pairs])
        return [Measurement(self.metrics[0], *divergence)]


def _of_batch(model: "PreTrainedModel", dense: "torch.Tensor", pruned: "torch.Tensor") -> "torch.Tensor":
    """KL(dense || pruned) of each token, float32 of shape (B, T - 1), from hidden states (B, T - 1, D)."""
    return divergences(model, dense.flatten(0, 1), pruned.flatten(0, 1)).view(dense.shape[:2])
