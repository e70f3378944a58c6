"""The laws of evaluators."""

import math
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from prunecast.architecture.architecture import Architecture
from prunecast.errors import DataError, EvaluationError
from prunecast.models.sensitivity import Loss
from prunecast.plugins.interfaces import Evaluator, Measurement
from prunecast.testing.checks import Conformance, DoesNotApply, Subject, Suite, Verdict, hold
from prunecast.testing.common import COMMON_LAWS, same
from prunecast.testing.models import byte_tokenizer, elastic_model, tiny_model, tiny_shape
from prunecast.testing.subprocesses import call_elsewhere

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from prunecast.models.elastic import ElasticModel

CONTEXT = 2048
"""Longest input of the tiny model, in bytes: room for a question with its solved examples."""


class EvaluatorSubject(Subject[Evaluator[Any]]):
    """An evaluator on trial, on an elastic model of random weights that reads bytes."""

    def prepared(self) -> Evaluator[Any]:
        """One that has its data. Raises DoesNotApply if they cannot be had here."""
        evaluator = self.plugin(self.validated())
        try:
            evaluator.prepare(byte_tokenizer(), tiny_shape(CONTEXT), None)
        except DataError as error:
            raise DoesNotApply(f"its data are not at hand: {error}") from error
        return evaluator

    def model(self) -> "ElasticModel":
        """The dense model, in elastic form."""
        return elastic_model(tiny_model(max_position_embeddings=CONTEXT))

    def ready(self) -> "tuple[Evaluator[Any], ElasticModel]":
        """An evaluator that has observed the dense model, and a pruned architecture of that model."""
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
    """What the evaluator says of the model as it stands."""
    import torch

    with torch.inference_mode():
        return evaluator.evaluate(elastic.model)


def metrics_have_names_of_three_parts_and_none_twice(subject: EvaluatorSubject) -> None:
    """At least one metric, all named ``DATASET.SPLIT.METRIC``, no name twice, the same when read again."""
    evaluator = subject.prepared()
    names = [metric.name for metric in evaluator.metrics]
    hold(names and len(set(names)) == len(names), f"metrics are {names}")
    wrong = [name for name in names if not re.fullmatch(r"[^\s.]\S*\.[^\s.]\S*\.[^\s.]\S*", name)]
    hold(not wrong, f"not DATASET.SPLIT.METRIC: {', '.join(wrong)}")
    hold(evaluator.metrics == evaluator.metrics == subject.prepared().metrics, "metrics change when read again")


def data_hash_is_that_of_the_data(subject: EvaluatorSubject) -> None:
    """Hexadecimal, and the same for the same data, here and in a process with another hash seed."""
    here = subject.prepared().data_hash
    hold(re.fullmatch(r"[0-9a-f]{16,}", here), f"data_hash is {here!r}, not hexadecimal: hash tokens with hashlib")
    hold(here == subject.prepared().data_hash, "the same data hash differently the second time")
    there = call_elsewhere(subject.plugin, _data_hash, subject)
    hold(here == there, f"another process hashes the same data as {there}: never use hash()")


def tokens_are_counted(subject: EvaluatorSubject) -> None:
    """``tokens`` is a positive whole number."""
    tokens = subject.prepared().tokens
    hold(type(tokens) is int and tokens > 0, f"tokens is {tokens!r}")


def one_measurement_a_metric_in_their_order(subject: EvaluatorSubject) -> None:
    """``evaluate`` returns one measurement for each of ``metrics``, in that order."""
    evaluator, elastic = subject.ready()
    found = [measurement.metric for measurement in measured(evaluator, elastic)]
    hold(
        found == list(evaluator.metrics), f"measured {[m.name for m in found]} of {[m.name for m in evaluator.metrics]}"
    )


def numbers_are_finite_with_errors_and_counts_from_zero_on(subject: EvaluatorSubject) -> None:
    """Finite values, positive where the scale is ``log``; standard errors None or at least 0; positive counts."""
    for measurement in measured(*subject.ready()):
        value, error, name = measurement.value, measurement.standard_error, measurement.metric.name
        hold(math.isfinite(value), f"{name} is {value}")
        hold(measurement.metric.scale == "linear" or value > 0, f"{name} is {value} on a log scale")
        hold(error is None or (math.isfinite(error) and error >= 0), f"the standard error of {name} is {error}")
        hold(measurement.count > 0, f"the count of {name} is {measurement.count}")


def evaluating_twice_gives_the_same(subject: EvaluatorSubject) -> None:
    """The same model gives the same numbers, from one instance and from two."""
    evaluator, elastic = subject.ready()
    first, second = (measured(evaluator, elastic) for _ in range(2))
    hold(same(_values(first), _values(second)), f"{_values(first)}, then {_values(second)}")
    hold(same(_values(first), _values(measured(*subject.ready()))), "another instance measures something else")


def what_was_measured_before_does_not_matter(subject: EvaluatorSubject) -> None:
    """An architecture measures the same after others as it does alone."""
    alone = _values(measured(*subject.ready()))
    evaluator, elastic = subject.ready()
    architecture = elastic.architecture
    elastic.apply(elastic.shape.dense)
    measured(evaluator, elastic)
    elastic.apply(architecture)
    hold(same(alone, _values(measured(evaluator, elastic))), "an architecture measures otherwise after the dense model")


