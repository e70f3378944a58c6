"""Logits, next-token losses and divergences from final hidden states, in blocks of rows and of the vocabulary.

Notation:
    N       number of rows, each a position in a text
    D, V    hidden size of the model, size of its vocabulary
    h       final hidden states of the model that is evaluated, shape (N, D)
    w_v     row of the weight of the output embedding (head) for token v, shape (D,)
    s, c    scale of logits, and bound of their soft cap c tanh(x / c), in models that have one (Gemma 2)
    b       logits of the evaluated model, s times h . w_v plus the head's bias, soft-capped; shape (N, V)
    q       its predictions, softmax(b), shape (N, V)
    a, p    logits of the dense model, and its predictions softmax(a), both (N, V)
    y       labels: the next tokens of the text, or tokens drawn from q; int64 of shape (N,)

The log-partition of logits b is log sum_v exp b_v. The loss of a label is the log-partition minus b_y, and the
divergence from the dense model is

    KL(p || q) = sum_v p_v (a_v - b_v) - log sum_v exp a_v + log sum_v exp b_v.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Self

import numpy as np

from prunecast.plugins import head_of, logits_of

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

LOGIT_ROWS = 1024
"""Number of rows whose logits are computed together."""

GRADIENT_ROWS = 256
"""Number of rows whose logits are in memory at once when gradients are computed."""

DRAWS = 3
"""Number of labels drawn in each row for an estimate of the curvature."""

LOGIT_COLUMNS = 3072
"""Number of tokens of the vocabulary whose logits are in memory at once. With ``LOGIT_ROWS`` rows they take 12 MB in
float32, which fit in the cache of a CPU; the logits of the whole vocabulary would not."""


def logit_parts(model: "PreTrainedModel", hidden: "torch.Tensor") -> "Iterator[tuple[int, torch.Tensor]]":
    """The logits of :func:`prunecast.plugins.logits_of` in consecutive parts of the vocabulary.

    Args:
        model: a causal language model whose head is a linear layer.
        hidden: final hidden states of shape (N, D), N at most ``LOGIT_ROWS``, in the model's dtype.

    Yields:
        The first token of the part, and its logits, float32 of shape (N, at most ``LOGIT_COLUMNS``).
    """
    head = head_of(model)
    for start in range(0, len(head.weight), LOGIT_COLUMNS):
        yield start, head.logits(hidden, slice(start, start + LOGIT_COLUMNS))


def next_token_losses(model: "PreTrainedModel", hidden: "torch.Tensor", targets: "torch.Tensor") -> "torch.Tensor":
    """Negative log-likelihood of the next token at each hidden state, in nats.

    Args:
        model: a causal language model.
        hidden: final hidden states of shape (N, D), in the model's dtype.
        targets: ids of the next tokens, int64 of shape (N,).

    Returns:
        float32 of shape (N,).
    """
    return _by_rows(partial(_losses, model), hidden, targets)


def differentiable_losses(model: "PreTrainedModel", hidden: "torch.Tensor", targets: "torch.Tensor") -> "torch.Tensor":
    """Differentiable :func:`next_token_losses`; the backward pass recomputes the logits instead of storing them."""
    return _computed_again(partial(_plain_losses, model), hidden, targets)


def scores(model: "PreTrainedModel", hidden: "torch.Tensor", rng: np.random.Generator) -> "list[torch.Tensor]":
    """Scalars whose gradients are those of the summed losses of labels drawn from the model's own predictions q.

    The gradients have mean zero, and their second moment is the Gauss-Newton matrix of the sum of cross-entropies, or
    of divergences, over the same rows: both have the Hessian diag(q) - q q' with respect to the logits.

    Args:
        model: a causal language model.
        hidden: final hidden states of shape (N, D), in the model's dtype.
        rng: generator for the labels.

    Returns:
        One scalar for each of ``DRAWS`` draws; only its gradient is meaningful.
    """
    import torch

    with torch.no_grad():
        gradients = [_score_gradients(model, rows, rng) for rows in torch.split(hidden, GRADIENT_ROWS)]
    return [(hidden * torch.cat(parts)).sum() for parts in zip(*gradients, strict=True)]


def _score_gradients(
    model: "PreTrainedModel", hidden: "torch.Tensor", rng: np.random.Generator
) -> "list[torch.Tensor]":
    """Gradients (N, D) of the losses of drawn labels: sum_v q_v w_v - w_y, times s and the soft cap's slope."""
    head = head_of(model)
    logits = head.logits(hidden)
    predicted = logits.softmax(-1)
    labels = _drawn(predicted, rng)
    gradients = [head.weight[label] for label in labels]
    if head.cap is not None:
        slope = 1 - (logits / head.cap).square_()
        predicted *= slope
        gradients = [w * slope.gather(1, y[:, None]).to(w.dtype) for w, y in zip(gradients, labels, strict=True)]
    expected = predicted.to(hidden.dtype) @ head.weight
    return [(expected - gradient) * head.scale for gradient in gradients]


