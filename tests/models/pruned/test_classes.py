"""Exports as models: their classes for every described family, and other configs that list sizes layer by layer."""

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from slow_cases import slow_but

from prunecast.architecture.architecture import Architecture, Layer, LayerImportance
from prunecast.errors import ModelError
from prunecast.export.huggingface import stored_weights, write_model
from prunecast.models.described import described
from prunecast.models.elastic import ElasticModel
from prunecast.models.families.sizes import shape_of
from prunecast.models.families.small import small
from prunecast.models.source import ModelSource, resolve_source
from prunecast.plugins.families import families_of
from prunecast.plugins.host import PluginHost
from prunecast.testing.models import random_importance

FAMILIES = families_of(PluginHost.discover())

IDS = torch.arange(1, 19).view(2, 9)

QUICK = ("llama", "gpt2", "bloom", "cohere", "olmo2", "falcon", "stablelm")


def random_model(kind: str) -> Any:
    """A small random model of a type, in float64."""
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM

    config = small(CONFIG_MAPPING[kind]())
    torch.manual_seed(0)
    # Gemma keeps the scale of its embeddings in the format it is made in.
    dtype = torch.float64 if kind.startswith("gemma") else torch.float32
    model: Any = AutoModelForCausalLM.from_config(config, dtype=dtype)
    for parameter in model.parameters():
        parameter.data = torch.randn_like(parameter) * 0.2 + (1.0 if parameter.ndim == 1 else 0.0)
    return model.double().eval()


def logits(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        return torch.as_tensor(model(IDS, use_cache=False).logits)


def cut(layer: Layer, step: int) -> Layer:
    """What a layer keeps at a step: in turn everything, no attention, no MLP, neither, and one unit less of each."""
    groups, heads, width = layer
    choices = [
        layer,
        Layer(0, 0, width),
        Layer(groups, heads, 0),
        Layer(0, 0, 0),
        Layer(max(1, groups - 1) if groups else 0, max(1, heads - 1) if heads else 0, max(0, width - 1)),
    ]
    return choices[step % len(choices)]


def in_stored_order(architecture: Architecture) -> list[LayerImportance]:
    """Scores that keep the units in their order, which in an export is that of their importance."""
    return [
        LayerImportance(
            -np.arange(float(groups)), -np.tile(np.arange(float(heads)), (groups, 1)), -np.arange(float(width))
        )
        for groups, heads, width in architecture.layers
    ]


def written(elastic: ElasticModel, config: Any, family: Any, folder: Path) -> ModelSource:
    """The current architecture of an elastic model as a folder."""
    folder.mkdir()
    write_model(folder, config, family, stored_weights(config, family, elastic.state_dict()), elastic.architecture)
    return resolve_source(str(folder))


@pytest.mark.parametrize("kind", slow_but(QUICK, sorted(FAMILIES)))
def test_pruning_an_export_equals_pruning_the_original_to_the_same(kind: str, tmp_path: Path) -> None:
    model = random_model(kind)
    family = FAMILIES.of(model.config)
    shape = shape_of(model.config, family)
    original = ElasticModel(copy.deepcopy(model), family, shape, random_importance(shape))
    once = Architecture([cut(layer, index + 4) for index, layer in enumerate(shape.dense.layers)])
    original.apply(once)
    config, again = described(written(original, model.config, family, tmp_path / "once"), FAMILIES)
    assert shape_of(config, again).dense == once
    assert shape_of(config, again).count([once]) == shape.count([once])
    loaded: Any = resolve_source(str(tmp_path / "once")).load(torch.float64)
    torch.testing.assert_close(logits(loaded), logits(original.model), rtol=1e-9, atol=1e-9)
    elastic = ElasticModel(loaded, again, shape_of(config, again), in_stored_order(once))
    for step in range(5):
        twice = Architecture([cut(layer, index + step) for index, layer in enumerate(once.layers)])
        elastic.apply(twice)
        original.apply(twice)
        torch.testing.assert_close(logits(elastic.model), logits(original.model), rtol=1e-9, atol=1e-9)
        assert shape_of(config, again).count([twice]) == shape.count([twice])
        source = written(elastic, config, again, tmp_path / f"twice-{step}")
        third, _ = described(source, FAMILIES)
        assert third.model_type == f"prunecast-{kind}"
        torch.testing.assert_close(logits(source.load(torch.float64)), logits(original.model), rtol=1e-9, atol=1e-9)


def test_a_stock_config_that_lists_sizes_by_layer_is_such_a_model(tmp_path: Path) -> None:
    """As transformers writes it, with a stock model type, and an entry for layers that differ only."""
    model = random_model("llama")
    family = FAMILIES.of(model.config)
    elastic = ElasticModel(
        model, family, shape_of(model.config, family), random_importance(shape_of(model.config, family))
    )
    groups, heads, width = elastic.shape.dense.layers[0]
    elastic.apply(Architecture([(groups, heads, width), (groups, heads, width - 3), (groups, 1, width)]))
    expected = logits(elastic.model)
    written(elastic, elastic.model.config, family, tmp_path / "model")
    file = tmp_path / "model" / "config.json"
    content = json.loads(file.read_text())
    for name in ("auto_map", "output_bias", "architectures"):
        del content[name]
    content["model_type"] = "llama"
    content["per_layer_config"] = {"1": {"intermediate_size": width - 3}, "2": {"num_attention_heads": groups}}
    file.write_text(json.dumps(content))
    source = resolve_source(str(tmp_path / "model"))
    config, found = described(source, FAMILIES)
    assert shape_of(config, found).dense == elastic.architecture
    torch.testing.assert_close(logits(source.load(torch.float64)), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "prunecast-nothing"}, "has no class for type 'nothing'"),
        ({"model_type": "prunecast-t5"}, "type 't5'"),
        ({"hidden_size": "wide"}, "its config is not one of type 'llama'"),
    ],
)
def test_a_wrong_config_of_an_export_is_one_line(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    model = random_model("llama")
    family = FAMILIES.of(model.config)
    shape = shape_of(model.config, family)
    written(ElasticModel(model, family, shape, random_importance(shape)), model.config, family, tmp_path / "model")
    file = tmp_path / "model" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    with pytest.raises(ModelError, match=message) as caught:
        described(resolve_source(str(tmp_path / "model")), FAMILIES)
    assert "\n" not in str(caught.value)
