"""Delivery of a run's model: the model card, and the export, from the run's set-up."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from prunecast.architecture.architecture import Architecture
from prunecast.architecture.speed import SPEEDS
from prunecast.compare.candidate import Candidate
from prunecast.data import DATA_SETS, check_embedded, dataset_label, encode, hub_id, read_text, reading
from prunecast.errors import DataError, EngineMissingError, ExportError
from prunecast.export.card import CardContent, Result
from prunecast.export.deliver import (
    Deliverable,
    DenseSpeed,
    ExportReport,
    as_reference,
    deliver,
    folder_kind,
    of_architecture,
    pruned_model,
)
from prunecast.measure.build import build_elastic
from prunecast.measure.setup import NamedEvaluator, Setup, dtype_name
from prunecast.models.license import license_of
from prunecast.models.pruned.lineage import Ancestor, Lineage, told
from prunecast.owned.files import digest
from prunecast.owned.folder import OwnedFolder
from prunecast.owned.location import located
from prunecast.owned.manifest import Origin
from prunecast.plugins.bos import bos_tokens
from prunecast.plugins.exporter import Exporter, PrunedModel
from prunecast.progress import Progress
from prunecast.recover.recover import Recoverer, RecoveryInputs
from prunecast.registry import content_key
from prunecast.registry.identity import RECOVERY
from prunecast.run.texts import lines_of, texts_of
from prunecast.spec.model import ExporterUse
from prunecast.spec.recovery import Recovery
from prunecast.text import percent, visible

if TYPE_CHECKING:
    from prunecast.models.elastic import ElasticModel


TEXT = 2048
"""Most tokens of the text on which perplexities of written files are compared: a test text that is always at hand."""

NUMBER_FORMATS = {"f32": "float32", "f16": "float16", "bf16": "bfloat16"}
"""Names that exporters have for number formats of weights."""

Places = Mapping[str, tuple[Exporter[Any], OwnedFolder]]
"""Exporters with the folders they write to, by label."""


def places_of(setup: Setup, targets: Mapping[str, ExporterUse], folder: str | Path) -> Places:
    """Where targets are written: one to the folder, each of several to a folder of its label in it.

    Args:
        setup: set-up of the run.
        targets: uses of exporters by label.
        folder: destination as the user gives it; see :func:`prunecast.owned.location.located`.

    Raises:
        ExportError: the path leads nowhere.
    """
    root, places = located(folder, setup.spec.name), {}
    for label, use in targets.items():
        exporter: Exporter[Any] = use.instance(setup.host)
        places[label] = exporter, OwnedFolder(folder_kind(exporter), root if len(targets) == 1 else root / label)
    return places


def deliver_run(
    setup: Setup,
    written: Setup,
    architecture: Architecture,
    *,
    model: Callable[[], Deliverable],
    dense: Callable[[], Deliverable],
    compared: Sequence[Candidate],
    places: Places,
    recovery: Recovery | None = None,
    overwrite: bool = False,
    require_verified: bool = False,
) -> tuple[ExportReport, ...]:
    """Write a model of a run for each target, with ``compared`` as the table of its card.

    If a folder holds the same export already, nothing is written to it.

    Args:
        setup: set-up of the run.
        written: set-up in the dtype to write, of :func:`written_setup`.
        architecture: the architecture to write.
        model: makes the model of this architecture; called once, if anything is to be written.
        dense: makes the dense model; called before that, if an evaluator of the run measures speed.
        compared: candidates of the card.
        places: exporters and their folders.
        recovery: the training of the model; None if it was not trained.
        overwrite: True allows an export of another run, spec or architecture to be replaced, and an edited one.
        require_verified: True refuses targets whose engine is not installed.

    Returns:
        A report for each target, in their order.

    Raises:
        ExportError: a target cannot be written, or does not load as the measured model. All folders are checked before
            anything is written; targets that were written before the error remain.
    """
    reports, pending = dict[str, ExportReport](), dict[str, tuple[CardContent, Origin]]()
    for label, (exporter, folder) in places.items():
        root = folder.path.parent if len(places) > 1 else folder.path
        as_measured = written is setup and _keeps_numbers(exporter, setup)
        results = _results(setup, compared, architecture) if as_measured else ()
        card = _card(setup, written, compared, root.name, results)
        key = _key(written, architecture, card, recovery, exporter)
        origin = replace(origin_of(setup, label), key=key)
        exact = of_architecture(origin, architecture)
        folder.check(exact, overwrite)
        if (found := folder.holding(exact)) is not None:
            reports[label] = ExportReport.of(label, folder.path, found, unchanged=True)
        else:
            pending[label] = card, origin
    if require_verified:
        _check_engines({label: places[label][0] for label in pending})
    if pending:
        exporters = {label: places[label][0] for label in pending}
        speeds = _dense_speeds(setup, written, exporters, dense) if _measures_speed(setup) else {}
        chosen, lineage = model(), (*setup.lineage, _ancestor(setup, architecture, recovery))
        subject = _subject(setup, chosen, lineage)
        with as_reference(chosen, written.dtype, *_text(setup), setup.shape.context) as reference:
            for label, (card, origin) in pending.items():
                exporter, folder = places[label]
                named = replace(subject, name=card.model_name)
                speed, path = speeds.get(label), folder.path
                reports[label] = deliver(
                    exporter,
                    label,
                    named,
                    card,
                    path,
                    reference,
                    origin=origin,
                    overwrite=overwrite,
                    require_verified=require_verified,
                    dense=speed,
                )
    return tuple(reports[label] for label in places)


def _check_engines(exporters: Mapping[str, Exporter[Any]]) -> None:
    """Raise EngineMissingError if an engine is missing that could compare files."""
    for label, exporter in exporters.items():
        if missing := exporter.missing_engine():
            raise EngineMissingError(f"{label}: {missing}, or leave --require-verified out")


def _subject(setup: Setup, chosen: Deliverable, lineage: Lineage) -> PrunedModel:
    config, source = setup.source.config(), setup.source
    return pruned_model(setup.spec.name, config, setup.family, chosen, setup.tokenizer, source, lineage)


def _measures_speed(setup: Setup) -> bool:
    return any(named.evaluator.measures_speed for named in setup.verifiers)


def _dense_speeds(
    setup: Setup, written: Setup, exporters: Mapping[str, Exporter[Any]], dense: Callable[[], Deliverable]
) -> dict[str, DenseSpeed]:
    """Speed of the dense model in the engine of each target, written and loaded there as the pruned one will be."""
    chosen = dense()
    subject = _subject(setup, chosen, setup.lineage)
    with as_reference(chosen, written.dtype, *_text(setup), setup.shape.context) as reference:
        return {label: DenseSpeed.of(exporter, subject, reference) for label, exporter in exporters.items()}


def _text(setup: Setup) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Tokens of a text to compare on, and those to put in front of it; none that the tokenizer or model do not know."""
    try:
        (ids,) = encode(setup.tokenizer, [read_text("python-docs", "test", None)])
        check_embedded(setup.tokenizer, ids[:TEXT], setup.shape.vocabulary)
        bos = bos_tokens("auto", setup.tokenizer, setup.shape)
    except DataError:
        return (), ()
    return tuple(ids[:TEXT]), tuple(bos)


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
    if dtype in ("measured", dtype_name(setup.dtype)):
        return setup
    if setup.spec.recover is not None:
        raise ExportError(
            f"export.dtype {dtype}: a recovered model is written in the dtype it was measured in, "
            f"{dtype_name(setup.dtype)}; leave it out, or set model.dtype"
        )
    return setup.in_dtype(dtype)


