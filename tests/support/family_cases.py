"""Configs of all described families and their variants, and wrong descriptions of each."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from transformers import CONFIG_MAPPING

from prunecast.models.families.family import Family, SizeName

GROUPED = {"hidden_size": 64, "num_attention_heads": 8, "num_key_value_heads": 4}
"""Query heads in groups, where a class can have them."""

NEW_FALCON = {
    "new_decoder_architecture": True,
    "num_kv_heads": 8,
    "num_attention_heads": 64,
    "hidden_size": 512,
}

LONG = {
    "original_max_position_embeddings": 1024,
    "max_position_embeddings": 4096,
    "rope_parameters": {
        "rope_type": "longrope",
        "rope_theta": 10000.0,
        "factor": 4.0,
        "short_factor": [1.0] * 4,
        "long_factor": [2.0] * 4,
    },
}

_GROUPED_TYPES = (
    *("apertus", "arcee", "cohere", "cohere2", "ernie4_5", "exaone4", "gemma", "gemma2", "gemma3_text", "glm4"),
    *("granite", "helium", "hunyuan_v1_dense", "llama", "ministral", "ministral3", "mistral", "nemotron", "olmo"),
    *("olmo2", "olmo3", "phi", "phi3", "qwen2", "qwen3", "seed_oss", "smollm3", "stablelm", "starcoder2"),
)

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    **{kind: (kind, GROUPED) for kind in _GROUPED_TYPES},
    **{kind: (kind, {}) for kind in ("gpt2", "gptj", "gpt_neo", "gpt_neox", "opt", "bloom", "mpt", "falcon")},
    "helium": ("helium", GROUPED | {"head_dim": 8}),
    "qwen2-sliding": ("qwen2", GROUPED | {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 2}),
    "mistral-full": ("mistral", GROUPED | {"sliding_window": None}),
    "gemma-multi-query": ("gemma", GROUPED | {"num_key_value_heads": 1}),
    "llama-biases": ("llama", GROUPED | {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True}),
    "stablelm-parallel": ("stablelm", GROUPED | {"use_parallel_residual": True}),
    "stablelm-qk-norms": ("stablelm", GROUPED | {"qk_layernorm": True}),
    "stablelm-parallel-qk-norms": ("stablelm", GROUPED | {"use_parallel_residual": True, "qk_layernorm": True}),
    "cohere-qk-norms": ("cohere", GROUPED | {"use_qk_norm": True}),
    "bloom-norms-last": ("bloom", {"apply_residual_connection_post_layernorm": True}),
    "opt-norms-last": ("opt", {"do_layer_norm_before": False, "word_embed_proj_dim": 512}),
    "opt-no-bias": ("opt", {"enable_bias": False, "layer_norm_elementwise_affine": False}),
    "phi-qk-norms": ("phi", GROUPED | {"qk_layernorm": True}),
    "gpt_neo-local": ("gpt_neo", {"num_layers": 4, "attention_types": [[["global", "local"], 2]]}),
    "gpt_neox-sequential": ("gpt_neox", {"use_parallel_residual": False}),
    "falcon-new": ("falcon", NEW_FALCON),
    "falcon-new-one-norm": ("falcon", NEW_FALCON | {"num_ln_in_parallel_attn": 1}),
    "falcon-sequential": ("falcon", {"parallel_attn": False, "multi_query": False, "alibi": True, "bias": True}),
    "falcon-multi-query-sequential": ("falcon", {"parallel_attn": False}),
    "granite-biases": ("granite", GROUPED | {"attention_bias": True, "mlp_bias": True}),
    "phi3-long": ("phi3", GROUPED | LONG),
    "gpt2-own-width": ("gpt2", {"n_inner": 100}),
}
"""Model types with attributes of their config: every described family, and each variant of its layers."""


WITHOUT_HEAD_DIM = ("hunyuan_v1_dense", "ministral", "nemotron")
"""Types whose default config has no width of a head, of which transformers makes no model."""


def config_of(case: str) -> Any:
    """The config of a case."""
    kind, attributes = CASES[case]
    own = {"head_dim": 128} if kind in WITHOUT_HEAD_DIM else {}
    return CONFIG_MAPPING[kind](**own | attributes)


PROJECTIONS = ("query", "key", "value", "output", "gate", "up", "down")
NORMS = ("attention_norms", "mlp_norms", "shared_norms", "lasting")
SIZES: tuple[SizeName, ...] = ("kv_groups", "query_heads", "heads_per_group", "query_width")
SWAPS = (
    *(("query", "key"), ("key", "value"), ("query", "value"), ("query", "output")),
    *(("gate", "up"), ("up", "down"), ("query_norm", "key_norm")),
)


def wrong(family: Family) -> Iterator[tuple[str, dict[str, Any]]]:
    """Changes of single fields of a description, settled for a config, each with a label."""
    for field in ("layers", "attention", *PROJECTIONS, "query_norm", "key_norm"):
        if getattr(family, field) is not None or field == "gate":
            yield f"{field} of another name", {field: "nowhere.at_all"}
    yield "attention is the MLP", {"attention": family.mlp[0]}
    yield "MLP is the attention", {"mlp": (family.attention,)}
    if len(family.mlp) > 1:
        for name in family.mlp:
            yield f"{name} is not of the MLP", {"mlp": tuple(other for other in family.mlp if other != name)}
    for one, other in SWAPS:
        if getattr(family, one) != getattr(family, other):
            yield f"{one} and {other} swapped", {one: getattr(family, other), other: getattr(family, one)}
    yield "fused otherwise", {"fused": "stack" if family.fused == "groups" else "groups"}
    if family.gate is not None:
        yield "no gate", {"gate": None}
    for field in ("query_norm", "key_norm"):
        if getattr(family, field) is not None:
            yield f"no {field}", {field: None}
    yield from _wrong_norms(family)
    for component in ("attention", "mlp"):
        others = tuple(each for each in family.adds_residual if each != component)
        added = others if component in family.adds_residual else (*others, component)
        yield f"{component} adds the residual otherwise", {"adds_residual": added}
    for argument in family.per_head:
        yield f"{argument} is not by head", {"per_head": tuple(each for each in family.per_head if each != argument)}
    for field in ("heads_attribute", "groups_attribute", "width_attribute"):
        for attribute in ("nowhere", "num_hidden_layers", "hidden_size", "num_attention_heads", "num_key_value_heads"):
            if getattr(family, field) != attribute:
                yield f"{field} is {attribute}", {field: attribute}
    if family.groups_attribute is not None:
        yield "no groups_attribute", {"groups_attribute": None}
    yield from _wrong_follows(family)


def _wrong_norms(family: Family) -> Iterator[tuple[str, dict[str, Any]]]:
    for field in NORMS:
        for name in getattr(family, field):
            without = {field: tuple(each for each in getattr(family, field) if each != name)}
            yield f"{name} not among {field}", without
            for other in NORMS:
                if other != field:
                    yield f"{name} among {other}, not {field}", without | {other: (*getattr(family, other), name)}


def _wrong_follows(family: Family) -> Iterator[tuple[str, dict[str, Any]]]:
    for attribute, size in family.follows.items():
        others = {name: value for name, value in family.follows.items() if name != attribute}
        yield f"{attribute} does not follow", {"follows": others}
        for wrong_size in SIZES:
            if wrong_size != size:
                yield f"{attribute} follows {wrong_size}", {"follows": {**others, attribute: wrong_size}}


def mutants(family: Family, config: Any) -> Iterator[tuple[str, Family]]:
    """Wrong descriptions of the models of a config, each with a label."""
    settled = family.settled(config)
    for label, change in wrong(settled):
        yield label, replace(settled, **change)
    for number, variant in enumerate(family.variants):
        without = family.variants[:number] + family.variants[number + 1 :]
        if variant.is_of(config):
            mutant = replace(family, variants=without)
            if mutant.settled(config) != settled:  # a later variant may change the same fields
                yield f"no variant {number}", mutant
        else:
            always = replace(variant, when={})
            yield f"variant {number} always", replace(family, variants=(*without, always))
