"""From final hidden states to logits and losses, a few rows and a part of the vocabulary at a time."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Self

import numpy as np

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

LOGIT_ROWS = 1024
"""Rows whose logits are computed together."""

GRADIENT_ROWS = 256
"""Rows whose logits are held at once, with their gradients, where a gradient is taken."""

DRAWS = 3
"""Times that labels are drawn for a curvature, in each row of a batch."""

LOGIT_COLUMNS = 3072
"""Tokens of the vocabulary whose logits are held at once: with ``LOGIT_ROWS`` 12 MB in float32, which stay in the cache
of the processor where all logits of a row would go out to memory and back."""


def logits_of(model: "PreTrainedModel", hidden: "torch.Tensor") -> "torch.Tensor":
    """Logits of hidden states as the model's own head gives them, soft-capped where the config says so (Gemma 2).

    Args:
        model: a causal language model.
        hidden: final hidden states of shape (N, D), N at most ``LOGIT_ROWS``, in the model's dtype.

    Returns:
        float32 of shape (N, vocabulary).
    """
    head: torch.nn.Module = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    return _capped(model, head(hidden).float())


def _capped(model: "PreTrainedModel", logits: "torch.Tensor") -> "torch.Tensor":
    import torch

    cap = _cap(model)
    return logits if cap is None else cap * torch.tanh(logits / cap)


def _cap(model: "PreTrainedModel") -> float | None:
    return getattr(model.config.get_text_config(), "final_logit_softcapping", None)


def logit_parts(model: "PreTrainedModel", hidden: "torch.Tensor") -> "Iterator[tuple[int, torch.Tensor]]":
    """The logits of :func:`logits_of` part by part, the whole vocabulary in order.

    Args:
        model: a causal language model whose head is a linear layer.
        hidden: final hidden states of shape (N, D), N at most ``LOGIT_ROWS``, in the model's dtype.

    Yields:
        first token of the part, and float32 of shape (N, at most ``LOGIT_COLUMNS``).
    """
    from torch.nn import functional

    head: torch.nn.Linear = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    for start in range(0, len(head.weight), LOGIT_COLUMNS):
        part = slice(start, start + LOGIT_COLUMNS)
        logits = functional.linear(hidden, head.weight[part], None if head.bias is None else head.bias[part])
        yield start, _capped(model, logits.float())


def next_token_losses(model: "PreTrainedModel", hidden: "torch.Tensor", targets: "torch.Tensor") -> "torch.Tensor":
    """Negative log-likelihood of the token that follows each hidden state, in nats.

    Args:
        model: a causal language model.
        hidden: final hidden states of shape (N, D), in the model's dtype.
        targets: the ids that follow, int64 of shape (N,).

    Returns:
        float32 of shape (N,).
    """
    return _by_rows(partial(_losses, model), hidden, targets)


def differentiable_losses(model: "PreTrainedModel", hidden: "torch.Tensor", targets: "torch.Tensor") -> "torch.Tensor":
    """:func:`next_token_losses` to take gradients of; logits are computed again on the way back, none are kept."""
    return _computed_again(partial(_plain_losses, model), hidden, targets)


def scores(model: "PreTrainedModel", hidden: "torch.Tensor", rng: np.random.Generator) -> "list[torch.Tensor]":
    """Scalars with the gradients of the summed losses of labels drawn from the model's own predictions.

    Gradients are zero in the mean, and their second moment is the Gauss-Newton matrix of a sum of cross-entropies, or
    of divergences, over the same rows: both have the Hessian diag(q) - q q' in the logits.

    Args:
        model: a causal language model.
        hidden: final hidden states of shape (N, D), in the model's dtype.
        rng: draws the labels.

    Returns:
        One scalar for each of ``DRAWS``; only the gradient is of use.
    """
    import torch

    with torch.no_grad():
        gradients = [_score_gradients(model, rows, rng) for rows in torch.split(hidden, GRADIENT_ROWS)]
    return [(hidden * torch.cat(parts)).sum() for parts in zip(*gradients, strict=True)]


def _score_gradients(
    model: "PreTrainedModel", hidden: "torch.Tensor", rng: np.random.Generator
) -> "list[torch.Tensor]":
    """Gradients (N, D) of the losses of drawn labels y: sum_v q_v w_v - w_y, each w_v times how steep its cap is."""
    head: torch.nn.Linear = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    logits = logits_of(model, hidden)
    predicted = logits.softmax(-1)
    labels = _drawn(predicted, rng)
    gradients = [head.weight[label] for label in labels]
    if (cap := _cap(model)) is not None:
        steepness = 1 - (logits / cap).square_()
        predicted *= steepness
        gradients = [w * steepness.gather(1, y[:, None]).to(w.dtype) for w, y in zip(gradients, labels, strict=True)]
    expected = predicted.to(hidden.dtype) @ head.weight
    return [expected - gradient for gradient in gradients]


def divergence_from(model: "PreTrainedModel", dense: "Iterable[torch.Tensor]") -> "LinearDivergence | CappedDivergence":
    """KL(dense || pruned) of the next-token distributions at each position, as a function of the pruned hidden states.

    Args:
        model: a model with the head both share.
        dense: final hidden states of the dense model, in the model's dtype, in pieces of shape (N, D).
    """
    import torch

    if _cap(model) is not None:
        return CappedDivergence(model, torch.cat(list(dense)))
    pieces = [_dense_parts(model, piece) for piece in dense]
    return LinearDivergence(model, *(torch.cat(parts) for parts in zip(*pieces, strict=True)))


def _dense_parts(model: "PreTrainedModel", dense: "torch.Tensor") -> "tuple[torch.Tensor, torch.Tensor]":
    """What :class:`LinearDivergence` keeps of hidden states (N, D)."""
    import torch

    partitions = _by_rows(partial(_log_partitions, model), dense)
    expected = _by_rows(partial(_expected_weights, model), dense, partitions)
    return expected, partitions - torch.einsum("nd,nd->n", dense.float(), expected)


@dataclass(frozen=True)
class LinearDivergence:
    """Divergence where logits are linear in the hidden states.

    For logits b_v = h . w_v of pruned states h, and p the dense distribution, it is the cross-entropy
    log sum_v exp b_v - h . (sum_v p_v w_v), less the same for the dense states in place of h; a bias of the head falls
    out. So the vocabulary is gone through once, as for a loss, and the dense model's own divergence is exactly 0.

    Attributes:
        model: a model with the head both share.
        expected: sum_v p_v w_v at each position, float32 of shape (N, D).
        entropies: what the cross-entropy of the dense model is at each position, float32 of shape (N,).
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
        """The same, to take gradients of."""
        partitions = _computed_again(partial(_plain_log_partitions, self.model), pruned)
        # Copies, because what was made in inference mode can take no part in a gradient.
        return partitions - (pruned.float() * self.expected.clone()).sum(-1) - self.entropies.clone()


