"""From a set-up to an elastic model: load, rank, convert, reorder. Rankings are kept on disk by content."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from prunecast.interfaces import LayerImportance
from prunecast.models.fingerprint import cache_dir
from prunecast.pipeline.progress import Progress
from prunecast.pipeline.setup import Setup
from prunecast.registry import content_key

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from prunecast.models.elastic import ElasticModel

MOMENT_BATCH = 4
"""Samples of calibration text in one forward pass."""

_PARTS = ("kv_groups", "query_heads", "mlp_channels")


def build_elastic(setup: Setup, progress: Progress) -> "ElasticModel":
    """The elastic model of a set-up, on its device and in its dtype; ranks the units unless that is in the cache."""
    import torch

    from prunecast.models.elastic import ElasticModel, convert_parameters

    path = cache_dir() / "rankings" / f"{_ranking_key(setup)}.npz"
    importance = _read(path)
    model = setup.source.load(torch.float32 if importance is None else setup.dtype, setup.device)
    if importance is None:
        progress.say(f"ranking heads and channels ({setup.spec.pruner.use})")
        importance = _rank(setup, model)
        _write(path, importance)
    convert_parameters(model, setup.dtype)
    elastic = ElasticModel(model, setup.family, setup.shape, importance)
    _compensate(setup, elastic, progress)
    return elastic


def _compensate(setup: Setup, elastic: "ElasticModel", progress: Progress) -> None:
    """Let the elastic model compensate for what it removes, if the pruner's options say so."""
    import torch

    from prunecast.models.compensation import FromMoments, Moments, gather_moments

    options = setup.pruner.options.compensate
    if options.method == "none":
        return
    content = [_ranking_key(setup), setup.compensation_hash, str(setup.dtype)]
    path = cache_dir() / "moments" / f"{content_key(content)}.safetensors"
    if not path.is_file():
        batches = [
            batch.to(setup.device) for sample in setup.compensation for batch in torch.split(sample, MOMENT_BATCH)
        ]
        with progress.bar("compensation", sum(batch.numel() for batch in batches), "tok") as advance:
            gather_moments(elastic, batches, path, advance)
    elastic.compensation = FromMoments(elastic, Moments(path), options.method, options.damping)


def _rank(setup: Setup, model: "PreTrainedModel") -> list[LayerImportance]:
    tokens = None if setup.calibration is None else setup.calibration.to(setup.device)
    importance = setup.pruner.rank(model, setup.family, tokens)
    model.zero_grad(set_to_none=True)
    model.requires_grad_(False)
    return importance


def _ranking_key(setup: Setup) -> str:
    """Key of the ranking alone: the same whatever is done about compensation."""
    return content_key([setup.model_record.fingerprint, setup.ranking_record.key])


def _read(path: Path) -> list[LayerImportance] | None:
    if not path.is_file():
        return None
    with np.load(path) as stored:
        depth = len(stored.files) // len(_PARTS)
        return [LayerImportance(*(stored[f"{part}.{layer}"] for part in _PARTS)) for layer in range(depth)]


def _write(path: Path, importance: list[LayerImportance]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {f"{part}.{i}": getattr(layer, part) for i, layer in enumerate(importance) for part in _PARTS}
    unfinished = path.with_suffix(f".{os.getpid()}.tmp.npz")
    np.savez_compressed(unfinished, **arrays)
    unfinished.replace(path)
