"""Importance of units by moments of the inputs of the output projections of attention and MLP.

Notation:
    N       number of tokens read so far
    K       number of inputs of the projection
    D_out   number of outputs of the projection
    X       inputs at all tokens, shape (N, K)
    m       mean of each input over tokens, shape (K,)
    S       sum of squared deviations of each input from its mean, shape (K,)
    W       weight of the projection, shape (D_out, K)

Var(X_j) = S_j / N and ||X_j||^2 = S_j + N m_j^2.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from prunecast.plugins import ByLayer, Family, LayerImportance, LayerParts, layers_of, where_float64_is

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn
    from transformers import PreTrainedModel

BATCH = 4
"""Number of calibration samples per forward pass."""

BY_LAYER = ByLayer(samples=BATCH)
"""How :func:`rank_by_inputs` reads its text."""


class InputMoments:
    """First and second moments of each input of a projection over all tokens read, in float64.

    Batches are merged as in Chan, Golub and LeVeque (1979), equation 2.1, which stays accurate if means are large.

    Attributes:
        count: number of tokens N.
        mean: shape (K,).
        deviations: sum of squared deviations from the mean, shape (K,).
    """

    def __init__(self, size: int, device: "torch.device") -> None:
        import torch

        self.count = 0
        self.mean = torch.zeros(size, dtype=torch.float64, device=device)
        self.deviations = torch.zeros_like(self.mean)

    def add(self, inputs: "Tensor") -> None:
        """Add inputs at further tokens, shape (..., K)."""
        import torch

        tokens = inputs.flatten(0, -2).double()
        variance, mean = torch.var_mean(tokens, 0, correction=0)
        count, shift = len(tokens), mean - self.mean
        total = self.count + count
        self.deviations += variance * count + shift.square() * (self.count * count / total)
        self.mean += shift * (count / total)
        self.count = total

    @property
    def variance(self) -> "Tensor":
        """Mean squared deviation from the mean, shape (K,)."""
        return self.deviations / self.count

    @property
    def norm(self) -> "Tensor":
        """Euclidean norm over all tokens, shape (K,)."""
        return (self.deviations + self.mean.square() * self.count).sqrt()


InputScore = Callable[["Tensor", InputMoments], "Tensor"]


def rank_by_inputs(
    model: "PreTrainedModel", family: Family, tokens: "Tensor", score: InputScore
) -> list[LayerImportance]:
    """Importance of every unit: the sum of a score over the inputs that it feeds to its output projection.

    A channel feeds one input to the MLP's down projection, a query head ``head_dim`` inputs to the attention's output
    projection; the importance of a KV group is the sum over its query heads. The model runs once over the text, without
    its head.

    Args:
        model: the dense model.
        family: locations of the projections of each layer.
        tokens: int64 of shape (samples, tokens), on the model's device.
        score: function from the weight (D_out, K) of a projection and the moments of its inputs to scores (K,).
    """
    import torch

    layers = list(layers_of(model, family))
    outputs = [projection.module for parts in layers for projection in parts.outputs]
    with torch.no_grad():
        with _recorded_moments(outputs) as moments:
            for batch in torch.split(tokens, BATCH):
                model.base_model(batch, use_cache=False)
        return [_layer_importance(parts, moments, score) for parts in layers]


@contextmanager
def _recorded_moments(projections: Iterable["nn.Module"]) -> Iterator[dict["nn.Module", InputMoments]]:
    """Moments of the inputs of each projection, recorded while the context is open."""
    moments: dict[nn.Module, InputMoments] = {}

    def record(projection: "nn.Module", inputs: tuple["Tensor", ...]) -> None:
        vectors = where_float64_is(inputs[0])
        if projection not in moments:
            moments[projection] = InputMoments(vectors.shape[-1], vectors.device)
        moments[projection].add(vectors)

    hooks = [projection.register_forward_pre_hook(record) for projection in projections]
    try:
        yield moments
    finally:
        for hook in hooks:
            hook.remove()


def _layer_importance(
    parts: LayerParts, moments: Mapping["nn.Module", InputMoments], score: InputScore
) -> LayerImportance:
    import torch

    groups, per_group, _ = parts.sizes
    attention, channels = (
        score(where_float64_is(projection.weight()), moments[projection.module])
        if projection in parts.outputs
        else torch.zeros(0)
        for projection in (parts.output, parts.down)
    )
    query_heads = attention.reshape(groups, per_group, parts.head_dim).sum(-1)
    return LayerImportance(
        kv_groups=query_heads.sum(-1).cpu().numpy(),
        query_heads=query_heads.cpu().numpy(),
        mlp_channels=channels.cpu().numpy(),
    )
