"""Delivery of a run's model: the model card, and the export, from the run's set-up."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from prunecast.compare.candidate import Candidate
from prunecast.export.card import CardContent
from prunecast.export.deliver import Deliverable, deliver
from prunecast.export.huggingface import ExportReport
from prunecast.measure.setup import Setup
from prunecast.progress import Progress
from prunecast.recover.recover import Recoverer, RecoveryInputs
from prunecast.run.texts import lines_of, texts_of
from prunecast.spec.recovery import Recovery

if TYPE_CHECKING:
    from prunecast.models.elastic import ElasticModel


def deliver_run(setup: Setup, chosen: Deliverable, compared: Sequence[Candidate], folder: Path) -> ExportReport:
    """Write a model of a run as a Hugging Face folder, with ``compared`` as the table of its card.

    Raises:
        ExportError: it cannot be written, or does not load as what was measured.
    """
    return deliver(setup.source, setup.tokenizer, setup.dtype, chosen, _card(setup, compared, folder), folder)


def recoverer_of(
    setup: Setup, options: Recovery, elastic: "Callable[[], ElasticModel]", progress: Progress
) -> Recoverer:
    """The recovery of a run's architectures."""
    inputs = RecoveryInputs(
        source=setup.source,
        family=setup.family,
        shape=setup.shape,
        tokenizer=setup.tokenizer,
        device=setup.device,
        dtype=setup.dtype,
        model=setup.model_record,
        pruner=setup.pruner_record,
        verifiers=setup.verifiers,
        rows=setup.rows,
        windows=lambda wanted: setup.sample(wanted, "recover"),
    )
    return Recoverer(inputs, options, elastic, progress)


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
        protocol=_protocol(setup),
    )


def _protocol(setup: Setup) -> str:
    """Conditions of a run's numbers, and its texts by purpose."""
    dtype = str(setup.dtype).removeprefix("torch.")
    evaluators = "; ".join(
        f"{named.setting.evaluator.name}: "
        + ", ".join(f"{key} {value}" for key, value in named.evaluator.options.model_dump(mode="json").items())
        for named in setup.verifiers
    )
    texts = "".join(f"\n- {line}" for line in lines_of(texts_of(setup)))
    return f"Measured in {dtype}; parameters include embeddings. {evaluators}.\n{texts}"