def divergence_from(model: "PreTrainedModel", dense: "Iterable[torch.Tensor]") -> "LinearDivergence | CappedDivergence":
    """KL(dense || pruned) of the next-token distributions at each position, as a function of the pruned hidden states.

    Args:
        model: a model with the head that dense and pruned model share.
        dense: final hidden states of the dense model, in the model's dtype, in pieces of shape (N, D).
    """
    import torch

    if head_of(model).cap is not None:
        return CappedDivergence(model, torch.cat(list(dense)))
    pieces = [_dense_parts(model, piece) for piece in dense]
    return LinearDivergence(model, *(torch.cat(parts) for parts in zip(*pieces, strict=True)))


def _dense_parts(model: "PreTrainedModel", dense: "torch.Tensor") -> "tuple[torch.Tensor, torch.Tensor]":
    """``expected`` and ``entropies`` of :class:`LinearDivergence` for dense hidden states (N, D)."""
    import torch

    partitions = _by_rows(partial(_log_partitions, model), dense)
    expected = _by_rows(partial(_expected_weights, model), dense, partitions)
    return expected, partitions - torch.einsum("nd,nd->n", dense.float(), expected)


@dataclass(frozen=True)
class LinearDivergence:
    """Divergence for logits that are linear in the hidden states.

    With the logits b_v = s h . w_v of the pruned hidden states h, and the predictions p of the dense model, the
    cross-entropy is log sum_v exp b_v - h . (sum_v p_v s w_v). The divergence is this cross-entropy minus the same
    expression for the dense hidden states; a bias of the head cancels. An evaluation therefore reads the vocabulary
    only once, as for a loss, and the divergence of the dense model itself is exactly 0.

    Attributes:
        model: a model with the head that dense and pruned model share.
        expected: sum_v p_v s w_v at each position, float32 of shape (N, D).
        entropies: the cross-entropy expression for the dense model at each position, float32 of shape (N,).
    """

    model: "PreTrainedModel"
    expected: "torch.Tensor"
    entropies: "torch.Tensor"

    def at(self, rows: slice) -> Self:
        """The divergence at some of the positions."""
        return replace(self, expected=self.expected[rows], entropies=self.entropies[rows])

    def __call__(self, pruned: "torch.Tensor") -> "torch.Tensor":
        """From final hidden states (N, D) in the model's dtype to float32 of shape (N,), in nats."""
        import torch

        expected_logits = torch.einsum("nd,nd->n", pruned.float(), self.expected)
        return _by_rows(partial(_log_partitions, self.model), pruned) - expected_logits - self.entropies

    def differentiable(self, pruned: "torch.Tensor") -> "torch.Tensor":
        """The same divergences, differentiable."""
        partitions = _computed_again(partial(_plain_log_partitions, self.model), pruned)
        # Copies, because autograd rejects tensors that were made in inference mode.
        return partitions - (pruned.float() * self.expected.clone()).sum(-1) - self.entropies.clone()


@dataclass(frozen=True)
class CappedDivergence:
    """Divergence for soft-capped logits, which are not linear: both distributions are computed at every call.

    Attributes:
        model: a model with the head that dense and pruned model share.
        dense: final hidden states of the dense model, (N, D), in the model's dtype.
    """

    model: "PreTrainedModel"
    dense: "torch.Tensor"

    def at(self, rows: slice) -> Self:
        """The divergence at some of the positions."""
        return replace(self, dense=self.dense[rows])

    def __call__(self, pruned: "torch.Tensor") -> "torch.Tensor":
        """From final hidden states (N, D) in the model's dtype to float32 of shape (N,), in nats."""
        return _by_rows(partial(_divergences, self.model), self.dense, pruned)

    def differentiable(self, pruned: "torch.Tensor") -> "torch.Tensor":
        """The same divergences, differentiable."""
        return _computed_again(partial(_plain_divergences, self.model), self.dense.clone(), pruned)


def _computed_again(function: "Callable[..., torch.Tensor]", *tensors: "torch.Tensor") -> "torch.Tensor":
    """A function applied to blocks of ``GRADIENT_ROWS`` rows; the backward pass calls it again for each block."""
    import torch
    from torch.utils.checkpoint import checkpoint

    parts = zip(*(torch.split(t, GRADIENT_ROWS) for t in tensors), strict=True)
    return torch.cat([checkpoint(function, *rows, use_reentrant=False) for rows in parts])


