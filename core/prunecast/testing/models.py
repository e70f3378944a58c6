"""Tiny transformers models with random weights, and a byte tokenizer, for checks of pruners and evaluators.

They are built in memory and need no files.
"""

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from prunecast.architecture.architecture import LayerImportance
from prunecast.architecture.shape import ModelShape

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

    from prunecast.models.elastic import ElasticModel
    from prunecast.models.families.catalogue import Families
    from prunecast.models.families.family import Family

BYTES = 256
"""Vocabulary size of the tokenizer and the models: one token per byte."""

FAMILIES: Mapping[str, Mapping[str, object]] = {
    "llama": {},
    "qwen2": {},
    "gpt2": {"n_inner": 24, "n_positions": 512},
    "opt": {"ffn_dim": 24, "word_embed_proj_dim": 64},
    "phi3": {},
}
"""Families that cover all weight layouts, with the config attributes that they need besides the common ones.

In order: plain; with biases; fused and transposed; with learned positions; fused with rotary positions.
"""


def tiny_model(family: str = "llama", seed: int = 0, **changes: object) -> "PreTrainedModel":
    """A random model in float32 and evaluation mode: 3 layers of 4 KV groups x 2 heads of size 8, width 24.

    GPT-2 and OPT have a KV group for each of 8 heads. Biases and norms are random too, so that an error in
    handling them shows.

    Args:
        family: ``model_type`` of a supported family, preferably one of ``FAMILIES``.
        seed: seed of the weights.
        changes: config attributes that replace the defaults.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    sizes: dict[str, object] = {
        "vocab_size": BYTES,
        "hidden_size": 64,
        "intermediate_size": 24,
        "num_hidden_layers": 3,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "max_position_embeddings": 512,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    config = AutoConfig.for_model(family, **(sizes | dict(FAMILIES.get(family, {})) | changes))
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng():
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config)  # type: ignore[no-untyped-call]
    for parameter in model.parameters():
        noise = torch.randn(parameter.shape, generator=generator) * 0.2
        parameter.data = noise + (1.0 if parameter.ndim == 1 else 0.0)
    model.train(False)
    return model


def family_of(config: "PreTrainedConfig") -> "Family":
    """Description of the family of a model, of those that installed plugins describe."""
    return _families().of(config)


def shape_of(config: "PreTrainedConfig") -> ModelShape:
    """Sizes of the model of a config, counted without weights."""
    from prunecast.models.families import sizes

    return sizes.shape_of(config, family_of(config))


@cache
def _families() -> "Families":
    from prunecast.plugins.families import families_of
    from prunecast.plugins.host import PluginHost

    return families_of(PluginHost.discover())


def tiny_shape(context: int = 512) -> ModelShape:
    """Shape of the tiny Llama with the given context."""
    return shape_of(tiny_model(max_position_embeddings=context).config)


def elastic_model(model: "PreTrainedModel", importance: list[LayerImportance] | None = None) -> "ElasticModel":
    """Elastic model made from ``model``, which is modified in place; ``importance`` is random if None."""
    from prunecast.models.elastic import ElasticModel

    shape = shape_of(model.config)
    return ElasticModel(model, family_of(model.config), shape, importance or random_importance(shape))


def random_importance(shape: ModelShape, seed: int = 0) -> list[LayerImportance]:
    """Random importance of every unit of a model, uniform in [0, 1)."""
    rng = np.random.default_rng(seed)
    return [
        LayerImportance(rng.random(kv), rng.random((kv, heads)), rng.random(width))
        for kv, heads, width in shape.dense.layers
    ]


def byte_tokenizer() -> "PreTrainedTokenizerBase":
    """A tokenizer with exactly one token per byte."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {token: number for number, token in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    made: PreTrainedTokenizerBase = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="!")  # type: ignore[no-untyped-call]
    return made
