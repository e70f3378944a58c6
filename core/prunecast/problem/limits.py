"""What the targets of an export can express, as a search space: what none of them may propose is not in it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from prunecast.architecture.architecture import Architecture, sizes_of
from prunecast.architecture.choices import COLUMNS, Choice, Component, Indices, Value, architectures_at, ascending
from prunecast.architecture.shape import ModelShape
from prunecast.errors import ExportError, ModelError
from prunecast.plugins.exporter import Limits
from prunecast.plugins.host import PluginHost
from prunecast.plugins.interfaces import PluginOptions, SearchSpace
from prunecast.spec.load import error_at
from prunecast.spec.model import Spec

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

    from prunecast.models.families.family import Family


def limits_of(
    spec: Spec, host: PluginHost, config: "PreTrainedConfig", family: "Family", shape: ModelShape
) -> tuple[Limits, ...]:
    """Limits of the targets of a spec for a model; targets that can express everything are left out.

    Raises:
        SpecError: a target has no form for the model, or no place for the biases of the pruner's compensation.
    """
    found: dict[str, Limits] = {}
    for place, use in enumerate(spec.targets.values()):
        try:
            found[use.label] = use.instance(host).limits(config, family, shape)
        except ExportError as error:
            raise error_at(spec, ("export", "targets", place), f"{use.label}: {error}") from error
    if adds_biases(spec):
        _check_biases(spec, found, spec.space.instance(host, shape))
    return tuple(limits for limits in found.values() if limits != Limits())


def adds_biases(spec: Spec) -> bool:
    """True if the compensation of a spec's pruner adds biases to output projections."""
    options: Any = spec.pruner.options
    return bool(options.compensate.method == "bias")


def cut_components(dense: Architecture, cut: Iterable[Architecture]) -> set[Component]:
    """Components of which some layer of some architectures keeps a part: what remains of them is compensated."""
    sizes, whole = sizes_of(list(cut)), sizes_of([dense])
    parts = {component: sizes[..., columns] for component, columns in COLUMNS.items()}
    return {
        component
        for component, kept in parts.items()
        if ((kept < whole[..., COLUMNS[component]]).any(-1) & (kept > 0).all(-1)).any()
    }


def problem_of_biases(limits: Limits, cut: Iterable[Component]) -> str | None:
    """Reason why a target cannot hold the biases of a compensation of some components; None if it can."""
    missing = [component for component in COLUMNS if component in set(cut) - limits.biases]
    if not missing:
        return None
    return f"it has no place for a bias of the output projection of {' or '.join(_NAMES[each] for each in missing)}"


def _check_biases(spec: Spec, targets: Mapping[str, Limits], space: SearchSpace[Any]) -> None:
    dense, choices = space.shape.dense, space.choices
    apart = (np.arange(len(choice.values))[:, None] for choice in choices)
    alone = zip(choices, apart, strict=True)
    cut = cut_components(dense, chain.from_iterable(architectures_at([choice], dense, at) for choice, at in alone))
    if spec.refine is not None:  # it adds values
        cut |= {choice.component for choice in choices if choice.component != "layer"}
    for label, limits in targets.items():
        if problem := problem_of_biases(limits, cut):
            raise error_at(
                spec,
                ("pruner", "compensate"),
                f"method bias adds biases, which target {label} cannot express ({problem}): choose the method "
                "least-squares, or another target",
            )


_NAMES: Mapping[Component, str] = {"attention": "the attention", "mlp": "the MLP"}


class LimitedSpace(SearchSpace[PluginOptions]):
    """A space without what targets cannot express.

    A choice loses the values that no target may have while everything else is dense. If a target has all layers alike,
    the choices of a component become one, of the values that all layers can take.

    Args:
        base: the space.
        limits: limits of the targets.

    Raises:
        ModelError: they leave nothing to choose.
    """

    def __init__(self, base: SearchSpace[Any], limits: Sequence[Limits]) -> None:
        super().__init__(base.options, base.shape)
        self._base, self._limits = base, tuple(limits)
        tied = self._tied() if any(each.alike for each in limits) else base.choices
        allowed = (replace(choice, values=self._allowed(choice, choice.values)) for choice in tied)
        self._choices = tuple(choice for choice in allowed if len(choice.values) > 1)
        if not self._choices:
            raise ModelError(
                "the targets of the export leave the space nothing to choose: let it prune all layers (layers: ':'), "
                "or leave a target out"
            )

    @property
    def choices(self) -> tuple[Choice, ...]:
        """Choices of the base space that are left."""
        return self._choices

    def sample(self, count: int, rng: np.random.Generator) -> Indices:
        """Draws of the base space; of tied choices the first is taken, of values that are gone the next smaller one."""
        drawn, base = self._base.sample(count, rng), self._base.choices
        columns = []
        for choice in self.choices:
            column = next(c for c, each in enumerate(base) if _covers(each, choice))
            below = [_position(choice, value) for value in base[column].values]
            columns.append(np.array(below, dtype=np.int64)[drawn[:, column]])
        return np.stack(columns, axis=1)

    def values_at(self, choice: Choice, rate: float) -> tuple[Value, ...]:
        """Further values of the base space that all layers of the choice can take."""
        covering = [each for each in self._base.choices if _covers(each, choice)]
        further = [set(self._base.values_at(each, rate)) for each in covering]
        return self._allowed(choice, ascending(set.intersection(*further)))

    def _tied(self) -> list[Choice]:
        """One choice a component over all layers; whole layers are chosen one by one."""
        layers = tuple(range(len(self.shape.dense.layers)))
        components: tuple[Component, ...] = ("attention", "mlp")
        choices = [each for each in self._base.choices if each.component == "layer"]
        for component in components:
            dense = [tuple(layer)[COLUMNS[component]] for layer in self.shape.dense.layers]
            values: dict[int, set[Value]] = {layer: {size} for layer, size in enumerate(dense)}
            for choice in self._base.choices:
                if choice.component == component:
                    values |= {layer: set(choice.values) for layer in choice.layers}
            choices.append(Choice(component, layers, ascending(set.intersection(*values.values()))))
        return choices

    def _allowed(self, choice: Choice, values: Iterable[Value]) -> tuple[Value, ...]:
        """Those of some values of a choice that all targets can express."""
        given = tuple(values)
        if not given:
            return ()
        one = replace(choice, values=given)
        made = architectures_at([one], self.shape.dense, np.arange(len(given))[:, None])
        return tuple(value for value, each in zip(given, made, strict=True) if not problem_of(self._limits, each))


def problem_of(limits: Iterable[Limits], architecture: Architecture) -> str | None:
    """Reason, in one line, why an architecture is beyond some limits; None if it is not."""
    return next((problem for each in limits if (problem := each.problem(architecture))), None)


def _covers(base: Choice, choice: Choice) -> bool:
    """True if a choice of the base space decides on some layer of a choice."""
    return base.component == choice.component and not set(base.layers).isdisjoint(choice.layers)


def _position(choice: Choice, value: Value) -> int:
    """Position of a value or, if it is gone, of the next smaller one; the first if there is none."""
    ordered = ascending({*choice.values, value})
    at = ordered.index(value)
    return at if value in choice.values else max(at - 1, 0)
