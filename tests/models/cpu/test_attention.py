"""Block attention: accuracy compared with torch's fused kernel, and fallback where it does not apply."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from prunecast.models.cpu.attention import BLOCK, NAME, block_attention, use_block_attention

MODULE: Any = SimpleNamespace(is_causal=True, num_key_value_groups=3)


def heads(batch: int, count: int, length: int, seed: int) -> torch.Tensor:
    return torch.randn(batch, count, length, 16, generator=torch.Generator().manual_seed(seed))


def inputs(length: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return heads(2, 6, length, 0) * 3, heads(2, 2, length, 1), heads(2, 2, length, 2)


@pytest.mark.parametrize("length", [2, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 7])
@pytest.mark.parametrize("scaling", [None, 0.1])
def test_whole_sequences_attend_causally(length: int, scaling: float | None) -> None:
    query, key, value = inputs(length)
    expected = scaled_dot_product_attention(query, key, value, is_causal=True, scale=scaling, enable_gqa=True)
    output, weights = block_attention(MODULE, query, key, value, None, scaling=scaling)
    assert weights is None
    torch.testing.assert_close(output, expected.transpose(1, 2), rtol=1e-5, atol=1e-6)


def test_masked_cached_and_bidirectional_attention_fall_back_to_transformers() -> None:
    query, key, value = inputs(20)
    mask = torch.ones(2, 1, 20, 20, dtype=torch.bool).tril()
    mask[1, :, :, :5] = False
    mask[1, :, :5] = True  # fully masked rows would be all NaN
    expected = scaled_dot_product_attention(query, key, value, attn_mask=mask, enable_gqa=True)
    torch.testing.assert_close(block_attention(MODULE, query, key, value, mask)[0], expected.transpose(1, 2))
    last = query[:, :, -1:]
    expected = scaled_dot_product_attention(last, key, value, enable_gqa=True)
    torch.testing.assert_close(block_attention(MODULE, last, key, value, None)[0], expected.transpose(1, 2))
    expected = scaled_dot_product_attention(query, key, value, enable_gqa=True)
    output, _ = block_attention(MODULE, query, key, value, None, is_causal=False)
    torch.testing.assert_close(output, expected.transpose(1, 2))


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2", "qwen3", "smollm3", "phi3", "gpt2", "opt"])
def test_a_model_is_as_accurate_as_with_the_fused_kernel(family: str, tiny_model: Callable[..., Any]) -> None:
    ids = torch.randint(3, 97, (2, 30), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        exact = tiny_model(family)(ids).logits
        rounded = tiny_model(family).to(torch.bfloat16)
        fused = rounded(ids).logits
        use_block_attention(rounded)
        blocks = rounded(ids).logits
    assert rounded.config._attn_implementation == NAME
    assert (blocks - exact).abs().mean() < 1.3 * (fused - exact).abs().mean()


def test_models_with_another_dtype_or_attention_are_unchanged(tiny_model: Callable[..., Any]) -> None:
    for model in (tiny_model("llama"), tiny_model("gemma2").to(torch.bfloat16)):
        before = model.config._attn_implementation
        use_block_attention(model)
        assert model.config._attn_implementation == before
