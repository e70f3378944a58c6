"""Low-rank adapters on the projections of a model of any family."""

import warnings
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from prunecast.errors import RecoveryError
from prunecast.models.families.family import Family

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from transformers import PreTrainedModel


def check_installed(distribution: str, method: str) -> None:
    """Raise RecoveryError unless what a method of recovery needs can be imported."""
    if find_spec(distribution) is None:
        raise RecoveryError(
            f"recover: method {method} needs {distribution}: install it with pip install 'prunecast[recover]'"
        )


def attach(
    model: "PreTrainedModel",
    family: Family,
    parts: Sequence[str],
    *,
    rank: int,
    alpha: int,
    dropout: float,
    seed: int,
) -> Any:
    """A ``peft.PeftModel`` around ``model`` with a new adapter on every projection of the named parts.

    Layers may differ in size and lack whole components. Only the adapters require gradients; they are float32, and
    do not change the output of the model yet.

    Args:
        model: the model; its projections are wrapped in place.
        family: description of its family, which names them.
        parts: fields of :class:`Family` to adapt; fields that are None are skipped.
        rank, alpha, dropout: see :class:`peft.LoraConfig`.
        seed: seed of the first matrix of each adapter; the second one is zero.

    Raises:
        RecoveryError: nothing is left to adapt.
    """
    import torch
    from peft import LoraConfig, get_peft_model

    targets = _projections(model, {getattr(family, part) for part in parts} - {None})
    if not targets:
        raise RecoveryError("recover: the architecture keeps none of recover.targets: name other projections")
    conv = any(_is_conv(model.get_submodule(target)) for target in targets)
    config = LoraConfig(
        r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=targets, fan_in_fan_out=conv, bias="none"
    )
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft's own, about names of transformers
        torch.manual_seed(seed)
        return get_peft_model(model, config)


def adapter_weights(adapted: Any) -> "dict[str, Tensor]":
    """Weights of the adapters that :func:`attach` made, by name."""
    from peft import get_peft_model_state_dict

    return {name: tensor.detach().cpu().clone() for name, tensor in get_peft_model_state_dict(adapted).items()}


def merge(adapted: Any, weights: "Mapping[str, Tensor]") -> "PreTrainedModel":
    """The model without adapters, theirs added to its own weights."""
    from peft import set_peft_model_state_dict

    set_peft_model_state_dict(adapted, dict(weights))
    merged: PreTrainedModel = adapted.merge_and_unload().requires_grad_(False).eval()
    return merged


def four_bits(dtype: "torch.dtype") -> Any:
    """Quantisation of frozen weights for QLoRA: 4-bit NormalFloat, doubly quantised (arXiv 2305.14314).

    ``dtype`` is what the products are computed in.
    """
    import transformers

    untyped: Any = transformers
    return untyped.BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype
    )


def _projections(model: "PreTrainedModel", names: set[str]) -> list[str]:
    """Full names of the linear projections called so in some layer; one that is gone is no linear projection."""
    from torch import nn

    return [
        name
        for name, module in model.named_modules()
        if any(name.endswith(f".{end}") for end in names) and (isinstance(module, nn.Linear) or _is_conv(module))
    ]


def _is_conv(module: object) -> bool:
    from transformers.pytorch_utils import Conv1D

    return isinstance(module, Conv1D)
