"""Causal attention in blocks of queries, for bfloat16 on CPUs.

Notation:
    B   rows of a batch
    T   tokens of a row
    H   query heads of a layer, those of one KV group next to each other
    KV  KV groups of a layer
    K   width of a head
    q, k, v  queries (B, H, T, K), keys and values (B, KV, T, K)

torch's fused CPU kernel spends most of its time outside matrix products: in a layer of SmolLM2-135M (9 heads of width
64, 4 windows of 512 tokens, two Zen 5 cores, bfloat16) it takes 15 ms, whereas separate products and softmax take 4 ms.

Each block of ``BLOCK`` queries is multiplied only with the keys up to its end, which skips most of the scores above the
diagonal. All query heads of a KV group share one matrix product, so keys and values are not copied per query head.
Scores are rounded to bfloat16 before the softmax, as in transformers' ``eager`` attention.
"""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

if TYPE_CHECKING:
    from transformers import PreTrainedModel

NAME = "prunecast-blocks"
BLOCK = 128
"""Queries per block; between 64 and 256 the speed differs little."""


def use_block_attention(model: "PreTrainedModel") -> None:
    """Switch a bfloat16 model on the CPU from torch's fused attention to :func:`block_attention`.

    Models on other devices, in other dtypes or with other attention implementations are not changed.
    """
    if model.device.type == "cpu" and model.dtype == torch.bfloat16 and model.config._attn_implementation == "sdpa":
        AttentionInterface.register(NAME, block_attention)
        AttentionMaskInterface.register(NAME, sdpa_mask)
        model.set_attn_implementation(NAME)


def block_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    is_causal: bool | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """Causal attention over whole rows, as an attention function of transformers.

    Calls with an attention mask, a KV cache, a single token, dropout or a position bias, and calls that are not causal,
    are passed on to transformers' ``sdpa``.

    Args:
        module: the attention module; its ``is_causal`` is the default of the argument, else True.
        query: shape (B, H, T, K); the H / KV query heads of a KV group are next to each other.
        key, value: shape (B, KV, T, K).
        attention_mask: None for causal attention.
        scaling: factor of the scores, by default K ** -0.5.
        is_causal: True if a token attends only to itself and to earlier tokens.
        options: further arguments from transformers.

    Returns:
        The attention output, shape (B, T, H, K), in the dtype of the query, and None for the attention weights.
    """
    causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
    plain = attention_mask is None and options.get("position_bias") is None and not options.get("dropout")
    if not (plain and causal and 1 < query.shape[2] == key.shape[2]):
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, is_causal=is_causal, **options
        )
    return _by_blocks(query * (query.shape[-1] ** -0.5 if scaling is None else scaling), key, value), None


def _by_blocks(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention output, shape (B, T, H, K), of queries that are already scaled."""
    batch, heads, length, size = query.shape
    groups = key.shape[1]
    output = query.new_empty(batch, length, heads, value.shape[-1])
    future = query.new_full((BLOCK, BLOCK), -torch.inf).triu(1)
    for start in range(0, length, BLOCK):
        end = min(start + BLOCK, length)
        block = query[:, :, start:end].reshape(batch, groups, -1, size)
        scores = (block @ key[:, :, :end].transpose(-1, -2)).view(batch, heads, end - start, end)
        scores[..., start:] += future[: end - start, : end - start]
        weights = scores.softmax(-1).view(batch, groups, -1, end)
        attended = (weights @ value[:, :, :end]).view(batch, heads, end - start, -1)
        output[:, start:end] = attended.transpose(1, 2)
    return output
