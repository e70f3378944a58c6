"""Checks of search spaces."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from prunecast.architecture.architecture import sizes_of
from prunecast.architecture.budget import Budget
from prunecast.architecture.choices import (
    Indices,
    architectures_at,
    gone_layers,
    indices_of,
    is_idle,
    largest,
    value_costs,
)
from prunecast.plugins.interfaces import SearchSpace
from prunecast.testing.checks import Conformance, Subject, Suite, Verdict, require
from prunecast.testing.common import COMMON_CHECKS, same
from prunecast.testing.landscape import SHAPE
from prunecast.testing.subprocesses import call_in_subprocess


class SpaceSubject(Subject[SearchSpace[Any]]):
    """A search space under test."""

    def make(self) -> SearchSpace[Any]:
        """A new space of the synthetic model ``SHAPE``."""
        return self.plugin(self.validated(), SHAPE)

    def sample(self, count: int = 40, seed: int = 0) -> Indices:
        """Samples of a new space, shape (count, C)."""
        return self.make().sample(count, np.random.default_rng(seed))

    def exercise(self) -> None:
        """Read the choices and draw samples."""
        self.sample()


def choices_are_the_same_every_time(subject: SpaceSubject) -> None:
    """``choices`` is a non-empty tuple that depends only on the options and the shape."""
    space = subject.make()
    require(isinstance(space.choices, tuple), f"choices is a {type(space.choices).__name__}, not a tuple")
    require(space.choices == space.choices == subject.make().choices, "choices change when read again")
    require(space.choices, "there are no choices: raise ModelError if the options leave nothing to choose")


def another_process_has_the_same_choices_and_samples(subject: SpaceSubject) -> None:
    """A process with another hash seed has the same choices and samples."""
    there = call_in_subprocess(subject.plugin, _choices_and_sample, subject)
    require(same(_choices_and_sample(subject), there), "another process differs: do not iterate over sets")


def values_ascend_by_size_without_repetition(subject: SpaceSubject) -> None:
    """A choice has at least two values, all distinct, in ascending order of size, with costs of at least 0."""
    choices = subject.make().choices
    for choice, costs in zip(choices, value_costs(choices, SHAPE, "parameters"), strict=True):
        require(len(set(choice.values)) == len(choice.values), f"{choice.name} has a value twice")
        require(len(choice.values) > 1, f"{choice.name} has fewer than two values: leave such a choice out")
        sizes = [int(np.prod(value)) for value in choice.values]
        require(sizes == sorted(sizes), f"values of {choice.name} are not in the order of their size: {choice.values}")
        require(costs.min() >= 0, f"a value of {choice.name} has a negative cost")


def values_fit_the_dense_model(subject: SpaceSubject) -> None:
    """The values of every choice are integers between 0 and the sizes of each dense layer that it covers."""
    for choice in subject.make().choices:
        for layer in choice.layers:
            require(0 <= layer < len(SHAPE.dense.layers), f"{choice.name}: the model has no layer {layer}")
            limits = largest(choice.component, SHAPE.dense.layers[layer])
            for value in choice.values:
                within = (0 <= kept <= most for kept, most in zip(value, limits, strict=True))
                fits = len(value) == len(limits) and all(within)
                require(fits, f"{choice.name} has the value {value}, not between 0 and {limits}")
                require(all(type(kept) is int for kept in value), f"{choice.name}: {value} are not Python integers")


def each_component_of_a_layer_is_in_one_choice_at_most(subject: SpaceSubject) -> None:
    """No attention or MLP of a layer is covered by two choices, and no layer by two choices of whole layers."""
    places = [(choice.component, layer) for choice in subject.make().choices for layer in choice.layers]
    require(len(set(places)) == len(places), "a component of a layer is in two choices")


def every_architecture_has_indices_of_its_own(subject: SpaceSubject) -> None:
    """Indices can be recovered from their architecture, but for choices of which all layers are gone."""
    space = subject.make()
    rows = subject.sample()
    for row, architecture in zip(rows, architectures_at(space.choices, SHAPE.dense, rows), strict=True):
        found = indices_of(space.choices, SHAPE.dense, architecture)
        gone = gone_layers(space.choices, sizes_of([architecture]))
        matters = [not is_idle(choice, gone)[0] for choice in space.choices]
        require(
            found is not None and same(found[matters], row[matters]),
            f"{architecture} has the indices {found}, but was made from {row}",
        )


def further_values_fit_the_dense_model(subject: SpaceSubject) -> None:
    """Values that ``values_at`` adds for refinement lie between 0 and the dense sizes, at every rate."""
    space = subject.make()
    for choice in space.choices:
        limits = largest(choice.component, SHAPE.dense.layers[choice.layers[0]])
        for rate in (0.0, 0.3, 0.9, 1.0):
            for value in space.values_at(choice, rate):
                within = (0 <= kept <= most for kept, most in zip(value, limits, strict=True))
                require(
                    len(value) == len(limits) and all(within),
                    f"{choice.name} gets {value} at rate {rate}, not between 0 and {limits}",
                )


def samples_have_the_wanted_shape_and_stay_within_the_choices(subject: SpaceSubject) -> None:
    """``sample`` returns int64 of shape (count, C), each a valid position in the values of its choice."""
    sizes = np.array([len(choice.values) for choice in subject.make().choices])
    for count in (1, 33):
        indices = subject.sample(count)
        require(indices.dtype == np.int64, f"samples are {indices.dtype}, not int64")
        require(indices.shape == (count, len(sizes)), f"samples have shape {indices.shape}, not {(count, len(sizes))}")
        require(
            ((indices >= 0) & (indices < sizes)).all(), "a sample is not a valid position in the values of its choice"
        )


def the_same_generator_gives_the_same_samples(subject: SpaceSubject) -> None:
    """All randomness comes from the generator passed in; another seed gives other samples."""
    require(same(subject.sample(seed=3), subject.sample(seed=3)), "two draws with the same seed differ")
    require(not same(subject.sample(seed=3), subject.sample(seed=4)), "two seeds give the same samples: use rng")


def samples_differ_from_one_another(subject: SpaceSubject) -> None:
    """At least half of 40 samples are distinct, or of all there are, so that there is variation to learn from."""
    different = len(np.unique(subject.sample(), axis=0))
    most = min(40, math.prod(len(choice.values) for choice in subject.make().choices))
    require(2 * different >= most, f"only {different} of 40 samples are distinct")


def samples_can_be_brought_to_a_budget(subject: SpaceSubject) -> None:
    """After ``budget.fit``, every sample meets a budget half-way between the smallest and the dense model."""
    space = subject.make()
    smallest = architectures_at(space.choices, SHAPE.dense, np.zeros((1, len(space.choices)), dtype=np.int64))
    ends = SHAPE.count([*smallest, SHAPE.dense])
    require(ends[0] < ends[1], "the smallest architecture is as large as the dense model")
    budget = Budget(SHAPE, {"parameters": int(ends.mean())})
    fitted = budget.fit(space.choices, subject.sample(), np.random.default_rng(0))
    architectures = architectures_at(space.choices, SHAPE.dense, fitted)
    require(all(map(budget.met_by, architectures)), "a sample is over the budget after budget.fit")


def _choices_and_sample(subject: SpaceSubject) -> tuple[Any, ...]:
    return subject.make().choices, subject.sample()


SPACES = Suite(
    SpaceSubject,
    (
        *COMMON_CHECKS,
        choices_are_the_same_every_time,
        another_process_has_the_same_choices_and_samples,
        values_ascend_by_size_without_repetition,
        values_fit_the_dense_model,
        each_component_of_a_layer_is_in_one_choice_at_most,
        every_architecture_has_indices_of_its_own,
        further_values_fit_the_dense_model,
        samples_have_the_wanted_shape_and_stay_within_the_choices,
        the_same_generator_gives_the_same_samples,
        samples_differ_from_one_another,
        samples_can_be_brought_to_a_budget,
    ),
)
"""Suite of search spaces."""


class SpaceConformance(Conformance, suite=SPACES):
    """Base of a test class for a search space: set ``plugin``, and every check of search spaces becomes a test."""


def check_space(
    plugin: type[SearchSpace[Any]],
    options: Mapping[str, Any] | None = None,
    expected_failures: Mapping[str, str] | None = None,
) -> list[Verdict]:
    """Run every check on a search space. Raises CheckFailed, with one line per failed check, if any fails.

    The arguments are those of :func:`prunecast.testing.check_predictor`.
    """
    return SPACES.check(plugin, options, expected_failures)
