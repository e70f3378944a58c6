"""From final hidden states to logits and losses, a few rows and a part of the vocabulary at a time."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

LOGIT_ROWS = 1024
"""Rows whose logits are computed together."""

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

    cap: float | None = getattr(model.config.get_text_config(), "final_logit_softcapping", None)
    return logits if cap is None else cap * torch.tanh(logits / cap)


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
    import torch

    rows = zip(torch.split(hidden, LOGIT_ROWS), torch.split(targets, LOGIT_ROWS), strict=True)
    return torch.cat([_losses(model, part, wanted) for part, wanted in rows])


def divergences(model: "PreTrainedModel", dense: "torch.Tensor", pruned: "torch.Tensor") -> "torch.Tensor":
    """KL(dense || pruned) of the next-token distributions at each position, in nats.

    Args:
        model: a model with the head both share.
        dense, pruned: final hidden states of shape (N, D), in the model's dtype.

    Returns:
        float32 of shape (N,).
    """
    import torch

    rows = zip(torch.split(dense, LOGIT_ROWS), torch.split(pruned, LOGIT_ROWS), strict=True)
    return torch.cat([_divergences(model, p, q) for p, q in rows])


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
