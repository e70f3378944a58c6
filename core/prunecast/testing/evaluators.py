"""Checks of evaluators."""

import math
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from prunecast.architecture.architecture import Architecture
from prunecast.errors import DataError, EvaluationError
from prunecast.models.loss import Loss
from prunecast.plugins.interfaces import Evaluator, Measurement
from prunecast.testing.checks import Conformance, DoesNotApply, Subject, Suite, Verdict, require
from prunecast.testing.common import COMMON_CHECKS, same
from prunecast.testing.models import byte_tokenizer, elastic_model, tiny_model, tiny_shape
from prunecast.testing.subprocesses import call_in_subprocess

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from prunecast.models.elastic import ElasticModel

CONTEXT = 2048
"""Context of the tiny model, in bytes: long enough for a question with its solved examples."""


class EvaluatorSubject(Subject[Evaluator[Any]]):
    """An evaluator under test, on an elastic model with random weights whose tokens are bytes."""

    def prepared(self) -> Evaluator[Any]:
        """A new evaluator after ``prepare``. Raises DoesNotApply if its data are not available."""
        evaluator = self.plugin(self.validated())
        try:
            evaluator.prepare(byte_tokenizer(), tiny_shape(CONTEXT), None)
        except DataError as error:
            raise DoesNotApply(f"its data are not available: {error}") from error
        return evaluator

    def model(self) -> "ElasticModel":
        """The dense model as an elastic model."""
        return elastic_model(tiny_model(max_position_embeddings=CONTEXT))

    def ready(self) -> "tuple[Evaluator[Any], ElasticModel]":
        """An evaluator after ``observe_dense``, and the elastic model set to a pruned architecture."""
        import torch

        evaluator, elastic = self.prepared(), self.model()
        with torch.inference_mode():
            evaluator.observe_dense(elastic.model)
        elastic.apply(Architecture([(4, 2, 12), (2, 2, 24), (4, 1, 24)]))
        return evaluator, elastic

    def exercise(self) -> None:
        """Prepare, observe and evaluate."""
        measured(*self.ready())


def measured(evaluator: Evaluator[Any], elastic: "ElasticModel") -> list[Measurement]:
    """Measurements of the model at its current architecture."""
    import torch

    with torch.inference_mode():
        return evaluator.evaluate(elastic.model)


def metrics_have_names_of_three_parts_and_none_twice(subject: EvaluatorSubject) -> None:
    """There is at least one metric; names are unique and stable, of the form ``DATASET.SPLIT.METRIC``."""
    evaluator = subject.prepared()
    names = [metric.name for metric in evaluator.metrics]
    require(names and len(set(names)) == len(names), f"metrics are {names}")
    wrong = [name for name in names if not re.fullmatch(r"[^\s.]\S*\.[^\s.]\S*\.[^\s.]\S*", name)]
    require(not wrong, f"not DATASET.SPLIT.METRIC: {', '.join(wrong)}")
    require(evaluator.metrics == evaluator.metrics == subject.prepared().metrics, "metrics change when read again")


def data_hash_is_that_of_the_data(subject: EvaluatorSubject) -> None:
    """The hash is hexadecimal and the same for the same data, also in a process with another hash seed."""
    here = subject.prepared().data_hash
    require(re.fullmatch(r"[0-9a-f]{16,}", here), f"data_hash is {here!r}, not hexadecimal: hash tokens with hashlib")
    require(here == subject.prepared().data_hash, "the same data hash differently the second time")
    there = call_in_subprocess(subject.plugin, _data_hash, subject)
    require(here == there, f"another process hashes the same data as {there}: never use hash()")


def tokens_are_counted(subject: EvaluatorSubject) -> None:
    """``tokens`` and ``expected_context`` are positive integers."""
    evaluator = subject.prepared()
    for name, count in (("tokens", evaluator.tokens), ("expected_context", evaluator.expected_context)):
        require(type(count) is int and count > 0, f"{name} is {count!r}, not a positive integer")