def origin_of(setup: Setup, label: str) -> Origin:
    """Origin of a run's export for a target, as far as it is known before anything is measured."""
    spec = setup.spec.settled(setup.source.revision, dtype_name(setup.dtype))
    subject = {"model": setup.model_record.fingerprint, "spec": spec.key, "target": label}
    return Origin(setup.spec.name, subject)


def _key(
    setup: Setup, architecture: Architecture, card: CardContent, recovery: Recovery | None, exporter: Exporter[Any]
) -> str:
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
        "exporter": [exporter.entry, exporter.options.model_dump(mode="json"), exporter.version],
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


def _keeps_numbers(exporter: Exporter[Any], setup: Setup) -> bool:
    """True if an exporter leaves the weights in the number format of the measurements."""
    form = getattr(exporter.options, "dtype", None)
    return form is None or NUMBER_FORMATS.get(form, form) == dtype_name(setup.dtype)


def _card(
    setup: Setup, written: Setup, compared: Sequence[Candidate], name: str, results: tuple[Result, ...]
) -> CardContent:
    metrics = [metric.name for named in setup.verifiers for metric in named.metrics]
    rows: list[tuple[str | int | float, ...]] = [
        (row.name, f"{row.parameters:,}", *times, *(f"{row.metrics[name]:.2f}" for name in metrics))
        for row, times in zip(compared, _times(setup, compared), strict=True)
    ]
    timed = [] if setup.speeds is None else [f"{speed}, of dense" for speed in SPEEDS]
    return CardContent(
        model_name=name,
        base_model=setup.source.name if setup.source.kind == "hub" else None,
        revision=setup.source.revision,
        made_from=told(setup.lineage),
        spec_text=setup.spec.source.text,
        columns=("model", "parameters", *timed, *metrics),
        rows=rows,
        protocol=_protocol(setup, written),
        license=license_of(setup.source),
        results=results,
    )


def _times(setup: Setup, compared: Sequence[Candidate]) -> list[list[str]]:
    """Predicted times of candidates as shares of those of the dense model; none without times of components."""
    if setup.speeds is None:
        return [[] for _ in compared]
    timed = setup.shape.with_speeds(setup.speeds)
    architectures = [timed.dense, *(row.architecture for row in compared)]
    by_speed = [timed.count(architectures, speed).tolist() for speed in SPEEDS]
    return [[percent(own[place] / own[0]) for own in by_speed] for place in range(1, len(architectures))]


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
    other = "" if written is setup else f", which these weights in {dtype_name(written.dtype)} differ from"
    evaluators = "; ".join(
        f"{named.setting.evaluator.name}: "
        + ", ".join(f"{key} {value}" for key, value in named.evaluator.options.model_dump(mode="json").items())
        for named in setup.verifiers
    )
    texts = "".join(f"\n- {visible(line)}" for line in lines_of(texts_of(setup)))
    speeds, times = setup.speeds, "Times are predicted from times of components"
    timed = "" if speeds is None else f" {times}, batch {speeds.batch}, context {speeds.context:,}."
    return (
        f"Measured in {dtype_name(setup.dtype)}{other}; parameters include embeddings. {visible(evaluators)}.{timed}\n"
        f"{texts}"
    )
