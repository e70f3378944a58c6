"""Code that comes with a model: compared with the stock class that computes the model here, and used for nothing else.

Measuring, exporting and training take the stock modules of transformers apart. Code of a model's own may compute
something else with the same weights, so the two are compared on a few tokens before anything is measured.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from prunecast.errors import ModelError, is_out_of_memory, one_line
from prunecast.models.families.windows import context_of

if TYPE_CHECKING:
    from torch import Tensor

TOKENS = (2, 96)
"""Rows and tokens, (B, T), on which the two are compared."""

TOLERANCE = 1e-4
"""Largest distance of the logits, relative to their norm: two orders of summation in float32 are well below it."""


def own_class(config: Mapping[str, Any]) -> str | None:
    """Name of the class with which a model's own code computes it, as its config states it; None if it has none."""
    classes = config.get("auto_map")
    if not isinstance(classes, Mapping):
        return None
    for key in ("AutoModelForCausalLM", "AutoModel", "AutoConfig"):
        if named := classes.get(key):
            return str(named)
    return None


def check_same(stock: "Callable[[], Any]", own: "Callable[[], Any]", code: str, name: str) -> None:
    """Raise ModelError unless a model's own code computes what the stock class computes.

    Args:
        stock: loads the model by the stock class, in float32.
        own: loads it by its own code, in float32.
        code: name of the own class, for messages.
        name: name of the model, for messages.

    Raises:
        ModelError: the logits differ, or the code fails.
    """
    model = stock()
    expected, kind = _logits(model), type(model).__name__
    del model
    try:
        found = _logits(own())
    # Code of the model's own can raise anything.
    except Exception as error:
        if is_out_of_memory(error):
            raise
        # The loader's own words on what failed say it in fewer.
        cause = error.__cause__ if isinstance(error, ModelError) and isinstance(error.__cause__, Exception) else error
        raise ModelError(
            f"model {name}: its own code ({code}) fails ({one_line(cause)}): repair it, or leave trust_remote_code out "
            f"to prune the model as {kind} of transformers computes it"
        ) from error
    distance = float((found - expected).norm() / expected.norm()) if found.shape == expected.shape else float("inf")
    if not distance <= TOLERANCE:
        raise ModelError(
            f"model {name}: its own code ({code}) computes something else than {kind} of transformers, logits are "
            f"{distance:.1e} (relative) apart: prunecast prunes what the stock class computes, choose a model without "
            "code of its own"
        )


def _logits(model: Any) -> "Tensor":
    """Logits of fixed random tokens, float32 of shape (B, T, V) on the CPU."""
    import torch

    batch, length = TOKENS
    length = min(length, context_of(model.config))
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, model.config.vocab_size, (batch, length), generator=generator)
    with torch.inference_mode():
        logits: Tensor = model(tokens.to(model.device), use_cache=False).logits
    return logits.float().cpu()