def one_measurement_a_metric_in_their_order(subject: EvaluatorSubject) -> None:
    """``evaluate`` returns one measurement for each of ``metrics``, in that order."""
    evaluator, elastic = subject.ready()
    found = [measurement.metric for measurement in measured(evaluator, elastic)]
    require(
        found == list(evaluator.metrics), f"measured {[m.name for m in found]} of {[m.name for m in evaluator.metrics]}"
    )


def numbers_are_finite_with_errors_and_counts_from_zero_on(subject: EvaluatorSubject) -> None:
    """Values are finite, and positive on a log scale; standard errors are None or at least 0; counts are positive."""
    for measurement in measured(*subject.ready()):
        value, error, name = measurement.value, measurement.standard_error, measurement.metric.name
        require(math.isfinite(value), f"{name} is {value}")
        require(measurement.metric.scale == "linear" or value > 0, f"{name} is {value} on a log scale")
        require(error is None or (math.isfinite(error) and error >= 0), f"the standard error of {name} is {error}")
        require(measurement.count > 0, f"the count of {name} is {measurement.count}")


def evaluating_twice_gives_the_same(subject: EvaluatorSubject) -> None:
    """One instance measures the same model equally twice, and so does a second instance."""
    evaluator, elastic = subject.ready()
    first, second = (measured(evaluator, elastic) for _ in range(2))
    require(same(_values(first), _values(second)), f"{_values(first)}, then {_values(second)}")
    require(same(_values(first), _values(measured(*subject.ready()))), "another instance measures something else")


def what_was_measured_before_does_not_matter(subject: EvaluatorSubject) -> None:
    """The numbers of an architecture do not depend on architectures evaluated before it."""
    alone = _values(measured(*subject.ready()))
    evaluator, elastic = subject.ready()
    architecture = elastic.architecture
    elastic.apply(elastic.shape.dense)
    measured(evaluator, elastic)
    elastic.apply(architecture)
    require(
        same(alone, _values(measured(evaluator, elastic))), "an architecture measures differently after the dense model"
    )


def another_process_measures_the_same(subject: EvaluatorSubject) -> None:
    """A process with another hash seed measures the same numbers."""
    here = _numbers(subject)
    there = call_in_subprocess(subject.plugin, _numbers, subject)
    require(same(here, there), f"{here} here, {there} in another process")


def the_model_is_left_as_it_was(subject: EvaluatorSubject) -> None:
    """``evaluate`` leaves weights, training mode and hooks of the model unchanged."""
    evaluator, elastic = subject.ready()
    modes = [module.training for module in elastic.model.modules()]
    before = {name: tensor.clone() for name, tensor in elastic.model.state_dict().items()}
    measured(evaluator, elastic)
    after = elastic.model.state_dict()
    require(all(tensor.equal(after[name]) for name, tensor in before.items()), "the weights have changed")
    modules = list(elastic.model.modules())
    require([module.training for module in modules] == modes, "the training mode of the model has changed")
    require(not any(m._forward_hooks or m._forward_pre_hooks for m in modules), "hooks are left behind")


def layers_without_attention_or_mlp_can_be_measured(subject: EvaluatorSubject) -> None:
    """An architecture with a layer without attention, an empty layer, and a layer without MLP can be measured."""
    evaluator, elastic = subject.ready()
    elastic.apply(Architecture([(0, 0, 24), (0, 0, 0), (4, 2, 0)]))
    values = _values(measured(evaluator, elastic))
    require(all(map(math.isfinite, values)), f"measured {values}")


def a_model_of_nan_gives_finite_numbers_or_an_error(subject: EvaluatorSubject) -> None:
    """A model whose logits are NaN gives finite numbers or an EvaluationError."""
    evaluator, elastic = subject.ready()
    for parameter in elastic.model.parameters():
        parameter.data[:] = float("nan")
    try:
        values = _values(measured(evaluator, elastic))
    except EvaluationError:
        return
    require(all(map(math.isfinite, values)), f"a model with NaN weights measures {values}: raise EvaluationError")


