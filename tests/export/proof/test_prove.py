"""The proof of every described family and of each variant, and its parts, compared with others that do the same."""

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from family_cases import CASES, config_of
from sliced_models import CASES as SLICED
from sliced_models import slice_stock, zero_stock
from slow_cases import slow_but
from transformers import AutoConfig

from prunecast.architecture.architecture import Architecture
from prunecast.errors import ModelError
from prunecast.export.proof.architectures import every_count, with_components_removed
from prunecast.export.proof.masked import masked
from prunecast.export.proof.prove import TOLERANCE, prove
from prunecast.export.proof.trial import InFloat64, Trial
from prunecast.models.families.family import Family
from prunecast.plugins.families import families_of
from prunecast.plugins.host import PluginHost

FAMILIES = families_of(PluginHost.discover())

QUICK = (
    *("llama-biases", "gemma3_text", "olmo2", "phi3", "gpt2"),
    *("falcon-new", "bloom-norms-last", "stablelm-parallel-qk-norms"),
)
"""Cases of a daily run: biases; windows and norms around; norms over all heads; fused in a stack; transposed; fused by
groups; fused by heads with ALiBi and norms of the stream; shared norms and a norm for each head."""

ALL = slow_but(QUICK, CASES)


def test_every_described_family_has_a_case() -> None:
    assert {kind for kind, _ in CASES.values()} == set(FAMILIES)


@pytest.mark.parametrize("case", ALL)
def test_every_described_family_is_proven(case: str) -> None:
    config = config_of(case)
    before, random = config.to_dict(), torch.random.get_rng_state()
    proof = prove(FAMILIES[config.model_type], config)
    assert proof.worst <= TOLERANCE
    assert {"reordered", "elastic", "exported", "cached", "counted", "needed", "windows"} <= set(proof.comparisons)
    assert proof.comparisons["elastic"] == proof.comparisons["exported"] > 8
    assert config.to_dict() == before
    assert torch.equal(torch.random.get_rng_state(), random)


@pytest.mark.parametrize("case", ["llama-biases", "gpt2", "falcon-new"])
def test_every_count_is_kept_in_turn(case: str) -> None:
    config = config_of(case)
    dense = Trial(config, FAMILIES[config.model_type].settled(config)).shape.dense
    tried = [*with_components_removed(dense), *every_count(dense)]
    for index, layer in enumerate(dense.layers):
        attentions = {architecture.layers[index][:2] for architecture in tried}
        groups, heads = range(1, layer.kv_groups + 1), range(1, layer.heads_per_group + 1)
        assert attentions == {(0, 0), *((g, h) for g in groups for h in heads)}
    widths = {layer.mlp_width for architecture in tried for layer in architecture.layers}
    assert widths == set(range(dense.layers[0].mlp_width + 1))
    roles = {tuple((bool(a), bool(c)) for a, _, c in each.layers) for each in tried}
    assert {each[0] for each in roles} == {(True, True), (True, False), (False, True), (False, False)}


# ------------------------------------------------------------------------------------------------- the masked model


@pytest.mark.parametrize("case", ["llama", "qwen3", "phi3", "gpt2", "opt", "opt-norms-last"])
@pytest.mark.parametrize("turn", [1, 5, 9, 12])
def test_the_masked_model_is_one_with_zeros_and_one_cut_by_index(case: str, turn: int, tiny_model: Any) -> None:
    kind, changes = SLICED[case]
    config = tiny_model(kind, **changes).config
    trial = Trial(config, FAMILIES[kind].settled(config))
    architecture = [*with_components_removed(trial.shape.dense), *every_count(trial.shape.dense)][turn]
    with InFloat64(), torch.inference_mode():
        expected = trial.of_masked(architecture)
        for other in (zero_stock, slice_stock):
            made = other(trial.stock, architecture, trial.importance)
            torch.testing.assert_close(trial.logits(made), expected, rtol=1e-9, atol=1e-12)
        assert not torch.allclose(expected, trial.logits(trial.stock), rtol=1e-3)


