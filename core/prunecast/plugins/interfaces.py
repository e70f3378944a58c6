"""Interfaces of plugins: one abstract class per kind.

Life cycle
----------
1. The host finds the plugin's entry through a hook of :mod:`prunecast.plugins.hookspecs` and imports its class only if
   a spec names it. Importing the module must be cheap: import torch, scikit-learn and the like inside methods.
2. The options beside ``use:`` in the spec are validated by the class's ``options_model``. This creates no instance:
   ``spec validate`` and the JSON schema need only the class.
3. The class is instantiated in the process of the run, with the options and the further arguments of its kind: space,
   pruner and searcher once per run, each evaluator once, a predictor for every fit. Do no work in ``__init__``.
4. Its methods are called in this order, from the main thread of that process:

   ============  ====================================================  ================================================
   kind          method                                                calls
   ============  ====================================================  ================================================
   space         ``choices``                                           any number, always with the same result
   space         ``sample``                                            once per batch of random architectures
   space         ``values_at``                                         in refinement, for the least important choices
   evaluator     ``prepare``, then ``metrics``, ``data_hash``          once per run
   evaluator     ``observe_dense``, then ``evaluate``                  once; then once per missing architecture
   evaluator     ``losses``                                            once per architecture with local sensitivities
   pruner        ``calibration``                                       any number
   pruner        ``rank``                                              at most once per run; rankings are kept on disk
   predictor     ``fit``, then ``predict`` and ``importances``         after every round, and for the quality card
   searcher      ``evaluations``, then ``search``                      once per round
   exporter      ``limits``, ``check``                                 before anything is measured
   exporter      ``write``, then ``verify``                            once per export
   executor      ``start``                                             once, when there is something to measure
   executor      ``send``, ``events``, ``stop``                        any number, then ``close`` once
   ============  ====================================================  ================================================

   A resumed run and a ``--dry-run`` start from the beginning; recorded measurements are not repeated.

Shapes, units, randomness
-------------------------
N architectures, L layers, C choices, M targets, KV groups, H query heads per group, W channels. Arrays are numpy
arrays of float64 or int64. Sizes are counts, rates are removed fractions in [0, 1], and targets are on the scale of
their metric. Randomness comes only from the generator or seed passed in; that of a pruner or evaluator comes from an
option. The same input gives the same output in every process, with any hash seed, because a resumed run must reach the
same result.

Errors
------
Report a problem to the user by raising a :class:`prunecast.errors.PrunecastError` with a one-line message: ModelError
for options that do not fit the model, DataError for data, BudgetError for a budget that cannot be met, EvaluationError
for an architecture that cannot be measured (the run continues without it), PluginError for anything else. Any other
exception, ``sys.exit`` included, becomes a PluginError that names your distribution and ends the run; from ``evaluate``
it becomes an EvaluationError. Recorded measurements are kept. Return values are validated before they are used: shapes,
finite numbers, budgets, positions within the choices. Output to stdout is redirected to stderr. A call that takes
longer than ``PRUNECAST_PLUGIN_SECONDS`` is ended where Python can interrupt it.

``version`` and the options that differ from their defaults are part of the registry's content key of pruners and
evaluators: raise ``version`` whenever the same options, or a changed default, give other numbers. The key of a plugin
in a local file also contains the hash of the file.

:mod:`prunecast.plugins.examples` has a small, complete plugin of each kind; :mod:`prunecast.testing` has the checks
that a plugin has to pass.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Generic, Literal, NamedTuple, Self, TypeVar

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from prunecast.architecture.architecture import Architecture, Floats, LayerImportance
from prunecast.architecture.budget import Budget
from prunecast.architecture.choices import Choice, Indices, Value
from prunecast.architecture.shape import ModelShape
from prunecast.models.loss import Loss
from prunecast.plugins.bos import Bos

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from prunecast.models.families.family import Family


class KeyedOptions(BaseModel):
    """Options that are part of a content key of the registry.

    Attributes:
        immaterial: names of options that cannot change a measured number, such as a batch size. All others are part of
            the key.
    """

    immaterial: ClassVar[frozenset[str]] = frozenset()

    def material_options(self) -> dict[str, Any]:
        """Options that are part of the key, in JSON-serialisable form.

        Defaults are left out, so that measurements made before an option existed keep their key.
        """
        return self.model_dump(mode="json", exclude=set(self.immaterial), exclude_defaults=True)


class PluginOptions(KeyedOptions):
    """Base of every plugin's options: unknown keys are errors, and values are frozen after validation.

    Give every field a ``Field(description=...)``, which ``prunecast plugins show`` and the JSON schema display. The
    options of pruners and evaluators are part of content keys.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    @classmethod
    def named_code(cls, options: Mapping[str, Any]) -> Iterable[str]:
        """Code that options name and that using them executes, such as the import path of a class; none by default.

        Override this if an option decides which code runs. ``export RUN`` and ``registry verify --remeasure`` take
        their options from a registry, which others may have written, and refuse names that the user does not repeat
        (``--allow-code NAME``). An option called ``trust_remote_code`` is treated like that without this method.

        Args:
            options: the options as a spec has them, before they are validated; values may be of any JSON type.
        """
        return ()


