"""Keys that a spec may have at a place, the options of its plugins included."""

from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel

from prunecast.plugins.host import PluginHost
from prunecast.spec.model import PluginUse, Spec
from prunecast.yaml_files.document import KeyPath


def known_keys(path: KeyPath, data: Any, host: PluginHost) -> Iterator[str]:
    """Keys of the models that are possible at ``path`` of a spec's data."""
    models: list[type[BaseModel]] = [Spec]
    for part in path:
        data = data[part]
        fields = [field for model in models for key, field in _fields(model) if key == part]
        if fields:
            models = [model for field in fields for model in _models_in(field.annotation)]
        models = [
            model.options_model(host, data["use"]) if issubclass(model, PluginUse) and isinstance(data, dict) else model
            for model in models
            if _is_meant(model, data)
        ]
    return (key for model in models for key, _ in _fields(model))


def _is_meant(model: type[BaseModel], data: Any) -> bool:
    """True unless a value such as ``method: lora`` selects another model of the union."""
    if not isinstance(data, dict):
        return True
    required = {key: get_args(field.annotation) for key, field in _fields(model) if field.is_required()}
    return all(data.get(key) in allowed for key, allowed in required.items() if allowed and type(allowed[0]) is str)


def _fields(model: type[BaseModel]) -> Iterator[tuple[str, Any]]:
    return ((field.alias or name, field) for name, field in model.model_fields.items())


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models_in(argument)
