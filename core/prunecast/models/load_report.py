"""Reports of transformers on the weights of a checkpoint: what is missing, what does not fit, what does no harm."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from prunecast.errors import ModelError
from prunecast.models.checkpoint import StoredTensor
from prunecast.text import first_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_BUFFERS = re.compile(
    r"(?:^|\.)(?:rotary_(?:pos_)?emb\.\w+|inv_freq|(?:cos|sin)(?:_cached)?|masked_bias|position_ids|num_batches_tracked)$"
)
"""Constants that older versions stored with the weights, and newer ones compute."""

_MASK = re.compile(r"(?:attn|attention)\.bias$")
"""A causal mask if it has three dimensions or more, else a bias of the projections."""

_NEXT_TOKENS = re.compile(r"(?:^|\.)(?:mtp|nextn|medusa|eagle)\w*(?:\.|$)")
"""Modules that predict tokens beyond the next one, beside the model."""

_NEXT_TOKEN_LAYER = re.compile(r"\.(?:eh_proj|enorm|hnorm|shared_head)(?:\.|$)")
"""Modules that only a layer for multi-token prediction has; such layers are numbered after those of the model."""

_LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks)\.(\d+)\.")

_ADAPTER = re.compile(r"(?:^|\.)(?:lora_\w+|base_layer|hada_\w+|ia3_l|modules_to_save)(?:\.|$)")
"""Names under which unmerged adapters of PEFT are stored."""

_SHOWN = 3
"""Names in a message."""


def check_report(
    report: Mapping[str, Any], model: "PreTrainedModel", stored: Mapping[str, StoredTensor], name: str
) -> list[str]:
    """Names of the stored weights that are left out, because the model computes the same without them.

    These are constants of older versions, other heads, and layers for multi-token prediction. Any other weight that
    the model has no place for means that the checkpoint is another model than its config says.

    Args:
        report: the ``output_loading_info`` of transformers.
        model: the loaded model, or its skeleton on the meta device.
        stored: headers of the stored weights; empty if they are not at hand.
        name: name of the model, for messages.

    Raises:
        ModelError: a weight is missing, has another shape, or has no place in the model though it would matter.
    """
    wrong = {kind: _names(report.get(f"{kind}_keys") or ()) for kind in ("missing", "unexpected", "mismatched")}
    # Where weights are missing, those without a place may be the same under other names.
    harmless = set() if wrong["missing"] else set(_harmless(wrong["unexpected"], model, stored))
    wrong["unexpected"] = [key for key in wrong["unexpected"] if key not in harmless]
    if adapters := [key for key in wrong["unexpected"] if _ADAPTER.search(key)]:
        raise ModelError(
            f"model {name}: its weights hold an adapter that is not merged ({adapters[0]}): merge it first, with "
            "merge_and_unload() of peft, and save the result"
        )
    listed = "; ".join(f"{kind} {first_of(keys)}" for kind, keys in wrong.items() if keys)
    if listed:
        raise ModelError(f"model {name}: its weights do not fit its config ({listed}); {_advice(wrong, model)}")
    return sorted(harmless)


def left_out_note(keys: list[str]) -> str:
    """Words on weights that are left out."""
    more = f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else ""
    return f"left out {', '.join(keys[:_SHOWN])}{more}: the language model computes nothing with them"


def _names(keys: Iterable[Any]) -> list[str]:
    return sorted(str(key[0]) if isinstance(key, tuple) else str(key) for key in keys)


def _harmless(keys: list[str], model: "PreTrainedModel", stored: Mapping[str, StoredTensor]) -> Iterable[str]:
    ours = {name for name, _ in model.named_children()} | {name for name, _ in model.base_model.named_children()}
    depth = int(model.config.num_hidden_layers)
    beyond = defaultdict(list)
    for key in keys:
        if (layer := _LAYER.search(key)) and int(layer[1]) >= depth:
            beyond[layer[1]].append(key)
        elif _BUFFERS.search(key) or _NEXT_TOKENS.search(key) or _is_mask(key, stored):
            yield key
        elif "." in key and key.split(".", 1)[0] not in ours and not _ADAPTER.search(key):
            yield key  # another head: no module of the language model has this name
    for group in beyond.values():
        if any(_NEXT_TOKEN_LAYER.search(key) for key in group):
            yield from group


def _is_mask(key: str, stored: Mapping[str, StoredTensor]) -> bool:
    return key in stored and len(stored[key].shape) > 2 and _MASK.search(key) is not None


def _advice(wrong: Mapping[str, list[str]], model: "PreTrainedModel") -> str:
    output = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    head = next((name for name, module in model.named_modules() if module is output), None)
    if wrong["missing"] == [f"{head}.weight"] and not wrong["mismatched"]:
        return (
            "save the causal language model, not its base without the head, or set tie_word_embeddings: true in "
            "config.json if head and embeddings are the same"
        )
    return "save or download it again"
