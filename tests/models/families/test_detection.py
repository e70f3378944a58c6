"""Detection of families: what the described ones are found to be, what others are, and what is refused for what it has.

Every detected family is proven, too: the proof shares nothing with the detection but the small config.
"""

from dataclasses import fields, replace
from typing import Any

import family_cases
import pytest
import torch
from toy_decoder import TRAITS, ToyConfig, TwoNamesConfig
from transformers import CONFIG_MAPPING, MODEL_FOR_CAUSAL_LM_MAPPING

from prunecast.architecture.architecture import Architecture, Layer
from prunecast.errors import ModelError
from prunecast.export.proof.prove import prove
from prunecast.models.elastic import ElasticModel
from prunecast.models.families.catalogue import Families
from prunecast.models.families.detection import detect, random_model
from prunecast.models.families.family import Family
from prunecast.models.families.sizes import shape_of
from prunecast.models.families.small import small
from prunecast.testing.models import family_of, random_importance

ROPE = {"rope_type": "default", "rope_theta": 10000.0}

DETECTED: dict[str, tuple[str, dict[str, Any]]] = {
    **{kind: (kind, {}) for kind in ("biogpt", "ctrl", "cwm", "glm", "gpt_bigcode", "hyperclovax", "internlm3")},
    **{kind: (kind, {}) for kind in ("iquestcoder", "jais2", "nanochat", "persimmon")},
    **{kind: (kind, {}) for kind in ("vaultgemma", "xglm")},
    "lfm2": ("lfm2", {"block_auto_adjust_ff_dim": False}),
    "cohere_compass_text": (
        "cohere_compass_text",
        {"rope_parameters": {"full_attention": ROPE, "sliding_attention": ROPE}},
    ),
    "gpt_bigcode-groups": ("gpt_bigcode", {"multi_query": False}),
    "persimmon-no-norms": ("persimmon", {"qk_layernorm": False}),
    "qwen3_moe-without-experts": ("qwen3_moe", {"num_hidden_layers": 4, "mlp_only_layers": [0, 1, 2, 3]}),
    "granitemoehybrid-without-either": (
        "granitemoehybrid",
        {"num_hidden_layers": 4, "layer_types": ["attention"] * 4, "num_local_experts": 0, "hidden_size": 512}
        | {"num_attention_heads": 8, "num_key_value_heads": 4, "shared_intermediate_size": 600},
    ),
}
"""Types that no file describes, with attributes of their config."""

QUICK = ("glm", "gpt_bigcode-groups", "persimmon", "biogpt", "nanochat")

NO_FLOAT64 = ("xglm",)
"""Types whose own code fails in float64, in which the proof computes."""


def config_of(kind: str, attributes: dict[str, Any]) -> Any:
    return CONFIG_MAPPING[kind](**attributes)


@pytest.mark.parametrize(
    "case", [case if case in QUICK else pytest.param(case, marks=pytest.mark.slow) for case in DETECTED]
)
def test_a_detected_family_is_proven(case: str) -> None:
    config = config_of(*DETECTED[case])
    family = detect(config)
    assert family.name == DETECTED[case][0]
    if case not in NO_FLOAT64:
        prove(family, config)


@pytest.mark.parametrize("case", family_cases.CASES)
def test_a_described_family_is_found_to_be_what_its_file_says(case: str) -> None:
    config = family_cases.config_of(case)
    found, described = detect(config), family_of(config)
    small_config = small(config)
    differing = [
        (part.name, getattr(found, part.name), getattr(described, part.name))
        for part in fields(Family)
        if part.name not in ("follows", "per_head", "bos") and not alike(part.name, found, described, small_config)
    ]
    assert differing == []
    torch.testing.assert_close(pruned_logits(small_config, found), pruned_logits(small_config, described))


def alike(part: str, found: Family, described: Family, config: Any) -> bool:
    """True if a field of two descriptions means the same for the model of a config."""
    one, other = getattr(found, part), getattr(described, part)
    if part in ("query_norm", "key_norm") and one is None:
        return not has_parameters(other, config, described)
    if part.endswith("_norms") or part == "lasting":
        return {name for name in one if has_parameters(name, config, found)} == {
            name for name in other if has_parameters(name, config, described)
        }
    if part == "fused" and shape_of(config, described).dense.layers[0].kv_groups == 1:
        return True  # of one group, the two orders are the same
    return bool(one == other)


