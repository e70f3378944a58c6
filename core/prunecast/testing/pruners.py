"""Checks of pruners."""

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from prunecast.architecture.architecture import LayerImportance
from prunecast.errors import PrunecastError
from prunecast.plugins.interfaces import Pruner, PrunerOptions
from prunecast.testing.checks import Conformance, DoesNotApply, Subject, Suite, Verdict, require
from prunecast.testing.common import COMMON_CHECKS, same
from prunecast.testing.models import BYTES, FAMILIES, elastic_model, tiny_model
from prunecast.testing.subprocesses import call_in_subprocess

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

Scores = list[np.ndarray[Any, Any]]


class PrunerSubject(Subject[Pruner[Any]]):
    """A pruner under test."""

    def make(self) -> Pruner[Any]:
        """A new pruner."""
        return self.plugin(self.validated())

    def rank(self, model: "PreTrainedModel", pruner: Pruner[Any] | None = None) -> list[LayerImportance]:
        """Ranking of a tiny model by ``pruner``, or by a new one; with calibration text if the pruner asks for it."""
        from prunecast.testing.models import family_of

        pruner = pruner or self.make()
        return pruner.rank(model, family_of(model.config), tokens() if pruner.calibration else None)

    def exercise(self) -> None:
        """Rank a tiny model."""
        self.rank(tiny_model())


def tokens() -> "Tensor":
    """Calibration tokens: int64 of shape (4, 12), each token a byte."""
    import torch

    return torch.from_numpy(np.random.default_rng(5).integers(3, BYTES, size=(4, 12)))


def options_derive_from_pruner_options(subject: PrunerSubject) -> None:
    """Options are derived from ``PrunerOptions``, so that any pruner can be used with compensation."""
    require(isinstance(subject.validated(), PrunerOptions), "options are not derived from PrunerOptions")


def every_unit_of_every_layer_is_ranked(subject: PrunerSubject) -> None:
    """Every layer has finite scores of shapes (KV,), (KV, H) and (W,), for families of every weight layout."""
    from prunecast.testing.models import shape_of

    for family in FAMILIES:
        model = tiny_model(family)
        layers = shape_of(model.config).dense.layers
        ranking = subject.rank(model)
        require(len(ranking) == len(layers), f"{family}: {len(ranking)} layers are ranked of {len(layers)}")
        for importance, (groups, heads, width) in zip(ranking, layers, strict=True):
            found = [np.shape(scores) for scores in _parts(importance)]
            require(found == [(groups,), (groups, heads), (width,)], f"{family}: scores have shapes {found}")
            require(all(np.isfinite(scores).all() for scores in _parts(importance)), f"{family}: a score is not finite")


def the_model_is_left_as_found(subject: PrunerSubject) -> None:
    """``rank`` leaves weights, buffers and evaluation mode unchanged and removes its hooks; gradients may remain."""
    for family in ("qwen2", "gpt2"):
        model = tiny_model(family)
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        subject.rank(model)
        after = model.state_dict()
        changed = [name for name, tensor in before.items() if not tensor.equal(after[name])]
        require(not changed, f"{family}: {', '.join(changed)} has changed")
        require(len(after) == len(before), f"{family}: something was registered in the model")
        require(not any(module.training for module in model.modules()), f"{family}: the model is left in training mode")
        hooked = [m for m in model.modules() if m._forward_hooks or m._forward_pre_hooks or m._backward_hooks]
        require(not hooked, f"{family}: hooks are left behind: remove them in a finally clause")


def ranking_twice_gives_the_same(subject: PrunerSubject) -> None:
    """The same model, options and text give the same scores, twice from one instance and from a second one."""
    pruner = subject.make()
    first, second = (_numbers(subject.rank(tiny_model(), pruner)) for _ in range(2))
    require(same(first, second), "one instance ranks the same model differently the second time")
    require(same(first, _numbers(subject.rank(tiny_model()))), "two instances with the same options rank differently")


def another_process_ranks_the_same(subject: PrunerSubject) -> None:
    """A process with another hash seed gives the same scores."""
    there = call_in_subprocess(subject.plugin, _ranking, subject)
    require(same(_ranking(subject), there), "another process ranks differently: take random seeds from the options")


