"""Guards of plugins: instantiation for a run, and validation of return values.

A guarded plugin has the interface of the plugin. Its methods are called in isolation
(:mod:`prunecast.plugins.isolation`), and their return values are validated before they are used or stored.
"""

import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

import numpy as np

from prunecast.architecture.architecture import Architecture, Floats, LayerImportance
from prunecast.architecture.choices import COLUMNS, Choice, Indices, Value, largest
from prunecast.architecture.shape import ModelShape
from prunecast.errors import EvaluationError, PluginError
from prunecast.models.units import where_float64_is
from prunecast.plugins.exporter import Limits, Parity, PrunedModel, Reference, Written
from prunecast.plugins.host import PluginHost, Registered
from prunecast.plugins.interfaces import (
    CalibrationOptions,
    Measurement,
    Metric,
    Prediction,
    Predictor,
    Pruner,
    PrunerOptions,
    SearchProblem,
    SearchSpace,
)
from prunecast.plugins.isolation import LOAD_SECONDS, isolated
from prunecast.text import counted

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

    from prunecast.models.families.family import Family

Guard = TypeVar("Guard", bound="_Guarded")
Given = ParamSpec("Given")
Answer = TypeVar("Answer")


def instance(registered: Registered, *arguments: Any) -> Any:
    """Instance of a plugin's class, constructed in isolation and guarded.

    Evaluators are returned without a guard; see :func:`check_metrics` and :func:`checked_measurements`.
    """
    plugin_class = registered.load()
    with isolated(str(registered), "its constructor", LOAD_SECONDS):
        plugin = plugin_class(*arguments)
    guard = _GUARDS.get(registered.kind)
    return plugin if guard is None else guard(plugin, str(registered))


def predictor_by_default(host: PluginHost, name: str) -> Callable[[ModelShape, int], Predictor[Any]]:
    """Constructor of guarded predictors with default options, called with the shape of the model and a seed.

    Raises:
        PluginError: there is no such predictor, or it has an option without a default.
    """
    registered = host.find("predictor", name)
    try:
        options = registered.load().options_model()
    except ValueError as error:
        raise PluginError(
            f"{registered} has an option without a default: take another predictor, or predict a spec that sets it"
        ) from error
    return partial(instance, registered, options)


def _in_isolation(method: Callable[Concatenate[Guard, Given], Answer]) -> Callable[Concatenate[Guard, Given], Answer]:
    """Call a method of a guard in isolation, because validating a wrong return value may raise as well."""

    @wraps(method)
    def call(guard: Guard, /, *arguments: Given.args, **named: Given.kwargs) -> Answer:
        with isolated(guard._owner, method.__name__):
            return method(guard, *arguments, **named)

    return call


class _Guarded:
    """A plugin whose methods and properties are called in isolation."""

    def __init__(self, plugin: Any, owner: str) -> None:
        self._plugin, self._owner = plugin, owner

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or not (name in vars(self._plugin) or hasattr(type(self._plugin), name)):
            raise AttributeError(f"{self._owner} has no public attribute {name!r}")
        with isolated(self._owner, name):
            value = getattr(self._plugin, name)
        return partial(self._call, name) if inspect.ismethod(value) else value

    def _call(self, method: str, *arguments: Any, **named: Any) -> Any:
        with isolated(self._owner, method):
            return getattr(self._plugin, method)(*arguments, **named)

    def _demand(self, condition: object, complaint: str) -> None:
        """Raise PluginError, naming the plugin, unless the condition is true."""
        if not condition:
            raise PluginError(f"{self._owner} {complaint}")