def has_parameters(name: str | None, config: Any, family: Family) -> bool:
    """True if a module of some layer has weights that are not shared by all heads."""
    layers: Any = random_model(config).get_submodule(family.layers)
    modules = [dict(layer.named_modules()).get(name or "-") for layer in layers]
    return any(len(list(module.parameters())) for module in modules if module is not None)


def pruned_logits(config: Any, family: Family) -> torch.Tensor:
    """Logits of three architectures of a small model."""
    shape = shape_of(config, family)
    elastic = ElasticModel(random_model(config), family, shape, random_importance(shape))
    ids = torch.randint(3, config.vocab_size, (2, 9), generator=torch.Generator().manual_seed(0))
    logits = []
    for turn in range(3):
        elastic.apply(
            Architecture([smaller(layer, (turn + index) % 4) for index, layer in enumerate(shape.dense.layers)])
        )
        with torch.no_grad():
            logits.append(elastic.model(ids, use_cache=False).logits)
    return torch.stack(logits)


def smaller(layer: Layer, turn: int) -> Layer:
    fewer = Layer(max(1, layer.kv_groups - 1), max(1, layer.heads_per_group - 1), layer.mlp_width // 2)
    return [fewer, fewer._replace(mlp_width=0), Layer(0, 0, layer.mlp_width), Layer(0, 0, 0)][turn]


DEPTH = {"num_hidden_layers": 4}

REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("deepseek_v3", DEPTH, r"latent attention \(model\.layers\.0\.self_attn\.q_a_proj\.weight\), and experts"),
    ("minicpm3", DEPTH, "latent attention"),
    ("mixtral", DEPTH, r"experts \(model\.layers\.0\.mlp\.experts\.gate_up_proj\)"),
    ("aria_text", DEPTH, "experts"),
    ("mamba", DEPTH, "state space or linear attention layers"),
    ("rwkv", DEPTH, "state space or linear attention layers"),
    ("qwen3_next", DEPTH, "state space or linear attention layers"),
    ("xlstm", {}, "state space or linear attention layers"),
    ("recurrent_gemma", {}, "recurrent blocks"),
    ("hrm_text", {}, "recurrent blocks"),
    ("lfm3", {}, "short convolutions"),
    ("trocr", {}, "cross attention"),
    ("gpt2", {"add_cross_attention": True}, "cross attention"),
    ("bart", {}, "an encoder with a decoder"),
    ("bert", {}, r"bert\.encoder\.layer\.0\.attention\.output\.dense reads later tokens, as in an encoder"),
    ("bert", {"is_decoder": True}, r"attention\.output\.LayerNorm normalises the residual stream"),
    ("gemma3", {}, "it is multimodal; take its text model, of type 'gemma3_text'"),
    ("emu3", {}, "it is multimodal; its text model has no class, of type 'emu3_text_model'"),
    ("git", {}, r"it is multimodal \(vision_config\)"),
    ("gemma3n_text", {}, "keys and values shared between layers .*embeddings for each layer"),
    ("gemma4_unified_text", {}, "heads of different widths, 256 and 512"),
    ("granite_swa", DEPTH, r"attention sinks \(model\.layers\.0\.self_attn\.sinks\)"),
    ("diffllama", DEPTH, "differential attention"),
    ("bitnet", DEPTH, r"mlp\.ffn_sub_norm has a weight for each channel of the MLP"),
    ("doge", DEPTH, r"parameter model\.layers\.0\.input_residual belongs to no projection and to no norm"),
    ("xlm", DEPTH, r"layers may be transformer\.attentions or transformer\.layer_norm1 or"),
    ("gpt_neox_japanese", DEPTH, "attention returns 3 values, not a tuple of output and weights"),
    ("openai-gpt", {}, "attn returns a list"),
    ("xlnet", {}, "the first input of transformer.layer.0 is not one residual stream"),
    ("modernbert-decoder", {}, "ModernBertDecoderForCausalLM does something to its logits that is neither a scale nor"),
    ("nemotron", {}, "transformers cannot make its model"),
]


