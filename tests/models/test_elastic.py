"""The elastic model, compared with sliced stock models that are built here independently."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sliced_models import CASES, IDS, WIDTH, elastic_of, random_importance, slice_stock, zero_stock

from prunecast.architecture.architecture import Architecture, Layer
from prunecast.errors import ModelError
from prunecast.models.elastic import convert_parameters
from prunecast.models.projections import FusedOutput, ShrinkingInput, ShrinkingOutput
from prunecast.models.source import resolve_source
from prunecast.testing.models import shape_of

every_family = pytest.mark.parametrize("case", CASES)


def random_architecture(rng: np.random.Generator, dense: Architecture) -> Architecture:
    return Architecture([[int(rng.integers(size + 1)) for size in layer] for layer in dense.layers])


@every_family
def test_logits_equal_those_of_a_sliced_model_for_every_kept_count(case: str, tiny_model: Callable[..., Any]) -> None:
    model = tiny_model(CASES[case][0], **CASES[case][1]).double()
    shape = shape_of(model.config)
    importance = random_importance(shape, seed=1)
    elastic = elastic_of(model, importance)
    groups, heads, width = dense = shape.dense.layers[0]
    attention = [Layer(kv, h, width) for kv in range(groups + 1) for h in range(heads + 1)]
    for sizes in attention + [Layer(groups, heads, kept) for kept in range(width + 1)]:
        architecture = Architecture([(groups, 1, 13), sizes, (groups - 1, heads, width)])
        elastic.apply(architecture)
        with torch.inference_mode():
            expected = slice_stock(model, architecture, importance)(IDS).logits
            torch.testing.assert_close(elastic.model(IDS).logits, expected, rtol=1e-4, atol=1e-4)
    assert width == WIDTH
    assert dense.query_heads == 8


@every_family
def test_repeated_switching_gives_the_logits_of_the_zeroed_dense_model(
    case: str, tiny_model: Callable[..., Any]
) -> None:
    model = tiny_model(CASES[case][0], **CASES[case][1]).double()
    shape = shape_of(model.config)
    importance = random_importance(shape, seed=2)
    walked, rng = elastic_of(model, importance), np.random.default_rng(3)
    for _ in range(20):
        architecture = random_architecture(rng, shape.dense)
        walked.apply(architecture)
        with torch.inference_mode():
            expected = zero_stock(model, architecture, importance)(IDS).logits
            torch.testing.assert_close(walked.model(IDS).logits, expected, rtol=1e-4, atol=1e-4)
    walked.apply(shape.dense)
    with torch.inference_mode():
        torch.testing.assert_close(walked.model(IDS).logits, model(IDS).logits, rtol=1e-4, atol=1e-4)


@every_family
def test_counted_parameters_are_those_of_the_sliced_weights(case: str, tiny_model: Callable[..., Any]) -> None:
    model = tiny_model(CASES[case][0], **CASES[case][1])
    shape = shape_of(model.config)
    elastic, rng = elastic_of(model, random_importance(shape, seed=4)), np.random.default_rng(5)
    nothing = Architecture([(0, 0, 0)] * 3)
    assert shape.count([shape.dense])[0] == model.num_parameters()
    for architecture in [shape.dense, nothing, *(random_architecture(rng, shape.dense) for _ in range(10))]:
        elastic.apply(architecture)
        distinct = {tensor.data_ptr(): tensor.numel() for tensor in elastic.state_dict().values()}
        assert shape.count([architecture])[0] == sum(distinct.values())


@every_family
def test_state_dict_is_that_of_a_sliced_stock_model(case: str, tiny_model: Callable[..., Any]) -> None:
    model = tiny_model(CASES[case][0], **CASES[case][1])
    shape = shape_of(model.config)
    importance = random_importance(shape, seed=5)
    elastic = elastic_of(model, importance)
    groups, heads, width = shape.dense.layers[0]
    elastic.apply(Architecture([(2, heads, 7), (groups, 1, width), (3, 1, 1)]))
    expected = slice_stock(model, elastic.architecture, importance).state_dict()
    state = elastic.state_dict()
    assert set(state) == set(expected)
    for name, tensor in expected.items():
        torch.testing.assert_close(state[name], tensor, rtol=0, atol=0)


@every_family
def test_state_dict_excludes_removed_components(case: str, tiny_model: Callable[..., Any]) -> None:
    model = tiny_model(CASES[case][0], **CASES[case][1])
    elastic = elastic_of(model, random_importance(shape_of(model.config), seed=5))
    elastic.apply(Architecture([(0, 0, 0)] * 3))
    left = {name for name in elastic.state_dict() if ".layers." in name or ".h." in name}
    norms = {"self_attn_layer_norm", "final_layer_norm"} if case == "opt-norms-last" else set()
    assert {name.split(".")[-2] for name in left} == norms


@every_family
def test_switching_copies_no_weight(case: str, tiny_model: Callable[..., Any]) -> None:
    model = tiny_model(CASES[case][0], **CASES[case][1])
    shape = shape_of(model.config)
    elastic = elastic_of(model, random_importance(shape, seed=6))
    storage = {p.untyped_storage().data_ptr() for p in elastic.model.parameters()}
    elastic.apply(Architecture([(2, 1, 7), (3, 1, 24), (1, shape.dense.layers[0].heads_per_group, 0)]))
    seen = 0
    for module in elastic.model.modules():
        kept: list[torch.Tensor] = []
        if isinstance(module, ShrinkingOutput):
            kept = [weight for weight, _ in module.views()]
        elif isinstance(module, ShrinkingInput):
            kept = module.views()
        assert all(tensor.untyped_storage().data_ptr() in storage for tensor in kept)
        assert all(tensor.is_contiguous() for tensor in kept)
        seen += len(kept)
    assert seen > 3 * 4


def test_fused_projections_stay_one_module(tiny_model: Callable[..., Any]) -> None:
    model = tiny_model("phi3")
    layer = elastic_of(model, random_importance(shape_of(model.config), seed=6)).model.get_submodule("model.layers.1")
    fused = {name for name, module in layer.named_modules() if isinstance(module, FusedOutput)}
    assert fused == {"self_attn.qkv_proj", "mlp.gate_up_proj"}


def test_attention_implementation_can_be_changed_afterwards(tiny_model: Callable[..., Any]) -> None:
    model = tiny_model("phi3")
    elastic = elastic_of(model, random_importance(shape_of(model.config), seed=6))
    elastic.apply(Architecture([(2, 1, 7), (3, 2, 24), (1, 2, 0)]))
    with torch.inference_mode():
        before = elastic.model(IDS).logits
        elastic.model.set_attn_implementation("eager")
        told = elastic.model(IDS, output_attentions=True)
    assert told.attentions[0] is not None
    torch.testing.assert_close(told.logits, before, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("layers", "message"),
    [([(4, 2, 24)] * 2, "has 2 layers, the model 3"), ([(4, 2, 24), (4, 2, 25), (4, 2, 24)], "layer 1")],
)
def test_architecture_of_another_model_is_refused(
    layers: list[tuple[int, int, int]], message: str, tiny_model: Callable[..., Any]
) -> None:
    model = tiny_model("llama")
    elastic = elastic_of(model, random_importance(shape_of(model.config), seed=7))
    with pytest.raises(ModelError, match=message):
        elastic.apply(Architecture(layers))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_widened_parameters_compute_the_same_as_a_model_loaded_in_float32(
    dtype: torch.dtype, tiny_model: Callable[..., Any], tmp_path: Path
) -> None:
    tiny_model("gemma2", hidden_size=56).to(dtype).save_pretrained(tmp_path)
    source = resolve_source(str(tmp_path))
    widened = source.load(dtype)
    convert_parameters(widened, torch.float32)
    with torch.inference_mode():
        torch.testing.assert_close(widened(IDS).logits, source.load(torch.float32)(IDS).logits, rtol=1e-6, atol=1e-6)
