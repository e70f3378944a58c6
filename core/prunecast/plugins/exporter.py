"""The interface of exporters, which write a pruned model in the form that an engine loads.

Notation:
    B  batch
    T  tokens
    V  size of the vocabulary
"""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from prunecast.architecture.architecture import Architecture
from prunecast.architecture.choices import COLUMNS, Component
from prunecast.architecture.shape import ModelShape
from prunecast.plugins.interfaces import OptionsT, Plugin

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

    from prunecast.models.families.family import Family
    from prunecast.models.pruned.lineage import Lineage
    from prunecast.models.source import ModelSource


def _nothing(architecture: Architecture) -> str | None:
    return None


@dataclass(frozen=True)
class Limits:
    """Architectures of a model that a target can express. A search proposes no others.

    Attributes:
        problem: returns the reason, in one line, why an architecture cannot be expressed; None if it can, possibly
            with stand-ins that compute exactly the same.
        alike: True if all layers that are not removed must have the same sizes. The choices of a search space are then
            tied over all layers.
        biases: components whose output projection may have a bias, which ``compensate: bias`` of a pruner adds.
    """

    problem: Callable[[Architecture], str | None] = _nothing
    alike: bool = False
    biases: frozenset[Component] = frozenset(COLUMNS)


@dataclass(frozen=True)
class PrunedModel:
    """A pruned model to write.

    Attributes:
        name: name of the model, for titles.
        config: config of the dense model.
        family: description of its family.
        shape: sizes of the dense model.
        architecture: sizes that each layer keeps.
        state: weights under the stock parameter names, sliced; removed components and their norms have no entries.
        tokenizer: the tokenizer.
        source: files of the dense model.
        lineage: the models that it was made from by pruning, the original first, the dense model last.
        save: writes the model as a folder of Hugging Face transformers, without documents, to an existing folder.
        load: returns a new copy of the model in evaluation mode, in float32 on the CPU. Its projections are stock
            modules of the kept sizes.
    """

    name: str
    config: "PreTrainedConfig"
    family: "Family"
    shape: ModelShape
    architecture: Architecture
    state: "Mapping[str, Tensor]"
    tokenizer: "PreTrainedTokenizerBase"
    source: "ModelSource"
    lineage: "Lineage"
    save: Callable[[Path], None]
    load: "Callable[[], PreTrainedModel]"


@dataclass(frozen=True, eq=False)
class Reference:
    """The measured model, with which written files are compared. All targets of an export share one.

    Attributes:
        logits: logits, float32 (B, T, V), of int64 token ids (B, T) on the CPU; without a cache.
        tokens: ids of a text to compare perplexities on, at most 2,048.
        bos: ids to put in front of a text; empty if the model needs none.
        context: most tokens that the model reads at once.
    """

    logits: "Callable[[Tensor], Tensor]"
    tokens: tuple[int, ...]
    bos: tuple[int, ...]
    context: int


@dataclass(frozen=True)
class Written:
    """Result of an exporter's ``write``.

    Attributes:
        parameters: count of numbers in the weights, stand-ins included; tied embeddings count once.
        loading: how the files are loaded, as Markdown for the model card.
        notes: one line for each substitution or other difference from the measured model.
        library: the Hub's name of the library that loads it, e.g. ``transformers``; None if it has none.
    """

    parameters: int
    loading: str
    notes: tuple[str, ...] = ()
    library: str | None = None


@dataclass(frozen=True)
class Parity:
    """Comparison of written files, in their engine, with the measured model. None stands for values not compared.

    Attributes:
        engine: name and version of the engine, e.g. ``transformers 5.23.0``.
        compared: the numbers of which ``max_difference`` is the largest difference, e.g. ``logits of 256 tokens``.
        max_difference: largest absolute difference.
        greedy_equal, greedy: number of tokens of a greedy continuation that agree, from the first on, and number of
            compared ones.
        tokens: number of tokens of the perplexities.
        perplexity, reference_perplexity: perplexity in the engine, and of the measured model.
        load_seconds: time to load the files.
        prefill, decode: tokens a second, reading and generating, one sequence at a time.
        dense_prefill, dense_decode: the same speeds of the dense model, written and loaded in the same way. Exporters
            leave them out.
        notes: further remarks on the comparison, one line each.
    """

    engine: str
    compared: str
    max_difference: float
    greedy_equal: int | None = None
    greedy: int | None = None
    tokens: int | None = None
    perplexity: float | None = None
    reference_perplexity: float | None = None
    load_seconds: float | None = None
    prefill: float | None = None
    decode: float | None = None
    dense_prefill: float | None = None
    dense_decode: float | None = None
    notes: tuple[str, ...] = ()


class Exporter(Plugin[OptionsT]):
    """Writes a pruned model for an engine.

    Example: :mod:`prunecast.plugins.examples.exporter`. ``limits`` is called before anything is measured, ``write``
    and ``verify`` once for each export. None of them may keep state.

    Attributes:
        reserved: patterns of names that no foreign file in the folder may have, because the engine would read it
            together with the written files.
    """

    reserved: ClassVar[tuple[str, ...]] = ()

    @property
    @abstractmethod
    def entry(self) -> str:
        """REQUIRED. Name of the file, in the written folder, by which the engine reads it."""

    @abstractmethod
    def limits(self, config: "PreTrainedConfig", family: "Family", shape: ModelShape) -> Limits:
        """REQUIRED. Architectures of a model that can be written.

        Args:
            config: config of the dense model.
            family: description of its family.
            shape: its sizes.

        Raises:
            ExportError: none can be written, as the target has no form for the family, or for this config.
        """

    def check(self, source: "ModelSource") -> None:  # most targets take any tokenizer
        """Find out before anything is measured whether files of the dense model, such as its tokenizer, can be written.

        Args:
            source: files of the dense model.

        Raises:
            ExportError: they cannot.
        """

    def missing_engine(self) -> str | None:
        """One line on what has to be installed to run files in their engine, and how; None if nothing has to be."""
        return None

    @abstractmethod
    def write(self, model: PrunedModel, folder: Path) -> Written:
        """REQUIRED. Write the files to an existing, empty folder; the model card is written by the caller.

        The names of the files depend on the model alone.

        Raises:
            ExportError: the architecture, the tokenizer or the weights cannot be written in this form.
        """

    @abstractmethod
    def verify(self, model: PrunedModel, folder: Path, reference: Reference) -> Parity:
        """REQUIRED. Load written files in their engine, in a fresh process, and compare them with the measured model.

        Raises:
            ExportError: the files do not load, or do not compute the same as the measured model.
            EngineMissingError: the engine is not installed.
        """
