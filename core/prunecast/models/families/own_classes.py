"""Classes of models that transformers does not have: registered with it, and the files of their code.

Where a model type is not one of transformers, the classes that a package or the model itself brings are the stock
classes: what they compute is what is pruned, and an export has a copy of their code.
"""

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prunecast.errors import ModelError, one_line
from prunecast.models.families.family import EXPORTED

_OF_MODELS = "transformers_modules."
"""Beginning of the names of modules that transformers makes of the code in a model's folder."""


def needs_own_code(content: Mapping[str, Any]) -> bool:
    """True if a config names code of its model, and no installed class is for its model type, or that of its export."""
    from transformers import CONFIG_MAPPING

    kind = str(content.get("model_type")).removeprefix(EXPORTED)
    missing = kind not in CONFIG_MAPPING or CONFIG_MAPPING[kind].__module__.startswith(_OF_MODELS)
    return missing and isinstance(content.get("auto_map"), Mapping)


def is_of_transformers(model_type: object) -> bool:
    """True if transformers itself has the class of a model type."""
    from transformers import CONFIG_MAPPING

    return model_type in CONFIG_MAPPING and CONFIG_MAPPING[str(model_type)].__module__.startswith("transformers.")


def register_own(folder: Path, content: Mapping[str, Any], name: str) -> None:
    """Register the classes that come with a model with transformers; of an export, the classes of its dense model.

    The code is executed, so it has to be trusted.

    Args:
        folder: the folder with the code.
        content: content of the model's config.
        name: name of the model, for messages.

    Raises:
        ModelError: the code fails, or has no class of a config and of a causal language model.
    """
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.dynamic_module_utils import get_class_from_dynamic_module
    from transformers.models.auto import auto_factory

    factory: Any = auto_factory
    kind, classes = str(content.get("model_type")), content["auto_map"]
    try:
        found = [
            get_class_from_dynamic_module(classes[key], str(folder)) for key in ("AutoConfig", "AutoModelForCausalLM")
        ]
        configuration, model = [own.__bases__[-1] for own in found] if kind.startswith(EXPORTED) else found
        AutoConfig.register(kind.removeprefix(EXPORTED), configuration, exist_ok=True)
        model = factory.add_generation_mixin_to_remote_model(model)
        AutoModelForCausalLM.register(configuration, model, exist_ok=True)
    # Code of the model's own can raise anything.
    except Exception as error:
        reason = f"its auto_map has no {error}" if isinstance(error, KeyError) else one_line(error)
        raise ModelError(
            f"model {name}: its own code, needed for type {kind!r}, cannot be loaded ({reason}): repair it, or install "
            "a package with classes for this type"
        ) from error


def code_files(*classes: type) -> list[Path]:
    """Files of the code of classes, with those that they import from beside them; empty for classes of transformers.

    Raises:
        ModelError: a file is missing, or two have the same name.
    """
    from transformers.dynamic_module_utils import get_relative_import_files

    found: dict[str, Path] = {}
    for each in classes:
        if each.__module__.startswith("transformers."):
            continue
        own = Path(inspect.getfile(each))
        for file in (own, *map(Path, get_relative_import_files(own))):
            if not file.is_file() or found.setdefault(file.name, file) != file:
                raise ModelError(
                    f"the code of {each.__name__} in {own} imports {file.stem}, which is not a file beside it alone: "
                    "put its code into files of one folder"
                )
    return list(found.values())
