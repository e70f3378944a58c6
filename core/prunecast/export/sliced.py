"""A pruned model as plain modules of the right sizes, to be trained in this process."""

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import TYPE_CHECKING, Any

from prunecast.architecture.architecture import Architecture
from prunecast.export.huggingface import MODELING, stored_weights, write_model
from prunecast.models.families import family_of
from prunecast.models.source import quiet_transformers

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from transformers import PreTrainedConfig, PreTrainedModel


class SlicedFolder:
    """A pruned model on disk; every :meth:`load` gives a new copy of it.

    Its code is the one that an export brings along, so what is trained is what others load.
    """

    def __init__(self, folder: Path) -> None:
        (name,) = json.loads((folder / "config.json").read_text(encoding="utf-8"))["architectures"]
        self._folder, self._model = folder, getattr(_import(folder / MODELING.name), name)

    @classmethod
    @contextmanager
    def written(
        cls, config: "PreTrainedConfig", state: "Mapping[str, Tensor]", architecture: Architecture
    ) -> "Iterator[SlicedFolder]":
        """A folder that is removed at the end.

        Args:
            config: config of the dense model.
            state: weights under the stock names, sliced; as for ``export_huggingface``.
            architecture: what each layer keeps.
        """
        family = family_of(config)
        with TemporaryDirectory() as folder:
            write_model(Path(folder), config, family, stored_weights(config, family, state), architecture)
            yield cls(Path(folder))

    def load(self, dtype: "torch.dtype", device: "torch.device", quantization: Any = None) -> "PreTrainedModel":
        """The model in evaluation mode, its projections stock modules, no parameter requiring gradients.

        ``quantization`` is a ``quantization_config`` of transformers, for projections in 4 bits.
        """
        with quiet_transformers():
            loaded = self._model.from_pretrained(
                self._folder, dtype=dtype, device_map={"": device}, quantization_config=quantization
            )
        model: PreTrainedModel = loaded.requires_grad_(False).eval()
        return model


def _import(code: Path) -> ModuleType:
    """The modelling code as a module of its own, apart from the cache that transformers copies such code to."""
    name = f"prunecast_sliced_{code.parent.name}"
    spec = spec_from_file_location(name, code)
    if spec is None or spec.loader is None:
        raise ImportError(f"{code} is no Python module")
    module = module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
