"""Building the elastic model of a set-up: load, calibrate, convert, reorder.

The ranking of units and the moments of inputs, which calibration finds, are cached by content.
"""

import zlib
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import BadZipFile

import numpy as np
from filelock import FileLock

from prunecast.architecture.architecture import LayerImportance
from prunecast.cache import cached
from prunecast.errors import ModelError, one_line
from prunecast.measure.setup import Setup
from prunecast.owned.files import written_whole
from prunecast.progress import Progress
from prunecast.registry import content_key

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from prunecast.models.elastic import ElasticModel

MOMENT_BATCH = 4
"""Samples of calibration text in one forward pass."""

_PARTS = ("kv_groups", "query_heads", "mlp_channels")


def build_elastic(setup: Setup, progress: Progress) -> "ElasticModel":
    """The elastic model of a set-up, on its device and in its dtype.

    Ranking and moments come from the cache. Missing ones are computed by the dense model in float32, in one pass over
    the text if pruner and compensation use the same.
    """
    from prunecast.models.compensation import FromMoments
    from prunecast.models.cpu.allocation import keep_freed_memory, return_freed_memory
    from prunecast.models.cpu.attention import use_block_attention
    from prunecast.models.cpu.norms import use_fast_norms
    from prunecast.models.elastic import ElasticModel, convert_parameters
    from prunecast.models.moments import Moments

    return_freed_memory()
    ranking, moments = _ranking_path(setup), _moments_path(setup)
    # Workers that start together calibrate once.
    with nullcontext() if _is_complete(ranking, moments) else FileLock(f"{ranking}.lock"):
        model = _calibrated(setup, ranking, moments, progress)
    convert_parameters(model, setup.dtype)
    use_block_attention(model)
    use_fast_norms(model)
    elastic = ElasticModel(model, setup.family, setup.shape, _read(ranking))
    if moments is not None:
        options = setup.pruner.options.compensate
        elastic.compensation = FromMoments(elastic, Moments(moments), options.method, options.damping)
    keep_freed_memory()
    return elastic


def _calibrated(setup: Setup, ranking: Path, moments: Path | None, progress: Progress) -> "PreTrainedModel":
    """The dense model on its device, after calibration where the cache lacks what comes of it."""
    import torch

    from prunecast.models.cpu.allocation import keep_freed_memory, return_freed_memory
    from prunecast.models.families.head import head_of

    complete = _is_complete(ranking, moments)
    model = setup.source.load(setup.dtype if complete else torch.float32, setup.device)
    head_of(model)  # found once, before anything listens to the model
    if not complete:
        keep_freed_memory()
        _calibrate(setup, model, ranking, moments, progress)
        return_freed_memory()
    return model


def _is_complete(ranking: Path, moments: Path | None) -> bool:
    return ranking.is_file() and (moments is None or moments.is_file())


def _calibrate(setup: Setup, model: "PreTrainedModel", ranking: Path, moments: Path | None, progress: Progress) -> None:
    """Write the ranking and, where there is compensation, the moments, unless they are there."""
    from prunecast.models.moments import MomentSums

    if not ranking.is_file():
        progress.say(f"ranking heads and channels ({setup.spec.pruner.use})")
        overheard = MomentSums(model, setup.family)
        with overheard.listening() if moments and _same_text(setup) else nullcontext():
            importance = _rank(setup, model)
        _write(ranking, importance)
        if moments and overheard.tokens == sum(sample.numel() for sample in setup.compensation):
            overheard.save(moments)
    if moments and not moments.is_file():
        _gather(setup, model, moments, progress)


def _same_text(setup: Setup) -> bool:
    """True if pruner and compensation use identical calibration tokens."""
    import torch

    if setup.calibration is None or len({sample.shape[1] for sample in setup.compensation}) != 1:
        return False
    return torch.equal(setup.calibration, torch.cat(setup.compensation))


def _gather(setup: Setup, model: "PreTrainedModel", path: Path, progress: Progress) -> None:
    """Write the moments. Raises ModelError if there is no memory for them: their sums take most of it, not a batch."""
    import torch

    from prunecast.errors import is_out_of_memory
    from prunecast.models.moments import gather_moments

    batches = [batch.to(setup.device) for sample in setup.compensation for batch in torch.split(sample, MOMENT_BATCH)]
    try:
        with progress.bar("compensation", sum(batch.numel() for batch in batches), "tok") as advance:
            gather_moments(model, setup.family, batches, path, advance)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise ModelError(
            f"pruner.compensate: out of memory on {setup.device} while its calibration text was read: free memory "
            "there, set model.device to another or compensate to none"
        ) from error


def _rank(setup: Setup, model: "PreTrainedModel") -> list[LayerImportance]:
    tokens = None if setup.calibration is None else setup.calibration.to(setup.device)
    importance = setup.pruner.rank(model, setup.family, tokens)
    model.zero_grad(set_to_none=True)
    model.requires_grad_(False)
    return importance


def _ranking_path(setup: Setup) -> Path:
    """File of the ranking in the cache; it does not depend on compensation."""
    key = content_key([setup.model_record.fingerprint, setup.ranking_record.key])
    return cached("rankings", f"{key}.npz")


def _moments_path(setup: Setup) -> Path | None:
    """File of the moments in the cache; it does not depend on the ranking. None without compensation."""
    if setup.pruner.options.compensate.method == "none":
        return None
    described = [setup.description] if setup.description is not None else []
    key = content_key([setup.model_record.fingerprint, setup.compensation_hash, *described])
    return cached("moments", f"{key}.safetensors")


def _read(path: Path) -> list[LayerImportance]:
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


def _write(path: Path, importance: list[LayerImportance]) -> None:
    arrays = {f"{part}.{i}": getattr(layer, part) for i, layer in enumerate(importance) for part in _PARTS}
    with written_whole(path) as unfinished, unfinished.open("wb") as file:
        np.savez_compressed(file, **arrays)
