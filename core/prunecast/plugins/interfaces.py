"""What a plugin implements: one abstract class a kind.

Life of a plugin in a run
-------------------------
1. The host finds the plugin's entry through a hook of :mod:`prunecast.plugins.hookspecs` and imports its class only when a
   spec names it. Importing the module must be cheap: import torch, scikit-learn and the like inside methods.
2. The options beside ``use:`` in the spec are validated by the class's ``options_model``. Nothing is instantiated for
   that: ``spec validate`` and the JSON schema need the class alone.
3. The class is instantiated in the process that runs, with those options and what its kind is given: space, pruner and
   searcher once a run, each evaluator once, a predictor for every fit. Do no work in ``__init__``.
4. Its methods are called in this order, each from the main thread of that one process:

   ============  ====================================================  ================================================
   kind          method                                                how often
   ============  ====================================================  ================================================
   space         ``choices``                                           any number of times, always the same answer
   space         ``sample``                                            once a batch of proposals
   space         ``values_at``                                         by refinement, for choices that matter little
   evaluator     ``prepare``, then ``metrics``, ``data_hash``          once a run
   evaluator     ``observe_dense``, then ``evaluate``                  once; once an architecture that is missing
   evaluator     ``losses``                                            once an architecture with neighbours estimated
   pruner        ``calibration``                                       any number of times
   pruner        ``rank``                                              at most once a run; rankings are kept on disk
   predictor     ``fit``, then ``predict`` and ``importances``         after every round, and for the quality card
   searcher      ``evaluations``, then ``search``                      once a round
   ============  ====================================================  ================================================

   A run that is continued, and a ``--dry-run``, starts from the beginning; what has been measured is not measured
   again.

Shapes, units, randomness
-------------------------
N architectures, L layers, C choices, M targets, KV groups, H query heads a group, W channels. Arrays are numpy, float64
and int64. Sizes are counts, rates are fractions in [0, 1] of what goes, targets are on the scale of their metric.
Randomness comes only from the generator or seed passed in; a pruner's or evaluator's comes from an option. The same
input gives the same output in every process, whatever its hash seed: a run must come to the same result when it is
continued.

What may be raised, and what else is caught
-------------------------------------------
To tell the user that something cannot be done, raise a :class:`prunecast.errors.PrunecastError` with one line:
ModelError for options that do not fit the model, DataError for data, BudgetError for a budget that cannot be met,
EvaluationError for an architecture that cannot be measured (the run goes on without it), PluginError for anything else.
Whatever else is raised, ``sys.exit`` too, becomes a PluginError that names your distribution and ends the run; from
``evaluate`` it becomes an EvaluationError. What was measured before is kept. Answers are checked before they are used:
shapes, finite numbers, budgets, positions within the choices. What you print to stdout is shown on stderr. A call that
takes longer than ``PRUNECAST_PLUGIN_SECONDS`` is ended, where Python can interrupt it.

``version`` and the options that differ from their defaults are part of the registry's content key of pruners and
evaluators: raise ``version`` whenever the same options, or a changed default, would give other numbers. Of a local file
its hash is part of the key too.

A complete, small plugin of each kind: :mod:`prunecast.plugins.examples`. The laws it has to keep: :mod:`prunecast.testing`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, NamedTuple, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from prunecast.architecture.architecture import Architecture, Floats, LayerImportance
from prunecast.architecture.budget import Budget
from prunecast.architecture.choices import Choice, Indices, Value
from prunecast.architecture.shape import ModelShape
from prunecast.models.loss import Loss

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from prunecast.models.families import Family


class KeyedOptions(BaseModel):
    """Options that are part of a content key of the registry.

    Attributes:
        immaterial: names of options that cannot change a measured number, such as a batch size. All others are part of
            the key.
    """

    immaterial: ClassVar[frozenset[str]] = frozenset()

    def material_options(self) -> dict[str, Any]:
        """What of the options is part of the key, JSON-able.

        Defaults are left out, so that a new option does not orphan what was measured before it existed.
        """
        return self.model_dump(mode="json", exclude=set(self.immaterial), exclude_defaults=True)


class PluginOptions(KeyedOptions):
    """Base of every plugin's options: unknown keys are errors, values do not change after validation.

    Give every field a ``Field(description=...)``: it is the help in ``prunecast plugins show`` and in the JSON schema.
    Of pruners and evaluators they are part of content keys.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)