OptionsT = TypeVar("OptionsT", bound=PluginOptions)
PrunerOptionsT = TypeVar("PrunerOptionsT", bound="PrunerOptions")


class Plugin(ABC, Generic[OptionsT]):
    """Common base of the kinds that are classes.

    Attributes:
        options_model: pydantic model of the options.
        version: integer of at least 1; raise it when the same options give other numbers.
        options: validated options of this instance.
    """

    options_model: ClassVar[type[PluginOptions]]
    version: ClassVar[int] = 1

    def __init__(self, options: OptionsT) -> None:
        self.options = options


# ----------------------------------------------------------------------------------------------- search space


class SearchSpace(Plugin[OptionsT]):
    """The choices of one model.

    Example: :mod:`prunecast.plugins.examples.space`.

    Args:
        options: validated options.
        shape: the dense model; ``choices`` may depend on it.

    ``choices`` is read right after construction. The attention and the MLP of a layer may each be covered by at most
    one choice, and the layer as a whole by another one; components without a choice stay dense. Raise a one-line
    ModelError for options that do not fit the model, such as a layer that it does not have.
    """

    def __init__(self, options: OptionsT, shape: ModelShape) -> None:
        super().__init__(options)
        self.shape = shape

    @property
    @abstractmethod
    def choices(self) -> tuple[Choice, ...]:
        """REQUIRED. The choices, in a fixed order, each with values in ascending order of size."""

    def sample(self, count: int, rng: np.random.Generator) -> Indices:
        """Random architectures as indices, int64 of shape (count, C): positions in the values of each choice.

        The default draws every choice independently and uniformly. Samples need not meet any budget.
        """
        sizes = [len(choice.values) for choice in self.choices]
        return rng.integers(0, sizes, size=(count, len(sizes)), dtype=np.int64)

    def values_at(self, choice: Choice, rate: float) -> tuple[Value, ...]:
        """Further values of ``choice`` at the pruning rate ``rate`` in [0, 1], for refinement.

        Refinement adds them to the least important choices. The default, an empty tuple, adds nothing.
        """
        return ()


# ----------------------------------------------------------------------------------------------------- pruner


class CalibrationOptions(BaseModel):
    """Calibration text: ``samples`` sequences of ``tokens`` tokens, drawn from ``dataset`` with ``seed``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    dataset: str = Field(default="books", description="name of a data set, or path of a text file")
    split: str = Field(default="calibration", description="part of the data set")
    samples: int = Field(default=10, ge=1, description="number of sequences")
    tokens: int = Field(default=128, ge=2, description="length of a sequence in tokens")
    seed: int = Field(default=0, ge=0, description="seed of the draw")
    bos: Bos = "auto"


def _listed(given: object) -> object:
    texts = given if isinstance(given, list | tuple) else (given,)
    if not texts:
        # Checked here, as min_length counts valid texts only and would find too few in a list with a mistake.
        raise PydanticCustomError("too_short", "at least one text is needed", {"min_length": 1, "actual_length": 0})
    return texts


CalibrationTexts = Annotated[
    tuple[CalibrationOptions, ...],
    BeforeValidator(
        _listed,
        json_schema_input_type=CalibrationOptions | Annotated[tuple[CalibrationOptions, ...], Field(min_length=1)],
    ),
]
"""One or several calibration texts; a spec has a mapping or a list of them."""


class CompensationOptions(BaseModel):
    """Compensation of the error of pruning by the remaining weights.

    Written as a mapping, or as the method alone: ``compensate: least-squares``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: Literal["none", "bias", "least-squares"] = Field(
        default="none",
        description="none; bias: add the mean contribution of the removed units (arXiv 2312.11983, equation 7); "
        "least-squares: refit the output projections to their outputs before pruning",
    )
    calibration: CalibrationTexts = Field(
        default=(CalibrationOptions(samples=32, tokens=512),),
        description="text or texts for the inputs of the output projections; if not given, those of the pruner's "
        "calibration, if that is given",
    )
    damping: float = Field(
        default=0.01,
        ge=0,
        description="regularisation towards the original weights, in units of the mean squared input",
    )

    @model_validator(mode="before")
    @classmethod
    def _from_method(cls, given: object) -> object:
        return {"method": given} if isinstance(given, str) else given


