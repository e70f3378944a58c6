"""A pruned model as stock modules of the kept sizes, for training in this process."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from prunecast.architecture.architecture import Architecture
from prunecast.export.huggingface import stored_weights, write_model
from prunecast.models.families.family import Family
from prunecast.models.families.quiet import quiet_transformers
from prunecast.models.pruned.classes import MODELING, imported

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from transformers import PreTrainedConfig, PreTrainedModel


class SlicedFolder:
    """A pruned model on disk; every :meth:`load` returns a new copy.

    It runs the modelling code of an export, so the trained model is the one that users load.

    Args:
        folder: a folder that :func:`prunecast.export.huggingface.write_model` has written.
    """

    def __init__(self, folder: Path) -> None:
        (name,) = json.loads((folder / "config.json").read_text(encoding="utf-8"))["architectures"]
        module = imported(folder / MODELING.name, f"prunecast_sliced_{folder.name}")
        self._folder, self._model = folder, getattr(module, name)

    @classmethod
    @contextmanager
    def written(
        cls, config: "PreTrainedConfig", family: Family, state: "Mapping[str, Tensor]", architecture: Architecture
    ) -> "Iterator[SlicedFolder]":
        """Write a pruned model to a temporary folder, which is removed at the end of the context.

        Args:
            config: config of the dense model.
            family: description of its family.
            state: weights under the stock names, sliced.
            architecture: sizes that each layer keeps.
        """
        with TemporaryDirectory() as folder:
            write_model(Path(folder), config, family, stored_weights(config, family, state), architecture)
            yield cls(Path(folder))

    def load(self, dtype: "torch.dtype", device: "torch.device", quantization: Any = None) -> "PreTrainedModel":
        """The model in evaluation mode. Its projections are stock modules, and no parameter requires gradients.

        Args:
            dtype: dtype of the weights.
            device: device of the model.
            quantization: a ``quantization_config`` of transformers, for projections in 4 bits; None for full precision.
        """
        with quiet_transformers():
            loaded = self._model.from_pretrained(
                self._folder, dtype=dtype, device_map={"": device}, quantization_config=quantization
            )
        model: PreTrainedModel = loaded.requires_grad_(False).eval()
        return model


def loaded(
    config: "PreTrainedConfig", family: Family, state: "Mapping[str, Tensor]", architecture: Architecture
) -> "PreTrainedModel":
    """A pruned model in float32 on the CPU; arguments as for :meth:`SlicedFolder.written`."""
    import torch

    with SlicedFolder.written(config, family, state, architecture) as sliced:
        return sliced.load(torch.float32, torch.device("cpu"))
