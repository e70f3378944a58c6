"""Export to a folder that a stock class of transformers loads, with changed numbers and no code of its own."""

import copy
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prunecast.architecture.architecture import Architecture, Layer
from prunecast.architecture.shape import ModelShape
from prunecast.errors import ExportError, one_line
from prunecast.export.huggingface import (
    TRANSFORMERS_FILES,
    save_weights,
    stored_weights,
    verify_folder,
    with_head_dim,
    write_generation,
)
from prunecast.models.families.by_layer import listed_for
from prunecast.models.families.family import Family
from prunecast.models.families.layer_parts import layers_of
from prunecast.models.families.own_classes import is_of_transformers
from prunecast.models.families.sizes import model_without_weights
from prunecast.models.families.windows import windows_of
from prunecast.models.pruned.classes import as_stock, stock_types
from prunecast.models.pruned.lineage import ENTRY, lineage_to_json
from prunecast.plugins.exporter import Exporter, Limits, Parity, PrunedModel, Reference, Written
from prunecast.plugins.interfaces import PluginOptions

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedConfig

_LOADING = """\
A stock model of transformers, `{name}`: no code comes with it, and whatever loads such models loads this one.

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

folder = "."  # this folder, or the id it is published under
model = AutoModelForCausalLM.from_pretrained(folder)
tokenizer = AutoTokenizer.from_pretrained(folder)
inputs = tokenizer("The river", return_tensors="pt")
print(tokenizer.decode(model.generate(**inputs, max_new_tokens=20)[0]))
```
"""

_BIASES = ("attention_bias", "mlp_bias")
"""Entries of configs that give the projections of attention and MLP biases."""


class StockOptions(PluginOptions):
    """Options of the exporter of stock folders; there are none."""


class Stock(Exporter[StockOptions]):
    """A folder that a stock class of transformers loads, without ``trust_remote_code``.

    A stock class builds all layers alike. So all layers that are there keep the same KV groups, query heads and MLP
    width; whole layers may be gone.
    """

    options_model = StockOptions
    entry = "config.json"
    reserved = TRANSFORMERS_FILES

    def limits(self, config: "PreTrainedConfig", family: Family, shape: ModelShape) -> Limits:
        """All layers alike, of sizes that the class of the config builds, or gone."""
        dense = as_stock(config)
        if not is_of_transformers(dense.model_type):
            raise ExportError(
                f"transformers has no class for model type {dense.model_type!r}, which the target stock needs: choose "
                "huggingface"
            )

        @cache
        def problem_of_layer(layer: Layer) -> str | None:
            return _problem_of_layer(dense, family, layer)

        def problem(architecture: Architecture) -> str | None:
            kept = [layer for layer in architecture.layers if layer != Layer(0, 0, 0)]
            if not kept:
                return "it has no layer"
            if len(set(kept)) > 1:
                return "its layers differ in size, and stock classes have all alike"
            return problem_of_layer(kept[0]) or _problem_of_depth(dense, architecture)

        return Limits(problem, alike=True)

    def write(self, model: PrunedModel, folder: Path) -> Written:
        """Write tokenizer, generation settings, config and weights."""
        kept = _kept(model.architecture)
        weights = _renumbered(stored_weights(model.config, model.family, model.state), model.family.layers, kept)
        dense = as_stock(model.config)
        config = _config(dense, model.family, model.architecture.layers[kept[0]], kept)
        config, weights = _with_biases(config, weights)
        model.tokenizer.save_pretrained(folder)
        write_generation(folder, dense, model.source.generation_file)
        content = {**config.to_diff_dict(), "architectures": [stock_types(dense)[1].__name__]}
        content |= {ENTRY: lineage_to_json(model.lineage)} if model.lineage else {}
        (folder / "config.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8", newline="")
        save_weights(folder, weights)
        buffers = {name for name, _ in model_without_weights(config).named_buffers()}
        parameters = sum(tensor.numel() for name, tensor in weights.items() if name not in buffers)
        return Written(parameters, _LOADING.format(name=stock_types(dense)[1].__name__), library="transformers")

    def verify(self, model: PrunedModel, folder: Path, reference: Reference) -> Parity:
        """Compare the folder in transformers with the measured model."""
        return verify_folder(folder, model.config, reference)