class PrunerOptions(PluginOptions):
    """Base of every pruner's options. A pruner that needs calibration text has it in the option ``calibration``."""

    compensate: CompensationOptions = Field(
        default=CompensationOptions(), description="compensation of the error of pruning by the remaining weights"
    )

    @model_validator(mode="after")
    def _compensate_on_the_same_text(self) -> Self:
        compensate = self.compensate
        if compensate.method != "none" and "calibration" in self.model_fields_set:
            own = self._own_texts()
            given = compensate.calibration if "calibration" in compensate.model_fields_set else ()
            texts = [text for each in given for text in _completed(each, own)] or own
            # The texts become part of the options, so that everything that shows or records these has them.
            object.__setattr__(self, "compensate", compensate.model_copy(update={"calibration": tuple(texts)}))
        return self

    def _own_texts(self) -> tuple[CalibrationOptions, ...]:
        own = getattr(self, "calibration", ())
        texts = own if isinstance(own, tuple) else (own,)
        usable = texts and all(isinstance(text, CalibrationOptions) for text in texts)
        return texts if usable else self.compensate.calibration


def _completed(given: CalibrationOptions, own: tuple[CalibrationOptions, ...]) -> list[CalibrationOptions]:
    """Texts of the compensation; without a data set in ``given``, the pruner's own with the options of ``given``."""
    if "dataset" in given.model_fields_set:
        return [given]
    return [text.model_copy(update={name: getattr(given, name) for name in given.model_fields_set}) for text in own]


class ByLayer(NamedTuple):
    """How a pruner that ranks the units of each layer from that layer alone reads its text.

    Attributes:
        samples: number of samples that the model reads at once, in their order, each sample once.
        gradients: True if it asks for the loss of the text and its gradients.
    """

    samples: int
    gradients: bool = False


class Pruner(Plugin[PrunerOptionsT]):
    """Ranks the units of every layer by importance; the search decides how many units are removed.

    Example: :mod:`prunecast.plugins.examples.pruner`.

    Attributes:
        calibration: calibration texts, all with the same ``tokens``; empty if the weights are enough. The hash of
            their content is part of the registry key.
        by_layer: how the pruner reads the text, if it can rank a model of which one layer at a time is in memory; else
            None.
    """

    @property
    def by_layer(self) -> ByLayer | None:
        """How ``rank`` reads the text if it can rank one layer alone; None if it needs all layers.

        The default is None: with ``model.placement: stream`` the pruner is refused. Otherwise ``rank`` may be called
        once for each layer, with a model of that layer alone, without embeddings and head, whose hidden states and
        gradients are those of the whole model. It has ``base_model(ids, use_cache=False)`` and ``model(ids, labels=ids,
        use_cache=False).loss``, which are called for each batch of ``samples`` samples exactly once.
        """
        return None

    @property
    def calibration(self) -> tuple[CalibrationOptions, ...]:
        """Calibration texts that the pruner needs; the default is empty, for pruners that use weights only."""
        return ()

    @abstractmethod
    def rank(self, model: "PreTrainedModel", family: "Family", tokens: "torch.Tensor | None") -> list[LayerImportance]:
        """REQUIRED. Importance of every unit, one entry per layer.

        Called at most once per run, before any reordering, with the dense model in float32 and in evaluation mode on
        its device. The weights must be unchanged afterwards; gradients are removed by the caller.

        Args:
            model: the dense model.
            family: locations of the projections of each layer.
            tokens: int64 of shape (samples, tokens), the texts one after the other, or (samples, tokens + 1) with a
                beginning-of-sequence token in front of each sample; None if ``calibration`` is empty.
        """


