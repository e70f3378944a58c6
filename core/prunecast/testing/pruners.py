"""The laws of pruners."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from prunecast.architecture.architecture import LayerImportance
from prunecast.errors import PrunecastError
from prunecast.plugins.interfaces import Pruner, PrunerOptions
from prunecast.testing.checks import Conformance, DoesNotApply, Subject, Suite, Verdict, hold
from prunecast.testing.common import COMMON_LAWS, same
from prunecast.testing.models import BYTES, FAMILIES, elastic_model, tiny_model
from prunecast.testing.subprocesses import call_elsewhere

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

Scores = list[np.ndarray[Any, Any]]


class PrunerSubject(Subject[Pruner[Any]]):
    """A pruner on trial."""

    def make(self) -> Pruner[Any]:
        """One that has ranked nothing."""
        return self.plugin(self.validated())

    def rank(self, model: "PreTrainedModel", pruner: Pruner[Any] | None = None) -> list[LayerImportance]:
        """What it makes of a tiny model, with calibration text if it wants any."""
        from prunecast.models.families import family_of

        pruner = pruner or self.make()
        return pruner.rank(model, family_of(model.config), tokens() if pruner.calibration else None)

    def exercise(self) -> None:
        """Rank a tiny model."""
        self.rank(tiny_model())


def tokens() -> "Tensor":
    """Calibration text: int64 of shape (4, 12), each token a byte."""
    import torch

    return torch.from_numpy(np.random.default_rng(5).integers(3, BYTES, size=(4, 12)))


def options_say_how_to_compensate(subject: PrunerSubject) -> None:
    """Options are derived from ``PrunerOptions``, so that any pruner can be used with compensation."""
    hold(isinstance(subject.validated(), PrunerOptions), "options are not derived from PrunerOptions")


def every_unit_of_every_layer_is_ranked(subject: PrunerSubject) -> None:
    """One entry a layer, with finite scores of shapes (KV,), (KV, H) and (W,), for families of every make."""
    from prunecast.models.families import shape_of

    for family in FAMILIES:
        model = tiny_model(family)
        layers = shape_of(model.config).dense.layers
        ranking = subject.rank(model)
        hold(len(ranking) == len(layers), f"{family}: {len(ranking)} layers are ranked of {len(layers)}")
        for importance, (groups, heads, width) in zip(ranking, layers, strict=True):
            found = [np.shape(scores) for scores in _parts(importance)]
            hold(found == [(groups,), (groups, heads), (width,)], f"{family}: scores have shapes {found}")
            hold(all(np.isfinite(scores).all() for scores in _parts(importance)), f"{family}: a score is not finite")


def the_model_is_left_as_found(subject: PrunerSubject) -> None:
    """Weights, buffers and evaluation mode are as before, and no hook is left behind; gradients may remain."""
    for family in ("qwen2", "gpt2"):
        model = tiny_model(family)
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        subject.rank(model)
        after = model.state_dict()
        changed = [name for name, tensor in before.items() if not tensor.equal(after[name])]
        hold(not changed, f"{family}: {', '.join(changed)} has changed")
        hold(len(after) == len(before), f"{family}: something was registered in the model")
        hold(not any(module.training for module in model.modules()), f"{family}: it is left in training mode")
        hooked = [m for m in model.modules() if m._forward_hooks or m._forward_pre_hooks or m._backward_hooks]
        hold(not hooked, f"{family}: hooks are left behind: remove them in a finally clause")


def ranking_twice_gives_the_same(subject: PrunerSubject) -> None:
    """The same model, options and text give the same scores, from one instance and from two."""
    pruner = subject.make()
    first, second = (_numbers(subject.rank(tiny_model(), pruner)) for _ in range(2))
    hold(same(first, second), "one instance ranks the same model differently the second time")
    hold(same(first, _numbers(subject.rank(tiny_model()))), "two instances with the same options rank differently")


def another_process_ranks_the_same(subject: PrunerSubject) -> None:
    """The same scores come out in a process with another hash seed."""
    there = call_elsewhere(subject.plugin, _ranking, subject)
    hold(same(_ranking(subject), there), "another process ranks differently: seed what is random from the options")


def the_text_is_left_alone(subject: PrunerSubject) -> None:
    """Calibration tokens are not changed."""
    from prunecast.models.families import family_of

    pruner, given, model = subject.make(), tokens(), tiny_model()
    if not pruner.calibration:
        raise DoesNotApply("the pruner looks at no text")
    pruner.rank(model, family_of(model.config), given)
    hold(given.equal(tokens()), "the calibration tokens have been changed")


def missing_text_is_refused(subject: PrunerSubject) -> None:
    """A pruner that wants text and gets none says so with an error for the user."""
    from prunecast.models.families import family_of

    pruner, model = subject.make(), tiny_model()
    if not pruner.calibration:
        raise DoesNotApply("the pruner looks at no text")
    try:
        pruner.rank(model, family_of(model.config), None)
    except PrunecastError:
        return
    hold(False, "it ranks without the text that it asks for: raise DataError")


def calibration_is_the_same_every_time(subject: PrunerSubject) -> None:
    """``calibration`` depends on the options alone."""
    pruner = subject.make()
    hold(pruner.calibration == pruner.calibration == subject.make().calibration, "calibration changes when read again")


def an_elastic_model_can_be_made_of_the_ranking(subject: PrunerSubject) -> None:
    """The ranking reorders a model that computes, and a pruned architecture of it computes too."""
    import torch

    from prunecast.architecture.architecture import Architecture

    for family in ("llama", "gpt2"):
        elastic = elastic_model(tiny_model(family), subject.rank(tiny_model(family)))
        groups, heads, width = elastic.shape.dense.layers[0]
        elastic.apply(Architecture([(0, 0, width // 2), (groups // 2, heads, width), (groups, heads, 0)]))
        with torch.inference_mode():
            logits = elastic.model(tokens()).logits
        hold(bool(logits.isfinite().all()), f"{family}: a pruned model's logits are not finite")


def _parts(importance: LayerImportance) -> Scores:
    return [np.asarray(s) for s in (importance.kv_groups, importance.query_heads, importance.mlp_channels)]


def _numbers(ranking: list[LayerImportance]) -> list[Scores]:
    return [_parts(importance) for importance in ranking]


def _ranking(subject: PrunerSubject) -> list[Scores]:
    return _numbers(subject.rank(tiny_model()))


PRUNERS = Suite(
    PrunerSubject,
    (
        *COMMON_LAWS,
        options_say_how_to_compensate,
        every_unit_of_every_layer_is_ranked,
        the_model_is_left_as_found,
        ranking_twice_gives_the_same,
        another_process_ranks_the_same,
        the_text_is_left_alone,
        missing_text_is_refused,
        calibration_is_the_same_every_time,
        an_elastic_model_can_be_made_of_the_ranking,
    ),
)
"""All laws of pruners."""


class PrunerConformance(Conformance, suite=PRUNERS):
    """Inherit from this, name your ``plugin``, and every law of pruners is a test of yours."""


def check_pruner(
    plugin: type[Pruner[Any]],
    options: Mapping[str, Any] | None = None,
    expected_failures: Mapping[str, str] | None = None,
) -> list[Verdict]:
    """Try a pruner against every law; raises LawBroken, one line a law, if any is broken.

    Arguments as of :func:`prunecast.testing.check_predictor`.
    """
    return PRUNERS.check(plugin, options, expected_failures)
