"""Building the elastic model of a set-up: load, calibrate, convert, reorder.

The ranking of units and the moments of inputs, which calibration finds, are cached by content.
"""

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from prunecast.architecture.architecture import LayerImportance
from prunecast.errors import ModelError
from prunecast.measure.calibrated import (
    compensation_batches,
    is_calibrated,
    moments_path,
    ranking_path,
    read_ranking,
    same_text,
    write_ranking,
)
from prunecast.measure.placement import Placement, Places, devices_beside, placed
from prunecast.measure.setup import Setup
from prunecast.measure.streamed import build_streamed, calibrate_streamed
from prunecast.progress import Progress

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from prunecast.models.elastic import ElasticModel


def build_elastic(setup: Setup, progress: Progress) -> "ElasticModel":
    """The elastic model of a set-up, in its dtype and its placement.

    Ranking and moments come from the cache. Missing ones are computed with the dense model in float32, in one pass
    over the text if pruner and compensation use the same text.
    """
    from prunecast.models.compensation import FromMoments
    from prunecast.models.cpu.allocation import keep_freed_memory, return_freed_memory
    from prunecast.models.cpu.attention import use_block_attention
    from prunecast.models.cpu.norms import use_fast_norms
    from prunecast.models.elastic import ElasticModel, convert_parameters
    from prunecast.models.moments import Moments

    return_freed_memory()
    # Only one of several workers that start together calibrates.
    with nullcontext() if is_calibrated(setup) else FileLock(f"{ranking_path(setup)}.lock"):
        model = _calibrated(setup, placed(setup), progress)
    if model is None:
        return build_streamed(setup)
    convert_parameters(model, setup.dtype)
    use_block_attention(model)
    use_fast_norms(model)
    elastic = ElasticModel(model, setup.family, setup.shape, read_ranking(ranking_path(setup)))
    if (moments := moments_path(setup)) is not None:
        options = setup.pruner.options.compensate
        elastic.compensation = FromMoments(elastic, Moments(moments), options.method, options.damping)
    keep_freed_memory()
    return elastic


def _calibrated(setup: Setup, places: Places, progress: Progress) -> "PreTrainedModel | None":
    """The dense model, after a calibration if the cache lacks its results; None if it is to be streamed."""
    import torch

    model = None
    if not is_calibrated(setup) and places.calibration == "stream":
        calibrate_streamed(setup, progress)
    elif not is_calibrated(setup):
        model = _loaded(setup, torch.float32, places.calibration)
        _calibrate(setup, model, progress)
    if places.evaluation == "stream":
        return None
    return model if model is not None else _loaded(setup, setup.dtype, places.evaluation)


def _loaded(setup: Setup, dtype: "torch.dtype", placement: Placement) -> "PreTrainedModel":
    """The dense model, on its device or spread over several."""
    from prunecast.models.families.head import head_of
    from prunecast.models.spread import spread

    if placement == "spread":
        model = setup.source.mapped(dtype)
        devices, rooms = zip(*devices_beside(setup.device), strict=True)
        spread(model, setup.family, devices, rooms, dtype)
    else:
        model = setup.source.load(dtype, setup.device)
    head_of(model)  # found once, before any hook is registered
    return model


def _calibrate(setup: Setup, model: "PreTrainedModel", progress: Progress) -> None:
    """Write the ranking and, where there is compensation, the moments, unless the cache has them."""
    from prunecast.models.cpu.allocation import keep_freed_memory, return_freed_memory
    from prunecast.models.moments import MomentSums

    keep_freed_memory()
    ranking, moments = ranking_path(setup), moments_path(setup)
    if not ranking.is_file():
        progress.say(f"ranking heads and channels ({setup.spec.pruner.use})")
        sums = MomentSums(model, setup.family)
        with sums.listening() if moments and same_text(setup) else nullcontext():
            importance = _rank(setup, model)
        write_ranking(ranking, importance)
        if moments and sums.tokens == sum(sample.numel() for sample in setup.compensation):
            sums.save(moments)
    if moments and not moments.is_file():
        _gather(setup, model, moments, progress)
    return_freed_memory()


def _gather(setup: Setup, model: "PreTrainedModel", path: Path, progress: Progress) -> None:
    """Write the moments. Raises ModelError if memory runs out: most of it is taken by the sums, not by a batch."""
    from prunecast.errors import is_out_of_memory
    from prunecast.models.moments import gather_moments

    batches = compensation_batches(setup)
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
