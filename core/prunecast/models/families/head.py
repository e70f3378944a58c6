"""Logits of final hidden states: the head of a model, and what its stock class does to the logits after it.

Notation:
    D, V  hidden size of the model, size of its vocabulary
    h     final hidden states, shape (N, D)
    s     scale of the logits: Cohere multiplies them by a number, Granite divides them
    c     bound of the soft cap c tanh(x / c), in models that have one (Gemma 2)

The logits are s (W h + b), soft-capped. The scale has another name in every family, and is applied now to the logits,
now to the hidden states; it is therefore found from the logits of the stock class, once for every model.
"""

from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

from prunecast.errors import ModelError

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from transformers import PreTrainedModel

PROBE = 8
"""Number of tokens, those with the first ids, by whose logits the scale is found."""

TOLERANCE = 0.02
"""Largest distance, relative to the norm, of logits of the stock class from our own: rounding in bfloat16 is less."""


_ADVICE = "by which losses are measured; choose a decoder whose logits are those"


class Head(NamedTuple):
    """The output embedding of a model.

    Attributes:
        weight: shape (V, D).
        bias: shape (V,), or None.
        scale: s, by which logits are multiplied.
        cap: c, None for no soft cap.
    """

    weight: "Tensor"
    bias: "Tensor | None"
    scale: float
    cap: float | None

    def logits(self, hidden: "Tensor", tokens: slice = slice(None)) -> "Tensor":
        """Logits of some tokens of the vocabulary, float32 of shape (N, tokens), for final hidden states (N, D)."""
        from torch.nn import functional

        bias = None if self.bias is None else self.bias[tokens]
        return self.changed(functional.linear(hidden, self.weight[tokens], bias).float())

    def changed(self, products: "Tensor") -> "Tensor":
        """Logits from W h + b: scaled, and soft-capped."""
        import torch

        scaled = products if self.scale == 1 else products * self.scale
        return scaled if self.cap is None else self.cap * torch.tanh(scaled / self.cap)


_heads: "WeakKeyDictionary[torch.nn.Module, tuple[float, float | None]]" = WeakKeyDictionary()
"""Scale and cap by model."""


def head_of(model: "PreTrainedModel") -> Head:
    """The head of a causal language model; the first time, the model runs on a few tokens.

    Raises:
        ModelError: the stock class has no output embeddings or no final hidden states, or does something else to the
            logits than to scale or to cap them.
    """
    output: Any = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    if output is None:
        raise ModelError(f"{type(model).__name__} has no output embeddings, {_ADVICE}")
    if model not in _heads:
        _heads[model] = _scale_and_cap(model, Head(output.weight, output.bias, 1.0, None))
    return Head(output.weight, output.bias, *_heads[model])


def logits_of(model: "PreTrainedModel", hidden: "Tensor") -> "Tensor":
    """Logits, as the stock class computes them, of final hidden states in the model's dtype.

    Args:
        model: a causal language model.
        hidden: shape (N, D).

    Returns:
        float32 of shape (N, V).

    Raises:
        ModelError: as :func:`head_of`.
    """
    return head_of(model).logits(hidden)


def _scale_and_cap(model: "PreTrainedModel", plain: Head) -> tuple[float, float | None]:
    import torch

    config = model.config.get_text_config()
    ids = torch.arange(min(PROBE, config.vocab_size), device=model.device)[None]
    with torch.inference_mode():
        products = plain.logits(_final_hidden(model, ids)).double()
        logits = model(ids, use_cache=False).logits[0].double()
    cap = getattr(config, "final_logit_softcapping", None)
    if cap is not None:
        return _checked(model, Head(plain.weight, plain.bias, 1.0, float(cap)), products, logits)
    scale = float((logits * products).sum() / products.square().sum())
    return _checked(model, plain._replace(scale=_exact(scale, vars(config))), products, logits)


def _final_hidden(model: "PreTrainedModel", ids: "Tensor") -> "Tensor":
    """Final hidden states (T, D) of one row of tokens (1, T)."""
    hidden: Tensor | None = getattr(model.base_model(ids, use_cache=False), "last_hidden_state", None)
    if hidden is None:
        raise ModelError(
            f"the base model of {type(model).__name__} returns no last_hidden_state, of which losses are measured; "
            "choose a decoder that has one"
        )
    return hidden[0]


def _checked(model: "PreTrainedModel", head: Head, products: "Tensor", logits: "Tensor") -> tuple[float, float | None]:
    off = float((head.changed(products) - logits).norm() / logits.norm())
    if logits.isfinite().all() and not off <= TOLERANCE:
        raise ModelError(
            f"{type(model).__name__} does something to its logits that is neither a scale nor a soft cap: they are "
            f"{off:.1e} (relative) from those of its output embeddings, {_ADVICE}"
        )
    return head.scale, head.cap


def _exact(scale: float, attributes: dict[str, object]) -> float:
    """The scale as an attribute of the config states it, or as its inverse; 1 if it is about that."""
    stated = [float(value) for value in attributes.values() if isinstance(value, int | float) and value]
    candidates = [1.0, *stated, *(1 / value for value in stated)]
    nearest = min(candidates, key=lambda value: abs(value - scale))
    return nearest if abs(nearest - scale) <= 1e-3 * abs(scale) else scale
