"""Classes of pruned models: their code for a family, and their registration with transformers.

An export has a model type of its own, ``prunecast-`` and that of the dense model. To load one as a model to prune
again, the installed code for its family is registered under this type. The code in its folder is not run.
"""

import importlib
import inspect
import re
import sys
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import TYPE_CHECKING, Any

from prunecast.errors import ModelError, one_line
from prunecast.keys import content_key
from prunecast.models.families.catalogue import Families, unknown_type
from prunecast.models.families.family import EXPORTED, Family
from prunecast.models.families.own_classes import code_files
from prunecast.models.families.sizes import model_without_weights

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

MODELING = Path(__file__).with_name("modeling_prunecast.py")
"""The modelling code of exports, as it is for Llama."""

SIZES = "per_layer_config"
"""Entry of a config with the sizes of each layer."""

_CONSTANT = re.compile(r"^([A-Z_]+) = .*$", re.MULTILINE)
_IMPORT = re.compile(r"^from transformers import Cache, .*$", re.MULTILINE)
_BASE = re.compile(r"^class PrunedLlamaModel\b.*?(?=^(?:class|def) )", re.MULTILINE | re.DOTALL)

_registered: dict[str, str] = {}
"""Code by the model type that it is registered for in this process."""


def stock_types(config: "PreTrainedConfig") -> tuple[Any, Any]:
    """Stock classes of config and causal language model, for the config of a dense or of a pruned model."""
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING

    kind: Any = type(config)
    stock = kind.__base__ if is_exported(config.model_type) else kind
    return stock, MODEL_FOR_CAUSAL_LM_MAPPING[stock]


def base_type(config: "PreTrainedConfig", family: Family) -> Any:
    """Stock class of the model without its output head, which holds the layers; None if there is no such class.

    Args:
        config: config of a model of the family, dense or pruned.
        family: its description, as settled for the config.
    """
    # A small config of a proof can be one that its class would not take from a file.
    dense = as_stock(config) if is_exported(config.model_type) else config
    model: Any = model_without_weights(dense)
    within = family.layers.startswith(f"{model.base_model_prefix}.")
    return type(model.base_model) if within and model.base_model is not model else None


def is_exported(model_type: object) -> bool:
    """True if a model type is that of an export."""
    return isinstance(model_type, str) and model_type.startswith(EXPORTED)


def code_hash_of(config: "PreTrainedConfig") -> str | None:
    """Hash of the code of the stock classes of a config; None for classes of transformers itself.

    Raises:
        ModelError: the code is not at hand.
    """
    files = code_files(*stock_types(config))
    return content_key({file.name: file.read_text(encoding="utf-8") for file in files}) if files else None


def write_code(folder: Path, config: "PreTrainedConfig", family: Family) -> None:
    """Write the modelling file to a folder, and beside it a copy of the code of classes that transformers lacks.

    Args:
        folder: an existing folder.
        config: config of a model of the family, dense or pruned.
        family: its description, as settled for the config.

    Raises:
        ModelError: the code of the classes is not at hand.
    """
    for file in code_files(*stock_types(config)):
        (folder / file.name).write_bytes(file.read_bytes())
    code = modeling_code(config, family, beside=True)
    (folder / MODELING.name).write_text(code, encoding="utf-8", newline="")


def modeling_code(config: "PreTrainedConfig", family: Family, *, beside: bool = False) -> str:
    """Text of the modelling file, with the classes and the description of a family in place of Llama's.

    Args:
        config: config of a model of the family, dense or pruned.
        family: its description, as settled for the config.
        beside: True to import classes that transformers lacks from files beside it, not from where they are here.
    """
    code = MODELING.read_text(encoding="utf-8")
    classes = {"LlamaConfig": stock_types(config)[0], "LlamaForCausalLM": stock_types(config)[1]}
    if base := base_type(config, family):
        classes["LlamaModel"] = base
    else:
        code = _BASE.sub("", code)
    names = {name: stock.__name__ for name, stock in classes.items()}
    names["Llama"] = names["LlamaConfig"].removesuffix("Config")
    names["llama"] = config.model_type.removeprefix(EXPORTED)
    # In one go, as the names of a family may contain those of Llama.
    code = re.sub("|".join(names), lambda found: names[found[0]], code)
    values = {part.name.upper(): getattr(family, part.name) for part in fields(family)}

    def own_value(line: re.Match[str]) -> str:  # a function, as in a text that replaces, backslashes have a meaning
        return f"{line[1]} = {values[line[1]]!r}" if line[1] in values else line[0]

    code = _CONSTANT.sub(own_value, code)
    return _IMPORT.sub(lambda _: _imports(*classes.values(), beside=beside), code)


