"""Tied embeddings: whether a checkpoint holds a head of its own, whatever its config states."""

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

from prunecast.models.checkpoint import WeightFiles, read_tensors, stored_tensors

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedConfig

_ROWS = 4096
"""Rows of the embeddings that are compared at a time."""


def is_tied(config: "PreTrainedConfig", names: Collection[str] | None, weights: Callable[[], WeightFiles]) -> bool:
    """True if head and embeddings are the same weights in a checkpoint whose config states that they are.

    They are not if both are stored and differ, as after the head was trained alone. transformers decides in the same
    way, but compares the weights in the dtype that they are loaded in.

    Args:
        config: the config, which states tied embeddings.
        names: names of the stored weights, if they are known without the files.
        weights: returns the files; called only if the names are not known, or both are stored.

    Raises:
        ModelError: the files are missing or damaged.
    """
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING

    stock: Any = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
    prefix = f"{stock.base_model_prefix}."
    if names is not None and not _both(stock, prefix, names):
        return True
    files = weights()
    pair = _both(stock, prefix, stored_tensors(files))
    if not pair:
        return True
    found = {name: tensor for name, _, tensor in read_tensors(files, pair)}
    head, embeddings = (found[name] for name in pair)
    return head.shape == embeddings.shape and _equal(head, embeddings)


def _both(stock: Any, prefix: str, names: Collection[str]) -> tuple[str, ...]:
    """Names under which head and embeddings are stored; empty unless both are."""
    for head, embeddings in dict(stock._tied_weights_keys or {}).items():
        stored = [
            next((n for n in (name, name.removeprefix(prefix)) if n in names), None) for name in (head, embeddings)
        ]
        if all(stored):
            return tuple(filter(None, stored))
    return ()


def _equal(one: "Tensor", other: "Tensor") -> bool:
    import torch

    pairs = zip(torch.split(one, _ROWS), torch.split(other, _ROWS), strict=True)
    return all(torch.equal(a.float(), b.float()) for a, b in pairs)