def another_process_measures_the_same(subject: EvaluatorSubject) -> None:
    """The same numbers come out in a process with another hash seed."""
    here = _numbers(subject)
    there = call_elsewhere(subject.plugin, _numbers, subject)
    hold(same(here, there), f"{here} here, {there} in another process")


def the_model_is_left_as_it_was(subject: EvaluatorSubject) -> None:
    """Weights, evaluation mode and hooks are as before."""
    evaluator, elastic = subject.ready()
    modes = [module.training for module in elastic.model.modules()]
    before = {name: tensor.clone() for name, tensor in elastic.model.state_dict().items()}
    measured(evaluator, elastic)
    after = elastic.model.state_dict()
    hold(all(tensor.equal(after[name]) for name, tensor in before.items()), "the weights have changed")
    modules = list(elastic.model.modules())
    hold([module.training for module in modules] == modes, "the model is left in another mode than it was found in")
    hold(not any(m._forward_hooks or m._forward_pre_hooks for m in modules), "hooks are left behind")


def layers_without_attention_or_mlp_can_be_measured(subject: EvaluatorSubject) -> None:
    """An architecture whose first layer has no attention, and others that have nothing, is measured."""
    evaluator, elastic = subject.ready()
    elastic.apply(Architecture([(0, 0, 24), (0, 0, 0), (4, 2, 0)]))
    values = _values(measured(evaluator, elastic))
    hold(all(map(math.isfinite, values)), f"measured {values}")


def a_spoilt_model_gives_no_number_that_is_not_finite(subject: EvaluatorSubject) -> None:
    """Of a model whose logits are NaN, it measures finite numbers or raises EvaluationError."""
    evaluator, elastic = subject.ready()
    for parameter in elastic.model.parameters():
        parameter.data[:] = float("nan")
    try:
        values = _values(measured(evaluator, elastic))
    except EvaluationError:
        return
    hold(all(map(math.isfinite, values)), f"a model that is NaN throughout measures {values}: raise EvaluationError")


def reused_activations_give_the_same(subject: EvaluatorSubject) -> None:
    """Where ``same_batches`` promises equal batches, reusing the activations of shared layers changes no number."""
    from prunecast.models.activation_reuse import ActivationReuse

    if not subject.plugin.same_batches:
        raise DoesNotApply("same_batches is False")
    evaluator, elastic = subject.ready()
    alone = _values(measured(evaluator, elastic))
    reuse = ActivationReuse(elastic)
    for _ in range(2):
        with reuse.active():
            again = _values(measured(evaluator, elastic))
        hold(same(alone, again), f"{alone} without reuse, {again} with it: are the batches the same at every call?")


def losses_add_up_to_the_metric_and_lead_back_to_the_layers(subject: EvaluatorSubject) -> None:
    """Where it is ``differentiable``, its losses add up to the metric as it is learnt, and a step changes them."""
    import torch

    from prunecast.models.sensitivity import changes_of

    if not subject.plugin.differentiable:
        raise DoesNotApply("differentiable is False")
    evaluator, elastic = subject.ready()
    [found] = measured(evaluator, elastic)

    def losses(model: "PreTrainedModel") -> Iterable[Loss]:
        return evaluator.losses(model, np.random.default_rng(0))

    with torch.enable_grad():
        total = sum(float(loss.value.detach()) for loss in losses(elastic.model))
    expected = math.log(found.value) if found.metric.scale == "log" else found.value
    hold(math.isclose(total, expected, rel_tol=1e-3), f"losses add up to {total}, measured is {expected}")
    step = (1, elastic.architecture.layers[1]._replace(mlp_width=0))
    change, again = (changes_of(elastic, losses, [step])[step] for _ in range(2))
    hold(same(change, again), f"the change of a layer without its MLP is {change}, then {again}")
    hold(all(map(math.isfinite, change)) and change[0] != 0.0 and change[1] > 0.0, f"without its MLP: {change}")


def _values(measurements: list[Measurement]) -> list[float]:
    return [float(measurement.value) for measurement in measurements]


def _numbers(subject: EvaluatorSubject) -> list[float]:
    return _values(measured(*subject.ready()))


def _data_hash(subject: EvaluatorSubject) -> str:
    return subject.prepared().data_hash


EVALUATORS = Suite(
    EvaluatorSubject,
    (
        *COMMON_LAWS,
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
        a_spoilt_model_gives_no_number_that_is_not_finite,
        reused_activations_give_the_same,
        losses_add_up_to_the_metric_and_lead_back_to_the_layers,
    ),
)
"""All laws of evaluators."""


class EvaluatorConformance(Conformance, suite=EVALUATORS):
    """Inherit from this, name your ``plugin``, and every law of evaluators is a test of yours."""


def check_evaluator(
    plugin: type[Evaluator[Any]],
    options: Mapping[str, Any] | None = None,
    expected_failures: Mapping[str, str] | None = None,
) -> list[Verdict]:
    """Try an evaluator against every law; raises LawBroken, one line a law, if any is broken.

    Arguments as of :func:`prunecast.testing.check_predictor`. The models read bytes, so choose data without wide
    characters, such as ``python-docs``, and short windows.
    """
    return EVALUATORS.check(plugin, options, expected_failures)
