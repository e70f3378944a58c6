"""Fast norms: the same outputs and parameter names as the stock norms; norms with other arithmetic stay unchanged."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from prunecast.models.cpu.norms import RootMeanSquareNorm, use_fast_norms

LIKE_LLAMA = {"llama": 2, "mistral": 2, "qwen2": 2, "qwen3": 4, "smollm3": 2, "phi3": 2}
"""Number of norms per layer, without the final norm of the model."""


def fast_norms(model: nn.Module) -> list[RootMeanSquareNorm]:
    return [module for module in model.modules() if isinstance(module, RootMeanSquareNorm)]


def spoilt(model: Any) -> Any:
    """Set norm weights different from one, so that an ignored weight changes the output."""
    generator = torch.Generator().manual_seed(1)
    for name, parameter in model.named_parameters():
        if "norm" in name:
            parameter.data = 0.5 + torch.rand(parameter.shape, generator=generator).to(parameter.dtype)
    return model


@pytest.mark.parametrize("family", LIKE_LLAMA)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_norm_is_replaced_and_computes_the_same(
    family: str, dtype: torch.dtype, tiny_model: Callable[..., Any]
) -> None:
    ids = torch.randint(3, 97, (2, 30), generator=torch.Generator().manual_seed(0))
    model = spoilt(tiny_model(family)).to(dtype)
    with torch.inference_mode():
        expected, names = model(ids).logits, set(model.state_dict())
        use_fast_norms(model)
        logits = model(ids).logits
    assert len(fast_norms(model)) == LIKE_LLAMA[family] * model.config.num_hidden_layers + 1
    assert set(model.state_dict()) == names
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=2e-5 if dtype == torch.float32 else 0.02)


def test_input_and_small_numbers_are_kept() -> None:
    norm = RootMeanSquareNorm(nn.Parameter(torch.full((8,), 2.0), requires_grad=False), 1e-5)
    for size in (1e-4, 1.0, 1e4):
        x = torch.randn(3, 8, generator=torch.Generator().manual_seed(0)) * size
        before = x.clone()
        torch.testing.assert_close(norm(x), 2 * x / (x.double().pow(2).mean(-1, keepdim=True) + 1e-5).sqrt().float())
        assert torch.equal(x, before)


@pytest.mark.parametrize("family", ["gemma2", "gpt2", "opt"])
def test_other_norms_are_not_replaced(family: str, tiny_model: Callable[..., Any]) -> None:
    model = tiny_model(family)
    use_fast_norms(model)
    assert not fast_norms(model)


def test_a_norm_with_similar_name_but_other_arithmetic_is_not_replaced(tiny_model: Callable[..., Any]) -> None:
    class OddRMSNorm(nn.Module):
        """RMS norm that adds one to its weight."""

        def __init__(self) -> None:
            super().__init__()
            self.weight, self.variance_epsilon = nn.Parameter(torch.ones(64)), 1e-6

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (1 + self.weight) * x / (x.pow(2).mean(-1, keepdim=True) + self.variance_epsilon).sqrt()

    model = tiny_model("llama")
    model.model.norm = OddRMSNorm()
    use_fast_norms(model)
    assert isinstance(model.model.norm, OddRMSNorm)
    assert len(fast_norms(model)) == 2 * model.config.num_hidden_layers
