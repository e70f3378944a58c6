"""Compensation: adjustment of the kept weights of an output projection for its removed inputs.

Output projections are the attention output and the MLP down projection. Both methods use moments of their inputs in the
dense model (:mod:`prunecast.models.moments`): the mean for a bias, the second moment for least squares.

Notation:
    K, D_out  inputs and outputs of a projection
    N         calibration tokens
    X         inputs of the projection in the dense model, shape (N, K)
    W, b      weight, shape (K, D_out), and bias, shape (D_out,), zero if there is none
    S, R      kept and removed inputs; of k kept ones, S comes before R in the order of the factorisation
    M         second moment X'X / N, shape (K, K)
    m         mean of the inputs, shape (K,)
    d         damping, in units of the mean of M's diagonal
    W', b'    compensated weight, shape (k, D_out), and bias, shape (D_out,)

The bias adds the mean contribution of the removed inputs (FLAP, arXiv 2312.11983, equation 7):

    b' = b + m_R W_R.

Least squares keeps the outputs of the projection close to those with all inputs, with t the mean of M's diagonal:

    minimise over W':  || X W - X_S W' ||^2 / N + d t || W' - W_S ||^2.

With the Cholesky factorisation L L' = M + d t I, where L_SS and L_RS are blocks of L, the solution is

    W' = W_S + L_SS^-T (L_RS' W_R).

In the elastic model's order of channels the kept inputs of an MLP are a leading block, and the Cholesky factor of a
leading block is the leading block of the factor: one factorisation of a layer serves every MLP width. The formula is
that of optimal brain surgeon (Hassibi and Stork, 1993) for a set of inputs removed at once.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

from prunecast.architecture.architecture import Layer
from prunecast.architecture.choices import Component
from prunecast.errors import ModelError
from prunecast.models.elastic import ElasticModel
from prunecast.models.moments import Moments
from prunecast.models.projections import Compensated, ShrinkingInput
from prunecast.models.units import where_float64_is

CACHE_BYTES = 2**30
"""Memory for Cholesky factors and solutions together; the least recently used are dropped and computed again."""

_MAX_DAMPING = 1.0
"""Damping above which a failed factorisation is not tried again."""


class FromMoments:
    """A :class:`prunecast.models.elastic.Compensation` by bias or least squares, solved on first use and cached.

    Args:
        elastic: the elastic model whose projections are compensated.
        moments: moments of the same model.
        method: ``bias`` or ``least-squares``.
        damping: damping of least squares, at least 0, in units of the mean of the second moment's diagonal. If the
            factorisation fails, it is repeated with ten times the damping, up to the first that exceeds 1.
    """

    def __init__(
        self, elastic: ElasticModel, moments: Moments, method: Literal["bias", "least-squares"], damping: float
    ) -> None:
        self._elastic, self._moments, self._damping = elastic, moments, damping
        self._dense = elastic.shape.dense
        methods = {"bias": ("bias", self._bias), "least-squares": ("weight", self._least_squares)}
        self._replaced, self._solve = methods[method]
        self._cache: OrderedDict[tuple[object, ...], Tensor] = OrderedDict()

    def of(self, layer: int, component: Component, kept: Layer) -> Compensated | None:
        """Compensated parameters of the output projection of ``component``, None if all of its inputs are kept.

        Raises ModelError if least squares has no solution, because activations of the dense model are not finite.
        """
        size = kept[:2] if component == "attention" else kept[2:]
        dense = self._dense.layers[layer]
        if size == (dense[:2] if component == "attention" else dense[2:]):
            return None
        module = self._elastic.layer(layer).inputs[component]
        solved = self._cached((layer, component, size), lambda: self._solve(layer, component, module, size))
        return Compensated(**{self._replaced: solved})

    def _bias(self, layer: int, component: Component, module: ShrinkingInput, size: Sequence[int]) -> Tensor:
        """Compensated bias b', shape (D_out,): FLAP's baseline bias (arXiv 2312.11983, equation 7)."""
        weight = module.weight.flatten(0, 1)
        _, removed = self._split(layer, module, size)
        mean = self._moments.mean(layer, component)[self._order(layer, component)].to(weight.device)
        bias = mean[removed] @ weight[removed].float()
        if module.bias is not None:
            bias = bias + module.bias.float()
        return bias.to(weight.dtype)

    def _least_squares(self, layer: int, component: Component, module: ShrinkingInput, size: Sequence[int]) -> Tensor:
        """Compensated weight W' by least squares, shape (k, D_out)."""
        weight = module.weight.flatten(0, 1)
        kept, removed = self._split(layer, module, size)
        if component == "mlp":
            factor = self._cached((layer,), lambda: self._factor(layer, component, torch.cat([kept, removed])))
        else:
            # No single order makes every pair of group and head counts a prefix, so each pair is factorised by itself.
            factor = self._factor(layer, component, torch.cat([kept, removed]))
        k = len(kept)
        projected = factor[k:, :k].T @ weight[removed].to(factor)
        correction = torch.linalg.solve_triangular(factor[:k, :k].T, projected, upper=True)
        solved: Tensor = (weight[kept].to(factor) + correction).to(weight.dtype)
        return solved

    def _split(self, layer: int, module: ShrinkingInput, size: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Positions of the kept and of the removed inputs, each in ascending order."""
        blocks, columns = module.weight.shape[:2]
        kept = torch.zeros(blocks, columns, dtype=torch.bool, device=module.weight.device)
        if len(size) == 1:
            kept[:, : size[0]] = True
        else:
            groups, heads = size
            kept[:groups, : columns // self._dense.layers[layer].heads_per_group * heads] = True
        return kept.flatten().nonzero().flatten(), (~kept).flatten().nonzero().flatten()

    def _factor(self, layer: int, component: Component, order: Tensor) -> Tensor:
        """Cholesky factor L of the damped second moment, float32 of shape (K, K), its inputs in ``order``.

        Factorised in float64. Raises ModelError if the factorisation fails at every damping.
        """
        device = self._elastic.layer(layer).inputs[component].weight.device
        second = where_float64_is(self._moments.second(layer, component).to(device))
        stock = self._order(layer, component).to(second.device)[order.to(second.device)]
        # Of a wide MLP it takes a gigabyte, so it is permuted before it is converted, and damped in place.
        moment = second[stock[:, None], stock].double()
        del second
        scale = moment.diagonal().mean().clamp(min=torch.finfo(torch.float32).tiny)
        diagonal = moment.diagonal().clone()
        damping = self._damping
        while True:
            moment.diagonal().copy_(diagonal + damping * scale)
            factor, failed = torch.linalg.cholesky_ex(moment)
            if not failed:
                lower: Tensor = factor.float().to(device)
                return lower
            if damping > _MAX_DAMPING:
                raise ModelError(
                    f"compensation: the second moment of the {component} inputs in layer {layer} has no Cholesky "
                    f"factor, even with damping {damping:g}; it has numbers that are not finite: set model.dtype to "
                    "float32, or pruner.compensate.method to none"
                )
            damping = max(damping * 10, 1e-8)

    def _order(self, layer: int, component: Component) -> Tensor:
        """Position in the stock model of every input of an output projection, int64 of shape (K,)."""
        return self._elastic.layer(layer).input_orders[component]

    def _cached(self, key: tuple[object, ...], solve: Callable[[], Tensor]) -> Tensor:
        if key in self._cache:
            self._cache.move_to_end(key)
            return self._cache[key]
        # A solution computed in inference mode could not take part in a later backward pass.
        with torch.inference_mode(mode=False), torch.no_grad():
            solved = solve()
        self._cache[key] = solved
        while len(self._cache) > 1 and self._bytes() > CACHE_BYTES:
            self._cache.popitem(last=False)
        return solved

    def _bytes(self) -> int:
        return sum(tensor.nbytes for tensor in self._cache.values())
