"""From final hidden states to logits and losses, a few rows at a time."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

LOGIT_ROWS = 1024
"""Rows of logits held at once: with a vocabulary of 50,000 about 200 MB in float32, however long the text is."""


def logits_of(model: "PreTrainedModel", hidden: "torch.Tensor") -> "torch.Tensor":
    """Logits of hidden states as the model's own head gives them, soft-capped where the config says so (Gemma 2).

    Args:
        model: a causal language model.
        hidden: final hidden states of shape (N, D), N at most ``LOGIT_ROWS``, in the model's dtype.

    Returns:
        float32 of shape (N, vocabulary).
    """
    import torch

    head: torch.nn.Module = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    logits: torch.Tensor = head(hidden).float()
    cap: float | None = getattr(model.config.get_text_config(), "final_logit_softcapping", None)
    return logits if cap is None else cap * torch.tanh(logits / cap)


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
    from torch.nn import functional

    rows = zip(torch.split(hidden, LOGIT_ROWS), torch.split(targets, LOGIT_ROWS), strict=True)
    return torch.cat(
        [functional.cross_entropy(logits_of(model, part), wanted, reduction="none") for part, wanted in rows]
    )