def _kept(architecture: Architecture) -> list[int]:
    """Indices of the layers that are there."""
    return [index for index, layer in enumerate(architecture.layers) if layer != Layer(0, 0, 0)]


def _config(dense: "PreTrainedConfig", family: Family, layer: Layer, kept: list[int]) -> "PreTrainedConfig":
    """Config of a model of some layers of a dense one, all of which have the sizes of ``layer``."""
    config = copy.deepcopy(dense)
    sizes = {family.heads_attribute: layer.query_heads, family.width_attribute: layer.mlp_width}
    if family.groups_attribute is not None:
        sizes[family.groups_attribute] = layer.kv_groups
    # The width of a head is told first, as many configs divide by the number of heads if it is not.
    changes = {**with_head_dim(dense), **sizes, **listed_for(dense, kept), "num_hidden_layers": len(kept)}
    for name, value in changes.items():
        setattr(config, name, value)
    for entry in ("quantization_config", "transformers_weights"):  # of the dense model's files
        if hasattr(config, entry):
            delattr(config, entry)
    return config


def _problem_of_layer(dense: "PreTrainedConfig", family: Family, layer: Layer) -> str | None:
    """Reason why the class of a config does not build layers of these sizes; None if it does."""
    name, sizes = type(dense).__name__, f"{layer.kv_groups}x{layer.heads_per_group}+{layer.mlp_width}"
    if not (layer.kv_groups and layer.mlp_width):
        return f"{name} has no layers without {'attention' if not layer.kv_groups else 'MLP'}"
    try:
        first = next(layers_of(model_without_weights(_config(dense, family, layer, [0])), family))
        model = next(layers_of(model_without_weights(dense), family))
    # Classes of configs check their sizes in their own ways.
    except Exception as error:  # noqa: BLE001
        return f"{name} does not build layers of {sizes} ({one_line(error)})"
    if first.sizes != layer or first.head_dim != model.head_dim:
        return f"{name} does not build layers of {sizes} with heads of {model.head_dim}"
    return None


def _problem_of_depth(dense: "PreTrainedConfig", architecture: Architecture) -> str | None:
    """Reason why the class of a config does not leave out layers as an architecture does; None if it does."""
    kept = _kept(architecture)
    config = copy.deepcopy(dense)
    for name, value in {**listed_for(dense, kept), "num_hidden_layers": len(kept)}.items():
        setattr(config, name, value)
    if windows_of(config) != [windows_of(dense)[index] for index in kept]:
        return f"{type(dense).__name__} has sliding windows in other layers if these are left out"
    return None


def _renumbered(weights: "Mapping[str, Tensor]", layers: str, kept: list[int]) -> "dict[str, Tensor]":
    """Weights with the layers that are there numbered from 0 on; those of others are left out."""
    number = {f"{layers}.{index}": f"{layers}.{place}" for place, index in enumerate(kept)}
    depth = layers.count(".") + 2
    found = {}
    for name, tensor in weights.items():
        layer = ".".join(name.split(".")[:depth])
        if not name.startswith(f"{layers}."):
            found[name] = tensor
        elif layer in number:
            found[number[layer] + name.removeprefix(layer)] = tensor
    return found


def _with_biases(
    config: "PreTrainedConfig", weights: "dict[str, Tensor]"
) -> "tuple[PreTrainedConfig, dict[str, Tensor]]":
    """Config and weights as the stock class has them, with biases of zeros beside those that compensation has added.

    Raises:
        ExportError: the class has no place for some weight.
    """
    places = _places(config)
    if set(weights) - set(places):
        config = copy.deepcopy(config)
        for entry in _BIASES:
            if hasattr(config, entry):
                setattr(config, entry, True)
        places = _places(config)
    if strange := sorted(set(weights) - set(places)):
        raise ExportError(
            f"{type(config).__name__} has no place for {strange[0]}: compensate without biases, or choose the target "
            "huggingface"
        )
    some = next(iter(weights.values()))
    missing = {name: shape for name, shape in places.items() if name not in weights and name.endswith(".bias")}
    return config, weights | {name: some.new_zeros(shape) for name, shape in missing.items()}


def _places(config: "PreTrainedConfig") -> "dict[str, Any]":
    """Shapes of the parameters and buffers that the stock model of a config stores, by name."""
    return {name: tensor.shape for name, tensor in model_without_weights(config).state_dict().items()}
