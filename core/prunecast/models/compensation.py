"""Compensation: the weights that stay make up for those that go.

Both ways need moments of what the output projections (attention output, MLP down) read in the dense model: the mean
for a bias, the second moment for least squares (:mod:`prunecast.models.moments`). Brought into the elastic model's
order, what an architecture keeps of an MLP is a leading block of them.

Least squares keeps the outputs of a projection near what they were before its inputs S were all that is left,

    minimise over W':  || X W - X_S W' ||^2 + d || W' - W_S ||^2,

with X the inputs (tokens, K), W the weight (K, D_out) and d the damping. With L L' = X'X + d I (Cholesky, K x K) and S
a leading block of size k, the solution is

    W' = W_S + L_kk^-T (L_rk' W_r),      r: the rows behind k,

because the Cholesky factor of a leading block is the leading block of the factor: one factorisation a layer serves
every width. The formula is that of optimal brain surgery (Hassibi and Stork, 1993) for a whole set of inputs at once.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

from prunecast.architecture.architecture import Layer
from prunecast.architecture.choices import Component
from prunecast.models.elastic import ElasticModel
from prunecast.models.moments import Moments
from prunecast.models.projections import Compensated, ShrinkingInput
from prunecast.models.units import where_float64_is

CACHE_BYTES = 2**30
"""Memory for Cholesky factors and solutions together; what was used longest ago is dropped and solved again."""

_MOST_DAMPING = 1.0


class FromMoments:
    """A :class:`prunecast.models.elastic.Compensation` by bias or least squares, solved when asked for.

    Args:
        elastic: the elastic model whose projections are compensated.
        moments: of the same model.
        method: ``bias`` or ``least-squares``.
        damping: at least 0, in units of the mean of the second moment's diagonal. Where the moment is singular and the
            damping too small to factorise, it is raised tenfold until it is not.
    """

    def __init__(
        self, elastic: ElasticModel, moments: Moments, method: Literal["bias", "least-squares"], damping: float
    ) -> None:
        self._moments, self._damping = moments, damping
        self._inputs = [layer.inputs for layer in elastic.layers]
        self._orders = [layer.input_orders for layer in elastic.layers]
        self._dense = elastic.shape.dense
        ways = {"bias": ("bias", self._bias), "least-squares": ("weight", self._least_squares)}
        self._replaced, self._solve = ways[method]
        self._cache: OrderedDict[tuple[object, ...], Tensor] = OrderedDict()

    def of(self, layer: int, component: Component, kept: Layer) -> Compensated | None:
        """Compensated numbers of one output projection, None if all of its inputs stay."""
        size = kept[:2] if component == "attention" else kept[2:]
        dense = self._dense.layers[layer]
        if size == (dense[:2] if component == "attention" else dense[2:]):
            return None
        module = self._inputs[layer][component]
        solved = self._remember((layer, component, size), lambda: self._solve(layer, component, module, size))
        return Compensated(**{self._replaced: solved})

    def _bias(self, layer: int, component: Component, module: ShrinkingInput, size: Sequence[int]) -> Tensor:
        """FLAP's baseline bias (arXiv 2312.11983, equation 7): what the removed inputs contributed on average."""
        weight = module.weight.flatten(0, 1)
        _, gone = self._split(layer, module, size)
        mean = self._moments.mean(layer, component)[self._orders[layer][component]].to(weight.device)
        bias = mean[gone] @ weight[gone].float()
        if module.bias is not None:
            bias = bias + module.bias.float()
        return bias.to(weight.dtype)

    def _least_squares(self, layer: int, component: Component, module: ShrinkingInput, size: Sequence[int]) -> Tensor:
        weight = module.weight.flatten(0, 1)
        stay, gone = self._split(layer, module, size)
        if component == "mlp":
            factor = self._remember((layer,), lambda: self._factor(layer, component, torch.cat([stay, gone])))
        else:
            # Pairs of group and head counts are not nested in one order, so each has a factorisation of its own.
            factor = self._factor(layer, component, torch.cat([stay, gone]))
        kept = len(stay)
        pushed = factor[kept:, :kept].T @ weight[gone].to(factor)
        correction = torch.linalg.solve_triangular(factor[:kept, :kept].T, pushed, upper=True)
        solved: Tensor = (weight[stay].to(factor) + correction).to(weight.dtype)
        return solved

    def _split(self, layer: int, module: ShrinkingInput, size: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Positions of the inputs that stay and of those that go, each in ascending order."""
        blocks, columns = module.weight.shape[:2]
        stay = torch.zeros(blocks, columns, dtype=torch.bool, device=module.weight.device)
        if len(size) == 1:
            stay[:, : size[0]] = True
        else:
            groups, heads = size
            stay[:groups, : columns // self._dense.layers[layer].heads_per_group * heads] = True
        return stay.flatten().nonzero().flatten(), (~stay).flatten().nonzero().flatten()

    def _factor(self, layer: int, component: Component, order: Tensor) -> Tensor:
        """Cholesky factor of the damped second moment with its inputs in ``order``; factorised in float64."""
        device = self._inputs[layer][component].weight.device
        second = where_float64_is(self._moments.second(layer, component).to(device))
        stock = self._orders[layer][component].to(second.device)[order.to(second.device)]
        moment = second.double()[stock][:, stock]
        scale = moment.diagonal().mean().clamp(min=torch.finfo(torch.float32).tiny)
        damping = self._damping
        while True:
            damped = moment + damping * scale * torch.eye(len(moment), dtype=moment.dtype, device=moment.device)
            factor, failed = torch.linalg.cholesky_ex(damped)
            if not failed or damping > _MOST_DAMPING:
                lower: Tensor = factor.float().to(device)
                return lower
            damping = max(damping * 10, 1e-8)

    def _remember(self, key: tuple[object, ...], solve: Callable[[], Tensor]) -> Tensor:
        if key in self._cache:
            self._cache.move_to_end(key)
            return self._cache[key]
        # Solved while measuring, a solution would be a tensor of inference mode, which no later gradient may pass.
        with torch.inference_mode(mode=False), torch.no_grad():
            solved = solve()
        self._cache[key] = solved
        while len(self._cache) > 1 and self._bytes() > CACHE_BYTES:
            self._cache.popitem(last=False)
        return solved

    def _bytes(self) -> int:
        return sum(tensor.nbytes for tensor in self._cache.values())