@dataclass(frozen=True)
class CappedDivergence:
    """Divergence where logits are capped, which is not linear: both distributions are made each time.

    Attributes:
        model: a model with the head both share.
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
        """The same, to take gradients of."""
        return _computed_again(partial(_plain_divergences, self.model), self.dense.clone(), pruned)


def _computed_again(function: "Callable[..., torch.Tensor]", *tensors: "torch.Tensor") -> "torch.Tensor":
    """What a function of ``GRADIENT_ROWS`` rows makes of more; on the way back it is called once more for each."""
    import torch
    from torch.utils.checkpoint import checkpoint

    parts = zip(*(torch.split(t, GRADIENT_ROWS) for t in tensors), strict=True)
    return torch.cat([checkpoint(function, *rows, use_reentrant=False) for rows in parts])


def _drawn(probabilities: "torch.Tensor", rng: np.random.Generator) -> "torch.Tensor":
    """Tokens drawn by probabilities (N, V), int64 of shape (``DRAWS``, N)."""
    import torch

    # torch.multinomial draws a number for each token of the vocabulary, and takes longer than all the rest.
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
    """What a function of ``LOGIT_ROWS`` rows makes of more, row for row."""
    import torch

    return torch.cat([function(*rows) for rows in zip(*(torch.split(t, LOGIT_ROWS) for t in tensors), strict=True)])


def _log_partitions(model: "PreTrainedModel", hidden: "torch.Tensor") -> "torch.Tensor":
    """log sum_v exp of the logits, float32 of shape (N,)."""
    import torch

    return torch.stack([_exponentiate(logits)[1] for _, logits in logit_parts(model, hidden)]).logsumexp(0)


def _expected_weights(model: "PreTrainedModel", hidden: "torch.Tensor", partitions: "torch.Tensor") -> "torch.Tensor":
    """sum_v p_v w_v of the rows w_v of the head, float32 of shape (N, D), given log sum_v exp of the logits (N,)."""
    import torch

    head: torch.nn.Linear = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    total = hidden.new_zeros(hidden.shape, dtype=torch.float32)
    for start, logits in logit_parts(model, hidden):
        rows = head.weight[start : start + logits.shape[1]].float()
        total.addmm_((logits - partitions[:, None]).exp_(), rows)
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
    """sum_v p_v (a_v - b_v) - log sum exp a + log sum exp b, for logits a and b and p = softmax(a)."""
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
    """exp(logits - largest of the row), written over the logits (N, V), and log sum exp of each row (N,).

    In place because memory is what takes the time: ``torch.logsumexp`` writes two more tensors of that size.
    """
    largest = logits.amax(-1, keepdim=True)
    weights = logits.sub_(largest).exp_()
    return weights, weights.sum(-1).log_().add_(largest[:, 0])