@pytest.mark.parametrize(("kind", "attributes", "reason"), REFUSED, ids=[each[0] for each in REFUSED])
def test_what_has_no_description_is_refused_for_what_it_has(kind: str, attributes: dict[str, Any], reason: str) -> None:
    with pytest.raises(ModelError, match=reason) as caught:
        detect(config_of(kind, attributes))
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"model type {kind!r} is not described, and cannot be detected: ")


TOYS = {
    "value-key-query": r"the rows of mix\.qkv are in the order value 0, value 1, value 2, key 0",
    "by-head-and-role": r"the rows of mix\.qkv are in the order value 0, key 0, query 0, query 1, value 1",
    "interleaved-gate": r"the rows of mlp\.wide are not in the order of the channels",
    "heads-apart": r"row 48 of mix\.qkv belongs to heads \[0, 3\]: neither one head nor a group side by side",
    "mixed-heads": r"belongs to heads \[0, 1\]",
    "output-gate": r"layers\.0\.mix\.qkv gates the output of the attention",
    "later-tokens": r"layers\.0\.mix\.out reads later tokens",
    "keys-of-first": r"layers\.1\.mix\.out reads layers\.0\.mix\.qkv: keys and values shared between layers",
    "embedded-again": r"reads embed\.weight: an input beside the residual stream",
    "layer-scale": r"parameter layers\.0\.scale belongs to no projection and to no norm",
    "twice": r"layers\.0 runs 2 times in a forward pass",
    "two-gates": "reads 3 projections of 19 channels",
}


def test_the_toy_without_a_trait_is_detected() -> None:
    family = detect(ToyConfig())
    assert (family.query, family.fused, family.gate, family.up) == ("mix.qkv", "stack", "mlp.wide", "mlp.wide")
    assert (family.attention_norms, family.mlp_norms) == (("first_norm",), ("second_norm",))
    assert family.follows == {"heads": "query_heads", "groups": "kv_groups"}


@pytest.mark.parametrize("trait", [trait for trait in TRAITS if trait != "plain"])
def test_a_forward_pass_that_no_description_fits_is_refused(trait: str) -> None:
    with pytest.raises(ModelError, match=TOYS[trait]):
        detect(ToyConfig(trait=trait))


def test_an_ambiguous_config_is_refused_with_both_readings() -> None:
    with pytest.raises(ModelError, match="query heads may be in count_of_heads or count_of_queries of TwoNamesConfig"):
        detect(TwoNamesConfig())


def test_a_config_is_not_changed_and_torchs_random_numbers_are_kept() -> None:
    config = config_of("glm", DEPTH)
    before, state = config.to_dict(), torch.get_rng_state()
    detect(config)
    assert config.to_dict() == before
    assert torch.equal(torch.get_rng_state(), state)


def test_only_what_nothing_describes_is_detected() -> None:
    config = config_of("glm", DEPTH)
    assert Families({}).detects(config)
    assert Families({}).of(config) == detect(config)
    described = replace(detect(config), bos=True)
    assert not Families({"glm": described}).detects(config)
    assert Families({"glm": described}).of(config).bos
    assert not Families({}, chosen=described).detects(config)
    assert Families({}, chosen=described).of(config).bos


@pytest.mark.slow
def test_every_causal_type_of_transformers_is_detected_or_refused_in_a_line() -> None:
    accepted, messages = set(), list[str]()
    of_transformers = [each for each in MODEL_FOR_CAUSAL_LM_MAPPING if each.__module__.startswith("transformers.")]
    for configuration in of_transformers:
        try:
            config = configuration()
        # Some classes have defaults that they refuse themselves.
        except Exception:  # noqa: BLE001
            continue
        try:
            accepted.add(detect(config).name)
        except ModelError as error:
            messages.append(str(error))
    assert not any("\n" in message for message in messages)
    described = {family_cases.CASES[case][0] for case in family_cases.CASES}
    assert accepted - described == {kind for kind, attributes in DETECTED.values() if not attributes} | {"lfm2"}
