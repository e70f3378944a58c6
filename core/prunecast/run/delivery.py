"""Delivery of a run's model: the model card, and the export, from the run's set-up."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from prunecast.architecture.architecture import Architecture
from prunecast.compare.candidate import Candidate
from prunecast.data import DATA_SETS, dataset_label, hub_id, reading
from prunecast.errors import ExportError
from prunecast.export.card import CardContent, Result
from prunecast.export.deliver import Deliverable, deliver
from prunecast.export.huggingface import EXPORT, ExportReport, of_architecture
from prunecast.measure.build import build_elastic
from prunecast.measure.setup import NamedEvaluator, Setup
from prunecast.models.license import license_of
from prunecast.models.pruned.lineage import Ancestor, told
from prunecast.owned.files import digest
from prunecast.owned.folder import OwnedFolder
from prunecast.owned.location import located
from prunecast.owned.manifest import Origin
from prunecast.progress import Progress
from prunecast.recover.recover import Recoverer, RecoveryInputs
from prunecast.registry import content_key
from prunecast.registry.identity import RECOVERY
from prunecast.run.texts import lines_of, texts_of
from prunecast.spec.recovery import Recovery
from prunecast.text import visible

if TYPE_CHECKING:
    import torch

    from prunecast.models.elastic import ElasticModel


def deliver_run(
    setup: Setup,
    written: Setup,
    architecture: Architecture,
    model: Callable[[], Deliverable],
    compared: Sequence[Candidate],
    folder: str | Path,
    recovery: Recovery | None = None,
    overwrite: bool = False,
) -> ExportReport:
    """Write a model of a run as a Hugging Face folder, with ``compared`` as the table of its card.

    If the folder holds this very export already, nothing is made and nothing is written.

    Args:
        setup: set-up of the run.
        written: set-up in the dtype to write, of :func:`written_setup`.
        architecture: the architecture to write.
        model: makes the model of this architecture.
        compared: candidates of the card.
        folder: destination as the user gives it; see :func:`prunecast.owned.location.located`.
        recovery: the training that the model has had, None for none.
        overwrite: True allows an export of another run, spec or architecture to be replaced, and an edited one.

    Raises:
        ExportError: it cannot be written, or does not load as what was measured.
    """
    target = export_folder(setup, folder)
    card = _card(setup, written, compared, target.path, architecture)
    origin = replace(origin_of(setup), key=_key(written, architecture, card, recovery))
    exact = of_architecture(origin, architecture)
    target.check(exact, overwrite)
    if (found := target.holding(exact)) is not None:
        return ExportReport.of(target.path, found, unchanged=True)
    chosen, lineage = model(), (*setup.lineage, _ancestor(setup, architecture, recovery))
    return deliver(
        setup.source,
        setup.family,
        setup.tokenizer,
        written.dtype,
        chosen,
        card,
        target.path,
        origin,
        overwrite,
        lineage,
    )


def _ancestor(setup: Setup, architecture: Architecture, recovery: Recovery | None) -> Ancestor:
    """The dense model of a run, from which the architecture is made."""
    return Ancestor(
        model=setup.model_record.source,
        fingerprint=setup.model_record.fingerprint,
        revision=setup.source.revision,
        run=setup.spec.name,
        spec=setup.spec.key,
        architecture=str(architecture),
        recovered=recovery is not None,
    )


def written_setup(setup: Setup, dtype: str) -> Setup:
    """The set-up in the dtype in which the model is written; ``measured`` is that of the set-up itself.

    Raises:
        ExportError: a recovered model is to be written in another dtype than it was measured in.
    """
    if dtype in ("measured", _name(setup.dtype)):
        return setup
    if setup.spec.recover is not None:
        raise ExportError(
            f"export.dtype {dtype}: a recovered model is written in the dtype it was measured in, "
            f"{_name(setup.dtype)}; leave it out, or set model.dtype"
        )
    return setup.in_dtype(dtype)


def export_folder(setup: Setup, folder: str | Path) -> OwnedFolder:
    """The folder of an export. Raises ExportError if the path leads nowhere."""
    return OwnedFolder(EXPORT, located(folder, setup.spec.name))


def origin_of(setup: Setup) -> Origin:
    """Origin of a run's exports, as far as it is known before anything is measured."""
    spec = setup.spec.settled(setup.source.revision, _name(setup.dtype))
    subject = {"model": setup.model_record.fingerprint, "spec": spec.key}
    return Origin(setup.spec.name, subject)


