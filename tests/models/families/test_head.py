"""The head: logits as the stock class computes them, whatever it does to them, and a refusal of what is not known."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from prunecast.errors import ModelError
from prunecast.models.families.head import head_of, logits_of

IDS = torch.arange(3, 19).view(2, 8)


@pytest.mark.parametrize(
    ("kind", "changes", "scale", "cap"),
    [
        ("llama", {}, 1.0, None),
        ("cohere", {"logit_scale": 0.0625}, 0.0625, None),
        ("cohere2", {"logit_scale": 0.37, "sliding_window": 4}, 0.37, None),
        ("granite", {"logits_scaling": 6.0}, 1 / 6, None),
        ("gemma2", {"final_logit_softcapping": 5.0}, 1.0, 5.0),
        ("phi", {}, 1.0, None),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_logits_are_those_of_the_stock_class(
    kind: str,
    changes: dict[str, Any],
    scale: float,
    cap: float | None,
    dtype: torch.dtype,
    tiny_model: Callable[..., Any],
) -> None:
    model = tiny_model(kind, **changes).to(dtype)
    with torch.inference_mode():
        hidden = model.base_model(IDS, use_cache=False).last_hidden_state.flatten(0, 1)
        stock = model(IDS, use_cache=False).logits.flatten(0, 1).float()
        found = logits_of(model, hidden)
    torch.testing.assert_close(
        found, stock, rtol=2e-2 if dtype == torch.bfloat16 else 1e-5, atol=1e-2 if dtype == torch.bfloat16 else 1e-5
    )
    head = head_of(model)
    assert (head.scale, head.cap) == (pytest.approx(scale, rel=1e-12), cap)
    with torch.inference_mode():
        torch.testing.assert_close(head.logits(hidden, slice(5, 9)), found[:, 5:9])


def test_a_class_that_changes_its_logits_otherwise_is_refused(tiny_model: Callable[..., Any]) -> None:
    model = tiny_model("llama")
    forward = model.forward

    def shifted(*arguments: Any, **named: Any) -> Any:
        output = forward(*arguments, **named)
        output.logits = output.logits.abs()
        return output

    model.forward = shifted
    with pytest.raises(ModelError, match="LlamaForCausalLM does something to its logits that is neither"):
        head_of(model)


def test_a_class_without_output_embeddings_is_refused(tiny_model: Callable[..., Any]) -> None:
    model = tiny_model("llama")
    model.get_output_embeddings = lambda: None
    with pytest.raises(ModelError, match="LlamaForCausalLM has no output embeddings, by which losses are measured"):
        head_of(model)


def test_a_class_without_final_hidden_states_is_refused(tiny_model: Callable[..., Any]) -> None:
    model = tiny_model("llama")
    model.base_model_prefix = ""
    with pytest.raises(ModelError, match="the base model of LlamaForCausalLM returns no last_hidden_state"):
        head_of(model)