def test_a_norm_over_all_heads_is_one_over_the_kept_heads() -> None:
    config = config_of("olmo2")
    trial = Trial(config, FAMILIES["olmo2"].settled(config))
    first, *others = trial.shape.dense.layers
    architecture = Architecture([first._replace(kv_groups=2, heads_per_group=1), *others])
    seen: dict[str, torch.Tensor] = {}

    def keep(name: str) -> Any:
        return lambda module, inputs, output: seen.update({f"{name}.in": inputs[0], f"{name}.out": output})

    attention = trial.stock.model.layers[0].self_attn
    scores = trial.importance[0]
    groups = sorted(range(first.kv_groups), key=lambda g: -scores.kv_groups[g])[:2]
    heads = [g * first.heads_per_group + int(scores.query_heads[g].argmax()) for g in groups]
    columns = [head * 8 + column for head in heads for column in range(8)]
    with InFloat64(), torch.inference_mode(), masked(trial.stock, trial.family, architecture, trial.importance):
        hook = attention.q_norm.register_forward_hook(keep("q"))
        trial.logits(trial.stock)
        hook.remove()
    kept = seen["q.in"][..., columns]
    weight = attention.q_norm.weight[columns]
    by_hand = kept / (kept.pow(2).mean(-1, keepdim=True) + attention.q_norm.variance_epsilon).sqrt() * weight
    torch.testing.assert_close(seen["q.out"][..., columns], by_hand, rtol=1e-12, atol=1e-12)


def test_hooks_are_gone_after_a_masked_pass() -> None:
    config = config_of("olmo2")
    trial = Trial(config, FAMILIES["olmo2"].settled(config))
    with InFloat64(), torch.inference_mode():
        before = trial.logits(trial.stock)
        trial.of_masked(next(iter(every_count(trial.shape.dense))))
        assert torch.equal(trial.logits(trial.stock), before)


# -------------------------------------------------------------------------------------------------------- messages


def test_a_failure_is_one_line_with_family_check_architecture_and_difference() -> None:
    config = config_of("gemma2")
    wrong = replace(
        FAMILIES["gemma2"],
        attention_norms=("pre_feedforward_layernorm", "post_attention_layernorm"),
        mlp_norms=("input_layernorm", "post_feedforward_layernorm"),
    )
    with pytest.raises(ModelError) as caught:
        prove(wrong, config)
    message = str(caught.value)
    assert "\n" not in message
    assert "family 'gemma2' is not described rightly: elastic, architecture " in message
    assert "logits differ by " in message


def test_what_fails_to_run_is_one_line_too() -> None:
    config = config_of("gpt2")
    with pytest.raises(ModelError, match=r"elastic, architecture \S+ .*: it fails \(ValueError: ") as caught:
        prove(replace(FAMILIES["gpt2"], follows={}), config)
    assert "\n" not in str(caught.value)


def test_a_description_that_fits_is_not_proven_where_losses_cannot_be_measured() -> None:
    family = Family(
        "modernbert-decoder",
        attention="attn",
        **{"query": "attn.q_proj", "key": "attn.k_proj", "value": "attn.v_proj", "output": "attn.Wo"},
        **{"gate": "mlp.Wi", "up": "mlp.Wi", "down": "mlp.Wo"},
        attention_norms=("attn_norm",),
        mlp_norms=("mlp_norm",),
        groups_attribute=None,
        follows={"num_heads": "query_heads"},
    )
    with pytest.raises(ModelError, match=r"^ModernBertDecoderForCausalLM does something to its logits that is nei"):
        prove(family, AutoConfig.for_model("modernbert-decoder"))


def test_a_class_of_float32_norms_computes_in_float64() -> None:
    config = config_of("llama")
    trial = Trial(config, FAMILIES["llama"])
    norm = copy.deepcopy(trial.stock.model.norm)
    x = torch.randn(3, norm.weight.numel(), dtype=torch.float64)
    exact = x / (x.pow(2).mean(-1, keepdim=True) + norm.variance_epsilon).sqrt() * norm.weight
    assert (norm(x) - exact).abs().max() > 1e-9
    with InFloat64():
        torch.testing.assert_close(norm(x), exact, rtol=1e-14, atol=1e-14)
