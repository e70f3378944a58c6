"""Delivery: the chosen architecture as a model that loads without prunecast."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from prunecast.architecture.architecture import Architecture
from prunecast.compare.candidate import Candidate
from prunecast.export.card import CardContent
from prunecast.export.huggingface import ExportReport, export_huggingface
from prunecast.measure.setup import Setup

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from prunecast.models.elastic import ElasticModel


@dataclass(frozen=True)
class Deliverable:
    """A model to write.

    Attributes:
        model: the measured model, in the dtype it was measured in.
        state: its weights under the stock names, sliced.
        architecture: what it keeps.
    """

    model: "PreTrainedModel"
    state: "Mapping[str, Tensor]"
    architecture: Architecture

    @classmethod
    def of(cls, elastic: "ElasticModel", architecture: Architecture) -> "Deliverable":
        """An architecture of the elastic model, which is left there."""
        elastic.apply(architecture)
        return cls(elastic.model, elastic.state_dict(), architecture)


def deliver(setup: Setup, chosen: Deliverable, compared: Sequence[Candidate], folder: Path) -> ExportReport:
    """Write a model as a Hugging Face folder, in the number format it was measured in.

    The folder's logits are compared with those of the measured model in float32, to which both are widened without
    loss: in bfloat16 two orders of summation already differ visibly.

    Args:
        setup: source of the model.
        chosen: the model to write.
        compared: rows of the model card's table.
        folder: destination.

    Raises:
        ExportError: it cannot be written, or does not load as what was measured.
    """
    import torch

    from prunecast.models.elastic import convert_parameters

    def reference(tokens: "Tensor") -> "Tensor":
        logits: Tensor = chosen.model(tokens.to(setup.device), use_cache=False).logits
        return logits

    convert_parameters(chosen.model, torch.float32)
    try:
        return export_huggingface(
            setup.source.config(),
            chosen.state,
            chosen.architecture,
            setup.tokenizer,
            folder,
            _card(setup, compared, folder),
            reference,
            setup.source.generation_file,
        )
    finally:
        convert_parameters(chosen.model, setup.dtype)


def _card(setup: Setup, compared: Sequence[Candidate], folder: Path) -> CardContent:
    metrics = [metric.name for named in setup.verifiers for metric in named.metrics]
    rows: list[tuple[str | int | float, ...]] = [
        (row.name, f"{row.parameters:,}", *(f"{row.metrics[name]:.2f}" for name in metrics)) for row in compared
    ]
    return CardContent(
        model_name=folder.name,
        base_model=setup.source.name if setup.source.kind == "hub" else None,
        spec_text=setup.spec.source.text,
        columns=("model", "parameters", *metrics),
        rows=rows,
        protocol=protocol(setup),
    )


def protocol(setup: Setup) -> str:
    """Conditions of a run's numbers, in one line."""
    dtype = str(setup.dtype).removeprefix("torch.")
    evaluators = "; ".join(
        f"{named.setting.evaluator.name}: "
        + ", ".join(f"{key} {value}" for key, value in named.evaluator.options.model_dump(mode="json").items())
        for named in setup.verifiers
    )
    return f"Measured in {dtype}; parameters include embeddings. {evaluators}."