class _GuardedSpace(_Guarded):
    def __init__(self, plugin: SearchSpace[Any], owner: str) -> None:
        super().__init__(plugin, owner)
        with isolated(owner, "choices"):
            self._check_choices(plugin.choices)

    @_in_isolation
    def sample(self, count: int, rng: np.random.Generator) -> Indices:
        """Samples of the space, validated: int64 of shape (count, C), each a valid position in its choice."""
        indices = self._plugin.sample(count, rng)
        sizes = np.array([len(choice.values) for choice in self.choices])
        self._demand(isinstance(indices, np.ndarray), f"sampled a {type(indices).__name__}, not an array")
        self._demand(indices.shape == (count, len(sizes)), f"sampled shape {indices.shape}, not {(count, len(sizes))}")
        self._demand(indices.dtype == np.int64, f"sampled numbers of type {indices.dtype}, not int64")
        self._demand(((indices >= 0) & (indices < sizes)).all(), "sampled a position that a choice does not have")
        return np.asarray(indices)

    @_in_isolation
    def values_at(self, choice: Choice, rate: float) -> tuple[Value, ...]:
        """Further values of a choice, validated: tuples of integers between 0 and the sizes of its layers."""
        values = self._plugin.values_at(choice, rate)
        self._check_values(choice, values)
        return tuple(values)

    def _check_choices(self, choices: Any) -> None:
        layers = range(len(self._plugin.shape.dense.layers))
        self._demand(choices and all(isinstance(choice, Choice) for choice in choices), "has no choices")
        taken: set[tuple[str, int]] = set()
        for choice in choices:
            places = {(choice.component, layer) for layer in choice.layers}
            self._demand(not taken & places, f"covers {choice.name} twice")
            taken |= places
            self._demand(
                set(choice.layers) <= set(layers), f"has a choice {choice.name} of a layer that the model does not have"
            )
            self._demand(choice.values, f"gives {choice.name} no values")
            self._check_values(choice, choice.values)
            sizes = [math.prod(value) for value in choice.values]
            ascending = sizes == sorted(sizes) and len(set(choice.values)) == len(sizes)
            self._demand(ascending, f"gives {choice.name} values that do not ascend by size, each once")

    def _check_values(self, choice: Choice, values: Sequence[Value]) -> None:
        whole = all(isinstance(value, tuple) and all(type(kept) is int for kept in value) for value in values)
        self._demand(whole, f"gives {choice.name} values that are not tuples of Python integers")
        fitting = (_gives(self._plugin.shape, layer, choice, value) for layer in choice.layers for value in values)
        self._demand(all(fitting), f"gives {choice.name} values that the model does not have")


class _GuardedPruner(_Guarded):
    def __init__(self, plugin: Pruner[Any], owner: str) -> None:
        super().__init__(plugin, owner)
        derived = isinstance(plugin.options, PrunerOptions)
        self._demand(
            derived, "has options that do not derive from prunecast.plugins.PrunerOptions: use it as their base class"
        )

    @property
    def calibration(self) -> tuple[CalibrationOptions, ...]:
        """Calibration texts, validated: all of the same length, so that their tokens form one array."""
        with isolated(self._owner, "calibration"):
            wanted = self._plugin.calibration
            texts = isinstance(wanted, list | tuple) and all(isinstance(each, CalibrationOptions) for each in wanted)
            self._demand(texts, "has a calibration that is not a tuple of CalibrationOptions")
            lengths = sorted({each.tokens for each in wanted})
            self._demand(len(lengths) < 2, f"wants calibration texts of different lengths: {lengths} tokens")
            return tuple(wanted)

    @_in_isolation
    def rank(self, model: "PreTrainedModel", family: "Family", tokens: Any) -> list[LayerImportance]:
        """Ranking, validated: finite scores of every unit, and unchanged weights of the model."""
        from prunecast.models.families.layer_parts import layers_of

        sizes = [parts.sizes for parts in layers_of(model, family)]
        before = _checksums(model)
        ranking = self._plugin.rank(model, family, tokens)
        self._demand(_checksums(model) == before, "changed the weights of the model while it ranked them")
        self._demand(len(ranking) == len(sizes), f"ranked {counted(len(ranking), 'layer')}, the model has {len(sizes)}")
        for layer, (scores, (groups, per_group, width)) in enumerate(zip(ranking, sizes, strict=True)):
            wanted = {"kv_groups": (groups,), "query_heads": (groups, per_group), "mlp_channels": (width,)}
            for part, shape in wanted.items():
                values = np.asarray(getattr(scores, part))
                self._demand(values.shape == shape, f"gave layer {layer} {part} of shape {values.shape}, not {shape}")
                self._demand(np.isfinite(values).all(), f"gave layer {layer} {part} that are not finite")
        return list(ranking)


