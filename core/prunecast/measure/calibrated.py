"""Files of calibration in the cache: the ranking of units and the moments of inputs, by content."""

import zlib
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import BadZipFile

import numpy as np

from prunecast.architecture.architecture import LayerImportance
from prunecast.cache import cached
from prunecast.errors import ModelError, one_line
from prunecast.measure.setup import Setup
from prunecast.owned.files import written_whole
from prunecast.registry import content_key

if TYPE_CHECKING:
    import torch

MOMENT_BATCH = 4
"""Samples of calibration text in one forward pass."""

_PARTS = ("kv_groups", "query_heads", "mlp_channels")


def same_text(setup: Setup) -> bool:
    """True if pruner and compensation use identical calibration tokens."""
    import torch

    if setup.calibration is None or len({sample.shape[1] for sample in setup.compensation}) != 1:
        return False
    return torch.equal(setup.calibration, torch.cat(setup.compensation))


def is_calibrated(setup: Setup) -> bool:
    """True if the cache has the ranking and the moments of a set-up."""
    moments = moments_path(setup)
    return ranking_path(setup).is_file() and (moments is None or moments.is_file())


def compensation_batches(setup: Setup) -> "list[torch.Tensor]":
    """Batches of the text that compensation is fitted on, int64 of shape (B, T), on the device."""
    import torch

    return [batch.to(setup.device) for sample in setup.compensation for batch in torch.split(sample, MOMENT_BATCH)]


def ranking_path(setup: Setup) -> Path:
    """File of the ranking in the cache; it does not depend on compensation."""
    key = content_key([setup.model_record.fingerprint, setup.ranking_record.key])
    return cached("rankings", f"{key}.npz")


def moments_path(setup: Setup) -> Path | None:
    """File of the moments in the cache; it does not depend on the ranking. None without compensation."""
    if setup.pruner.options.compensate.method == "none":
        return None
    described = [setup.description] if setup.description is not None else []
    key = content_key([setup.model_record.fingerprint, setup.compensation_hash, *described])
    return cached("moments", f"{key}.safetensors")


def read_ranking(path: Path) -> list[LayerImportance]:
    """The ranking. Raises ModelError if its file is damaged."""
    try:
        with np.load(path) as stored:
            depth = len(stored.files) // len(_PARTS)
            return [LayerImportance(*(stored[f"{part}.{layer}"] for part in _PARTS)) for layer in range(depth)]
    except (OSError, EOFError, ValueError, KeyError, BadZipFile, zlib.error) as error:
        raise ModelError(
            f"{path}: the ranking of heads and channels cannot be read ({one_line(error)}); delete the file, and the "
            "pruner ranks them again"
        ) from error


def write_ranking(path: Path, importance: list[LayerImportance]) -> None:
    """Write the ranking."""
    arrays = {f"{part}.{i}": getattr(layer, part) for i, layer in enumerate(importance) for part in _PARTS}
    with written_whole(path) as unfinished, unfinished.open("wb") as file:
        np.savez_compressed(file, **arrays)