# -------------------------------------------------------------------------------------------------- evaluator


@dataclass(frozen=True)
class Metric:
    """A metric of an evaluator.

    Attributes:
        name: ``DATASET.SPLIT.METRIC``, e.g. ``wikitext2.test.ppl``.
        direction: ``minimize`` if smaller is better, ``maximize`` if larger is better.
        unit: unit of the value, e.g. ``perplexity`` or ``fraction``.
        scale: ``log`` for positive ratios such as perplexity, whose logarithm is the target of predictors.
    """

    name: str
    direction: Literal["minimize", "maximize"]
    unit: str
    scale: Literal["linear", "log"] = "linear"


@dataclass(frozen=True)
class Measurement:
    """A measured metric.

    Attributes:
        metric: the metric.
        value: finite value.
        standard_error: standard error of the value, in the same unit; None if unknown, never NaN.
        count: number of tokens or questions that the value is based on.
    """

    metric: Metric
    value: float
    standard_error: float | None
    count: int


USUAL_CONTEXT = 512
"""Number of tokens that an evaluator without the option ``context`` is assumed to read at once."""


class Evaluator(Plugin[OptionsT]):
    """Measures metrics of a model.

    Example: :mod:`prunecast.plugins.examples.evaluator`.

    Attributes:
        same_batches: True if ``evaluate`` calls the base model with the same token ids for every architecture, without
            mask or KV cache. Activations of layers shared with the previous architecture are then reused
            (:mod:`prunecast.models.activation_reuse`). Leave it False for measurements of time.
        differentiable: True if ``losses`` is implemented, which local sensitivities (``neighbours`` of a spec) need.
        measures_speed: True if metrics are times or speeds. Written files are then timed in their engine beside the
            dense model, and ``model.placement: stream`` is refused, as not all weights would be in memory.

    ``prepare`` is called once per run, before all other methods and possibly without the model ever being loaded. Then
    ``metrics`` and ``data_hash`` are read. If the registry lacks a measurement, ``observe_dense`` is called once, and
    ``evaluate`` once for every missing architecture. ``evaluate`` must be deterministic and leave the model unchanged.
    """

    same_batches: ClassVar[bool] = False
    differentiable: ClassVar[bool] = False
    measures_speed: ClassVar[bool] = False

    @abstractmethod
    def prepare(self, tokenizer: "PreTrainedTokenizerBase", shape: ModelShape, data_dir: Path | None) -> None:
        """REQUIRED. Load and tokenise the data; pass ``data_dir`` on to the readers of :mod:`prunecast.data`.

        Raises:
            DataError: data is missing, too short, or asks for a longer context than the model has.
        """

    @property
    @abstractmethod
    def metrics(self) -> tuple[Metric, ...]:
        """REQUIRED. The metrics that ``evaluate`` measures, in a fixed order."""

    @property
    @abstractmethod
    def data_hash(self) -> str:
        """REQUIRED. Hexadecimal hash of exactly those tokens or questions that are used."""

    @property
    @abstractmethod
    def tokens(self) -> int:
        """REQUIRED. Number of tokens that one evaluation feeds to the model; a dry run estimates the time from it."""

    @property
    def expected_tokens(self) -> int | None:
        """Estimate of ``tokens`` from the options alone, before ``prepare``.

        A dry run without the model and its tokenizer uses it if there is no option ``tokens``. The default, None, means
        that the options do not determine it.
        """
        return None

    @property
    def expected_context(self) -> int:
        """Number of tokens that the model reads at once, from the options alone: a dry run counts attention by it.

        The default is the option ``context`` or, without one, :data:`USUAL_CONTEXT`.
        """
        context = getattr(self.options, "context", None)
        return context if isinstance(context, int) else USUAL_CONTEXT

    def observe_dense(self, model: "PreTrainedModel") -> None:
        """Prepare metrics that are relative to the dense model. The default does nothing.

        Called once per run, before the first ``evaluate``, under ``torch.inference_mode``. Store only small results.
        """

    @abstractmethod
    def evaluate(self, model: "PreTrainedModel") -> list[Measurement]:
        """REQUIRED. One measurement per metric, in the order of ``metrics``.

        The model is in evaluation mode on its device, and the call is under ``torch.inference_mode``. Raise
        EvaluationError if a value is not finite.
        """

    def losses(self, model: "PreTrainedModel", rng: np.random.Generator) -> "Iterator[Loss]":
        """The single metric as differentiable losses, one per batch, which add up to it on the scale of the targets.

        For evaluators with ``differentiable``; the losses of a perplexity add up to the mean cross-entropy. Called with
        gradients enabled for hidden states, not for weights. The caller back-propagates each loss before it requests
        the next, so no batch has to be kept. All randomness comes from ``rng``.
        """
        raise NotImplementedError(f"{type(self).__name__} sets differentiable, but does not implement losses")