class _GuardedPredictor(_Guarded):
    @_in_isolation
    def fit(self, architectures: Sequence[Architecture], targets: Floats) -> None:
        """Fit the predictor, and store the number of targets for later validation."""
        self._targets = targets.shape[1]
        self._plugin.fit(architectures, targets)

    @_in_isolation
    def predict(self, architectures: Sequence[Architecture]) -> Prediction:
        """Prediction, validated: finite, of shape (N, M), with standard deviations of at least 0."""
        prediction = self._plugin.predict(architectures)
        self._demand(
            isinstance(prediction, tuple) and len(prediction) == 2,
            "predicted something other than a pair of mean and std",
        )
        wanted = (len(architectures), self._targets)
        mean, std = (np.asarray(part, dtype=np.float64) for part in prediction)
        for part, values in (("mean", mean), ("std", std)):
            self._demand(values.shape == wanted, f"predicted a {part} of shape {values.shape}, not {wanted}")
            self._demand(np.isfinite(values).all(), f"predicted a {part} that is not finite")
        self._demand((std >= 0).all(), "predicted a negative standard deviation")
        return Prediction(mean, std)

    @_in_isolation
    def importances(self) -> Floats | None:
        """Importances, validated: shape (L, 2, M), finite and at least 0; None if the predictor has none."""
        found = self._plugin.importances()
        if found is None:
            return None
        values, wanted = np.asarray(found, dtype=np.float64), (len(self.shape.dense.layers), 2, self._targets)
        self._demand(values.shape == wanted, f"gave importances of shape {values.shape}, not {wanted}")
        self._demand((np.isfinite(values) & (values >= 0)).all(), "gave an importance that is negative or not finite")
        return values


class _GuardedSearcher(_Guarded):
    @_in_isolation
    def search(self, problem: SearchProblem, count: int) -> list[Architecture]:
        """Proposals, validated: distinct, within the budget, and with the depth and at most the sizes of the model."""
        proposals = self._plugin.search(problem, count)
        self._demand(isinstance(proposals, list), f"proposed a {type(proposals).__name__}, not a list")
        others = [each for each in proposals if not isinstance(each, Architecture)]
        self._demand(not others, f"proposed {others[:1]}, which is not an architecture")
        self._demand(len(proposals) <= count, f"proposed {len(proposals)} architectures, at most {count} were wanted")
        self._demand(len(set(proposals)) == len(proposals), "proposed an architecture twice")
        for architecture in proposals:
            self._demand(_fits(architecture, problem.space.shape), f"proposed {architecture}: not of this model")
            self._demand(problem.budget.met_by(architecture), f"proposed {architecture}, which is over the budget")
        return list(proposals)


class _GuardedExporter(_Guarded):
    @_in_isolation
    def limits(self, config: "PreTrainedConfig", family: "Family", shape: ModelShape) -> Limits:
        """Limits of the target, validated: of the right type, and the dense model is within them."""
        limits: Limits = self._plugin.limits(config, family, shape)
        self._demand(isinstance(limits, Limits), f"has limits of type {type(limits).__name__}, not Limits")
        self._demand(set(limits.biases) <= set(COLUMNS), f"has limits with biases {limits.biases}, of no component")
        if limits == Limits():
            return limits
        return replace(limits, problem=partial(self._problem, limits))

    @_in_isolation
    def missing_engine(self) -> str | None:
        """Reason why the engine is missing, validated: None or one line."""
        missing: str | None = self._plugin.missing_engine()
        self._demand(missing is None or isinstance(missing, str), f"says that {missing!r} is missing, which is no text")
        return None if missing is None else " ".join(missing.split())

    def write(self, model: PrunedModel, folder: Path) -> Written:
        """Result of writing, validated: the entry file exists. A full disk is no failure of the plugin."""
        with isolated(self._owner, "write"):
            try:
                written: Written | OSError = self._plugin.write(model, folder)
            except OSError as error:
                written = error
        if isinstance(written, OSError):
            raise written
        self._demand(isinstance(written, Written), f"wrote a {type(written).__name__}, not Written")
        self._demand((folder / self.entry).is_file(), f"wrote no {self.entry}")
        return written

    @_in_isolation
    def verify(self, model: PrunedModel, folder: Path, reference: Reference) -> Parity:
        """The comparison, validated: its largest difference is a number."""
        parity: Parity = self._plugin.verify(model, folder, reference)
        self._demand(isinstance(parity, Parity), f"verified with a {type(parity).__name__}, not a Parity")
        self._demand(math.isfinite(parity.max_difference), "verified with a difference that is not finite")
        return parity

    @_in_isolation
    def _problem(self, limits: Limits, architecture: Architecture) -> str | None:
        return limits.problem(architecture)


