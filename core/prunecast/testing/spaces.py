"""The laws of search spaces."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from prunecast.architecture.budget import Budget
from prunecast.architecture.choices import Indices, architectures_at, indices_of, value_costs
from prunecast.plugins.interfaces import SearchSpace
from prunecast.testing.checks import Conformance, Subject, Suite, Verdict, hold
from prunecast.testing.common import COMMON_LAWS, same
from prunecast.testing.landscape import SHAPE
from prunecast.testing.subprocesses import call_elsewhere


class SpaceSubject(Subject[SearchSpace[Any]]):
    """A search space on trial."""

    def make(self) -> SearchSpace[Any]:
        """One of the made-up model."""
        return self.plugin(self.validated(), SHAPE)

    def sample(self, count: int = 40, seed: int = 0) -> Indices:
        """What a new one draws."""
        return self.make().sample(count, np.random.default_rng(seed))

    def exercise(self) -> None:
        """Read the choices and draw."""
        self.sample()


def choices_are_the_same_every_time(subject: SpaceSubject) -> None:
    """``choices`` depends on the options and the shape alone, also when it is read again."""
    space = subject.make()
    hold(isinstance(space.choices, tuple), f"choices is a {type(space.choices).__name__}, not a tuple")
    hold(space.choices == space.choices == subject.make().choices, "choices differ from one reading to the next")
    hold(space.choices, "there are no choices: raise ModelError if the options leave nothing to choose")


def another_process_has_the_same_choices_and_samples(subject: SpaceSubject) -> None:
    """Choices and samples are the same in a process with another hash seed."""
    there = call_elsewhere(subject.plugin, _choices_and_sample, subject)
    hold(same(_choices_and_sample(subject), there), "another process differs: do not iterate over sets")


def values_ascend_by_size_without_repetition(subject: SpaceSubject) -> None:
    """The values of a choice cost more and more parameters, or as many with more KV groups; none comes twice."""
    choices = subject.make().choices
    for choice, costs in zip(choices, value_costs(choices, SHAPE, "parameters"), strict=True):
        hold(len(set(choice.values)) == len(choice.values), f"{choice.name} has a value twice")
        hold(len(choice.values) > 1, f"{choice.name} has a single value: leave such a choice out")
        sizes = [int(np.prod(value)) for value in choice.values]
        hold(sizes == sorted(sizes), f"values of {choice.name} are not in the order of their size: {choice.values}")
        hold(costs.min() >= 0, f"a value of {choice.name} costs less than nothing")


def values_are_what_the_model_has(subject: SpaceSubject) -> None:
    """No choice keeps more than the dense model has, in any of its layers, or less than nothing."""
    for choice in subject.make().choices:
        for layer in choice.layers:
            hold(0 <= layer < len(SHAPE.dense.layers), f"{choice.name}: the model has no layer {layer}")
            dense = SHAPE.dense.layers[layer]
            limits = dense[:2] if choice.component == "attention" else dense[2:]
            for value in choice.values:
                within = (0 <= kept <= most for kept, most in zip(value, limits, strict=True))
                fits = len(value) == len(limits) and all(within)
                hold(fits, f"{choice.name} has the value {value}, the dense layer {tuple(limits)}")
                hold(all(type(kept) is int for kept in value), f"{choice.name}: {value} are no Python integers")


def each_component_of_a_layer_is_in_one_choice_at_most(subject: SpaceSubject) -> None:
    """Two choices never decide the same thing."""
    places = [(choice.component, layer) for choice in subject.make().choices for layer in choice.layers]
    hold(len(set(places)) == len(places), "a component of a layer is in two choices")


def every_architecture_has_indices_of_its_own(subject: SpaceSubject) -> None:
    """Different values give different architectures, which are found again from what they keep."""
    space = subject.make()
    rows = subject.sample()
    for row, architecture in zip(rows, architectures_at(space.choices, SHAPE.dense, rows), strict=True):
        found = indices_of(space.choices, SHAPE.dense, architecture)
        hold(found is not None and same(found, row), f"{architecture} stands for {found}, but was drawn as {row}")


def further_values_are_what_the_model_has(subject: SpaceSubject) -> None:
    """What ``values_at`` adds for refinement is, at any rate, something the dense layers can give."""
    space = subject.make()
    for choice in space.choices:
        dense = SHAPE.dense.layers[choice.layers[0]]
        limits = dense[:2] if choice.component == "attention" else dense[2:]
        for rate in (0.0, 0.3, 0.9, 1.0):
            for value in space.values_at(choice, rate):
                within = (0 <= kept <= most for kept, most in zip(value, limits, strict=True))
                hold(len(value) == len(limits) and all(within), f"{choice.name} could have {value} at rate {rate}")


def samples_have_the_wanted_shape_and_stay_within_the_choices(subject: SpaceSubject) -> None:
    """``sample`` gives int64 of shape (count, C), positions that every choice has; any count is possible."""
    tops = np.array([len(choice.values) for choice in subject.make().choices])
    for count in (1, 33):
        indices = subject.sample(count)
        hold(indices.dtype == np.int64, f"samples are {indices.dtype}, not int64")
        hold(indices.shape == (count, len(tops)), f"samples have shape {indices.shape}, not {(count, len(tops))}")
        hold(((indices >= 0) & (indices < tops)).all(), "a sample is outside the values of its choice")


def the_same_generator_gives_the_same_samples(subject: SpaceSubject) -> None:
    """All randomness comes from the generator passed in, and another one gives other samples."""
    hold(same(subject.sample(seed=3), subject.sample(seed=3)), "two draws with one seed differ")
    hold(not same(subject.sample(seed=3), subject.sample(seed=4)), "two seeds give the same samples: use rng")


def samples_differ_from_one_another(subject: SpaceSubject) -> None:
    """There is something to learn from: at least half of 40 samples are different."""
    different = len(np.unique(subject.sample(), axis=0))
    hold(different >= 20, f"only {different} of 40 samples are different")


def samples_can_be_brought_to_a_budget(subject: SpaceSubject) -> None:
    """A budget half-way between the smallest and the dense model is met by every sample after ``budget.fit``."""
    space = subject.make()
    smallest = architectures_at(space.choices, SHAPE.dense, np.zeros((1, len(space.choices)), dtype=np.int64))
    ends = SHAPE.count([*smallest, SHAPE.dense])
    hold(ends[0] < ends[1], "the smallest architecture is as large as the dense model")
    budget = Budget(SHAPE, {"parameters": int(ends.mean())})
    fitted = budget.fit(space.choices, subject.sample(), np.random.default_rng(0))
    architectures = architectures_at(space.choices, SHAPE.dense, fitted)
    hold(all(map(budget.met_by, architectures)), "a sample that was brought to the budget is over it")


def _choices_and_sample(subject: SpaceSubject) -> tuple[Any, ...]:
    return subject.make().choices, subject.sample()


SPACES = Suite(
    SpaceSubject,
    (
        *COMMON_LAWS,
        choices_are_the_same_every_time,
        another_process_has_the_same_choices_and_samples,
        values_ascend_by_size_without_repetition,
        values_are_what_the_model_has,
        each_component_of_a_layer_is_in_one_choice_at_most,
        every_architecture_has_indices_of_its_own,
        further_values_are_what_the_model_has,
        samples_have_the_wanted_shape_and_stay_within_the_choices,
        the_same_generator_gives_the_same_samples,
        samples_differ_from_one_another,
        samples_can_be_brought_to_a_budget,
    ),
)
"""All laws of search spaces."""


class SpaceConformance(Conformance, suite=SPACES):
    """Inherit from this, name your ``plugin``, and every law of search spaces is a test of yours."""


def check_space(
    plugin: type[SearchSpace[Any]],
    options: Mapping[str, Any] | None = None,
    expected_failures: Mapping[str, str] | None = None,
) -> list[Verdict]:
    """Try a search space against every law; raises LawBroken, one line a law, if any is broken.

    Arguments as of :func:`prunecast.testing.check_predictor`.
    """
    return SPACES.check(plugin, options, expected_failures)