OptionsT = TypeVar("OptionsT", bound=PluginOptions)
PrunerOptionsT = TypeVar("PrunerOptionsT", bound="PrunerOptions")


class Plugin(ABC, Generic[OptionsT]):
    """Common ground of the five kinds.

    Attributes:
        options_model: the pydantic model of the options.
        version: whole number, raised when the same options would give other numbers.
        options: the validated options of this instance.
    """

    options_model: ClassVar[type[PluginOptions]]
    version: ClassVar[int] = 1

    def __init__(self, options: OptionsT) -> None:
        self.options = options


# ----------------------------------------------------------------------------------------------- search space


class SearchSpace(Plugin[OptionsT]):
    """All choices open for one model.

    Example: :mod:`prunecast.plugins.examples.space`.

    Args:
        options: validated options.
        shape: the dense model; ``choices`` may depend on it.

    ``choices`` is read once, right after construction. Each layer's attention and each layer's MLP may be covered by
    at most one choice; what no choice covers stays dense. Raise a one-line ModelError for options that do not fit the
    model, such as a layer that it does not have.
    """

    def __init__(self, options: OptionsT, shape: ModelShape) -> None:
        super().__init__(options)
        self.shape = shape

    @property
    @abstractmethod
    def choices(self) -> tuple[Choice, ...]:
        """REQUIRED. The choices, in a fixed order; their values ascend by size."""

    def sample(self, count: int, rng: np.random.Generator) -> Indices:
        """Random proposals to learn from, shape (count, C): positions in each choice's values.

        The default draws every choice independently and evenly. Need not meet any budget.
        """
        tops = [len(choice.values) for choice in self.choices]
        return rng.integers(0, tops, size=(count, len(tops)), dtype=np.int64)

    def values_at(self, choice: Choice, rate: float) -> tuple[Value, ...]:
        """What the layers of ``choice`` could keep besides its values if cut at ``rate``, in [0, 1].

        Refinement widens choices that matter little by it. The default, nothing, leaves them as they are.
        """
        return ()


# ----------------------------------------------------------------------------------------------------- pruner


class CalibrationOptions(BaseModel):
    """Text a pruner looks at: ``samples`` pieces of ``tokens`` tokens, drawn from ``dataset`` with ``seed``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    dataset: str = Field(default="books", description="name of a data set, or path of a text file")
    split: str = Field(default="calibration", description="part of the data set")
    samples: int = Field(default=10, ge=1, description="pieces of text")
    tokens: int = Field(default=128, ge=2, description="length of a piece in tokens")
    seed: int = Field(default=0, ge=0, description="another seed draws other pieces")


class CompensationOptions(BaseModel):
    """How the weights that stay make up for those that go.

    Written as a mapping, or as just the method: ``compensate: least-squares``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: Literal["none", "bias", "least-squares"] = Field(
        default="none",
        description="none; bias: add the mean contribution of what goes (arXiv 2312.11983, equation 7); least-squares: "
        "refit the output projections to what they put out before",
    )
    calibration: tuple[CalibrationOptions, ...] = Field(
        default=(CalibrationOptions(samples=32, tokens=512),),
        min_length=1,
        description="text that inputs of the output projections are taken from",
    )
    damping: float = Field(
        default=0.01, ge=0, description="pull towards the old weights, in units of the mean squared input"
    )

    @model_validator(mode="before")
    @classmethod
    def _from_method(cls, given: object) -> object:
        return {"method": given} if isinstance(given, str) else given


class PrunerOptions(PluginOptions):
    """Base of every pruner's options."""

    compensate: CompensationOptions = Field(
        default=CompensationOptions(), description="how the weights that stay make up for those that go"
    )