def reused_activations_give_the_same(subject: EvaluatorSubject) -> None:
    """If ``same_batches`` is True, reusing the activations of shared layers changes no number."""
    from prunecast.models.activation_reuse import ActivationReuse

    if not subject.plugin.same_batches:
        raise DoesNotApply("same_batches is False")
    evaluator, elastic = subject.ready()
    alone = _values(measured(evaluator, elastic))
    reuse = ActivationReuse(elastic)
    for _ in range(2):
        with reuse.active():
            again = _values(measured(evaluator, elastic))
        require(same(alone, again), f"{alone} without reuse, {again} with it: are the batches the same at every call?")


def losses_add_up_to_the_metric_and_lead_back_to_the_layers(subject: EvaluatorSubject) -> None:
    """If ``differentiable`` is True, the losses add up to the metric and propagate gradients to the layers.

    Removing an MLP then has an estimated effect that is finite, not 0, and the same twice.
    """
    import torch

    from prunecast.models.sensitivity import local_sensitivities

    if not subject.plugin.differentiable:
        raise DoesNotApply("differentiable is False")
    evaluator, elastic = subject.ready()
    [found] = measured(evaluator, elastic)

    def losses(model: "PreTrainedModel") -> Iterable[Loss]:
        return evaluator.losses(model, np.random.default_rng(0))

    with torch.enable_grad():
        total = sum(float(loss.value.detach()) for loss in losses(elastic.model))
    expected = math.log(found.value) if found.metric.scale == "log" else found.value
    require(math.isclose(total, expected, rel_tol=1e-3), f"losses add up to {total}, but the metric is {expected}")
    step = (1, elastic.architecture.layers[1]._replace(mlp_width=0))
    change, again = (local_sensitivities(elastic, losses, [step])[step] for _ in range(2))
    require(same(change, again), f"the change of a layer without its MLP is {change}, then {again}")
    require(all(map(math.isfinite, change)) and change[0] != 0.0 and change[1] > 0.0, f"without its MLP: {change}")


def _values(measurements: list[Measurement]) -> list[float]:
    return [float(measurement.value) for measurement in measurements]


def _numbers(subject: EvaluatorSubject) -> list[float]:
    return _values(measured(*subject.ready()))


def _data_hash(subject: EvaluatorSubject) -> str:
    return subject.prepared().data_hash


EVALUATORS = Suite(
    EvaluatorSubject,
    (
        *COMMON_CHECKS,
        metrics_have_names_of_three_parts_and_none_twice,
        data_hash_is_that_of_the_data,
        tokens_are_counted,
        one_measurement_a_metric_in_their_order,
        numbers_are_finite_with_errors_and_counts_from_zero_on,
        evaluating_twice_gives_the_same,
        what_was_measured_before_does_not_matter,
        another_process_measures_the_same,
        the_model_is_left_as_it_was,
        layers_without_attention_or_mlp_can_be_measured,
        a_model_of_nan_gives_finite_numbers_or_an_error,
        reused_activations_give_the_same,
        losses_add_up_to_the_metric_and_lead_back_to_the_layers,
    ),
)
"""Suite of evaluators."""


class EvaluatorConformance(Conformance, suite=EVALUATORS):
    """Base of a test class for an evaluator: set ``plugin``, and every check of evaluators becomes a test."""


def check_evaluator(
    plugin: type[Evaluator[Any]],
    options: Mapping[str, Any] | None = None,
    expected_failures: Mapping[str, str] | None = None,
) -> list[Verdict]:
    """Run every check on an evaluator. Raises CheckFailed, with one line per failed check, if any fails.

    The arguments are those of :func:`prunecast.testing.check_predictor`. The tokens of the models are bytes, so choose
    text without multi-byte characters, such as ``python-docs``, and short windows.
    """
    return EVALUATORS.check(plugin, options, expected_failures)
