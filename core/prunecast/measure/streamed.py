"""Building a streamed elastic model: as :mod:`prunecast.measure.build`, but one layer at a time is in memory."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from prunecast.architecture.architecture import LayerImportance
from prunecast.errors import ModelError
from prunecast.measure.calibrated import (
    compensation_batches,
    moments_path,
    ranking_path,
    read_ranking,
    same_text,
    write_ranking,
)
from prunecast.measure.setup import Setup
from prunecast.owned.files import written_whole
from prunecast.plugins.interfaces import ByLayer
from prunecast.progress import Progress

if TYPE_CHECKING:
    import torch

    from prunecast.models.moments import MomentsWriter
    from prunecast.models.streamed.elastic import StreamedElastic
    from prunecast.models.streamed.model import StreamedModel
    from prunecast.models.streamed.one_layer import OneLayer


def calibrate_streamed(setup: Setup, progress: Progress) -> None:
    """Write the ranking and, where there is compensation, the moments, unless the cache has them.

    Raises:
        ModelError: the weights cannot be used in the form in which they are stored.
        PluginError: the pruner does not read its text as it has declared.
    """
    import torch

    from prunecast.models.cpu.allocation import keep_freed_memory

    keep_freed_memory()
    ranking, moments = ranking_path(setup), moments_path(setup)
    streamed = _streamed(setup, torch.float32)
    if not ranking.is_file():
        progress.say(f"ranking heads and channels layer by layer ({setup.spec.pruner.use})")
        _rank(setup, streamed, ranking, moments)
    if moments and not moments.is_file():
        _gather(setup, streamed, moments, progress)


def build_streamed(setup: Setup) -> "StreamedElastic":
    """The elastic model of a calibrated set-up, of which one layer at a time is on its device and in its dtype.

    Raises:
        ModelError: the weights cannot be used in the form in which they are stored.
    """
    from prunecast.models.compensation import FromMoments
    from prunecast.models.cpu.allocation import keep_freed_memory
    from prunecast.models.cpu.attention import use_block_attention
    from prunecast.models.cpu.norms import use_fast_norms
    from prunecast.models.families.head import head_of
    from prunecast.models.moments import Moments
    from prunecast.models.streamed.elastic import StreamedElastic

    keep_freed_memory()
    moments, streamed = moments_path(setup), _streamed(setup, setup.dtype)
    with streamed.passing():  # the scale of logits does not depend on what the layers do
        head_of(streamed.model)
    use_block_attention(streamed.model)
    use_fast_norms(streamed.model)
    elastic = StreamedElastic(streamed, setup.shape, read_ranking(ranking_path(setup)))
    if moments is not None:
        options = setup.pruner.options.compensate
        elastic.compensation = FromMoments(elastic, Moments(moments), options.method, options.damping)
    return elastic


def _streamed(setup: Setup, dtype: "torch.dtype") -> "StreamedModel":
    from prunecast.models.streamed.model import StreamedModel

    return StreamedModel(setup.source.mapped(setup.dtype), setup.family, dtype, setup.device)


def _rank(setup: Setup, streamed: "StreamedModel", ranking: Path, moments: Path | None) -> None:
    """Write the ranking and, where pruner and compensation use the same text, the moments."""
    from prunecast.models.moments import MomentsWriter

    if not moments or moments.is_file() or not same_text(setup):
        write_ranking(ranking, _ranked(setup, streamed, ranking.parent, None))
        return
    with written_whole(moments) as unfinished:
        writer = MomentsWriter(unfinished, setup.shape)
        write_ranking(ranking, _ranked(setup, streamed, ranking.parent, writer))


def _ranked(
    setup: Setup, streamed: "StreamedModel", folder: Path, writer: "MomentsWriter | None"
) -> list[LayerImportance]:
    """Importance of all units; a writer gets the moments of the inputs while the pruner reads."""
    import torch

    from prunecast.models.streamed.calibration import visit_layers, visit_layers_backwards

    found: dict[int, LayerImportance] = {}
    tokens = None if setup.calibration is None else setup.calibration.to(setup.device)
    reading = _reading(setup)

    def visit(layer: "OneLayer", index: int) -> None:
        with nullcontext() if writer is None else _written(setup, layer, index, writer):
            # A OneLayer has all that a pruner that ranks layer by layer may use of a model.
            (found[index],) = setup.pruner.rank(layer, setup.family, tokens)  # type: ignore[arg-type]

    texts = [] if tokens is None else torch.split(tokens, reading.samples)
    owner = str(setup.host.find("pruner", setup.spec.pruner.use))
    if reading.gradients:
        visit_layers_backwards(streamed, texts, visit, owner, folder)
    else:
        visit_layers(streamed, texts, visit, owner)
    return [found[index] for index in range(streamed.depth)]


def _reading(setup: Setup) -> ByLayer:
    reading = setup.pruner.by_layer
    if reading is None:  # checked when the placement was chosen, but the pruner has changed it since
        raise ModelError(f"model.placement: the {setup.spec.pruner.use} pruner ranks all layers at once; set it to one")
    return reading


def _gather(setup: Setup, streamed: "StreamedModel", path: Path, progress: Progress) -> None:
    """Write the moments."""
    import torch

    from prunecast.models.moments import MomentsWriter
    from prunecast.models.streamed.calibration import visit_layers

    texts = compensation_batches(setup)
    total = streamed.depth * sum(batch.numel() for batch in texts)
    with progress.bar("compensation", total, "tok") as advance, written_whole(path) as unfinished:
        writer = MomentsWriter(unfinished, setup.shape)

        def visit(layer: "OneLayer", index: int) -> None:
            with torch.inference_mode(), _written(setup, layer, index, writer):
                for batch in texts:
                    layer.base_model(batch, use_cache=False)
                    advance(batch.numel())

        visit_layers(streamed, texts, visit, "compensation")


@contextmanager
def _written(setup: Setup, layer: "OneLayer", index: int, writer: "MomentsWriter") -> Iterator[None]:
    """Write the moments of the inputs that a layer gets inside the context."""
    from prunecast.models.moments import MomentSums

    sums = MomentSums(layer, setup.family, index)  # type: ignore[arg-type]  # it has layers like a whole model
    with sums.listening():
        yield
    writer.write(sums.means())