_GUARDS: dict[str, type[_Guarded]] = {
    "space": _GuardedSpace,
    "pruner": _GuardedPruner,
    "predictor": _GuardedPredictor,
    "searcher": _GuardedSearcher,
    "exporter": _GuardedExporter,
}


def check_metrics(owner: str, metrics: Any) -> None:
    """Raise PluginError, naming the evaluator, if a metric is missing or has an invalid direction or scale."""
    if not (isinstance(metrics, list | tuple) and metrics and all(isinstance(metric, Metric) for metric in metrics)):
        raise PluginError(f"{owner} has metrics that are not a non-empty tuple of Metric")
    for metric in metrics:
        if metric.direction not in ("minimize", "maximize"):
            raise PluginError(
                f"{owner}: the direction of {metric.name} is {metric.direction!r}: write minimize or maximize"
            )
        if metric.scale not in ("linear", "log"):
            raise PluginError(f"{owner}: the scale of {metric.name} is {metric.scale!r}: write linear or log")


def checked_measurements(owner: str, measurements: Any, metrics: Sequence[Metric]) -> list[Measurement]:
    """Measurements, validated for the registry. Raises EvaluationError, naming the evaluator, if any is invalid."""
    found = list(measurements) if isinstance(measurements, list | tuple) else []
    if [getattr(measurement, "metric", None) for measurement in found] != list(metrics):
        raise EvaluationError(f"{owner} measured other metrics than its property metrics lists")
    return [_checked(owner, measured) for measured in found]


def _checked(owner: str, measured: Measurement) -> Measurement:
    """Measurement with a Python float as its value: numpy and torch numbers cannot be written as JSON."""
    metric, value, error = measured.metric, float(measured.value), measured.standard_error
    if not math.isfinite(value):
        raise EvaluationError(f"{owner}: {metric.name} is {value}, not a finite number")
    if metric.scale == "log" and value <= 0:
        raise EvaluationError(f"{owner}: {metric.name} is {value}, not above 0, which its scale log requires")
    if error is not None and not (math.isfinite(error) and error >= 0):
        raise EvaluationError(
            f"{owner}: the standard error of {metric.name} is {error}, not a finite number of at least 0"
        )
    if not measured.count >= 0:
        raise EvaluationError(f"{owner}: the count of {metric.name} is {measured.count}, not at least 0")
    return replace(measured, value=value)


def _gives(shape: ModelShape, layer: int, choice: Choice, value: Value) -> bool:
    """True if a value of a choice lies between 0 and the sizes of a layer of the dense model."""
    limits = largest(choice.component, shape.dense.layers[layer])
    return len(value) == len(limits) and all(0 <= kept <= most for kept, most in zip(value, limits, strict=True))


def _fits(architecture: Architecture, shape: ModelShape) -> bool:
    kept, dense = architecture.layers, shape.dense.layers
    return len(kept) == len(dense) and all(
        k <= d for layers in zip(kept, dense, strict=True) for k, d in zip(*layers, strict=True)
    )


def _checksums(model: "PreTrainedModel") -> list[float]:
    """Sum of each parameter: cheap, and different after any relevant change of the weights."""
    import torch

    with torch.no_grad():
        return [float(where_float64_is(p).sum(dtype=torch.float64)) for p in model.parameters()]