def one_layer_at_a_time_it_ranks_the_same(subject: PrunerSubject) -> None:
    """With ``by_layer``, ranking a model of one layer after the other gives the scores of the whole model."""
    import torch

    from prunecast.models.streamed.calibration import visit_layers, visit_layers_backwards
    from prunecast.models.streamed.model import StreamedModel
    from prunecast.testing.models import family_of

    pruner = subject.make()
    if (reading := pruner.by_layer) is None:
        raise DoesNotApply("it has no by_layer")
    text = tokens() if pruner.calibration else None
    for kind in FAMILIES:
        model = tiny_model(kind)
        family = family_of(model.config)
        expected, found = subject.rank(model), dict[int, LayerImportance]()

        def visit(layer: Any, index: int, family: Any = family, found: dict[int, LayerImportance] = found) -> None:
            (found[index],) = pruner.rank(layer, family, text)

        streamed = StreamedModel(tiny_model(kind), family, torch.float32, "cpu")
        texts = [] if text is None else torch.split(text, reading.samples)
        with TemporaryDirectory() as folder:
            if reading.gradients:
                visit_layers_backwards(streamed, texts, visit, "the pruner", Path(folder))
            else:
                visit_layers(streamed, texts, visit, "the pruner")
        ranking = [found[index] for index in range(streamed.depth)]
        require(same(_numbers(ranking), _numbers(expected)), f"{kind}: layers alone are ranked differently")


def the_text_is_left_alone(subject: PrunerSubject) -> None:
    """``rank`` does not modify the calibration tokens."""
    from prunecast.testing.models import family_of

    pruner, given, model = subject.make(), tokens(), tiny_model()
    if not pruner.calibration:
        raise DoesNotApply("the pruner uses no calibration text")
    pruner.rank(model, family_of(model.config), given)
    require(given.equal(tokens()), "the calibration tokens have been changed")


def missing_text_is_refused(subject: PrunerSubject) -> None:
    """A pruner that needs calibration text raises a PrunecastError if it gets none."""
    from prunecast.testing.models import family_of

    pruner, model = subject.make(), tiny_model()
    if not pruner.calibration:
        raise DoesNotApply("the pruner uses no calibration text")
    try:
        pruner.rank(model, family_of(model.config), None)
    except PrunecastError:
        return
    require(False, "it ranks without the text that its calibration asks for: raise DataError")


def calibration_is_the_same_every_time(subject: PrunerSubject) -> None:
    """``calibration`` depends on the options only."""
    pruner = subject.make()
    require(
        pruner.calibration == pruner.calibration == subject.make().calibration, "calibration changes when read again"
    )


def an_elastic_model_can_be_made_of_the_ranking(subject: PrunerSubject) -> None:
    """An elastic model made from the ranking gives finite logits for a pruned architecture."""
    import torch

    from prunecast.architecture.architecture import Architecture

    for family in ("llama", "gpt2"):
        elastic = elastic_model(tiny_model(family), subject.rank(tiny_model(family)))
        groups, heads, width = elastic.shape.dense.layers[0]
        elastic.apply(Architecture([(0, 0, width // 2), (groups // 2, heads, width), (groups, heads, 0)]))
        with torch.inference_mode():
            logits = elastic.model(tokens()).logits
        require(bool(logits.isfinite().all()), f"{family}: a pruned model's logits are not finite")


def _parts(importance: LayerImportance) -> Scores:
    return [np.asarray(s) for s in (importance.kv_groups, importance.query_heads, importance.mlp_channels)]


def _numbers(ranking: list[LayerImportance]) -> list[Scores]:
    return [_parts(importance) for importance in ranking]


def _ranking(subject: PrunerSubject) -> list[Scores]:
    return _numbers(subject.rank(tiny_model()))


PRUNERS = Suite(
    PrunerSubject,
    (
        *COMMON_CHECKS,
        options_derive_from_pruner_options,
        every_unit_of_every_layer_is_ranked,
        the_model_is_left_as_found,
        ranking_twice_gives_the_same,
        another_process_ranks_the_same,
        one_layer_at_a_time_it_ranks_the_same,
        the_text_is_left_alone,
        missing_text_is_refused,
        calibration_is_the_same_every_time,
        an_elastic_model_can_be_made_of_the_ranking,
    ),
)
"""Suite of pruners."""


class PrunerConformance(Conformance, suite=PRUNERS):
    """Base of a test class for a pruner: set ``plugin``, and every check of pruners becomes a test."""


def check_pruner(
    plugin: type[Pruner[Any]],
    options: Mapping[str, Any] | None = None,
    expected_failures: Mapping[str, str] | None = None,
) -> list[Verdict]:
    """Run every check on a pruner. Raises CheckFailed, with one line per failed check, if any fails.

    The arguments are those of :func:`prunecast.testing.check_predictor`.
    """
    return PRUNERS.check(plugin, options, expected_failures)
