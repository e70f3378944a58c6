"""Sizes of an exported model, compared with those that are counted from its architecture alone."""

from typing import Any

from torch import nn
from transformers.pytorch_utils import Conv1D

from prunecast.architecture.architecture import Architecture, Layer
from prunecast.architecture.shape import KV_CACHE_ITEM_BYTES
from prunecast.export.proof.trial import ROWS, Trial

PROMPT = 4
"""Number of tokens whose cache is counted: fewer than a small sliding window holds."""


def wrong_count(trial: Trial, model: Any, architecture: Architecture) -> str:
    """A clause on a quantity of the exported model that differs from the counted one; empty if there is none.

    Args:
        trial: the trial.
        model: its exported model.
        architecture: architecture of the exported model.
    """
    here = {"parameters": model.num_parameters(), "macs": _macs(trial, model, architecture)}
    cache = model(trial.tokens[:, :PROMPT], use_cache=True).past_key_values
    layers = zip(cache.layers, architecture.layers, strict=True)
    numbers = sum(_cached(each, layer) for each, layer in layers if layer.kv_groups)
    here["kv_cache_bytes"] = KV_CACHE_ITEM_BYTES * numbers // (ROWS * PROMPT)
    for quantity, amount in here.items():
        counted = int(trial.shape.at(PROMPT).count([architecture], quantity)[0])  # type: ignore[arg-type]
        if counted != amount:
            return f"{quantity} counted are {counted:,}, the model has {amount:,}"
    return ""


def _cached(cache: Any, layer: Layer) -> int:
    """Count of numbers in the cache of a layer; a group counts once, though some classes store it for each head."""
    numbers: int = cache.keys.numel() + cache.values.numel()
    return numbers // layer.heads_per_group if cache.keys.shape[1] == layer.query_heads else numbers


def _macs(trial: Trial, model: Any, architecture: Architecture) -> int:
    """Multiplications for one token: with the matrices of the layers, the keys and values it sees, and the head."""
    layers = model.get_submodule(trial.family.layers)
    matrices = sum(each.weight.numel() for each in layers.modules() if isinstance(each, nn.Linear | Conv1D))
    heads = sum(layer.query_heads for layer in architecture.layers)
    head: int = trial.config.vocab_size * trial.config.hidden_size
    return matrices + 2 * trial.shape.head_dim * PROMPT * heads + head


def unneeded_parameter(trial: Trial, model: Any) -> str:
    """A clause on a parameter of the layers that the logits do not depend on; empty if there is none.

    Args:
        trial: the trial.
        model: an exported model; its layers require gradients from now on.
    """
    layers = model.get_submodule(trial.family.layers).requires_grad_(True)
    parameters = dict(layers.named_parameters())
    if parameters:
        trial.logits(model).square().sum().backward()  # type: ignore[no-untyped-call]
    unused = [name for name, each in parameters.items() if each.grad is None or not each.grad.any()]
    return f"{trial.family.layers}.{unused[0]} remains, and nothing depends on it" if unused else ""