# -------------------------------------------------------------------------------------------------- predictor


class Prediction(NamedTuple):
    """Predicted targets: ``mean`` and ``std``, both of shape (N, M); ``std`` is at least 0."""

    mean: Floats
    std: Floats


class Predictor(Plugin[OptionsT]):
    """Predicts the metrics of architectures from those of measured architectures.

    Example: :mod:`prunecast.plugins.examples.predictor`.

    Args:
        options: validated options.
        shape: the dense model, for encodings relative to it (see :mod:`prunecast.architecture.encodings`).
        seed: seed of all randomness in fitting.

    Attributes:
        thread_safe: True if ``predict`` may be called from several threads at once, e.g. by a searcher with workers.
    """

    thread_safe: ClassVar[bool] = False

    def __init__(self, options: OptionsT, shape: ModelShape, seed: int) -> None:
        super().__init__(options)
        self.shape = shape
        self.seed = seed

    @abstractmethod
    def fit(self, architectures: Sequence[Architecture], targets: Floats) -> None:
        """REQUIRED. Fit on N >= 1 pairs; ``targets`` has shape (N, M) and is finite.

        Targets are on the scale of their metric: logarithms if ``Metric.scale`` is ``log``. A second call discards the
        first fit.
        """

    @abstractmethod
    def predict(self, architectures: Sequence[Architecture]) -> Prediction:
        """REQUIRED. Mean and standard deviation of every target for every architecture, on the scale of ``fit``."""

    def importances(self) -> Floats | None:
        """Importance of attention and MLP of every layer for every target, shape (L, 2, M), at least 0.

        Called after ``fit``. The default, None, means that the predictor has none; importances are then estimated by
        varying its prediction choice by choice.
        """
        return None


# --------------------------------------------------------------------------------------------------- searcher


@dataclass(frozen=True)
class SearchProblem:
    """Problem passed to a searcher.

    Attributes:
        space: the search space.
        budget: budget that every proposal has to meet; ``budget.fit`` brings proposals to its boundary.
        score: predicted objective of N architectures, shape (N,); smaller is better. Large batches are efficient.
        rng: the only source of randomness.
        known: measured architectures, best first, as starting points. They may be proposed again.
        progress: callback that takes the number of architectures scored since the last call.
    """

    space: SearchSpace[Any]
    budget: Budget
    score: Callable[[Sequence[Architecture]], Floats]
    rng: np.random.Generator
    known: Sequence[Architecture] = ()
    progress: Callable[[int], None] = field(default=lambda scored: None)


class Searcher(Plugin[OptionsT]):
    """Proposes architectures that meet a budget.

    Example: :mod:`prunecast.plugins.examples.searcher`. One instance serves all rounds; a search does not depend on
    earlier ones.
    """

    @property
    @abstractmethod
    def evaluations(self) -> int:
        """REQUIRED. Number of architectures that one search scores, for progress bars and dry runs."""

    @abstractmethod
    def search(self, problem: SearchProblem, count: int) -> list[Architecture]:
        """REQUIRED. Up to ``count`` distinct architectures that meet the budget, best predicted score first.

        Called once per round. Raises BudgetError if no architecture meets the budget.
        """