def _imports(*classes: type, beside: bool) -> str:
    """Statements that import the stock classes, and the cache."""
    named: dict[str, list[str]] = {"transformers": ["Cache"]}
    here = []
    for each in classes:
        if each.__module__.startswith("transformers."):
            named["transformers"].append(each.__name__)
        elif beside:
            named.setdefault(f".{Path(inspect.getfile(each)).stem}", []).append(each.__name__)
        else:  # the module of code that came with a model has a name that no statement can import
            here.append(f"{each.__name__} = __import__('sys').modules[{each.__module__!r}].{each.__name__}")
    lines = [f"from {module} import {', '.join(names)}" for module, names in named.items()]
    return "\n".join([lines[0], *([""] if len(lines) > 1 else []), *lines[1:], *here])


def has_layers_of_different_sizes(content: Mapping[str, Any]) -> bool:
    """True if the content of a config is that of an export, or lists sizes layer by layer."""
    return is_exported(content.get("model_type")) or bool(content.get(SIZES))


def register(content: Mapping[str, Any], families: Families, name: str) -> None:
    """Register classes with transformers that load the model of a config whose layers have sizes of their own.

    Args:
        content: content of the config; its model type may be that of an export, or a stock one.
        families: the descriptions.
        name: name of the model, for messages.

    Raises:
        ModelError: transformers does not know the type, or its family is not described.
    """
    from transformers import CONFIG_MAPPING, AutoConfig, AutoModelForCausalLM

    kind = str(content["model_type"]).removeprefix(EXPORTED)
    if kind not in CONFIG_MAPPING:
        raise unknown_type(kind, f"model {name}: ", content)
    own = {key: value for key, value in content.items() if key not in (SIZES, "model_type", "auto_map")}
    try:
        stock = CONFIG_MAPPING[kind].from_dict(own)
    # Classes of configs check their fields in their own ways.
    except Exception as error:
        raise ModelError(f"model {name}: its config is not one of type {kind!r} ({one_line(error)})") from error
    code = modeling_code(stock, families.of(stock))
    if _registered.get(kind) == code:
        return
    configuration, model = stock_types(stock)
    with TemporaryDirectory() as folder:
        file = Path(folder, MODELING.name)
        file.write_text(code, encoding="utf-8")
        module = imported(file, f"prunecast_pruned_{kind}")
    pruned: Any = getattr(module, f"Pruned{configuration.__name__}")
    AutoConfig.register(f"{EXPORTED}{kind}", pruned, exist_ok=True)
    AutoModelForCausalLM.register(pruned, getattr(module, f"Pruned{model.__name__}"), exist_ok=True)
    _registered[kind] = code


def as_stock(config: "PreTrainedConfig") -> "PreTrainedConfig":
    """A new copy of the config of the dense model that a pruned model was made from; of a dense model, of its own."""
    stock, _ = stock_types(config)
    content = {key: value for key, value in config.to_dict().items() if key not in (SIZES, "model_type", "auto_map")}
    dense: PreTrainedConfig = stock.from_dict(content)
    return dense


def as_pruned(config: "PreTrainedConfig") -> "PreTrainedConfig":
    """A stock config that lists sizes layer by layer, as the registered config of such models."""
    from transformers import CONFIG_MAPPING

    kind = f"{EXPORTED}{config.model_type}"
    pruned: PreTrainedConfig = CONFIG_MAPPING[kind].from_dict(config.to_dict() | {"model_type": kind})
    return pruned


def imported(code: Path, name: str) -> ModuleType:
    """Modelling code as a module of a package of its own, bypassing the cache to which transformers copies such code.

    Args:
        code: the file; it may import from files beside it.
        name: name of the package.
    """
    for known in [each for each in sys.modules if each == name or each.startswith(f"{name}.")]:
        del sys.modules[known]
    package = ModuleType(name)
    package.__path__ = [str(code.parent)]
    sys.modules[name] = package
    importlib.invalidate_caches()
    return importlib.import_module(f"{name}.{code.stem}")
