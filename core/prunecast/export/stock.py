"""Export to a folder that a stock class of transformers loads, with changed numbers and no code of its own."""

import copy
import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prunecast.architecture.architecture import Architecture, Layer
from prunecast.architecture.choices import Component
from prunecast.architecture.shape import ModelShape
from prunecast.errors import ExportError, one_line
from prunecast.export.huggingface import (
    OF_FILES,
    TRANSFORMERS_FILES,
    count_parameters,
    save_weights,
    stored_weights,
    verify_folder,
    with_head_dim,
    write_tokenizer,
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

    A stock class builds all layers with the same sizes. So the layers that are not removed keep the same KV groups,
    query heads and MLP width; whole layers may be removed.
    """

    options_model = StockOptions
    entry = "config.json"
    reserved = TRANSFORMERS_FILES

    def limits(self, config: "PreTrainedConfig", family: Family, shape: ModelShape) -> Limits:
        """Every layer is either removed or has the same sizes as the others, and the config's class can build them."""
        dense = as_stock(config)
        if not is_of_transformers(dense.model_type):
            raise ExportError(
                f"transformers has no class for model type {dense.model_type!r}, which the target stock needs: choose "
                "huggingface"
            )

        @cache
        def problem_of_layer(layer: Layer) -> str | None:
            return _problem_of_layer(dense, family, layer, shape.head_dim)

        @cache
        def problem_of_depth(kept: tuple[int, ...]) -> str | None:
            return _problem_of_depth(dense, kept)

        def problem(architecture: Architecture) -> str | None:
            kept = [layer for layer in architecture.layers if layer != Layer(0, 0, 0)]
            if not kept:
                return "it has no layer"
            if len(set(kept)) > 1:
                return "its layers differ in size, and stock classes have all alike"
            return problem_of_layer(kept[0]) or problem_of_depth(tuple(_kept(architecture)))

        return Limits(problem, alike=True, biases=_biased(dense, family))

    def write(self, model: PrunedModel, folder: Path) -> Written:
        """Write tokenizer, generation settings, config and weights."""
        kept = _kept(model.architecture)
        weights = _renumbered(stored_weights(model.config, model.family, model.state), model.family.layers, kept)
        dense = as_stock(model.config)
        config = _config(dense, model.family, model.architecture.layers[kept[0]], kept)
        config, weights = _with_biases(config, weights)
        name = stock_types(dense)[1].__name__
        content = {**config.to_diff_dict(), "architectures": [name]}
        content |= {ENTRY: lineage_to_json(model.lineage)} if model.lineage else {}
        write_tokenizer(folder, model)
        (folder / "config.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8", newline="")
        save_weights(folder, weights)
        return Written(count_parameters(config, weights), _LOADING.format(name=name), library="transformers")

    def verify(self, model: PrunedModel, folder: Path, reference: Reference) -> Parity:
        """Compare the folder in transformers with the measured model."""
        return verify_folder(folder, model.config, reference)


def _kept(architecture: Architecture) -> list[int]:
    """Indices of the layers that are not removed."""
    return [index for index, layer in enumerate(architecture.layers) if layer != Layer(0, 0, 0)]


def _config(dense: "PreTrainedConfig", family: Family, layer: Layer, kept: list[int]) -> "PreTrainedConfig":
    """Config of a model of some layers of a dense one, all of which have the sizes of ``layer``."""
    # The width of a head is written, as many configs otherwise divide the hidden size by the number of heads.
    return _changed(dense, {**with_head_dim(dense), **family.entries_of(layer), **_of_layers(dense, kept)})


def _of_layers(dense: "PreTrainedConfig", kept: Sequence[int]) -> dict[str, Any]:
    """Entries of a config that depend on which layers are kept."""
    return {**listed_for(dense, kept), "num_hidden_layers": len(kept)}


def _changed(dense: "PreTrainedConfig", changes: Mapping[str, Any]) -> "PreTrainedConfig":
    """A copy of a config with changed entries, without the entries of its files, checked by its class as at loading."""
    content = {name: value for name, value in dense.to_dict().items() if name not in OF_FILES}
    attributes = dense.attribute_map
    changed: PreTrainedConfig = type(dense).from_dict(
        {**content, **{attributes.get(name, name): value for name, value in changes.items()}}
    )
    return changed


def _problem_of_layer(dense: "PreTrainedConfig", family: Family, layer: Layer, head_dim: int) -> str | None:
    """Reason why the class of a config does not build layers of these sizes; None if it does."""
    name, sizes = type(dense).__name__, f"{layer.kv_groups}x{layer.heads_per_group}+{layer.mlp_width}"
    if not (layer.kv_groups and layer.mlp_width):
        return f"{name} has no layers without {'attention' if not layer.kv_groups else 'MLP'}"
    try:
        first = next(layers_of(model_without_weights(_config(dense, family, layer, [0])), family))
    # Classes of configs check their sizes in their own ways.
    except Exception as error:  # noqa: BLE001
        return f"{name} does not build layers of {sizes} ({one_line(error)})"
    if first.sizes != layer or first.head_dim != head_dim:
        return f"{name} does not build layers of {sizes} with heads of {head_dim}"
    return None


def _problem_of_depth(dense: "PreTrainedConfig", kept: Sequence[int]) -> str | None:
    """Reason why the class of a config cannot build a model of only these layers; None if it can."""
    windows = windows_of(dense)
    if windows_of(_changed(dense, _of_layers(dense, kept))) != [windows[index] for index in kept]:
        return f"{type(dense).__name__} has sliding windows in other layers if these are left out"
    return None


def _renumbered(weights: "Mapping[str, Tensor]", layers: str, kept: list[int]) -> "dict[str, Tensor]":
    """Weights of a model of the kept layers alone, renumbered from 0; weights outside of the layers are unchanged.

    Args:
        weights: by stock name.
        layers: path of the list of layers, e.g. ``model.layers``.
        kept: their indices in the dense model, ascending.
    """
    positions, renumbered = {str(old): new for new, old in enumerate(kept)}, {}
    for name, tensor in weights.items():
        if not name.startswith(f"{layers}."):
            renumbered[name] = tensor
            continue
        index, _, rest = name.removeprefix(f"{layers}.").partition(".")
        if index in positions:
            renumbered[f"{layers}.{positions[index]}.{rest}"] = tensor
    return renumbered


def _with_biases(
    config: "PreTrainedConfig", weights: "dict[str, Tensor]"
) -> "tuple[PreTrainedConfig, dict[str, Tensor]]":
    """Config and weights as the stock class has them: it gets biases of zeros wherever compensation has added none.

    Raises:
        ExportError: the class has no place for some weight.
    """
    places = _places(config)
    if set(weights) - set(places):
        config = _with_places(config)
        places = _places(config)
    if strange := sorted(set(weights) - set(places)):
        raise ExportError(
            f"{type(config).__name__} has no place for {strange[0]}: compensate without biases, or choose the target "
            "huggingface"
        )
    some = next(iter(weights.values()))
    missing = {name: shape for name, shape in places.items() if name not in weights and name.endswith(".bias")}
    return config, weights | {name: some.new_zeros(shape) for name, shape in missing.items()}


def _biased(dense: "PreTrainedConfig", family: Family) -> frozenset[Component]:
    """Components whose output projection has a bias in the stock class, if its config asks for it."""
    places = _places(_with_places(_changed(dense, _of_layers(dense, [0]))))
    return frozenset(each for each, name in family.outputs.items() if f"{family.layers}.0.{name}.bias" in places)


def _with_places(config: "PreTrainedConfig") -> "PreTrainedConfig":
    """A copy of a config whose model has all biases that the class has a place for."""
    config = copy.deepcopy(config)
    for entry in _BIASES:
        if hasattr(config, entry):
            setattr(config, entry, True)
    return config


def _places(config: "PreTrainedConfig") -> "dict[str, Any]":
    """Shapes of the parameters and buffers that the stock model of a config stores, by name."""
    return {name: tensor.shape for name, tensor in model_without_weights(config).state_dict().items()}
