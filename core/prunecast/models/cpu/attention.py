"""Causal attention at the speed of its matrix products, for bfloat16 on a processor.

torch's fused kernel for processors spends most of its time outside the products: in a layer of SmolLM2-135M (9 heads of
64, 4 windows of 512 tokens, two Zen 5 cores) it takes 15 ms in bfloat16, products and softmax one after the other take
4 ms. Queries go a block at a time against the keys they may see, so that what lies above the diagonal is not computed,
and all query heads of a KV group go in one product, so that no key is copied for each of them. Scores are rounded to
bfloat16 before the softmax, as transformers' ``eager`` attention does.
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
"""Queries a block; between 64 and 256 it matters little."""


def use_block_attention(model: "PreTrainedModel") -> None:
    """Let a model on a processor in bfloat16 attend by blocks, where it would use torch's fused attention."""
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
    """Attention of whole texts, nothing but causal; with a mask, a cache or one token it is transformers' ``sdpa``.

    Args:
        module: the attention module; ``is_causal`` is read from it where not given.
        query: (B, H, T, K), K values a head.
        key, value: (B, KV, T, K), the H / KV query heads of a group one after the other.
        attention_mask: None for causal attention.
        scaling: factor of the scores, by default K ** -0.5.
        is_causal: whether a token sees only those before it.
        options: what transformers hands on; a position bias goes to ``sdpa``.

    Returns:
        (B, T, H, K) in the dtype of the query, and no attention weights.
    """
    causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
    plain = attention_mask is None and options.get("position_bias") is None and not options.get("dropout")
    if not (plain and causal and 1 < query.shape[2] == key.shape[2]):
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, is_causal=is_causal, **options
        )
    return _by_blocks(query * (query.shape[-1] ** -0.5 if scaling is None else scaling), key, value), None


def _by_blocks(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """(B, T, H, K) for scaled queries."""
    batch, heads, length, size = query.shape
    groups = key.shape[1]
    output = query.new_empty(batch, length, heads, value.shape[-1])
    hidden = query.new_full((BLOCK, BLOCK), -torch.inf).triu(1)
    for start in range(0, length, BLOCK):
        end = min(start + BLOCK, length)
        block = query[:, :, start:end].reshape(batch, groups, -1, size)
        scores = (block @ key[:, :, :end].transpose(-1, -2)).view(batch, heads, end - start, end)
        scores[..., start:] += hidden[: end - start, : end - start]
        weights = scores.softmax(-1).view(batch, groups, -1, end)
        seen = (weights @ value[:, :, :end]).view(batch, heads, end - start, -1)
        output[:, start:end] = seen.transpose(1, 2)
    return output