class Pruner(Plugin[PrunerOptionsT]):
    """Ranks the units of every layer; how many of them go is the search's business.

    Example: :mod:`prunecast.plugins.examples.pruner`.

    Attributes:
        calibration: the texts wanted, all with the same ``tokens``; none if weights are enough. The hash of their
            content enters the registry key.
    """

    @property
    def calibration(self) -> tuple[CalibrationOptions, ...]:
        """Calibration texts the pruner needs; empty, the default, for pruners that look at weights only."""
        return ()

    @abstractmethod
    def rank(self, model: "PreTrainedModel", family: "Family", tokens: "torch.Tensor | None") -> list[LayerImportance]:
        """REQUIRED. Importance of every unit, one entry a layer.

        Called at most once a run, before anything is reordered, with the dense model in float32 and in evaluation mode
        on its device. Weights must be as found afterwards; gradients are dropped by the caller.

        Args:
            model: the dense model.
            family: where the projections of each layer are.
            tokens: int64 of shape (samples, tokens), text after text, or None if ``calibration`` is empty.
        """


# -------------------------------------------------------------------------------------------------- evaluator


@dataclass(frozen=True)
class Metric:
    """A number an evaluator measures.

    Attributes:
        name: ``DATASET.SPLIT.METRIC``, e.g. ``wikitext2.test.ppl``.
        direction: whether smaller (``minimize``) or larger (``maximize``) is better.
        unit: what one unit of it is, e.g. ``perplexity`` or ``fraction``.
        scale: ``log`` for positive ratios such as perplexity, which predictors learn as logarithms.
    """

    name: str
    direction: Literal["minimize", "maximize"]
    unit: str
    scale: Literal["linear", "log"] = "linear"


@dataclass(frozen=True)
class Measurement:
    """A measured metric: finite ``value``, its standard error (same unit, NaN not allowed, None if unknown) and the
    number of tokens or questions behind it."""

    metric: Metric
    value: float
    standard_error: float | None
    count: int


class Evaluator(Plugin[OptionsT]):
    """Measures metrics of a model.

    Example: :mod:`prunecast.plugins.examples.evaluator`.

    Attributes:
        same_batches: whether ``evaluate`` calls the base model with the same token ids for every architecture, without
            mask or KV cache. Activations of layers that are shared with the architecture before are then reused
            (:mod:`prunecast.models.activation_reuse`). Leave it False for anything that takes time.
        differentiable: whether it has ``losses``, from which ``neighbours`` of a spec are estimated.

    ``prepare`` is called once a run, before anything else and possibly without the model ever being loaded; then
    ``metrics`` and ``data_hash`` are read; then, if anything is missing in the registry, ``observe_dense`` is called
    once and ``evaluate`` once for every architecture that is missing. ``evaluate`` must be deterministic and must leave
    the model as it was.
    """

    same_batches: ClassVar[bool] = False
    differentiable: ClassVar[bool] = False

    @abstractmethod
    def prepare(self, tokenizer: "PreTrainedTokenizerBase", shape: ModelShape, data_dir: Path | None) -> None:
        """REQUIRED. Load and tokenise the data; pass ``data_dir`` on to the readers of :mod:`prunecast.data`.

        Raises:
            DataError: data is missing, too short, or asks for a longer context than the model has.
        """

    @property
    @abstractmethod
    def metrics(self) -> tuple[Metric, ...]:
        """REQUIRED. What will be measured, in a fixed order."""

    @property
    @abstractmethod
    def data_hash(self) -> str:
        """REQUIRED. Hexadecimal hash of exactly the tokens or questions that are used."""

    @property
    @abstractmethod
    def tokens(self) -> int:
        """REQUIRED. Number of tokens one evaluation feeds to the model; a dry run estimates the time from it."""

    @property
    def expected_tokens(self) -> int | None:
        """About how many tokens that will be, told by the options alone, before ``prepare``.

        A dry run without the model and its tokenizer goes by it where there is no option ``tokens``. None, the default,
        if options do not tell.
        """
        return None

    def observe_dense(self, model: "PreTrainedModel") -> None:
        """Look at the dense model. Called once a run, before the first ``evaluate``, under ``torch.inference_mode``.

        For metrics relative to it; keep what is small. The default does nothing.
        """

    @abstractmethod
    def evaluate(self, model: "PreTrainedModel") -> list[Measurement]:
        """REQUIRED. One measurement a metric, in the order of ``metrics``.

        The model is in evaluation mode on its device and the call happens under ``torch.inference_mode``. Raise
        EvaluationError if no finite number comes out.
        """

    def losses(self, model: "PreTrainedModel", rng: np.random.Generator) -> "Iterator[Loss]":
        """The one metric, to differentiate: one loss a batch, whose values add up to it on the scale predictors learn.

        For evaluators that are ``differentiable``: of a perplexity it is the mean cross-entropy. Called with gradients
        enabled; weights have none, hidden states do. After each loss the caller goes back through it before it asks
        for the next, so nothing of a batch need be kept. All that is random comes from ``rng``.
        """
        raise NotImplementedError(f"{type(self).__name__} says it is differentiable, and has no losses")