def _drawn(probabilities: "torch.Tensor", rng: np.random.Generator) -> "torch.Tensor":
    """Tokens drawn with probabilities (N, V), int64 of shape (``DRAWS``, N)."""
    import torch

    # Inverse transform: torch.multinomial draws a number per token of the vocabulary, which would dominate the time.
    cumulative = probabilities.cumsum(-1)
    drawn = torch.from_numpy(rng.random((len(probabilities), DRAWS), dtype=np.float32)).to(probabilities.device)
    found = torch.searchsorted(cumulative, drawn * cumulative[:, -1:])
    return found.clamp_(max=cumulative.shape[1] - 1).T


def _plain_losses(model: "PreTrainedModel", hidden: "torch.Tensor", targets: "torch.Tensor") -> "torch.Tensor":
    from torch.nn import functional

    return functional.cross_entropy(logits_of(model, hidden), targets, reduction="none")


def _plain_log_partitions(model: "PreTrainedModel", hidden: "torch.Tensor") -> "torch.Tensor":
    return logits_of(model, hidden).logsumexp(-1)


def _plain_divergences(model: "PreTrainedModel", dense: "torch.Tensor", pruned: "torch.Tensor") -> "torch.Tensor":
    a, b = (logits_of(model, hidden).log_softmax(-1) for hidden in (dense, pruned))
    return (a.exp() * (a - b)).sum(-1)


def _by_rows(function: "Callable[..., torch.Tensor]", *tensors: "torch.Tensor") -> "torch.Tensor":
    """A function applied to blocks of ``LOGIT_ROWS`` rows, its results concatenated."""
    import torch

    return torch.cat([function(*rows) for rows in zip(*(torch.split(t, LOGIT_ROWS) for t in tensors), strict=True)])


def _log_partitions(model: "PreTrainedModel", hidden: "torch.Tensor") -> "torch.Tensor":
    """Log-partition log sum_v exp b_v, float32 of shape (N,)."""
    import torch

    return torch.stack([_exponentiate(logits)[1] for _, logits in logit_parts(model, hidden)]).logsumexp(0)


def _expected_weights(model: "PreTrainedModel", hidden: "torch.Tensor", partitions: "torch.Tensor") -> "torch.Tensor":
    """sum_v p_v s w_v, float32 of shape (N, D), from the log-partitions (N,)."""
    import torch

    head = head_of(model)
    total = hidden.new_zeros(hidden.shape, dtype=torch.float32)
    for start, logits in logit_parts(model, hidden):
        rows = head.weight[start : start + logits.shape[1]].float()
        total.addmm_((logits - partitions[:, None]).exp_(), rows, alpha=head.scale)
    return total


def _losses(model: "PreTrainedModel", hidden: "torch.Tensor", targets: "torch.Tensor") -> "torch.Tensor":
    import torch

    wanted, sums = torch.empty(len(hidden), device=hidden.device), []
    for start, logits in logit_parts(model, hidden):
        inside = ((targets >= start) & (targets < start + logits.shape[1])).nonzero()[:, 0]
        wanted[inside] = logits[inside, targets[inside] - start]
        sums.append(_exponentiate(logits)[1])
    return torch.stack(sums).logsumexp(0) - wanted


def _divergences(model: "PreTrainedModel", dense: "torch.Tensor", pruned: "torch.Tensor") -> "torch.Tensor":
    """KL(p || q) by the formula of the module, float32 of shape (N,)."""
    import torch

    dense_sums, pruned_sums, gaps = [], [], []
    for (_, a), (_, b) in zip(logit_parts(model, dense), logit_parts(model, pruned), strict=True):
        gap = a - b
        weights, dense_sum = _exponentiate(a)
        gaps.append((gap * weights).sum(-1) / weights.sum(-1))
        dense_sums.append(dense_sum)
        pruned_sums.append(_exponentiate(b)[1])
    parts = torch.stack(dense_sums)
    whole = parts.logsumexp(0)
    gap = ((parts - whole).exp() * torch.stack(gaps)).sum(0)
    return gap - whole + torch.stack(pruned_sums).logsumexp(0)


def _exponentiate(logits: "torch.Tensor") -> "tuple[torch.Tensor, torch.Tensor]":
    """exp(b - max b), which overwrites the logits b (N, V), and the log-partition of each row (N,).

    In place because memory bandwidth is the bottleneck: ``torch.logsumexp`` writes two more tensors of that size.
    """
    largest = logits.amax(-1, keepdim=True)
    weights = logits.sub_(largest).exp_()
    return weights, weights.sum(-1).log_().add_(largest[:, 0])
