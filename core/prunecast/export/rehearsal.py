"""Rehearsal of an export: does the installed transformers compute a model without attention? Asked before measuring.

Positions and masks follow from the number of tokens in a cache, and transformers changes how its models count them. A
model of three layers with the user's config and random weights is therefore written and loaded as in an export.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from prunecast.architecture.architecture import Architecture, Layer, LayerImportance
from prunecast.architecture.shape import ModelShape
from prunecast.errors import ExportError, is_out_of_memory, one_line
from prunecast.export.parity import TOLERANCE, distance, generation_logits
from prunecast.export.sliced import SlicedFolder
from prunecast.models.families.family import Family
from prunecast.models.families.sizes import shape_of
from prunecast.models.pruned.classes import as_stock

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

    from prunecast.models.elastic import ElasticModel

LAYERS, VOCABULARY, WIDTH = 3, 64, 16
"""Most layers, tokens of the vocabulary and MLP channels of the rehearsed model."""

ROWS, TOKENS = 2, 24
"""Prompts and their length; the second prompt is padded on the left."""


def rehearse(config: "PreTrainedConfig", family: Family) -> None:
    """Check that a model whose first layer has no attention can be exported exactly.

    Args:
        config: config of the dense model; it is not changed.
        family: description of its family.

    Raises:
        ExportError: with the installed transformers, the modelling code of an export fails, does not compute the
            measured model, or computes something else with a cache than without.
    """
    import transformers

    try:
        problem = _problem(_small(config, family), family)
    # The code of another version of transformers can raise anything.
    except Exception as error:
        if is_out_of_memory(error):
            raise
        problem = f"it fails ({one_line(error)})"
    if problem:
        raise ExportError(
            f"a {config.model_type} model without attention in its first layer cannot be exported with transformers "
            f"{transformers.__version__}: {problem}; install another version of it, or leave export out"
        )


def _small(config: "PreTrainedConfig", family: Family) -> "PreTrainedConfig":
    """The config with few layers, tokens and channels; widths of heads and of the residual stream are kept."""
    small: Any = as_stock(config)
    depth = config.num_hidden_layers
    for name, value in vars(small).items():
        if isinstance(value, list) and len(value) == depth:  # one entry a layer, such as its type of attention
            setattr(small, name, value[:LAYERS])
    small.num_hidden_layers = min(LAYERS, depth)
    small.vocab_size = min(VOCABULARY, config.vocab_size)
    setattr(small, family.width_attribute, min(WIDTH, getattr(small, family.width_attribute, None) or WIDTH))
    # These may be beyond the smaller vocabulary.
    small.bos_token_id = small.eos_token_id = small.pad_token_id = None
    return small  # type: ignore[no-any-return]


def _problem(config: "PreTrainedConfig", family: Family) -> str:
    """One clause on what the export of a model of this config computes wrongly; empty if all is right."""
    import torch

    shape = shape_of(config, family)
    first, *others = shape.dense.layers
    architecture = Architecture([Layer(0, 0, first.mlp_width), *(Layer(1, each[1], each[2]) for each in others)])
    with torch.random.fork_rng(), torch.inference_mode():
        torch.manual_seed(0)
        elastic = _elastic(config, family, shape)
        elastic.apply(architecture)
        tokens = torch.randint(0, config.vocab_size, (ROWS, min(TOKENS, config.max_position_embeddings // 2)))
        measured = elastic.model(tokens, use_cache=False).logits
        with SlicedFolder.written(config, family, elastic.state_dict(), architecture) as folder:
            exported = folder.load(torch.float32, torch.device("cpu"))
        cached, uncached = generation_logits(exported, tokens)
        logits = exported(tokens, use_cache=False).logits
    if not (off := distance(logits, measured)) <= TOLERANCE:
        return f"its logits are {off:.1e} (relative) from those of the measured model"
    if not (off := distance(cached, uncached)) <= TOLERANCE:
        return f"its logits with a cache are {off:.1e} (relative) from those without"
    return ""


def _elastic(config: "PreTrainedConfig", family: Family, shape: ModelShape) -> "ElasticModel":
    """A model with random weights, in float32 on the CPU, its units in their original order."""
    import torch
    from transformers import AutoModelForCausalLM

    from prunecast.models.elastic import ElasticModel

    model: Any = AutoModelForCausalLM.from_config(  # type: ignore[no-untyped-call]
        config, dtype=torch.float32, trust_remote_code=False
    )
    importance = [
        LayerImportance(np.zeros(groups), np.zeros((groups, heads)), np.zeros(width))
        for groups, heads, width in shape.dense.layers
    ]
    return ElasticModel(model.eval(), family, shape, importance)