# -------------------------------------------------------------------------------------------------- predictor


class Prediction(NamedTuple):
    """Predicted targets: ``mean`` and ``std``, both of shape (N, M); ``std`` is at least 0."""

    mean: Floats
    std: Floats


class Predictor(Plugin[OptionsT]):
    """Learns from measured architectures what all others would measure.

    Example: :mod:`prunecast.plugins.examples.predictor`.

    Args:
        options: validated options.
        shape: the dense model, for encodings relative to it (see :mod:`prunecast.architecture.encodings`).
        seed: makes fitting reproducible.

    Attributes:
        thread_safe: whether ``predict`` may be called from several threads at once, as a searcher with workers would.
    """

    thread_safe: ClassVar[bool] = False

    def __init__(self, options: OptionsT, shape: ModelShape, seed: int) -> None:
        super().__init__(options)
        self.shape = shape
        self.seed = seed

    @abstractmethod
    def fit(self, architectures: Sequence[Architecture], targets: Floats) -> None:
        """REQUIRED. Learn from N >= 1 pairs; ``targets`` has shape (N, M), all finite.

        Targets arrive on the scale of their metric (logarithms where ``Metric.scale`` is ``log``). A second call
        forgets the first.
        """

    @abstractmethod
    def predict(self, architectures: Sequence[Architecture]) -> Prediction:
        """REQUIRED. Mean and standard deviation of every target for every architecture, on the scale of ``fit``."""

    def importances(self) -> Floats | None:
        """How much attention and MLP of every layer matter to every target, shape (L, 2, M), at least 0.

        Called after ``fit``. None, the default, for predictors that do not know; their prediction is then varied choice
        by choice.
        """
        return None


# --------------------------------------------------------------------------------------------------- searcher


@dataclass(frozen=True)
class SearchProblem:
    """What a searcher is asked.

    Attributes:
        space: the search space.
        budget: what every proposal has to meet. ``budget.fit`` brings proposals to its boundary.
        score: predicted objective of a batch, shape (N,); smaller is better. Cheap in batches, so prefer large ones.
        rng: the only source of randomness.
        known: architectures already measured, best first: a place to start from. They may be proposed again.
        progress: call with the number of architectures scored since the last call.
    """

    space: SearchSpace[Any]
    budget: Budget
    score: Callable[[Sequence[Architecture]], Floats]
    rng: np.random.Generator
    known: Sequence[Architecture] = ()
    progress: Callable[[int], None] = field(default=lambda scored: None)


class Searcher(Plugin[OptionsT]):
    """Proposes architectures that meet a budget.

    Example: :mod:`prunecast.plugins.examples.searcher`. One instance serves all rounds; a second search forgets the first.
    """

    @property
    @abstractmethod
    def evaluations(self) -> int:
        """REQUIRED. How many architectures one search scores, for progress and dry runs."""

    @abstractmethod
    def search(self, problem: SearchProblem, count: int) -> list[Architecture]:
        """REQUIRED. Up to ``count`` different architectures that meet the budget, best predicted score first.

        Called once a round. Raises BudgetError if no architecture meets the budget.
        """
