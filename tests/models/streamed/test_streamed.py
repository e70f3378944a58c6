"""A streamed model: the same numbers as the ordinary one, to the last bit, with one layer at a time in memory."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from prunecast.architecture.architecture import Architecture
from prunecast.models.compensation import FromMoments
from prunecast.models.cpu.norms import use_fast_norms
from prunecast.models.elastic import ElasticModel
from prunecast.models.moments import Moments, MomentSums, MomentsWriter, gather_moments
from prunecast.models.streamed.calibration import visit_layers, visit_layers_backwards
from prunecast.models.streamed.elastic import StreamedElastic
from prunecast.models.streamed.layer_major import LayerMajor, Wanted
from prunecast.models.streamed.model import StreamedModel
from prunecast.models.streamed.one_layer import OneLayer
from prunecast.plugins import LayerImportance, Pruner
from prunecast.testing.models import family_of, random_importance, shape_of, tiny_model
from prunecast_plugins.pruners.activation import Activation
from prunecast_plugins.pruners.flap import FLAP
from prunecast_plugins.pruners.magnitude import Magnitude
from prunecast_plugins.pruners.obs import OBS
from prunecast_plugins.pruners.taylor import Taylor

FAMILIES = ("llama", "qwen3", "gpt2", "gemma3_text", "bloom", "phi3")
TOKENS = torch.randint(3, 250, (6, 24), generator=torch.Generator().manual_seed(0))


def of(family: str, **changes: object) -> Any:
    """A random model in bfloat16, as it would be stored."""
    sizes = {"bloom": {"n_head": 8, "n_layer": 3}, "gemma3_text": {"head_dim": 8, "query_pre_attn_scalar": 8}}
    return tiny_model(family, **{**sizes.get(family, {}), **changes}).to(torch.bfloat16)


def streamed_of(family: str, dtype: torch.dtype = torch.float32) -> StreamedModel:
    model = of(family)
    return StreamedModel(model, family_of(model.config), dtype, "cpu")


def ordinary_of(family: str) -> Any:
    return of(family).float()


def same(found: Sequence[LayerImportance], expected: Sequence[LayerImportance]) -> bool:
    pairs = [
        (a, b)
        for one, other in zip(found, expected, strict=True)
        for a, b in zip(vars(one).items(), vars(other).items(), strict=True)
    ]
    return all(name == other and bytes(a.data) == bytes(b.data) for (name, a), (other, b) in pairs)


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_are_the_same(family: str) -> None:
    ordinary, streamed = ordinary_of(family), streamed_of(family)
    with torch.inference_mode():
        assert torch.equal(streamed.model(TOKENS).logits, ordinary(TOKENS).logits)


PRUNERS = {
    "flap": (FLAP, {}),
    "activation": (Activation, {}),
    "magnitude": (Magnitude, {}),
    "taylor": (Taylor, {}),
    "taylor mixed": (Taylor, {"order": "mixed", "aggregation": "vector"}),
    "obs": (OBS, {}),
    "obs alike": (OBS, {"outputs": "alike"}),
}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", PRUNERS)
def test_rankings_are_the_same(name: str, family: str, tmp_path: Path) -> None:
    kind, options = PRUNERS[name]
    pruner: Pruner[Any] = kind(kind.options_model(**options))
    ordinary, streamed = ordinary_of(family), streamed_of(family)
    expected = pruner.rank(ordinary, family_of(ordinary.config), TOKENS)
    found: dict[int, LayerImportance] = {}

    def visit(layer: OneLayer, index: int) -> None:
        (found[index],) = pruner.rank(layer, streamed.family, TOKENS)  # type: ignore[arg-type]

    reading = pruner.by_layer
    assert reading is not None
    texts = torch.split(TOKENS, reading.samples) if name != "magnitude" else ()
    if reading.gradients:
        visit_layers_backwards(streamed, texts, visit, "it", tmp_path)
    else:
        visit_layers(streamed, texts, visit, "it")
    assert same([found[index] for index in range(3)], expected)


def with_gathered_moments(family: str, path: Path) -> Moments:
    ordinary = ordinary_of(family)
    return gather_moments(ordinary, family_of(ordinary.config), torch.split(TOKENS, 4), path, lambda _: None)


@pytest.mark.parametrize("family", FAMILIES)
def test_moments_are_the_same(family: str, tmp_path: Path) -> None:
    expected = with_gathered_moments(family, tmp_path / "expected.safetensors")
    streamed = streamed_of(family)
    writer = MomentsWriter(tmp_path / "found.safetensors", shape_of(streamed.model.config))
    texts = torch.split(TOKENS, 4)

    def visit(layer: OneLayer, index: int) -> None:
        sums = MomentSums(layer, streamed.family, index)  # type: ignore[arg-type]
        with torch.inference_mode(), sums.listening():
            for batch in texts:
                layer.base_model(batch, use_cache=False)
        writer.write(sums.means())

    visit_layers(streamed, texts, visit, "it")
    found, wanted = load_file(tmp_path / "found.safetensors"), load_file(expected.path)
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def architectures_of(model: ElasticModel) -> list[Architecture]:
    """The dense one, then eight others, several with the same first layers."""
    (groups, heads, width), *_ = model.shape.dense.layers
    sizes = [(groups, heads, width), (groups // 2, heads, 8), (0, 0, 5), (groups, heads, 0), (0, 0, 0)]
    return [Architecture([sizes[(number * step) % 5] for step in (0, 1, 2)]) for number in range(5)] + [
        Architecture([sizes[number % 2], sizes[number], sizes[1]]) for number in range(1, 5)
    ]


def both(
    family: str, path: Path, method: Any, dtype: torch.dtype = torch.float32
) -> tuple[ElasticModel, StreamedElastic]:
    """The ordinary and the streamed elastic form of a model, compensated."""
    moments = with_gathered_moments(family, path)
    model, streamed = ordinary_of(family).to(dtype), streamed_of(family, dtype)
    shape = shape_of(model.config)
    importance = random_importance(shape)
    for each in (model, streamed.model):
        use_fast_norms(each)  # of the streamed one, what is not in its layers
    ordinary = ElasticModel(model, streamed.family, shape, importance)
    elastic = StreamedElastic(streamed, shape, importance)
    for form in (ordinary, elastic):
        form.compensation = FromMoments(form, moments, method, 0.01)
    return ordinary, elastic


def hidden_of(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        return torch.cat([model.base_model(ids, use_cache=False).last_hidden_state for ids in TOKENS.split(2)])


@pytest.mark.parametrize("method", ["bias", "least-squares"])
@pytest.mark.parametrize("family", FAMILIES)
def test_hidden_states_of_architectures_are_the_same(family: str, method: str, tmp_path: Path) -> None:
    ordinary, elastic = both(family, tmp_path / "moments.safetensors", method)
    architectures = architectures_of(ordinary)
    assert len(set(architectures)) == 9
    expected = {}
    for architecture in architectures:
        ordinary.apply(architecture)
        expected[architecture] = hidden_of(ordinary.model)
    reuse = LayerMajor(elastic)
    for architecture in architectures:
        elastic.apply(architecture)
        assert torch.equal(hidden_of(elastic.model), expected[architecture])
        wanted = [Wanted(each, "it", True) for each in architectures]
        with reuse.active("it", wanted):
            assert torch.equal(hidden_of(elastic.model), expected[architecture])


@pytest.mark.parametrize("family", FAMILIES)
def test_weights_of_an_architecture_are_the_same(family: str, tmp_path: Path) -> None:
    ordinary, elastic = both(family, tmp_path / "moments.safetensors", "least-squares")
    for architecture in architectures_of(ordinary):
        ordinary.apply(architecture)
        elastic.apply(architecture)
        expected, found = ordinary.state_dict(), elastic.state_dict()
        assert list(found) == list(expected)
        assert all(torch.equal(found[name], expected[name]) for name in expected)


def loads_for(elastic: StreamedElastic, memory: int) -> int:
    """Number of loaded layers for the evaluation of eight architectures, after the dense model's."""
    dense, *others = architectures_of(elastic)
    reuse, before = LayerMajor(elastic, memory), 0
    for architecture in (dense, *others):
        elastic.apply(architecture)
        with reuse.active("it", [Wanted(each, "it", True) for each in (dense, *others)]):
            hidden_of(elastic.model)
        before = before or elastic.streamed.loads
    return elastic.streamed.loads - before


def test_each_layer_is_loaded_once_for_all_architectures(tmp_path: Path) -> None:
    _, elastic = both("llama", tmp_path / "moments.safetensors", "bias")
    assert loads_for(elastic, 2**30) == 3


def test_less_memory_means_fewer_architectures_at_once(tmp_path: Path) -> None:
    _, elastic = both("llama", tmp_path / "moments.safetensors", "bias")
    all_batches = TOKENS.numel() * 64 * 4
    assert loads_for(elastic, 2 * all_batches) == 4 * 3
    assert loads_for(elastic, all_batches) == 8 * 3
    assert loads_for(elastic, all_batches // 3) == 8 * 3 * 3, "a batch at a time"