def _name(dtype: "torch.dtype") -> str:
    return str(dtype).removeprefix("torch.")


def _key(setup: Setup, architecture: Architecture, card: CardContent, recovery: Recovery | None) -> str:
    """Content key of all that the files of an export follow from; empty if the tokenizer cannot be saved aside."""
    generation = setup.source.generation_file
    try:
        with TemporaryDirectory() as scratch:
            setup.tokenizer.save_pretrained(scratch)
            saved = [file for file in Path(scratch).rglob("*") if file.is_file()]
            tokenizer = {file.relative_to(scratch).as_posix(): digest(file) for file in saved}
    except Exception:  # noqa: BLE001  # no room for temporary files, for which tokenizers raises a bare Exception
        return ""
    content = {
        "architecture": str(architecture),
        "card": asdict(card),
        "dtype": str(setup.dtype),
        "generation": None if generation is None else digest(generation),
        "model": setup.model_record.fingerprint,
        "pruner": setup.pruner_record.key,
        "recovery": None if recovery is None else recovery.model_dump(mode="json"),
        "tokenizer": tokenizer,
        "version": version("prunecast"),
    }
    return content_key(content)


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


def recovery_identity(setup: Setup) -> dict[str, str]:
    """Hash of the text or the instructions that a spec recovers on, by description; empty without a recovery.

    Raises:
        DataError: there is no such data set, or not enough of it.
    """
    options = setup.spec.recover
    if options is None:
        return {}
    recoverer = recoverer_of(setup, options, lambda: build_elastic(setup, Progress(quiet=True)), Progress(quiet=True))
    return {RECOVERY: recoverer.data.data_hash}


def _card(
    setup: Setup, written: Setup, compared: Sequence[Candidate], folder: Path, architecture: Architecture
) -> CardContent:
    metrics = [metric.name for named in setup.verifiers for metric in named.metrics]
    rows: list[tuple[str | int | float, ...]] = [
        (row.name, f"{row.parameters:,}", *(f"{row.metrics[name]:.2f}" for name in metrics)) for row in compared
    ]
    return CardContent(
        model_name=folder.name,
        base_model=setup.source.name if setup.source.kind == "hub" else None,
        revision=setup.source.revision,
        made_from=told(setup.lineage),
        spec_text=setup.spec.source.text,
        columns=("model", "parameters", *metrics),
        rows=rows,
        protocol=_protocol(setup, written),
        license=license_of(setup.source),
        results=_results(setup, compared, architecture) if written is setup else (),
    )


def _results(setup: Setup, compared: Sequence[Candidate], architecture: Architecture) -> tuple[Result, ...]:
    """What was measured on data sets of the model with the architecture, the last of ``compared`` that has it."""
    measured = next((row for row in reversed(compared) if row.architecture == architecture), None)
    if measured is None:
        return ()
    with reading(setup.spec.reading):
        return tuple(
            Result(metric.name, measured.metrics[metric.name], *place, conditions=_conditions(named))
            for named in setup.verifiers
            for metric in named.metrics
            if (place := _data_of(named, metric.name)) is not None
        )


def _data_of(named: NamedEvaluator, metric: str) -> tuple[str, str | None, str] | None:
    """Data set, its configuration on the Hub, and split of a metric; None for one that is of no known data set."""
    dataset, _, rest = metric.partition(".")
    dataset, split = named.text or (dataset, rest.partition(".")[0])
    if named.text is None and dataset not in DATA_SETS:
        return None
    name, config = hub_id(dataset, split) or (dataset_label(dataset), None)
    return name, config, split


def _conditions(named: NamedEvaluator) -> dict[str, str | int | float | bool]:
    """Options of an evaluator that are single values, those that name its data set left out."""
    options = named.evaluator.options.model_dump(mode="json", exclude={"dataset", "split"})
    return {name: value for name, value in options.items() if isinstance(value, str | int | float)}


def _protocol(setup: Setup, written: Setup) -> str:
    """Conditions of a run's numbers, and its texts by purpose."""
    other = "" if written is setup else f", which these weights in {_name(written.dtype)} differ from"
    evaluators = "; ".join(
        f"{named.setting.evaluator.name}: "
        + ", ".join(f"{key} {value}" for key, value in named.evaluator.options.model_dump(mode="json").items())
        for named in setup.verifiers
    )
    texts = "".join(f"\n- {visible(line)}" for line in lines_of(texts_of(setup)))
    return f"Measured in {_name(setup.dtype)}{other}; parameters include embeddings. {visible(evaluators)}.\n{texts}"
